"""Running uv: locking requirements with hashes, and installing a lock into a new environment."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import uv

from batchpoint.domain.errors import BatchpointError, Invalid, Unavailable
from batchpoint.node.environment_substitution import EnvironmentSettings
from batchpoint.node.interpreter_search import Interpreter
from batchpoint.node.pip_configuration import UvConfiguration, redacted
from batchpoint.node.uv_explanations import explained, missing_version

# They would bend uv toward the environment batchpoint itself runs in.
_NOT_PASSED_ON = frozenset(
    {
        "CONDA_PREFIX",
        "PYTHONHOME",
        "PYTHONPATH",
        "UV_BREAK_SYSTEM_PACKAGES",
        "UV_PROJECT",
        "UV_PYTHON",
        "UV_REQUIRE_HASHES",
        "UV_SYSTEM_PYTHON",
        "UV_WORKING_DIR",
        "VIRTUAL_ENV",
    }
)


class UvCommand:
    """Runs the uv that came with batchpoint, as the site's pip and uv settings say.

    Errors are `Invalid` (`environment_unbuildable`) with one sentence and the log's path, or
    `Unavailable` (`storage_full`).
    """

    def __init__(
        self,
        settings: EnvironmentSettings,
        configuration: UvConfiguration,
        environ: Mapping[str, str],
        folder: Path,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._folder = folder
        passed_on = {key: value for key, value in environ.items() if key not in _NOT_PASSED_ON}
        self._environ = {
            **passed_on,
            **configuration.variables,
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
        }

    def lock(
        self,
        requirements: Sequence[str],
        constraints: Sequence[str],
        interpreter: Interpreter,
        origin: str,
        log: Path,
    ) -> str:
        """Resolve requirements for an interpreter: pins with hashes, sorted, no comments."""
        # A file without a name: a killed process leaves nothing behind.
        with tempfile.TemporaryFile() as limits:
            limits.write("".join(f"{line}\n" for line in constraints).encode())
            limits.seek(0)
            arguments = [
                *("pip", "compile", "--generate-hashes", "--no-header", "--no-annotate"),
                *("--python", interpreter.executable),
                *([f"--constraints=/dev/fd/{limits.fileno()}"] if constraints else []),
                *self._configuration.arguments,
                *self._configuration.lock_arguments,
                *(
                    ["--exclude-newer", self._settings.lock_date]
                    if self._settings.lock_date
                    else []
                ),
                "-",
            ]
            text = "".join(f"{line}\n" for line in requirements)
            done = self._run(arguments, log, limits.fileno(), text)
        if done.returncode:
            name = missing_version(done.stderr)
            newest = self._newest(name, interpreter, log) if name else None
            raise _failure(done, origin, interpreter, log, newest)
        return done.stdout

    def install(
        self,
        lock: Path,
        folder: Path,
        interpreter: Interpreter,
        origin: str,
        log: Path,
        guard: int,
    ) -> None:
        """Make a new environment in `folder` with exactly what `lock` says.

        `guard` is the descriptor of the builder's file lock, held by uv as well while it runs.
        """
        made = self._run(
            [
                "venv",
                "--no-project",
                "--relocatable",
                "--python",
                interpreter.executable,
                *[str(folder)],
            ],
            log,
            guard,
        )
        if made.returncode:
            raise _failure(made, origin, interpreter, log)
        text = lock.read_text(encoding="utf-8")
        if not locked_entries(text):
            return
        mode = [] if "UV_LINK_MODE" in self._environ else ["--link-mode", "hardlink"]
        hashes = [] if unhashed(text) else ["--require-hashes"]
        synced = self._run(
            [
                *("pip", "sync", "--python", str(folder / "bin" / "python"), *hashes, *mode),
                *("--compile-bytecode", *self._configuration.arguments, str(lock)),
            ],
            log,
            guard,
        )
        if synced.returncode:
            raise _failure(synced, origin, interpreter, log)

    def major(self) -> str:
        """Tell uv's major version (before 1.0: major and minor, which is where it may break)."""
        done = subprocess.run(
            [uv.find_uv_bin(), "--version"], capture_output=True, text=True, check=True
        )
        found = re.search(r"(\d+)\.(\d+)", done.stdout)
        assert found is not None
        return found[1] if found[1] != "0" else f"0.{found[2]}"

    def _newest(self, name: str, interpreter: Interpreter, log: Path) -> str | None:
        """Ask which version of a package could be had; nothing when uv does not know either."""
        arguments = ["pip", "compile", "--no-deps", "--python", interpreter.executable]
        done = self._run([*arguments, *self._configuration.arguments, "-"], log, text=name)
        pins = re.search(r"^[\w.-]+==(\S+)", done.stdout, re.MULTILINE)
        return pins[1] if done.returncode == 0 and pins else None

    def _run(
        self, arguments: Sequence[str], log: Path, inherited: int | None = None, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        seconds = self._settings.build_seconds_max
        try:
            done = subprocess.run(
                [uv.find_uv_bin(), *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                input=text,
                env=self._environ,
                cwd=self._folder,
                pass_fds=() if inherited is None else (inherited,),
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Invalid(
                f"uv {arguments[0]} took longer than {seconds} s "
                "(environments.build_seconds_max in the settings)",
                code="environment_unbuildable",
            ) from error
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ uv {redacted(' '.join(arguments))}\n{redacted(done.stderr)}\n")
        return done


def locked_entries(lock: str) -> list[str]:
    """List what a lock installs: `name==version`, `name @ URL` or the path of a wheel."""
    lines = [line for line in lock.splitlines() if line and line[0] not in " \t-#"]
    return [line.rstrip("\\ ") for line in lines]


def unhashed(lock: str) -> list[str]:
    """List the entries of a lock that have no hash: those that come from a repository."""
    lines = [line for line in lock.splitlines() if line and line[0] not in " \t-#"]
    return [line for line in lines if not line.endswith("\\") and "--hash=" not in line]


def _failure(
    done: subprocess.CompletedProcess[str],
    origin: str,
    interpreter: Interpreter,
    log: Path,
    newest: str | None = None,
) -> BatchpointError:
    reason = explained(done.stderr, interpreter.version, newest)
    message = f"{origin} cannot be built: {reason} (the full output of uv is in {log})"
    if "No space left on device" in done.stderr:
        return Unavailable(message, code="storage_full")
    return Invalid(message, code="environment_unbuildable")
