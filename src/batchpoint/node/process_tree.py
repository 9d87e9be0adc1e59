"""Processes that user code starts: found and ended with the worker that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`, at any depth; empty when it is gone."""
    if sys.platform == "linux":
        found: list[int] = []
        todo = [pid]
        while todo:
            children = _children(todo.pop())
            found += children
            todo += children
        return found
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [
            int(child)
            for thread in threads
            for child in (thread / "children").read_text(encoding="ascii").split()
        ]
    except OSError:
        return []


def end_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a worker's whole process group; a group that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def end_tree(pid: int) -> None:
    """Kill a worker, its group, and what has left the group but still descends from it."""
    below = descendants(pid)
    end_group(pid, signal.SIGKILL)
    for child in below:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent below us ends (Linux; elsewhere a no-op)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(workers: Collection[int]) -> None:
    """Kill and reap adopted processes: children of ours in other sessions that are no workers.

    Args:
        workers: process ids that may live on.
    """
    if sys.platform != "linux":
        return
    ours = os.getsid(0)
    for child in _children(os.getpid()):
        if child in workers:
            continue
        with contextlib.suppress(ProcessLookupError, ChildProcessError, PermissionError):
            if os.getsid(child) != ours:
                end_tree(child)
                os.waitpid(child, 0)


def end_orphans_among(found: Collection[int]) -> None:
    """Kill and reap those of earlier found `descendants` that we have adopted since."""
    if sys.platform == "linux" and found:
        for child in set(_children(os.getpid())).intersection(found):
            end_tree(child)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def reap_orphans(workers: Collection[int]) -> None:
    """Forget adopted processes that have ended by themselves."""
    if sys.platform != "linux":
        return
    for child in _children(os.getpid()):
        if child not in workers:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if os.getsid(child) != os.getsid(0):
                    os.waitpid(child, os.WNOHANG)
