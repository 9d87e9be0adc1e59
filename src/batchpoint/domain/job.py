"""Jobs: a specification resolved once at invoke and never changed, and a status that moves."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from batchpoint.domain import limits
from batchpoint.domain.component import DataType, Scalar
from batchpoint.domain.endpoint import LoggingLevel, Parameters
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput, JobOutput, PipelineOutput
from batchpoint.domain.job_spec import JobSpec, ScoreSpec
from batchpoint.domain.model_shape import Noun, TextMap, Whole
from batchpoint.domain.webhook import WebhookDelivery


class JobState(StrEnum):
    """States of a job; the transitions are in `batchpoint.core.lifecycle`."""

    QUEUED = "Queued"
    PREPARING = "Preparing"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    CANCEL_REQUESTED = "CancelRequested"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"


TERMINAL_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELED})


class ErrorInfo(Noun):
    """What went wrong: whose fault, what to read, and where.

    `origin`: "user" (scoring code, model or data), "environment", "input", "storage", "batchpoint".
    `code` is one of `batchpoint.domain.errors.CODES` or the exception's type for user errors.
    """

    origin: Literal["user", "environment", "input", "storage", "batchpoint"]
    code: str
    message: str
    type: str | None = None
    traceback: str | None = None
    file: str | None = None
    row: int | None = None
    line: str | None = None
    log: str | None = None


class Progress(Noun):
    """How far a job is. Totals are estimates until `listed` is true; numbers never go back."""

    phase: Literal[
        "queued", "environment", "model", "scoring", "inputs", "command", "steps", "writing", "done"
    ] = "queued"
    listed: bool = False
    items_total: int = 0
    items_done: int = 0
    items_failed: int = 0
    rows_done: int = 0
    rows_failed: int = 0
    mini_batches_total: int = 0
    mini_batches_done: int = 0
    retries: int = 0
    workers: int = 0
    workers_wanted: int = 0
    rows_per_second: float = 0.0
    eta_seconds: float | None = None
    timeout_seconds: float | None = None
    # Of pipelines; a step that took over earlier outputs is done and reused.
    steps_total: int = 0
    steps_running: int = 0
    steps_done: int = 0
    steps_failed: int = 0
    steps_canceled: int = 0
    steps_reused: int = 0


class PublishedOutput(Noun):
    """A named output that is complete: where it is, and what was registered of it.

    `hash` names its content; None where nobody looked (`direct`, or too big to be worth it).
    """

    type: DataType
    uri: str
    hash: str | None = None
    asset: str | None = None


class JobStatus(Noun):
    """What is known of a job now."""

    state: JobState = JobState.QUEUED
    progress: Progress = Progress()
    error: ErrorInfo | None = None
    warnings: list[str] = Field(default_factory=list)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    output_uri: str | None = None
    attempts: int = 0
    # Of pipelines and their steps: what has been published so far, by the output's name.
    outputs: dict[str, PublishedOutput] = Field(default_factory=dict[str, PublishedOutput])
    # The job whose outputs a step took over in the place of computing them again.
    reused_from: str | None = None
    # How the last attempt of a command ended.
    exit_code: int | None = None


class Job(Noun):
    """One invocation, or one step of a pipeline. `version` grows with each change of `status`.

    `webhook` tells what became of the message of its end, when one was asked for.
    """

    name: str
    spec: JobSpec
    status: JobStatus
    created_at: datetime
    version: int = 0
    webhook: WebhookDelivery | None = None

    @property
    def scoring(self) -> ScoreSpec:
        """The specification of a job that scores. Raises: Invalid (`job_type_wrong`)."""
        if isinstance(self.spec, ScoreSpec):
            return self.spec
        advice = "name one of its steps that score" if self.spec.type == "pipeline" else ""
        raise Invalid(
            f"job {self.name!r} is a {self.spec.type} and scores nothing itself"
            + (f"; {advice}" if advice else ""),
            code="job_type_wrong",
        )


class Overrides(Noun):
    """What a caller may change for one job; unset fields keep the deployment's value."""

    instance_count: Whole | None = Field(default=None, ge=1, le=limits.INSTANCES_MAX)
    max_concurrency_per_instance: Whole | None = Field(
        default=None, ge=1, le=limits.WORKERS_PER_INSTANCE_MAX
    )
    mini_batch_size: Whole | None = Field(default=None, ge=1, le=limits.MINI_BATCH_ITEMS_MAX)
    max_retries: Whole | None = Field(default=None, ge=0, le=limits.RETRIES_MAX)
    timeout: Whole | None = Field(default=None, ge=1, le=limits.TIMEOUT_SECONDS_MAX)
    error_threshold: Whole | None = Field(default=None, ge=-1, le=limits.ERROR_THRESHOLD_MAX)
    logging_level: LoggingLevel | None = None
    output_file_name: str | None = None
    environment_variables: TextMap = Field(default_factory=dict)
    parameters: Parameters = Field(default_factory=dict)


class Invocation(Noun):
    """The body of an invoke: pointers to data, literals, and what is different for this job.

    Data without a name is `input` and results without one go to `output`; `inputs` and `outputs`
    are named. A model deployment takes one pointer to data under any name, and literals as
    parameters; names count where a pipeline is invoked.
    """

    deployment_name: str | None = None
    input: JobInput | None = None
    output: JobOutput | None = None
    inputs: dict[str, Scalar | JobInput | None] = Field(
        default_factory=dict[str, Scalar | JobInput | None]
    )
    outputs: dict[str, PipelineOutput | None] = Field(
        default_factory=dict[str, PipelineOutput | None]
    )
    job_name: str | None = None
    # Called once the job has ended, with its name and state, until it answers.
    webhook_url: str | None = None
    experiment_name: str | None = None
    description: str | None = None
    tags: TextMap = Field(default_factory=dict)
    overrides: Overrides = Overrides()
    # Of pipelines.
    display_name: str | None = None
    default_compute: str | None = None
    continue_on_step_failure: bool | None = None
    force_rerun: bool | None = None
