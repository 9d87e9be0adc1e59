"""Environments on disk, found by the hash of their content.

    environments/HASH/            the environment; its READY file is written last
    environments/HASH.lock.txt    the requirements with hashes it was built from
    environments/HASH.json        the interpreter, and what was asked for
    environments/HASH.guard       locked by whoever builds it
    environments/tmp-HASH/        half built; belongs to the holder of the guard
    environments/logs/            the full output of uv, where something went wrong

Lock and record outlive the environment, so that it can be built again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

_READY = "READY"


@dataclass(frozen=True)
class EnvironmentRecord:
    """What an environment was made from; `running` ones are the interpreter of batchpoint."""

    lock: str
    executable: str
    version: str
    platform: str
    running: bool = False
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()


class EnvironmentStore:
    """Keeps environments below `$BATCHPOINT_HOME/environments`; safe for many processes."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "environments"

    def python(self, digest: str) -> Path:
        """Tell where the interpreter of an environment is, built or not."""
        return self.folder / digest / "bin" / "python"

    def lock_path(self, digest: str) -> Path:
        """Tell where the lock of an environment is."""
        return self.folder / f"{digest}.lock.txt"

    def log_path(self, name: str) -> Path:
        """Tell where uv's output goes, and make its folder."""
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        return logs / f"{name}.log"

    def is_ready(self, digest: str) -> bool:
        """Say whether it is whole: finished, and its base interpreter still there."""
        ready = (self.folder / digest / _READY).is_file()
        return ready and os.access(self.python(digest), os.X_OK)

    def save_record(self, digest: str, record: EnvironmentRecord) -> None:
        """Write lock and record, readable for their owner only: URLs may hold passwords."""
        self.folder.mkdir(parents=True, exist_ok=True)
        fields = dataclasses.asdict(record)
        lock = fields.pop("lock")
        _write(self.lock_path(digest), lock)
        _write(self.folder / f"{digest}.json", json.dumps(fields, indent=1))

    def read_record(self, digest: str) -> EnvironmentRecord | None:
        """Read lock and record back; nothing when they are not there."""
        try:
            lock = self.lock_path(digest).read_text(encoding="utf-8")
            content = (self.folder / f"{digest}.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        fields = cast("dict[str, str]", json.loads(content))
        return EnvironmentRecord(
            lock=lock,
            executable=fields["executable"],
            version=fields["version"],
            platform=fields["platform"],
            running=bool(fields["running"]),
            requirements=tuple(fields["requirements"]),
            constraints=tuple(fields["constraints"]),
        )

    @contextlib.contextmanager
    def guard(self, digest: str, waiting: Callable[[], None]) -> Generator[int]:
        """Hold the right to build; `waiting` is called when another process has it.

        Yields the descriptor of the guard: a child that inherits it keeps the guard held until it
        is gone too, so that nobody clears a folder in which an orphaned child still writes.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / f"{digest}.guard", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def fresh_folder(self, digest: str) -> Path:
        """Give an empty place to build in, cleared of what a killed builder left (guard held)."""
        folder = self.folder / f"tmp-{digest}"
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def publish(self, digest: str) -> None:
        """Make what was built in `fresh_folder` the environment, durably (guard held)."""
        built, final = self.folder / f"tmp-{digest}", self.folder / digest
        # Files linked from uv's cache may not have reached the disk; READY promises they have.
        os.sync()
        _write(built / _READY, "")
        _sync(built)
        if final.exists():
            shutil.rmtree(final)
        built.rename(final)
        _sync(self.folder)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
