"""Components: registered, versioned, immutable steps with typed inputs and outputs."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag

from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.endpoint import Iso8601, LoggingLevel, Resources, RetrySettings, seconds
from batchpoint.domain.errors import Invalid
from batchpoint.domain.limits import (
    DESCRIPTION_LENGTH_MAX,
    ERROR_THRESHOLD_MAX,
    STEPS_MAX,
    TIMEOUT_SECONDS_MAX,
    WORKERS_PER_INSTANCE_MAX,
)
from batchpoint.domain.model_shape import Flag, Moment, Noun, Text, TextMap, Whole, snake

Scalar = str | int | float | bool
LiteralType = Literal["number", "integer", "boolean", "string"]
DataType = Literal["uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model"]
LITERAL_TYPES: tuple[LiteralType, ...] = get_args(LiteralType)
DATA_TYPES: tuple[DataType, ...] = get_args(DataType)
FILE_TYPES: tuple[DataType, ...] = ("uri_file",)
"""Types whose value is one file; that of every other data type is a folder, or either (models)."""

TYPES_REFUSED = {
    "triton_model": "register the model's files as custom_model",
    "ml_table": "write mltable",
}
"""Types of data that Azure's documents may name and ours may not, with what to do instead."""


def type_word(value: object) -> object:
    """Read a type in any spelling; refuse by name those of `TYPES_REFUSED`.

    Raises: Invalid (`field_unsupported`).
    """
    found = snake(value)
    if isinstance(found, str) and found in TYPES_REFUSED:
        raise Invalid(
            f"{found!r} is not supported: {TYPES_REFUSED[found]}", code="field_unsupported"
        )
    return found


InputMode = Annotated[
    Literal["ro_mount", "download", "direct"], BeforeValidator(snake, json_schema_input_type=str)
]
OutputMode = Annotated[
    Literal["rw_mount", "upload", "direct"], BeforeValidator(snake, json_schema_input_type=str)
]
_Seconds = Annotated[Whole, Field(ge=1, le=TIMEOUT_SECONDS_MAX)]
Timeout = Annotated[
    _Seconds | None, BeforeValidator(seconds, json_schema_input_type=_Seconds | Iso8601 | None)
]


class ComponentInput(Noun):
    """One typed input: a literal with its bounds, or a pointer to data.

    `ro_mount` (the default) gives the command a local path that it must not write to, `download` a
    private copy, `direct` the URI itself.
    """

    type: Annotated[LiteralType | DataType, BeforeValidator(type_word)]
    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH_MAX)
    default: Scalar | None = None
    optional: Flag = False
    min: int | float | None = None
    max: int | float | None = None
    enum: list[Scalar] | None = None
    mode: InputMode | None = None


class ComponentOutput(Noun):
    """One typed output: a folder that the command fills, or one file that it writes.

    `rw_mount` (the default) and `upload` give the command a local path, published when the step
    has succeeded; `direct` gives it the URI, and what it writes there is its own affair.
    """

    type: Annotated[DataType, BeforeValidator(type_word)] = "uri_folder"
    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH_MAX)
    mode: OutputMode | None = None


class CommandLimits(Noun):
    """How long one attempt of a step may take, in seconds; unset: as long as it takes."""

    timeout: Timeout = None


class ComponentCommon(Noun):
    """What components of every type have."""

    name: str | None = None
    version: Text | None = None
    display_name: str | None = None
    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    is_deterministic: Flag = True
    inputs: dict[str, ComponentInput] = Field(default_factory=dict[str, ComponentInput])
    outputs: dict[str, ComponentOutput] = Field(default_factory=dict[str, ComponentOutput])
    # Set by the server.
    archived: Flag = False
    created_at: Moment | None = None


class CommandComponent(ComponentCommon):
    """A shell command with placeholders for its inputs and outputs, run once on one node."""

    type: Literal["command"] = "command"
    command: str
    code: str | None = None
    environment: str | Environment | None = None
    environment_variables: TextMap = Field(default_factory=dict)
    resources: Resources = Resources()
    limits: CommandLimits = CommandLimits()
    retry_settings: RetrySettings = RetrySettings()


