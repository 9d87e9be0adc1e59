"""The SDK's verbs for jobs: find them, wait for them, read what they left."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from batchpoint.client.connection import Connection, Params, segment, segments
from batchpoint.client.local_files import LocalFiles
from batchpoint.domain.errors import CODES, Conflict, Invalid, JobFailed
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState, JobStatus
from batchpoint.domain.pipeline import PipelineJob
from batchpoint.domain.results import NamedOutput, ResultsHead, StoredFile

WAIT_SECONDS = 30.0
SCORE = "score"
"""What the results of a job that scores are called among outputs."""

JobType = Literal["score", "command", "pipeline"]
_KEY_BYTES = 16


class Jobs:
    """`client.jobs`. Raises: NotFound (`job_not_found`), Unavailable."""

    def __init__(self, connection: Connection, files: LocalFiles) -> None:
        """Work through a connection."""
        self._connection = connection
        self._files = files

    def get(self, name: str) -> Job:
        """Return a job as it is now."""
        return self._connection.get(Job, _job(name))

    def create(self, job: PipelineJob, *, idempotency_key: str | None = None) -> JobHandle:
        """Run a pipeline once and return a handle on its job; uploads what is local.

        The same key and job again give the same job. Raises: Invalid with `findings` for whatever
        is wrong in the graph; NotFound for what it names.
        """
        answer = self._connection.send(
            "POST",
            "/jobs",
            body=self._files.pipeline_job(job),
            headers={"Idempotency-Key": idempotency_key or secrets.token_hex(_KEY_BYTES)},
            answer_seconds_max=None,
            repeatable=True,
        )
        return JobHandle(self._connection, Job.model_validate_json(answer.content))

    def list(
        self,
        endpoint: str | None = None,
        deployment: str | None = None,
        *,
        parent: str | None = None,
        states: Collection[JobState] = (),
        tags: Mapping[str, str | None] | None = None,
        type: JobType | None = None,  # noqa: A002  # the field's word
    ) -> Iterator[Job]:
        """Yield jobs, newest first.

        Args:
            endpoint: only jobs of this endpoint.
            deployment: only jobs of this deployment.
            parent: the steps of this pipeline job, in the order of its graph; else there are none.
            states: only jobs in one of these.
            tags: only jobs with all of these; None stands for any value.
            type: only jobs that score, run a command, or are pipelines.
        """
        asked = [key if value is None else f"{key}={value}" for key, value in (tags or {}).items()]
        params: Params = {
            "endpoint": endpoint,
            "deployment": deployment,
            "parent": parent,
            "status": [*states] or None,
            "tag": asked or None,
            "type": type,
        }
        return self._connection.pages(Job, "/jobs", params)

    def handle(self, name: str) -> JobHandle:
        """Return a handle on a job that exists."""
        return JobHandle(self._connection, self.get(name))

    def cancel(self, name: str) -> Job:
        """Ask for a job to be stopped; one that has ended stays as it is."""
        return _cancelled(self._connection, name)


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
        self.job = _cancelled(self._connection, self.name)

    def children(self) -> Iterator[Job]:
        """Yield the jobs of a pipeline's steps as they are now, in the order of its graph."""
        return self._connection.pages(Job, "/jobs", {"parent": self.name})

    def outputs(self) -> dict[str, NamedOutput]:
        """Return the outputs by name, complete or not; one that is complete can be read."""
        found = self._connection.pages(NamedOutput, f"{self._path()}/outputs")
        return {output.name: output for output in found}

    def head(self, rows: int = 10) -> ResultsHead:
        """Return the first rows of the predictions.

        Raises: Conflict (`job_not_finished`); NotFound (`output_not_found`).
        """
        return self._connection.get(ResultsHead, f"{self._path()}/head", {"rows": rows})

    def files(self, output: str = SCORE) -> Iterator[StoredFile]:
        """Yield the files of an output. Raises: as `head`."""
        return self._connection.pages(StoredFile, self._output(output))

    def download(
        self,
        path: str | os.PathLike[str],
        progress: Callable[[StoredFile], None] | None = None,
        *,
        output_name: str | None = None,
    ) -> list[Path]:
        """Download an output into a folder and return the files, each of them complete.

        Args:
            path: the folder. Files that are there already are replaced.
            progress: called with each file, whose path is that below the output.
            output_name: which output; None: the results of a job that scores, and of others every
                output that is complete, each into a folder of its name.

        Raises: as `head`; Invalid (`upload_corrupt`).
        """
        folder = Path(path).expanduser()
        if output_name is None and self.job.spec.type == "score" and self.job.spec.step is None:
            output_name = SCORE
        if output_name is not None:
            return self._download_output(output_name, folder, progress)
        outputs = self.outputs()
        complete = [name for name, output in outputs.items() if output.complete]
        if outputs and not complete:  # the server says why
            return self._download_output(next(iter(outputs)), folder, progress)
        return [
            file
            for name in complete
            for file in self._download_output(name, folder / name, progress)
        ]

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

    def _output(self, name: str) -> str:
        return f"{self._path()}/outputs/{segment(name)}"

    def _download_output(
        self, name: str, folder: Path, progress: Callable[[StoredFile], None] | None
    ) -> list[Path]:
        written: list[Path] = []
        for file in self.files(name):
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._download(f"{self._output(name)}/{segments(file.path)}", target, file.size)
            written.append(target)
            if progress is not None:
                progress(file)
        return written

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


def _cancelled(connection: Connection, name: str) -> Job:
    answer = connection.send("POST", f"{_job(name)}/cancel", repeatable=True)
    return Job.model_validate_json(answer.content)


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
