"""How a worker ended: by its own doing or by somebody else's, told in words."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Literal, NamedTuple

Cause = Literal["crashed", "lost"]

# What user code or the kernel on its behalf does to itself; the rest comes from outside.
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_IN_WORDS = {
    "SIGSEGV": "segmentation fault",
    "SIGABRT": "aborted",
    "SIGBUS": "bus error",
    "SIGFPE": "arithmetic error",
    "SIGILL": "illegal instruction",
    "SIGPIPE": "broken pipe",
    "SIGXCPU": "CPU time limit",
    "SIGXFSZ": "file size limit",
    "SIGSYS": "forbidden system call",
    "SIGTRAP": "trap",
    "SIGKILL": "killed from outside",
    "SIGTERM": "asked to end from outside",
}


class WorkerEnd(NamedTuple):
    """Whose doing a worker's end was, a sentence, and a short name of the way it ended."""

    cause: Cause
    words: str
    kind: str


def explain(status: int | None, *, out_of_memory: bool) -> WorkerEnd:
    """Tell how a worker ended.

    Args:
        status: exit code, the negative number of the signal, or None when nobody could tell.
        out_of_memory: the kernel has just killed a process for want of memory.
    """
    if status is None:
        return WorkerEnd("lost", "the worker is gone, and how it ended is not known", "gone")
    if status == -signal.SIGKILL and out_of_memory:
        return WorkerEnd(
            "crashed", "the worker ran out of memory and was killed by the kernel", "out of memory"
        )
    if status >= 0:
        return WorkerEnd("crashed", f"the worker exited with code {status}", f"exit {status}")
    number = -status
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = ""
    words = _IN_WORDS.get(name, name or "unknown")
    cause: Cause = "lost" if number in _FROM_OUTSIDE else "crashed"
    return WorkerEnd(
        cause, f"the worker was killed by signal {number} ({words})", f"signal {number}"
    )


class OutOfMemoryWatch:
    """Notices that the kernel has just killed something for want of memory.

    The machine's counter covers every cgroup. Only kills since the sample before last count: one of
    long ago, or of somebody else, does not explain the end of a worker now.
    """

    def __init__(self, source: Path = Path("/proc/vmstat")) -> None:
        """Watch `source`, a file with a line `oom_kill N`; without it nothing is noticed."""
        self._source = source
        self._before = self._latest = _kills_in(source)

    def sample(self) -> None:
        """Look at the counter; call it every second or so."""
        self._before, self._latest = self._latest, _kills_in(self._source)

    def happened(self) -> bool:
        """Whether there was a kill that no earlier call has taken for its own."""
        if _kills_in(self._source) <= self._before:
            return False
        self._before += 1
        self._latest = max(self._latest, self._before)
        return True


def _kills_in(source: Path) -> int:
    try:
        lines = source.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return 0
