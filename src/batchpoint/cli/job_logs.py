"""Prints a job's logs: ours and what user code printed, once or until the job has ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from batchpoint.domain.errors import Conflict, NotFound
from batchpoint.domain.job import TERMINAL_STATES

if TYPE_CHECKING:
    from batchpoint.client.jobs import JobHandle

_POLL_SECONDS = 0.5


def print_logs(handle: JobHandle, path: str | None, target: BinaryIO) -> None:
    """Print one log, or all of them with a heading each, the job's own first.

    Raises:
        NotFound: `output_not_found`.
    """
    if path is not None:
        _copy(handle.log(path), target)
        return
    names = [log.path for log in handle.logs()]
    for name in sorted(names, key=lambda name: (name != "job.log", name)):
        if len(names) > 1:
            target.write(f"==> {name} <==\n".encode())
        _copy(handle.log(name), target)


def follow_log(handle: JobHandle, path: str, target: BinaryIO) -> None:
    """Print a log as it grows, until the job has ended."""
    offset = 0
    while True:
        ended = handle.status.state in TERMINAL_STATES
        try:
            offset += _copy(handle.log(path, offset=offset), target)
        except NotFound:
            if ended:
                raise
        if ended:
            return
        wait_a_moment(handle, _POLL_SECONDS)


def wait_a_moment(handle: JobHandle, seconds: float) -> None:
    """Wait for so long, or until the job has ended."""
    try:
        handle.wait(timeout_seconds=seconds, check=False)
    except Conflict as error:
        if error.code != "job_not_finished":
            raise


def _copy(chunks: Iterator[bytes], target: BinaryIO) -> int:
    size = 0
    for chunk in chunks:
        target.write(chunk)
        size += len(chunk)
    target.flush()
    return size
