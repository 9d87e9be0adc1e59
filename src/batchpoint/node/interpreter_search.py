"""Which Python interpreters this machine has, and the one that fits what is asked for."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from batchpoint.domain.errors import Invalid
from batchpoint.node.environment_substitution import EnvironmentSettings, settings_line

# The scoring worker runs in the user's interpreter and needs at least this one.
OLDEST_MINOR = 8
_NEWEST_MINOR = 30
_PROBE_SECONDS_MAX = 20
_PROBE = (
    "import json, platform, sys;"
    "print(json.dumps([sys.executable, platform.python_version(), "
    "platform.python_implementation()]))"
)
_USUAL_FOLDERS = ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")


@dataclass(frozen=True)
class Interpreter:
    """A CPython interpreter: the path of the real executable and its full version."""

    executable: str
    version: str


def running_interpreter() -> Interpreter | None:
    """Return the interpreter of this process, unless it is embedded in something else."""
    if not sys.executable or platform.python_implementation() != "CPython":
        return None
    return Interpreter(sys.executable, platform.python_version())


def version_range(python: str | None) -> SpecifierSet:
    """Turn "3.8", "3.8.13" (patch releases are interchangeable) or ">=3.9" into a range."""
    if python is None:
        return SpecifierSet(f">=3.{OLDEST_MINOR}")
    text = python.strip().removesuffix(".*")
    exact = re.fullmatch(r"=?=?\s*(\d+(?:\.\d+)*)(?:\.\*)?", text)
    try:
        if exact is None:
            return SpecifierSet(text.replace(" ", ""))
        return SpecifierSet(f"=={'.'.join(exact[1].split('.')[:2])}.*")
    except InvalidSpecifier as error:
        raise Invalid(
            f"{python[:100]!r} is not a Python version: expected one such as '3.11' or '>=3.10'",
            code="environment_invalid",
        ) from error


class InterpreterSearch:
    """Finds interpreters: those of the settings, the running one, then PATH, pyenv and uv."""

    def __init__(self, settings: EnvironmentSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._probed: dict[str, Interpreter | None] = {}

    def find(self, python: str | None, origin: str) -> Interpreter:
        """Return an interpreter for `python`; `origin` is who asks, for the message.

        Raises `Invalid`: `interpreter_not_found`, or `environment_invalid` for nonsense.
        """
        wanted = version_range(python)
        for candidate in self._preferred():
            if _fits(candidate, wanted):
                return candidate
        fitting = [found for found in self._others(wanted) if _fits(found, wanted)]
        if fitting:
            return max(fitting, key=lambda found: Version(found.version))
        raise self._not_found(python, origin)

    def exact(self, recorded: Interpreter) -> Interpreter | None:
        """Return the recorded interpreter, or another one of the same (else nearly) version."""
        probed = self.probe(recorded.executable)
        if probed and probed.version == recorded.version:
            return probed
        wanted = version_range(recorded.version)
        found = [*self._preferred(), *self._others(wanted)]
        fitting = [one for one in found if _fits(one, wanted)]
        same = [one for one in fitting if one.version == recorded.version]
        return next(iter([*same, *fitting]), None)

    def probe(self, executable: str) -> Interpreter | None:
        """Run an executable once and take its own word for where it is and what version."""
        if executable not in self._probed:
            self._probed[executable] = _probed(executable, self._environ)
        return self._probed[executable]

    def _preferred(self) -> Iterator[Interpreter]:
        for version, path in self._settings.pythons.items():
            found = self.probe(str(Path(path).expanduser()))
            if found is None or not _fits(found, version_range(version)):
                what = f"it is Python {found.version}" if found else "it does not run"
                raise Invalid(
                    f"{settings_line('pythons', version, path)} in the settings is not an "
                    f"interpreter of that version: {what}",
                    code="interpreter_not_found",
                )
            yield found
        running = running_interpreter()
        if running:
            yield running

    def _others(self, wanted: SpecifierSet) -> Iterator[Interpreter]:
        """Look for executables by name, and probe those whose name does not rule them out."""
        seen: set[str] = set()
        for folder in self._folders():
            for name in ("python3", "python", *self._names(wanted)):
                path = f"{folder}/{name}"
                real = os.path.realpath(path)
                if real in seen or not os.access(path, os.X_OK):
                    continue
                # A pyenv shim is one script under many names: only its answer tells.
                if "shims" not in path:
                    seen.add(real)
                found = self.probe(path)
                if found is not None:
                    yield found

    def _names(self, wanted: SpecifierSet) -> Iterator[str]:
        for minor in range(OLDEST_MINOR, _NEWEST_MINOR):
            if any(wanted.contains(f"3.{minor}.{patch}") for patch in (0, 99)):
                yield f"python3.{minor}"

    def _folders(self) -> Iterator[str]:
        home = self._environ.get("HOME", "")
        folders = [part for part in self._environ.get("PATH", "").split(os.pathsep) if part]
        folders += _USUAL_FOLDERS
        roots = [self._environ.get("PYENV_ROOT") or f"{home}/.pyenv"]
        versions = [f"{root}/versions" for root in roots]
        data = self._environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
        versions.append(self._environ.get("UV_PYTHON_INSTALL_DIR") or f"{data}/uv/python")
        for root in versions:
            folders += sorted(str(path) for path in Path(root).glob("*/bin"))
        return iter(dict.fromkeys(folders))

    def _not_found(self, python: str | None, origin: str) -> Invalid:
        everything = version_range(None)
        found = {one.version for one in [*self._preferred(), *self._others(everything)]}
        usable = sorted(
            (version for version in found if Version(version).minor >= OLDEST_MINOR), key=Version
        )
        asked = python or f"3.{OLDEST_MINOR} or newer"
        minor = ".".join(asked.split(".")[:2])
        nearest = usable[0] if _too_old(asked) and usable else (usable or ["3.11"])[-1]
        nearest = ".".join(nearest.split(".")[:2])
        install = (
            f"the scoring worker needs 3.{OLDEST_MINOR} or newer"
            if _too_old(asked)
            else f"install it, or name it ({settings_line('pythons', minor, '/path/to/python')})"
        )
        return Invalid(
            f"{origin} asks for Python {asked}, and this machine has only "
            f"{', '.join(usable) or 'none'}: {install}, or use another version in its place "
            f"({settings_line('python_map', minor, nearest)}) in the settings",
            code="interpreter_not_found",
        )


def _too_old(asked: str) -> bool:
    try:
        return Version(asked) < Version(f"3.{OLDEST_MINOR}")
    except InvalidVersion:
        return False


def _fits(found: Interpreter, wanted: SpecifierSet) -> bool:
    version = Version(found.version)
    return version >= Version(f"3.{OLDEST_MINOR}") and wanted.contains(version, prereleases=True)


def _probed(executable: str, environ: Mapping[str, str]) -> Interpreter | None:
    try:
        done = subprocess.run(
            [executable, "-I", "-c", _PROBE],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={key: value for key, value in environ.items() if not key.startswith("PYTHON")},
            timeout=_PROBE_SECONDS_MAX,
            check=True,
        )
        path, version, implementation = cast("list[str]", json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(path, version) if implementation == "CPython" and path else None
