"""One attempt at a command at a time: the lock that its processes hold, and its folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from batchpoint.domain.errors import Unavailable
from batchpoint.formats.durable import storage_error
from batchpoint.formats.layout import JobFolder
from batchpoint.node.command_order import CommandOrder
from batchpoint.node.command_outputs import CommandOutputs

_PREFIX = "command-"
_POLL_SECONDS = 0.01
# A node that is ended has 10 s for it, and processes that cannot be killed as many.
PREDECESSOR_SECONDS_MAX = 30.0


class Attempt:
    """The right to run the command of a job, and a folder for what it needs; blocking.

    Whatever process of an attempt still runs holds its lock, also when its agent is dead.
    """

    def __init__(self, lock: int, scratch: Path) -> None:
        """Made by `begin`."""
        self.lock = lock
        self.scratch = scratch

    @classmethod
    def begin(cls, job_dir: Path, patience_seconds: float = PREDECESSOR_SECONDS_MAX) -> Attempt:
        """Wait until nothing of an earlier attempt runs any more, and remove its folder.

        Raises:
            Unavailable: something of it does not end, or the disk cannot be written to.
        """
        folder = JobFolder(job_dir)
        work = folder.work
        try:
            job_dir.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder.command_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _lock(lock, folder, patience_seconds)
                work.mkdir(exist_ok=True)
                for left in work.glob(f"{_PREFIX}*"):
                    shutil.rmtree(left, ignore_errors=True)
                scratch = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=work))
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise storage_error(error, work) from error
        return cls(lock, scratch)

    def end(self) -> None:
        """Remove the folder, and let the next attempt begin; idempotent."""
        if self.lock >= 0:
            shutil.rmtree(self.scratch, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.scratch.parent.rmdir()  # that of a step has nothing else in it
            os.close(self.lock)
            self.lock = -1


def _lock(fd: int, folder: JobFolder, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"processes of an earlier attempt of {folder.root.name} do not end; look "
                    f"for them with `fuser {folder.command_lock}`"
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def withdraw_attempt(order: CommandOrder) -> None:
    """Wait until nothing of an attempt runs any more, and remove what it has left; blocking.

    For an attempt whose node was lost.

    Raises: Unavailable, Invalid: something could not be removed now; the next attempt will.
    """
    attempt = Attempt.begin(order.job_dir)
    try:
        CommandOutputs(order, attempt.scratch).withdraw()
    finally:
        attempt.end()