class ParallelTask(Noun):
    """What a parallel component runs for each mini-batch: a scoring script, or a model as it is.

    `program_arguments` may hold placeholders; `append_row_to` names the output that gets the rows.
    """

    type: Annotated[Literal["run_function", "model", "function"], BeforeValidator(snake)] = (
        "run_function"
    )
    code: str | None = None
    entry_script: str | None = None
    program_arguments: str | None = None
    environment: str | Environment | None = None
    append_row_to: str | None = None
    model: str | Model | None = None


class ParallelComponent(ComponentCommon):
    """A scoring script that mini-batches of one input go through, as in a model deployment.

    `mini_batch_size` counts files, or says bytes of tables (`10kb`, `100 mb`).
    """

    type: Literal["parallel"] = "parallel"
    task: ParallelTask
    input_data: str
    mini_batch_size: Text | None = None
    mini_batch_error_threshold: Whole | None = Field(default=None, ge=-1, le=ERROR_THRESHOLD_MAX)
    error_threshold: Whole | None = Field(default=None, ge=-1, le=ERROR_THRESHOLD_MAX)
    logging_level: LoggingLevel | None = None
    max_concurrency_per_instance: Whole | None = Field(
        default=None, ge=1, le=WORKERS_PER_INSTANCE_MAX
    )
    retry_settings: RetrySettings = RetrySettings()
    resources: Resources = Resources()
    environment_variables: TextMap = Field(default_factory=dict)


class StepData(Noun):
    """Data that a step reads which no other step makes: given in the pipeline itself."""

    type: Annotated[DataType, BeforeValidator(type_word)] | None = None
    path: str
    mode: InputMode | None = None


class StepOutputBinding(Noun):
    """Where an output of a step goes: to an output of the pipeline (`path`), and into a registry.

    `name` registers what was written as a model or data asset of that name when the step is done.
    """

    type: Annotated[DataType, BeforeValidator(type_word)] | None = None
    path: str | None = None
    mode: OutputMode | None = None
    name: str | None = None
    version: Text | None = None


class Step(Noun):
    """A use of a component in a pipeline: what its inputs and outputs are bound to.

    Bindings are `${{parent.inputs.NAME}}`, `${{parent.jobs.STEP.outputs.NAME}}` and
    `${{parent.outputs.NAME}}`. Everything else replaces what the component says, for this use.
    """

    type: Annotated[Literal["command", "parallel", "pipeline"], BeforeValidator(snake)] | None = (
        None
    )
    component: str | Component
    display_name: str | None = None
    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH_MAX)
    inputs: dict[str, Scalar | StepData | None] = Field(
        default_factory=dict[str, Scalar | StepData | None]
    )
    outputs: dict[str, str | StepOutputBinding | None] = Field(
        default_factory=dict[str, str | StepOutputBinding | None]
    )
    compute: Text | None = None
    environment: str | Environment | None = None
    environment_variables: TextMap = Field(default_factory=dict)
    resources: Resources = Resources()
    limits: CommandLimits = CommandLimits()
    retry_settings: RetrySettings = RetrySettings()
    # Of parallel steps.
    mini_batch_size: Text | None = None
    mini_batch_error_threshold: Whole | None = Field(default=None, ge=-1, le=ERROR_THRESHOLD_MAX)
    error_threshold: Whole | None = Field(default=None, ge=-1, le=ERROR_THRESHOLD_MAX)
    logging_level: LoggingLevel | None = None
    max_concurrency_per_instance: Whole | None = Field(
        default=None, ge=1, le=WORKERS_PER_INSTANCE_MAX
    )


class PipelineComponent(ComponentCommon):
    """A graph of steps that is used like a single one; may hold other pipelines."""

    type: Literal["pipeline"] = "pipeline"
    jobs: dict[str, Step] = Field(min_length=1, max_length=STEPS_MAX)


def _type_of(value: object) -> object:
    """Tell by which noun a component is read: its type, else what it holds."""
    if isinstance(value, ComponentCommon):
        return value.type  # pyright: ignore[reportAttributeAccessIssue,reportUnknownVariableType,reportUnknownMemberType]
    if not isinstance(value, dict):
        return None
    said = snake(value.get("type"))  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType]
    if said is not None:
        return said
    return "pipeline" if "jobs" in value else "parallel" if "task" in value else "command"


Component = Annotated[
    Annotated[CommandComponent, Tag("command")]
    | Annotated[ParallelComponent, Tag("parallel")]
    | Annotated[PipelineComponent, Tag("pipeline")],
    Discriminator(_type_of),
]

Step.model_rebuild()
PipelineComponent.model_rebuild()
