"""The worker's own file descriptors: moved out of user code's way and closed in user forks."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Generator, Iterable, Tuple

# High enough that user code that closes or reuses low numbers does not meet them.
LOWEST = 100


def moved_away(fd: int) -> int:
    """Move a file descriptor to a high number that no child process inherits; -1 stays -1."""
    if fd < 0:
        return fd
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST)
    except OSError:  # the limit of open files is below that
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


class OwnDescriptors:
    """What a process forked by user code must not keep: else it could speak in our name.

    A program started by user code keeps none of them anyway (close on exec).
    """

    def __init__(self) -> None:
        self._held: Tuple[int, ...] = ()
        self._forking = False
        os.register_at_fork(after_in_child=self._close_in_fork)

    def hold(self, descriptors: Iterable[int]) -> None:
        """Close these, and no longer the ones named before, in processes that user code forks."""
        self._held = tuple(fd for fd in descriptors if fd >= 0)

    @contextlib.contextmanager
    def forking(self) -> Generator[None, None, None]:
        """Keep them open in a fork of our own."""
        self._forking = True
        try:
            yield
        finally:
            self._forking = False

    def _close_in_fork(self) -> None:
        if self._forking:
            return
        for fd in self._held:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._held = ()


SELF = OwnDescriptors()
