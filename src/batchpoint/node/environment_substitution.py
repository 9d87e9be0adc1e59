"""What a site puts in the place of what an environment asks for: noted always, silent never."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.utils import canonicalize_name

from batchpoint.domain.errors import Invalid
from batchpoint.node.requirement_lists import EnvironmentWish, parsed_requirement, wish_of_file

# What Azure's own driver needs and ours does not; code that imports them cannot work here anyway.
AZURE_RUNTIME_PACKAGES = frozenset(
    {
        "azureml-contrib-services",
        "azureml-core",
        "azureml-dataprep",
        "azureml-dataprep-native",
        "azureml-dataprep-rslex",
        "azureml-dataset-runtime",
        "azureml-defaults",
        "azureml-inference-server-http",
        "azureml-mlflow",
        "azureml-pipeline-core",
        "azureml-sdk",
        "azureml-telemetry",
    }
)

# Values of `environment_map` that are not a path.
IGNORE = "ignore"
RUNNING = "running"


@dataclass(frozen=True)
class EnvironmentSettings:
    """What a site says about environments; every substitution appears in deployment and job log.

    `pythons`: version -> path of an interpreter, used before any other.
    `environment_map`: image or registry environment (`*` matches) -> "ignore" (only what is listed
    beside the image counts), "running" (the interpreter batchpoint runs on), the path of an
    interpreter, or the path of a conda file or requirement list that takes its place.
    `python_map`: Python version asked for -> version to use.
    `requirement_map`: requirement as written, or package name -> requirement to use ("" drops it).
    `lock_date`: packages published later are not considered (`2026-01-31`).
    `build_seconds_max`: how long resolving or installing may take.
    """

    pythons: Mapping[str, str] = field(default_factory=dict[str, str])
    environment_map: Mapping[str, str] = field(default_factory=dict[str, str])
    python_map: Mapping[str, str] = field(default_factory=dict[str, str])
    requirement_map: Mapping[str, str] = field(default_factory=dict[str, str])
    lock_date: str | None = None
    build_seconds_max: int = 3600


def settings_line(table: str, key: str, value: str) -> str:
    """Write the line of the settings file that maps `key` to `value`."""
    return f'environments.{table}."{key}" = "{value}"'


@dataclass(frozen=True)
class Substituted:
    """The wish after substitution; `interpreter` is set when an image is mapped to one as it is."""

    wish: EnvironmentWish
    interpreter: str | None = None
    running: bool = False
    notes: tuple[str, ...] = ()


def substituted(wish: EnvironmentWish, settings: EnvironmentSettings) -> Substituted:
    """Apply the site's tables, and leave out what only Azure's own driver needs.

    Raises `Invalid` (`environment_unbuildable`) for an image without an entry and for packages
    that only conda could install.
    """
    outcome = _without_image(wish, settings)
    if outcome.interpreter or outcome.running:
        return outcome
    notes = list(outcome.notes)
    wish = _with_python(outcome.wish, settings, notes.append)
    listed = [
        kept
        for line in wish.requirements
        if (kept := _kept_requirement(line, settings, notes.append)) is not None
    ]
    listed += _from_conda(wish, settings, notes.append)
    wish = replace(wish, requirements=tuple(dict.fromkeys(listed)), conda_packages=())
    return Substituted(wish, notes=tuple(notes))


def _without_image(wish: EnvironmentWish, settings: EnvironmentSettings) -> Substituted:
    image = wish.image
    if image is None:
        return Substituted(wish)
    target = settings.environment_map.get(image)
    if target is None:
        patterns = [p for p in settings.environment_map if fnmatch.fnmatchcase(image, p)]
        target = settings.environment_map[patterns[0]] if patterns else None
    if target is None:
        value, meaning = (
            (IGNORE, "use only the packages listed beside the image")
            if wish.requirements or wish.conda_packages
            else ("/path/to/conda.yaml", "name what takes its place")
        )
        raise Invalid(
            f"{wish.origin} names the image {image!r}, and batchpoint does not run images: "
            f"add {settings_line('environment_map', image, value)} to the settings ({meaning}), "
            "or list the packages in conda_file or requirements",
            code="environment_unbuildable",
        )
    wish = replace(wish, image=None)
    note = f"image {image} is replaced (environment_map): "
    if target == IGNORE:
        return Substituted(wish, notes=(f"{note}only the packages listed beside it count",))
    if target == RUNNING:
        return Substituted(
            wish, running=True, notes=(f"{note}the running interpreter{_unread(wish)}",)
        )
    path = Path(target).expanduser()
    if not path.is_file():
        raise Invalid(
            f"{settings_line('environment_map', image, target)} in the settings names a file that "
            'is not there: expected "ignore", "running", an interpreter, or a requirement list',
            code="environment_unbuildable",
        )
    if path.suffix in {".yml", ".yaml", ".txt", ".in", ".lock"}:
        return Substituted(wish.together_with(wish_of_file(path)), notes=(f"{note}{path}",))
    if os.access(path, os.X_OK):
        note = f"{note}the interpreter {path}{_unread(wish)}"
        return Substituted(wish, interpreter=str(path), notes=(note,))
    raise Invalid(
        f"{settings_line('environment_map', image, target)} in the settings names neither an "
        "interpreter nor a .yaml or .txt file",
        code="environment_unbuildable",
    )


def _unread(wish: EnvironmentWish) -> str:
    count = len(wish.requirements) + len(wish.conda_packages)
    return f", as it is (the {count} packages listed beside the image are not looked at)" * (
        count > 0
    )


def _with_python(
    wish: EnvironmentWish, settings: EnvironmentSettings, note: Callable[[str], None]
) -> EnvironmentWish:
    if wish.python is None:
        return wish
    asked = wish.python.strip()
    minor = ".".join(asked.split(".")[:2])
    instead = settings.python_map.get(asked, settings.python_map.get(minor))
    if instead is None:
        return wish
    note(f"Python {asked} is replaced by {instead} (python_map)")
    return replace(wish, python=instead)


def _from_conda(
    wish: EnvironmentWish, settings: EnvironmentSettings, note: Callable[[str], None]
) -> list[str]:
    kept: list[str] = []
    refused: list[str] = []
    for entry in wish.conda_packages:
        name = re.split(r"[\s=<>!~\[]", entry.rpartition("::")[2], maxsplit=1)[0]
        found = _mapped(entry, name, settings)
        if found is None:
            refused.append(entry)
            continue
        note(_replacement(f"conda package {entry}", found))
        if found:
            kept.append(found)
    if refused:
        name = re.split(r"[\s=<>!~\[]", refused[0].rpartition("::")[2], maxsplit=1)[0]
        raise Invalid(
            f"{wish.origin} lists packages that only conda could install ({', '.join(refused)}): "
            "put them under `pip:` by the name the package index knows, or map each in the "
            f'settings ({settings_line("requirement_map", name, name)}; "" leaves it out)',
            code="environment_unbuildable",
        )
    return kept


def _kept_requirement(
    line: str, settings: EnvironmentSettings, note: Callable[[str], None]
) -> str | None:
    requirement = parsed_requirement(line)
    if requirement is None:
        found = settings.requirement_map.get(line)
    else:
        found = _mapped(line, requirement.name, settings)
    if found is not None:
        note(_replacement(line, found))
        return found or None
    if requirement and canonicalize_name(requirement.name) in AZURE_RUNTIME_PACKAGES:
        note(f"{line} is left out: batchpoint's own worker takes its place")
        return None
    return line


def _mapped(line: str, name: str, settings: EnvironmentSettings) -> str | None:
    """Find the entry for the line as written (spaces aside), or else for the package's name."""
    compact = re.sub(r"\s", "", line)
    by_name: str | None = None
    for key, value in settings.requirement_map.items():
        if re.sub(r"\s", "", key) == compact:
            return value
        if canonicalize_name(key) == canonicalize_name(name):
            by_name = value
    return by_name


def _replacement(line: str, found: str) -> str:
    return (
        f"{line} is replaced by {found} (requirement_map)"
        if found
        else f"{line} is left out (requirement_map)"
    )
