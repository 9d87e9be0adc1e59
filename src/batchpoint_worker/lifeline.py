"""The worker's lifeline: when the agent is gone, the worker and all it started end at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1
_F_SETSIG = 10
_O_ASYNC = 0o20000


def lead_group() -> None:
    """Become leader of a process group, so that killing the group kills only ours."""
    if os.getpgrp() != os.getpid():
        with contextlib.suppress(OSError):  # a session leader leads its group already
            os.setpgid(0, 0)


def end_group() -> None:
    """Kill the own process group, this process included."""
    with contextlib.suppress(OSError):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def arm(lifeline: int) -> bool:
    """Have the kernel kill the process group at end of file on a pipe that carries no data.

    This works in the middle of C code that never gives the interpreter back, and reaches
    grandchildren. Returns False where the kernel cannot do it (not Linux).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, _F_SETSIG, int(signal.SIGKILL))
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | _O_ASYNC)
    except OSError:
        return False
    if _is_over(lifeline):  # it ended before there was anybody to tell
        end_group()
    return True


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux only)."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        end_group()


def watch(fd: int) -> threading.Thread:
    """Start a daemon thread that kills the process group at end of file on a pipe.

    The pipe may carry data, which is left alone.
    """
    thread = threading.Thread(target=_wait_for_end, args=(fd,), name="lifeline", daemon=True)
    thread.start()
    return thread


def _wait_for_end(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # hang-up is always told; data is not asked for
    while True:
        events = poll.poll()
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in events):
            end_group()
        if any(event & select.POLLNVAL for _, event in events):
            return


def _is_over(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def guard(read: int, lifeline: int, *, thread: bool = True) -> None:
    """Tie this process to the agent in every way there is.

    Args:
        read: the pipe of orders, watched by a thread.
        lifeline: the pipe that carries no data, or -1.
        thread: whether a thread may be started now.
    """
    if lifeline < 0 or not arm(lifeline):
        die_with_parent()
    if thread:
        watch(read)
