"""The lines that steps of a pipeline print, in the order in which they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from batchpoint.domain.errors import NotFound
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState

if TYPE_CHECKING:
    from batchpoint.client.client import Client
    from batchpoint.client.jobs import JobHandle

_USER = "user/"
# A line longer than this is printed in pieces: what has no end must not fill the memory.
_LINE_BYTES_MAX = 8_192
Show = Callable[[str, str, str], None]


class StepLogs:
    """Reads on in the logs of user code, of all jobs that it is shown.

    Of each log it keeps how far it was read, and the part of a line whose end has not come.
    """

    def __init__(self, client: Client, show: Show) -> None:
        """Give each line to `show`, with the job's name and the step's ("" for a job alone)."""
        self._client = client
        self._show = show
        self._handles: dict[str, JobHandle] = {}
        self._logs: dict[tuple[str, str], _Log] = {}
        self._ended: set[str] = set()

    def read(self, jobs: Iterable[Job]) -> None:
        """Show what the logs of jobs have grown by; those of a job that has ended to their end."""
        for job in jobs:
            if job.name in self._ended or job.status.state is JobState.QUEUED:
                continue
            is_over = job.status.state in TERMINAL_STATES
            if is_over:
                self._ended.add(job.name)
            if job.status.reused_from is not None or job.status.started_at is None:
                continue  # nothing has been run for it
            self._read(job, is_over=is_over)

    def _read(self, job: Job, *, is_over: bool) -> None:
        handle = self._handles.get(job.name)
        if handle is None:
            handle = self._handles[job.name] = self._client.job(job.name)
        step = job.spec.step.name if job.spec.step is not None else ""

        def show(line: str) -> None:
            self._show(job.name, step, line)

        for found in handle.logs():
            if not found.path.startswith(_USER):
                continue
            log = self._logs.setdefault((job.name, found.path), _Log())
            if found.size > log.offset:
                try:
                    for chunk in handle.log(found.path, offset=log.offset):
                        log.take(chunk, show)
                except NotFound:
                    continue  # tidied up since it was listed
            if is_over:
                log.end(show)
                del self._logs[job.name, found.path]
        if is_over:
            del self._handles[job.name]


class _Log:
    """How far a log was read, and the beginning of a line."""

    def __init__(self) -> None:
        self.offset = 0
        self._rest = b""

    def take(self, chunk: bytes, show: Callable[[str], None]) -> None:
        self.offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            show(_text(line))
        while len(self._rest) > _LINE_BYTES_MAX:
            show(_text(self._rest[:_LINE_BYTES_MAX]))
            self._rest = self._rest[_LINE_BYTES_MAX:]

    def end(self, show: Callable[[str], None]) -> None:
        if self._rest:
            show(_text(self._rest))
            self._rest = b""


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")
