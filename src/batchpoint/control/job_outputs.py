"""The named outputs of jobs: of steps, of whole pipelines, and the results of those that score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from batchpoint.control.job_files import AccessFor, JobFiles, file_inside, files_below
from batchpoint.control.remote_results import RemoteFile, RemoteFiles
from batchpoint.domain.component import FILE_TYPES, DataType
from batchpoint.domain.errors import BatchpointError, Conflict, NotFound
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState, PublishedOutput
from batchpoint.domain.job_spec import PipelineSpec, ScoreSpec
from batchpoint.domain.results import NamedOutput, StoredFile
from batchpoint.storage.locate import local_path_of

SCORE = "score"
"""What the results of a job are called that scores and whose outputs nobody named."""


class JobOutputs:
    """Finds outputs by their names. `job_of` gives jobs: the steps of a pipeline are such."""

    def __init__(
        self, files: JobFiles, access_for: AccessFor, job_of: Callable[[str], Job]
    ) -> None:
        """Nothing is read yet."""
        self._files = files
        self._access_for = access_for
        self._job_of = job_of

    def list(self, job: Job) -> list[NamedOutput]:
        """List the outputs of a job by name, complete or not."""
        return [self._named(job, name) for name in sorted(self._names(job))]

    def list_files(self, job: Job, name: str, limit: int, after: str | None) -> list[StoredFile]:
        """List the files of an output by path, as soon as it is complete; one that is a file: it.

        Raises: NotFound (`output_not_found`, `datastore_not_found`); Conflict (`job_not_finished`);
        Unavailable (`storage_unavailable`); Invalid (`storage_denied`).
        """
        if self._is_score(job, name):
            return self._files.list_results(job, limit, after)
        place = self._place(job, name)
        if isinstance(place, Path):
            return files_below(place, limit, after)
        return place.files(limit, after)

    def file(self, job: Job, name: str, path: str) -> Path | RemoteFile:
        """Find one file of an output. Raises: as `list_files`."""
        if self._is_score(job, name):
            return self._files.result(job, path)
        place = self._place(job, name)
        otherwise = f"the output {name!r} of job {job.name!r} has no file"
        if not isinstance(place, Path):
            return place.file(path, otherwise)
        if place.is_file() and path == place.name:
            place = place.parent
        return file_inside(place, path, otherwise)

    # --- names ------------------------------------------------------------------------------

    def _names(self, job: Job) -> list[str]:
        spec = job.spec
        if isinstance(spec, PipelineSpec):
            return list(spec.outputs)
        if spec.step is not None:
            return list(spec.step.outputs)
        return [SCORE]

    def _is_score(self, job: Job, name: str) -> bool:
        """Tell whether results are asked for that no component has given a name of its own."""
        if not isinstance(job.spec, ScoreSpec) or name != SCORE:
            return False
        return job.spec.step is None or name not in job.spec.step.outputs

    def _named(self, job: Job, name: str) -> NamedOutput:
        if self._is_score(job, name):
            uri = job.status.output_uri or job.scoring.output.uri
            complete = job.status.state is JobState.COMPLETED
            return NamedOutput(name=name, type="uri_folder", uri=uri, complete=complete)
        published = job.status.outputs.get(name)
        if published is not None:
            return _complete(name, published)
        if isinstance(job.spec, PipelineSpec):
            source = job.spec.outputs[name]
            below = self._job_of(job.spec.steps[source.step])
            return self._named(below, source.output).model_copy(update={"name": name})
        assert job.spec.step is not None  # or it would be the results
        planned = job.spec.step.outputs[name]
        return NamedOutput(name=name, type=planned.type, uri=planned.uri, complete=False)

    # --- places -----------------------------------------------------------------------------

    def _place(self, job: Job, name: str) -> Path | RemoteFiles:
        """Return where a complete output lies: a file or folder here, or what is in a store."""
        if name not in self._names(job):
            known = ", ".join(sorted(self._names(job)))
            raise NotFound(
                f"job {job.name!r} has no output {name!r}; "
                + (f"it has {known}" if known else "it has none"),
                code="output_not_found",
            )
        found = self._named(job, name)
        if not found.complete:
            raise self._incomplete(job, name)
        gone = f"the output {name!r} of job {job.name!r} is no longer at {found.uri}"
        missing = NotFound(f"{gone}; it was moved or deleted", code="output_not_found")
        access = self._access_for([found.uri])
        local = local_path_of(found.uri, access)
        if local is not None:
            if not local.exists():
                raise missing
            return local
        # Only outputs in object stores pay for their client.
        from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415

        at = ObjectLocations(access).at(found.uri)
        when = job.status.ended_at or job.created_at
        return RemoteFiles(at, when, missing, is_file=_is_file(found.type))

    def _incomplete(self, job: Job, name: str) -> BatchpointError:
        state = job.status.state
        if state in TERMINAL_STATES:
            return NotFound(
                f"job {job.name!r} ended {state} and never completed its output {name!r}; "
                "`batchpoint job show` tells why",
                code="output_not_found",
            )
        whose = f"job {job.name!r}"
        if isinstance(job.spec, PipelineSpec):
            whose = f"step {job.spec.outputs[name].step!r} of {whose}"
        return Conflict(
            f"job {job.name!r} is {state}, and its output {name!r} appears when {whose} has "
            "completed; wait for that",
            code="job_not_finished",
        )


def _complete(name: str, published: PublishedOutput) -> NamedOutput:
    return NamedOutput(
        name=name,
        type=published.type,
        uri=published.uri,
        complete=True,
        hash=published.hash,
        asset=published.asset,
    )


def _is_file(kind: DataType) -> bool | None:
    """Tell whether data of a type is a file or a folder; None: it may be either."""
    if kind in FILE_TYPES:
        return True
    return False if kind == "uri_folder" else None
