"""The SDK's verbs for jobs: find them, wait for them, read what they left."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from batchpoint.client.connection import Connection, segment, segments
from batchpoint.domain.errors import CODES, Conflict, Invalid, JobFailed
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState, JobStatus
from batchpoint.domain.results import ResultsHead, StoredFile

WAIT_SECONDS = 30.0


class Jobs:
    """`client.jobs`. Raises: NotFound (`job_not_found`), Unavailable."""

    def __init__(self, connection: Connection) -> None:
        """Work through a connection."""
        self._connection = connection

    def get(self, name: str) -> Job:
        """Return a job as it is now."""
        return self._connection.get(Job, _job(name))

    def list(self, endpoint: str | None = None, deployment: str | None = None) -> Iterator[Job]:
        """Yield jobs, newest first; only of an endpoint or deployment when given."""
        params = {"endpoint": endpoint, "deployment": deployment}
        return self._connection.pages(Job, "/jobs", params)

    def handle(self, name: str) -> JobHandle:
        """Return a handle on a job that exists."""
        return JobHandle(self._connection, self.get(name))

    def cancel(self, name: str) -> Job:
        """Ask for a job to be stopped; one that has ended stays as it is."""
        answer = self._connection.send("POST", f"{_job(name)}/cancel", repeatable=True)
        return Job.model_validate_json(answer.content)


class JobHandle:
    """A job, and what to do with it. `job` is how it was when it was last asked for."""

    def __init__(self, connection: Connection, job: Job) -> None:
        """Watch a job through a connection."""
        self._connection = connection
        self.job = job

    def __repr__(self) -> str:
        return f"<JobHandle {self.name}: {self.job.status.state}>"

    @property
    def name(self) -> str:
        """The job's name."""
        return self.job.name

    @property
    def status(self) -> JobStatus:
        """The job's status now."""
        self.job = self._connection.get(Job, self._path())
        return self.job.status

    def wait(
        self,
        progress: Callable[[Job], None] | None = None,
        *,
        timeout_seconds: float | None = None,
        check: bool = True,
    ) -> Job:
        """Wait until the job has ended and return it.

        Args:
            progress: called with the job at once and after each change.
            timeout_seconds: give up waiting (not the job) after so long.
            check: raise when the job failed or was cancelled.

        Raises:
            JobFailed: the job's own error, unless `check` is false.
            Conflict: `job_not_finished`, after `timeout_seconds`.
        """
        give_up = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        if progress is not None:
            progress(self.job)
        while self.job.status.state not in TERMINAL_STATES:
            wait = WAIT_SECONDS
            if give_up is not None:
                wait = min(wait, give_up - time.monotonic())
                if wait <= 0:
                    raise Conflict(
                        f"job {self.name!r} has not ended after {timeout_seconds} s; it goes on",
                        code="job_not_finished",
                    )
            before = self.job.version
            asked = {"wait_seconds": wait, "after_version": before}
            self.job = self._connection.get(Job, self._path(), asked)
            if progress is not None and self.job.version != before:
                progress(self.job)
        if check:
            _raise_if_failed(self.job)
        return self.job

    def cancel(self) -> None:
        """Ask for the job to be stopped."""
        self.job = Jobs(self._connection).cancel(self.name)

    def head(self, rows: int = 10) -> ResultsHead:
        """Return the first rows of the predictions.

        Raises: Conflict (`job_not_finished`); NotFound (`output_not_found`).
        """
        return self._connection.get(ResultsHead, f"{self._path()}/head", {"rows": rows})

    def files(self) -> Iterator[StoredFile]:
        """Yield the files of the output. Raises: as `head`."""
        return self._connection.pages(StoredFile, f"{self._path()}/outputs/score")

    def download(
        self, path: str | os.PathLike[str], progress: Callable[[StoredFile], None] | None = None
    ) -> list[Path]:
        """Download the whole output into a folder and return the files, each of them complete.

        Files that are there already are replaced. Raises: as `head`; Invalid (`upload_corrupt`).
        """
        folder = Path(path).expanduser()
        written: list[Path] = []
        for file in self.files():
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._download(f"{self._path()}/outputs/score/{segments(file.path)}", target, file.size)
            written.append(target)
            if progress is not None:
                progress(file)
        return written

    def failed_items(self) -> Iterator[dict[str, Any]]:
        """Yield what failed for good, in input order: name, row, type, message, traceback.

        Of a job that has not completed: what is recorded so far.
        """
        with self._connection.stream(f"{self._path()}/failed-items") as chunks:
            for line in _lines(chunks):
                yield json.loads(line)

    def logs(self) -> list[StoredFile]:
        """Return the logs that there are; `job.log` is ours, `user/` is what user code printed."""
        return list(self._connection.pages(StoredFile, f"{self._path()}/logs"))

    def log(self, path: str = "job.log", *, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of a log from `offset` to its present end.

        Raises: NotFound (`output_not_found`).
        """
        place = f"{self._path()}/logs/{segments(path)}"
        with self._connection.stream(place, {"offset": offset}) as chunks:
            yield from chunks

    def _path(self) -> str:
        return _job(self.name)

    def _download(self, place: str, target: Path, size: int) -> None:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            with self._connection.stream(place) as chunks, temporary.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                received = file.tell()
            if received != size:
                raise Invalid(
                    f"{target.name} has {received:,} bytes instead of {size:,}: it was cut off; "
                    "download it again",
                    code="upload_corrupt",
                )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _job(name: str) -> str:
    return f"/jobs/{segment(name)}"


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _raise_if_failed(job: Job) -> None:
    status = job.status
    if status.state is JobState.CANCELED:
        raise JobFailed(f"job {job.name!r} was cancelled")
    if status.state is JobState.FAILED:
        error = status.error
        if error is None:
            raise JobFailed(f"job {job.name!r} failed")
        code = error.code if issubclass(CODES.get(error.code, Invalid), JobFailed) else "job_failed"
        raise JobFailed(f"job {job.name!r} failed: {error.message}", code=code, where=error.file)
