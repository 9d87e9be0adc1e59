"""Jobs: a specification resolved once at invoke and never changed, and a status that moves."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from batchpoint.domain import limits
from batchpoint.domain.datastore_urls import without_query
from batchpoint.domain.endpoint import LoggingLevel, OutputAction, OutputFormat, Parameters
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import Noun, TextMap, Whole, snake
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

InputType = Annotated[Literal["uri_file", "uri_folder"], BeforeValidator(snake)]


class JobInput(Noun):
    """A pointer to data: a file, a folder, or several of them in the order given (`uris`).

    A folder is every file below it, in UTF-8 order of the path. `pattern` keeps only items whose
    path below the folder matches a glob (`**/*.csv`). `asset` is the data asset that was named,
    once it is resolved to where its data lies.
    """

    type: InputType
    uri: str | None = None
    uris: tuple[str, ...] = Field(default=(), max_length=limits.INPUT_URIS_MAX)
    pattern: str | None = None
    # Set by the server.
    asset: str | None = None

    @model_validator(mode="after")
    def _points_somewhere(self) -> Self:
        if (self.uri is None) == (not self.uris):
            raise Invalid("give either uri, or several as uris", code="field_invalid")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """All that is pointed at, in order."""
        return (self.uri,) if self.uri is not None else self.uris

    @property
    def shown(self) -> str:
        """What is pointed at, in a few words for people."""
        more = len(self.sources) - 1
        told = without_query(self.sources[0]) + (
            f" (pattern {self.pattern})" if self.pattern else ""
        )
        return f"{told} and {more} more" if more else told


class JobOutput(Noun):
    """Where results appear when complete: the URI of a folder."""

    uri: str


class ResolvedModel(Noun):
    """The model a job uses: `path` is the file or folder on the server, `hash` its content's."""

    name: str
    version: str
    type: Literal["custom_model", "mlflow_model"]
    path: str
    hash: str


class ResolvedCode(Noun):
    """The code folder a job uses and the scoring script in it."""

    path: str
    scoring_script: str
    hash: str


class ResolvedEnvironment(Noun):
    """The environment a job uses: the lock it was built from and the interpreter to run.

    `hash` names the environment's content; `notes` are sentences for the job's log (what was
    substituted, why the running interpreter serves).
    """

    name: str
    version: str
    hash: str
    python: str
    notes: list[str] = Field(default_factory=list)


class ScoringSettings(Noun):
    """The effective settings of a job: every default applied, every override merged."""

    instance_count: int
    max_concurrency_per_instance: int
    mini_batch_size: int
    max_retries: int
    timeout_seconds: int | None
    error_threshold: int | None
    logging_level: LoggingLevel
    output_action: OutputAction
    output_file_name: str
    output_format: OutputFormat
    environment_variables: TextMap
    parameters: Parameters = Field(default_factory=dict)
    split_files: bool
    coalesce_files: bool


class JobSpec(Noun):
    """Everything a job needs, resolved at invoke."""

    endpoint_name: str
    deployment_name: str
    model: ResolvedModel
    code: ResolvedCode | None
    environment: ResolvedEnvironment
    compute: str
    # Of the compute, at invoke: how many nodes it may have, and how long an idle one stays warm.
    max_instances: int = 4
    idle_seconds: int
    settings: ScoringSettings
    input: JobInput
    output: JobOutput
    # Fit to be shown: the URL itself lies sealed in the ledger.
    webhook_url: str | None = None
    # The trace that the invocation was part of (W3C Trace Context), for the job's own spans.
    traceparent: str | None = None
    experiment_name: str | None = None
    tags: TextMap = Field(default_factory=dict)
    description: str | None = None


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

    phase: Literal["queued", "environment", "model", "scoring", "writing", "done"] = "queued"
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


class Job(Noun):
    """One invocation of an endpoint. `version` grows with each change of `status`.

    `webhook` tells what became of the message of its end, when one was asked for.
    """

    name: str
    spec: JobSpec
    status: JobStatus
    created_at: datetime
    version: int = 0
    webhook: WebhookDelivery | None = None


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
    """The body of an invoke: a pointer to data, and what is different for this job."""

    deployment_name: str | None = None
    input: JobInput
    output: JobOutput | None = None
    job_name: str | None = None
    # Called once the job has ended, with its name and state, until it answers.
    webhook_url: str | None = None
    experiment_name: str | None = None
    description: str | None = None
    tags: TextMap = Field(default_factory=dict)
    overrides: Overrides = Overrides()
