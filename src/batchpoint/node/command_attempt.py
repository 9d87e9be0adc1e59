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
_EPOCH_BYTES = 20
# A node that is ended has 10 s for it, and processes that cannot be killed as many.
PREDECESSOR_SECONDS_MAX = 30.0


class Attempt:
    """The right to run the command of a job, and a folder for what it needs; blocking.

    Whatever process of an attempt still runs holds its lock, also when its agent is dead. The lock
    remembers the highest epoch that has held it: a runner that was replaced, and does not know it
    yet, is refused, so that it takes back nothing of what its successor has published.
    """

    def __init__(self, lock: int, scratch: Path) -> None:
        """Made by `begin`."""
        self.lock = lock
        self.scratch = scratch

    @classmethod
    def begin(
        cls, job_dir: Path, epoch: int = 0, patience_seconds: float = PREDECESSOR_SECONDS_MAX
    ) -> Attempt:
        """Wait until nothing of an earlier attempt runs any more, and remove its folder.

        `epoch` is that of the lease under which the pipeline runs.

        Raises:
            Unavailable: something of it does not end, the disk cannot be written to, or another
                runner has taken the pipeline meanwhile (`lease_lost`).
        """
        folder = JobFolder(job_dir)
        work = folder.work
        try:
            job_dir.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder.command_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _lock(lock, folder, patience_seconds)
                _fence(lock, folder, epoch)
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


def _fence(fd: int, folder: JobFolder, epoch: int) -> None:
    """Note the epoch in the file that is locked, unless a later one is there."""
    told = os.pread(fd, _EPOCH_BYTES, 0).strip()
    latest = int(told) if told.isdigit() else 0
    if latest > epoch:
        raise Unavailable(
            f"another runner has taken {folder.root.name} meanwhile (epoch {latest} after {epoch})",
            code="lease_lost",
        )
    if latest < epoch:
        os.pwrite(fd, f"{epoch:<{_EPOCH_BYTES}d}".encode(), 0)


def withdraw_attempt(order: CommandOrder) -> None:
    """Wait until nothing of an attempt runs any more, and remove what it has left; blocking.

    For an attempt whose node was lost, and a step that will not be completed.

    Raises: Unavailable, Invalid: something could not be removed now; the next attempt will.
        Unavailable (`lease_lost`): it is another runner's now.
    """
    attempt = Attempt.begin(order.job_dir, order.epoch)
    try:
        CommandOutputs(order, attempt.scratch).withdraw()
    finally:
        attempt.end()
