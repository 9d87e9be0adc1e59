"""The Python environment of user code: the running interpreter, or one built by uv and kept."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from batchpoint.domain.asset import Environment
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_spec import ResolvedEnvironment
from batchpoint.node.environment_store import EnvironmentRecord, EnvironmentStore
from batchpoint.node.environment_substitution import EnvironmentSettings, Substituted, substituted
from batchpoint.node.interpreter_search import (
    Interpreter,
    InterpreterSearch,
    running_interpreter,
    version_range,
)
from batchpoint.node.pip_configuration import redacted, uv_configuration
from batchpoint.node.requirement_lists import (
    EnvironmentWish,
    wish_of_environment,
    wish_of_model,
)
from batchpoint.node.running_interpreter import InstalledPackages, satisfaction
from batchpoint.node.uv_command import UvCommand, locked_entries, unhashed

__all__ = ["EnvironmentBuilder", "EnvironmentSettings"]

_SHOWN_MAX = 12


class EnvironmentBuilder:
    """Resolves what a deployment asks for, and keeps the environments jobs run in.

    `home` is `$BATCHPOINT_HOME`; `environ` the variables pip's and uv's configuration are read
    from; `log` takes one line for people at a time. Any number of processes may work on one home:
    each environment is built once.
    """

    def __init__(
        self,
        home: Path,
        settings: EnvironmentSettings,
        environ: Mapping[str, str],
        log: Callable[[str], None],
    ) -> None:
        self._home = home
        self._settings = settings
        self._environ = environ
        self._log = log
        self._store = EnvironmentStore(home.absolute())
        self._search = InterpreterSearch(settings, environ)

    def resolve(
        self,
        model_path: Path | None,
        environment: Environment | None,
        log: Callable[[str], None] | None = None,
    ) -> ResolvedEnvironment:
        """Find or build the environment for a deployment; the environment named wins.

        Without one, an MLflow model's own requirements count; without those, the running
        interpreter is used as it is. `log` takes the lines of this call alone. Raises `Invalid`
        with the codes `environment_invalid`, `environment_unbuildable` and
        `interpreter_not_found`, or `Unavailable` (`storage_full`).
        """
        if log is not None:
            return EnvironmentBuilder(self._home, self._settings, self._environ, log).resolve(
                model_path, environment
            )
        if environment is not None:
            wish, name = wish_of_environment(environment), environment.name or "anonymous"
        else:
            wish = wish_of_model(model_path) if model_path is not None else None
            name = "model"
        if wish is None:
            return self._running("running", None, EnvironmentWish("the model"), ())
        version = environment.version if environment else None
        found = substituted(wish, self._settings)
        if found.running:
            return self._running(name, version, EnvironmentWish(wish.origin), found.notes)
        if found.interpreter:
            return self._foreign(name, version, found)
        return self._resolved(name, version, found)

    def ensure(self, resolved: ResolvedEnvironment) -> None:
        """Make sure the environment can be used: build it again if it was removed or is broken.

        Cheap when nothing is to be done. Raises what `resolve` raises.
        """
        digest = resolved.hash
        if self._store.is_ready(digest):
            return
        record = self._store.read_record(digest)
        if record is None:
            raise Invalid(
                f"environment {resolved.name!r} is not in {self._store.folder}, nor is the lock "
                "to build it from: create the deployment again",
                code="environment_unbuildable",
            )
        if record.running:
            self._check_running(resolved, record)
            return
        interpreter = self._search.exact(Interpreter(record.executable, record.version))
        if interpreter is None:
            raise Invalid(
                f"environment {resolved.name!r} was built with Python {record.version}, which is "
                "no longer on this machine: install it, or create the deployment again",
                code="interpreter_not_found",
            )
        self._build(digest, interpreter, f"environment {resolved.name!r}")

    def _resolved(self, name: str, version: str | None, found: Substituted) -> ResolvedEnvironment:
        wish = found.wish
        notes = list(found.notes)
        if not wish.options:
            unmet = self._unmet_by_running(wish, notes)
            if unmet is None:
                return self._running(name, version, wish, tuple(notes))
            if unmet:
                why = _listed(unmet, "; ")
                notes.append(redacted(f"the running interpreter does not serve: {why}"))
        interpreter = self._search.find(wish.python, wish.origin)
        notes.append(f"uses Python {interpreter.version} ({interpreter.executable})")
        configuration = uv_configuration(self._environ)
        notes += configuration.notes
        self._tell(notes)
        digest, lock = self._locked(wish, interpreter)
        missing = unhashed(lock)
        if missing:
            notes.append(f"has no hash to be checked by: {redacted(', '.join(missing))}")
        self._build(digest, interpreter, wish.origin)
        return ResolvedEnvironment(
            name=name,
            version=version or digest[:12],
            hash=digest,
            python=str(self._store.python(digest)),
            notes=notes,
        )

    def _unmet_by_running(self, wish: EnvironmentWish, notes: list[str]) -> list[str] | None:
        """Say what the running interpreter lacks; `None` when it satisfies everything."""
        running = running_interpreter()
        if running is None:
            return []
        if wish.python and not version_range(wish.python).contains(
            running.version, prereleases=True
        ):
            return [f"it is Python {running.version}, {wish.python} is asked for"]
        compared = satisfaction(wish.requirements, wish.constraints, InstalledPackages())
        if compared.unmet:
            return list(compared.unmet)
        notes += compared.notes
        return None

    def _running(
        self, name: str, version: str | None, wish: EnvironmentWish, notes: Sequence[str]
    ) -> ResolvedEnvironment:
        running = running_interpreter()
        if running is None:
            raise Invalid(
                f"{wish.origin}: this process has no interpreter of its own that could serve: "
                "name an environment",
                code="interpreter_not_found",
            )
        asked = [*([f"Python {wish.python}"] if wish.python else []), *wish.requirements]
        reason = f"which satisfies {_listed(asked)}" if asked else "nothing else is asked for"
        uses = f"uses the running interpreter {running.executable} (Python {running.version})"
        kept = [*notes, redacted(f"{uses}: {reason}" if not asked else f"{uses}, {reason}")]
        self._tell(kept)
        content = ["running", *running_identity(running), InstalledPackages().fingerprint()]
        digest = _digest([*content, *wish.requirements, *wish.constraints])
        record = EnvironmentRecord(
            lock="",
            executable=running.executable,
            version=running.version,
            platform=platform_identity(),
            running=True,
            requirements=wish.requirements,
            constraints=wish.constraints,
        )
        self._store.save_record(digest, record)
        return ResolvedEnvironment(
            name=name,
            version=version or digest[:12],
            hash=digest,
            python=running.executable,
            notes=kept,
        )

    def _foreign(self, name: str, version: str | None, found: Substituted) -> ResolvedEnvironment:
        """Use an interpreter the settings name, as it is."""
        assert found.interpreter is not None
        interpreter = self._search.probe(found.interpreter)
        if interpreter is None:
            raise Invalid(
                f"{found.wish.origin} is mapped to {found.interpreter} (environment_map), which "
                "does not run as CPython",
                code="interpreter_not_found",
            )
        self._tell(found.notes)
        digest = _digest(["as it is", *running_identity(interpreter)])
        record = EnvironmentRecord(
            lock="",
            executable=interpreter.executable,
            version=interpreter.version,
            platform=platform_identity(),
            running=True,
        )
        self._store.save_record(digest, record)
        return ResolvedEnvironment(
            name=name,
            version=version or digest[:12],
            hash=digest,
            python=interpreter.executable,
            notes=list(found.notes),
        )

    def _locked(self, wish: EnvironmentWish, interpreter: Interpreter) -> tuple[str, str]:
        """Resolve to pins with hashes; store them under the hash of the environment to be."""
        self._store.folder.mkdir(parents=True, exist_ok=True)
        asked = [*wish.options, *wish.requirements]
        log = self._store.log_path(f"lock-{_digest([*asked, interpreter.version])[:12]}")
        self._log(f"resolving {len(wish.requirements)} requirements of {wish.origin}")
        uv = self._uv()
        pins = uv.lock(asked, wish.constraints, interpreter, wish.origin, log)
        log.unlink(missing_ok=True)
        lock = "".join(f"{line}\n" for line in wish.options) + pins
        digest = _digest([lock, interpreter.version, platform_identity(), uv.major()])
        record = EnvironmentRecord(
            lock=lock,
            executable=interpreter.executable,
            version=interpreter.version,
            platform=platform_identity(),
            requirements=wish.requirements,
            constraints=wish.constraints,
        )
        self._store.save_record(digest, record)
        return digest, lock

    def _build(self, digest: str, interpreter: Interpreter, origin: str) -> None:
        """Build from the stored lock, unless it is there; one builder at a time."""
        if self._store.is_ready(digest):
            self._log(f"environment {digest[:12]} is there already")
            return

        def waiting() -> None:
            self._log(f"environment {digest[:12]} is being built by another process: waiting")

        with self._store.guard(digest, waiting) as guard:
            if self._store.is_ready(digest):
                return
            folder = self._store.fresh_folder(digest)
            lock = self._store.lock_path(digest)
            count = len(locked_entries(lock.read_text(encoding="utf-8")))
            self._log(f"building environment {digest[:12]}: {count} packages")
            log = self._store.log_path(digest[:12])
            try:
                self._uv().install(lock, folder, interpreter, origin, log, guard)
                self._store.publish(digest)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            log.unlink(missing_ok=True)

    def _check_running(self, resolved: ResolvedEnvironment, record: EnvironmentRecord) -> None:
        """Refuse to score with an interpreter that has changed since it was found to serve."""
        itself = resolved.python == sys.executable
        if not itself and self._search.probe(resolved.python) is None:
            raise Invalid(
                f"the interpreter {resolved.python} of environment {resolved.name!r} does not run "
                "any more: create the deployment again",
                code="environment_unbuildable",
            )
        if not itself:
            return
        compared = satisfaction(record.requirements, record.constraints, InstalledPackages())
        if compared.unmet:
            raise Invalid(
                f"the running interpreter {resolved.python} no longer satisfies environment "
                f"{resolved.name!r} ({_listed(compared.unmet, '; ')}): install what "
                "is missing, or create the deployment again to have an environment built",
                code="environment_unbuildable",
            )

    def _uv(self) -> UvCommand:
        configuration = uv_configuration(self._environ)
        return UvCommand(self._settings, configuration, self._environ, self._store.folder)

    def _tell(self, notes: Sequence[str]) -> None:
        for note in notes:
            self._log(note)


def running_identity(interpreter: Interpreter) -> list[str]:
    """List what tells one interpreter of this machine from another."""
    return [interpreter.executable, interpreter.version, platform_identity()]


def platform_identity() -> str:
    """Name system, architecture and C library, as far as wheels depend on them."""
    return " ".join((sysconfig.get_platform(), *platform.libc_ver())).strip()


def _listed(words: Sequence[str], comma: str = ", ") -> str:
    more = len(words) - _SHOWN_MAX
    return comma.join(words[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
