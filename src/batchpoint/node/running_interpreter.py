"""Whether the interpreter that runs batchpoint already has what an environment asks for."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from batchpoint.node.requirement_lists import parsed_requirement

# Distributions of one project that install the same import package at the same version number.
_SAME_IMPORT = (
    ("xgboost", "xgboost-cpu"),
    ("tensorflow", "tensorflow-cpu"),
    ("onnxruntime", "onnxruntime-gpu"),
    ("opencv-python", "opencv-python-headless"),
)
EQUIVALENTS: dict[str, str] = {
    name: other for pair in _SAME_IMPORT for name, other in (pair, pair[::-1])
}


@dataclass(frozen=True)
class Satisfaction:
    """What is missing (`unmet`, one sentence part each) and what stands in for what (`notes`)."""

    unmet: tuple[str, ...]
    notes: tuple[str, ...]


class InstalledPackages:
    """The distributions an interpreter finds on its path (by default, those of this process)."""

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self._path = list(sys.path if path is None else path)

    def find(self, name: str) -> importlib.metadata.Distribution | None:
        """Return the first distribution of that name, or nothing."""
        found = importlib.metadata.distributions(name=canonicalize_name(name), path=self._path)
        return next(iter(found), None)

    def fingerprint(self) -> str:
        """Hash the names and versions of all distributions, the first on the path counting."""
        versions: dict[str, str] = {}
        for distribution in importlib.metadata.distributions(path=self._path):
            # A folder left behind by a broken uninstall has no name.
            name = cast("str | None", distribution.metadata["Name"])
            if name:
                versions.setdefault(canonicalize_name(name), distribution.version)
        return hashlib.sha256(json.dumps(sorted(versions.items())).encode()).hexdigest()


def satisfaction(
    requirements: Iterable[str], constraints: Iterable[str], installed: InstalledPackages
) -> Satisfaction:
    """Compare requirements and constraints with what is installed; markers and extras count."""
    unmet: list[str] = []
    notes: list[str] = []
    for line in requirements:
        requirement = parsed_requirement(line)
        if requirement is None:
            unmet.append(f"{line} can only be installed anew")
        else:
            _compare(requirement, installed, unmet, notes, {""})
    for line in constraints:
        constraint = parsed_requirement(line)
        found = constraint and installed.find(constraint.name)
        if constraint and found and not _allows(constraint, found.version):
            unmet.append(f"{line} is a constraint, {found.version} is installed")
    return Satisfaction(tuple(dict.fromkeys(unmet)), tuple(dict.fromkeys(notes)))


def _compare(
    requirement: Requirement,
    installed: InstalledPackages,
    unmet: list[str],
    notes: list[str],
    extras: set[str],
) -> None:
    if requirement.marker and not any(
        requirement.marker.evaluate({"extra": extra}) for extra in extras
    ):
        return
    found = installed.find(requirement.name)
    other = EQUIVALENTS.get(canonicalize_name(requirement.name))
    if found is None and other is not None:
        found = installed.find(other)
        if found is not None:
            notes.append(
                f"{requirement} is satisfied by {other} {found.version}, which installs the same "
                "import package"
            )
    if found is None:
        unmet.append(f"{requirement} is not installed")
        return
    if requirement.url and not _same_source(found, requirement.url):
        unmet.append(f"{requirement} is installed from another source")
    elif not _allows(requirement, found.version):
        unmet.append(f"{requirement} is asked for, {found.version} is installed")
    elif requirement.extras:
        _compare_extras(requirement, found, installed, unmet, notes)


def _compare_extras(
    requirement: Requirement,
    found: importlib.metadata.Distribution,
    installed: InstalledPackages,
    unmet: list[str],
    notes: list[str],
) -> None:
    """Follow only what the extras add: the rest was the installer's duty."""
    for line in found.requires or []:
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            continue
        # An extra may ask for another extra of its own package.
        if canonicalize_name(needed.name) == canonicalize_name(requirement.name) and (
            needed.extras <= requirement.extras
        ):
            continue
        _compare(needed, installed, unmet, notes, requirement.extras)


def _allows(requirement: Requirement, version: str) -> bool:
    return requirement.specifier.contains(version, prereleases=True)


def _same_source(found: importlib.metadata.Distribution, url: str) -> bool:
    text = found.read_text("direct_url.json")
    if text is None:
        return False
    try:
        recorded: object = json.loads(text)
    except ValueError:
        return False
    return isinstance(recorded, dict) and cast("dict[str, object]", recorded).get("url") == url
