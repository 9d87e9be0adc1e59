"""How a worker ended: by its own doing or by somebody else's, told in words."""

from __future__ import annotations

import os
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
    """Notices that the kernel killed something of ours for want of memory since the last look.

    The counter of our own cgroup is used where there is one, else the machine's.
    """

    def __init__(self, sources: tuple[Path, ...] | None = None) -> None:
        """Begin to watch; `sources` are files with a line `oom_kill N`, the first readable is used."""
        self._source: Path | None = None
        self._seen = 0
        for source in _sources() if sources is None else sources:
            count = _kills_in(source)
            if count is not None:
                self._source, self._seen = source, count
                break

    def happened(self) -> bool:
        """Whether the counter has grown since the last call."""
        if self._source is None:
            return False
        count = _kills_in(self._source)
        if count is None or count <= self._seen:
            return False
        self._seen = count
        return True


def _sources() -> tuple[Path, ...]:
    found: list[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii", errors="replace").split("\n")
    except OSError:
        return ()
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "" and group not in ("", "/"):
            found.append(Path("/sys/fs/cgroup") / group.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(Path("/sys/fs/cgroup/memory") / group.lstrip("/") / "memory.oom_control")
    return (*found, Path("/proc/vmstat"))


def _kills_in(source: Path) -> int | None:
    try:
        text = source.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in text.split("\n"):
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None


def end_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a worker's whole process group; a group that is gone is fine."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return
