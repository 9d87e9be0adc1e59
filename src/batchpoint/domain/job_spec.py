"""What a job is to do: everything decided and resolved at invoke, and never changed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from batchpoint.domain.component import (
    DataType,
    InputMode,
    LiteralType,
    OutputMode,
    Scalar,
)
from batchpoint.domain.endpoint import LoggingLevel, OutputAction, OutputFormat, Parameters
from batchpoint.domain.job_pointers import JobInput, JobOutput
from batchpoint.domain.model_shape import Noun, TextMap


class ResolvedModel(Noun):
    """The model a job uses: `path` is the file or folder on the server, `hash` its content's."""

    name: str
    version: str
    type: Literal["custom_model", "mlflow_model"]
    path: str
    hash: str


class ResolvedTree(Noun):
    """A folder of files on the server: a command's code."""

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
    """The effective settings of a job: every default applied, every override merged.

    Where `mini_batch_bytes` is given, a mini-batch has so many bytes of files and
    `mini_batch_size` means nothing. A mini-batch has failed when an item of it has: the job fails
    once more than `mini_batch_error_threshold` have (-1: never), or once more than
    `allowed_failed_percent` of all have.
    """

    instance_count: int
    max_concurrency_per_instance: int
    mini_batch_size: int
    mini_batch_bytes: int | None = None
    max_retries: int
    timeout_seconds: int | None
    error_threshold: int | None
    mini_batch_error_threshold: int | None = None
    allowed_failed_percent: int | None = None
    logging_level: LoggingLevel
    output_action: OutputAction
    output_file_name: str
    output_format: OutputFormat
    environment_variables: TextMap
    parameters: Parameters = Field(default_factory=dict)
    split_files: bool
    coalesce_files: bool


class OutputOf(Noun):
    """An output of another step of the same pipeline."""

    step: str
    output: str


class StepInput(Noun):
    """What an input of a step comes from: a literal `value`, data, or what another step writes.

    `data` is resolved to canonical URIs. Exactly one of the three is given.
    """

    type: LiteralType | DataType
    mode: InputMode = "ro_mount"
    value: Scalar | None = None
    data: JobInput | None = None
    output: OutputOf | None = None


class StepOutput(Noun):
    """Where an output of a step appears when the step has succeeded.

    `uri` is the folder, or the file itself for a uri_file; `named`: somebody has chosen it, so that
    the output has to be there, whoever computed it. `register_as` and `register_version`
    name the model or data asset that is made of it then.
    """

    type: DataType
    mode: OutputMode = "rw_mount"
    uri: str
    named: bool = False
    register_as: str | None = None
    register_version: str | None = None


class StepPlace(Noun):
    """A job's place in a pipeline job.

    `parent` is that job; `name` the step's (`train`, or `train/fit` for a step of a nested
    pipeline) and `needs` the steps that have to complete before it. `identity` is a hash of the
    component, its code and environment and of everything that was replaced for this use: with the
    content of the inputs it names what a deterministic step computes.
    """

    parent: str
    name: str
    display_name: str | None = None
    component: str
    needs: tuple[str, ...] = ()
    inputs: dict[str, StepInput] = Field(default_factory=dict[str, StepInput])
    outputs: dict[str, StepOutput] = Field(default_factory=dict[str, StepOutput])
    is_deterministic: bool = True
    identity: str


class SpecCommon(Noun):
    """What the specifications of all jobs have. Jobs without an endpoint were made as such."""

    endpoint_name: str | None = None
    deployment_name: str | None = None
    step: StepPlace | None = None
    # Fit to be shown: the URL itself lies sealed in the ledger.
    webhook_url: str | None = None
    # The trace that the invocation was part of (W3C Trace Context), for the job's own spans.
    traceparent: str | None = None
    display_name: str | None = None
    experiment_name: str | None = None
    tags: TextMap = Field(default_factory=dict)
    description: str | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """The URIs of all data that the job reads or writes, as far as they were given."""
        step = self.step
        if step is None:
            return ()
        read = [uri for each in step.inputs.values() if each.data for uri in each.data.sources]
        return (*read, *(each.uri for each in step.outputs.values()))


class NodeSpec(SpecCommon):
    """What jobs have that run on nodes of a compute.

    `max_instances` and `idle_seconds` are those of the compute at invoke: how many nodes it may
    have, and how long an idle one stays warm.
    """

    environment: ResolvedEnvironment
    compute: str
    max_instances: int = 4
    idle_seconds: int


class ScoreSpec(NodeSpec):
    """Scoring: mini-batches of an input go through a model or a script.

    A script of a parallel step may have no model, and gets `arguments` on its command line: they
    hold placeholders for what is known only when it runs. `input_data` names the step's input that
    is scored: `input` is where that was expected to lie at invoke. `append_row_to` names the step's
    output that gets the rows; they also lie at `output`, in the job's own folder.
    """

    type: Literal["score"] = "score"
    model: ResolvedModel | None
    code: ResolvedCode | None
    settings: ScoringSettings
    input: JobInput
    output: JobOutput
    arguments: str | None = None
    input_data: str | None = None
    append_row_to: str | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """See `SpecCommon`."""
        return (*super().places, *self.input.sources, self.output.uri)


class CommandSpec(NodeSpec):
    """One command of a pipeline's step, run once on one node.

    `command` is the component's text with its placeholders. Attempts are 1 + `max_retries`;
    `timeout_seconds` bounds each of them.
    """

    type: Literal["command"] = "command"
    command: str
    code: ResolvedTree | None
    environment_variables: TextMap = Field(default_factory=dict)
    max_retries: int = 0
    timeout_seconds: int | None = None


class PipelineSpec(SpecCommon):
    """A graph of steps, each of them a job: `steps` maps their names to these, in file order.

    `component` names the registered graph. `inputs` holds what was given for the graph's inputs,
    defaults included; `outputs` what writes each of its outputs. `default_compute` and
    `default_datastore` are what was asked for, None the server's. Child jobs hold all the rest.
    """

    type: Literal["pipeline"] = "pipeline"
    component: str
    inputs: dict[str, Scalar | JobInput] = Field(default_factory=dict[str, Scalar | JobInput])
    outputs: dict[str, OutputOf] = Field(default_factory=dict[str, OutputOf])
    steps: dict[str, str]
    default_compute: str | None = None
    default_datastore: str | None = None
    continue_on_step_failure: bool = True
    force_rerun: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        """See `SpecCommon`; what steps write is told by their own specifications."""
        given = [each for each in self.inputs.values() if isinstance(each, JobInput)]
        return tuple(uri for each in given for uri in each.sources)


def _kind_of(value: object) -> object:
    """Tell by which noun a specification is read; those without a type are of before types."""
    if isinstance(value, dict):
        return value.get("type", "score")  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    return getattr(value, "type", None)


JobSpec = Annotated[
    Annotated[ScoreSpec, Tag("score")]
    | Annotated[CommandSpec, Tag("command")]
    | Annotated[PipelineSpec, Tag("pipeline")],
    Discriminator(_kind_of),
]
