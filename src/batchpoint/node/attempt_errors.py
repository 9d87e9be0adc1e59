"""Why an attempt or a load failed, in the words people read."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Literal

from batchpoint.core.messages import AttemptError
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError
from batchpoint.node.exit_words import WorkerEnd

Origin = Literal["user", "environment", "input", "storage", "batchpoint"]
_ORIGINS = ("user", "environment", "input", "storage", "batchpoint")


def told(error: dict[str, Any], *, file: str, log: str) -> AttemptError:
    """Take over an error as a worker tells it (see `batchpoint_worker.protocol`).

    Args:
        error: {origin, type, message, traceback, file, line}; absent values are empty.
        file: the input the task was about, when it is a single one.
        log: the log in which user code's own output is, relative to the job's folder.
    """
    origin = error.get("origin", "user")
    place = ""
    if error.get("file"):
        place = f"{PurePosixPath(str(error['file'])).name}:{error.get('line') or '?'}"
    kind = str(error.get("type") or "Error")
    return AttemptError(
        origin=origin if origin in _ORIGINS else "user",
        kind=f"{kind} at {place}" if place else kind,
        type=kind,
        message=str(error.get("message") or "")[: limits.ERROR_TEXT_CHARS_MAX],
        traceback=str(error.get("traceback") or "")[-limits.TRACEBACK_CHARS_MAX :],
        file=file,
        line=place,
        log=log,
    )


def died(end: WorkerEnd, doing: str, *, file: str, log: str) -> AttemptError:
    """Tell that the worker ended while it was `doing` something ("run()", "init()")."""
    return AttemptError(
        origin="user" if end.cause == "crashed" else "batchpoint",
        kind=f"worker died: {end.kind}",
        type="WorkerDied" if end.cause == "crashed" else "WorkerLost",
        message=f"{end.words} in {doing}",
        file=file,
        log=log,
    )


def timed_out(doing: str, seconds: float, stack: str, *, file: str, log: str) -> AttemptError:
    """Tell that `doing` took longer than it may; `stack` is where it was, or empty."""
    return AttemptError(
        origin="user",
        kind=f"{doing} timed out",
        type="TimeoutError",
        message=f"{doing} took longer than {seconds:g} s and was stopped",
        traceback=user_stack(stack)[: limits.TRACEBACK_CHARS_MAX],
        file=file,
        log=log,
    )


def not_started(error: OSError, python: str) -> AttemptError:
    """Tell that the interpreter cannot be started."""
    return AttemptError(
        origin="environment",
        kind="interpreter cannot be started",
        type=type(error).__name__,
        message=f"{python} cannot be started: {error.strerror or error}",
    )


def ours(error: BatchpointError, origin: Origin, *, file: str = "") -> AttemptError:
    """Tell what kept us from giving a task to a worker."""
    return AttemptError(
        origin=origin, kind=error.code, type=error.code, message=error.message, file=file
    )


def user_stack(dump: str) -> str:
    """Cut a dump of all threads down to user code's frames of the main thread.

    The main thread is the one that took the signal ("Current thread"); the worker's own frames and
    threads are left out. Empty when there is nothing of user code in it.
    """
    frames: list[str] = []
    mine = False
    for line in dump.splitlines():
        if line.startswith(("Current thread", "Thread 0x")):
            mine = line.startswith("Current thread")
        elif mine and line.startswith("  File ") and "batchpoint_worker" not in line:
            frames.append(line)
    return "\n".join(("Stack (most recent call first):", *frames)) + "\n" if frames else ""
