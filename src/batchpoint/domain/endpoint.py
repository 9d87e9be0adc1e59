"""Batch endpoints and their deployments, field for field as in YAML, SDK and REST."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from batchpoint.domain import limits
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.ids import endpoint_name
from batchpoint.domain.model_shape import Flag, Moment, Noun, Text, TextMap, Whole, snake

Name = Annotated[
    str,
    AfterValidator(endpoint_name),
    Field(
        json_schema_extra={
            "pattern": "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
            "minLength": limits.NAME_LENGTH_MIN,
            "maxLength": limits.NAME_LENGTH_MAX,
        }
    ),
]


_DURATION = re.compile(
    r"P(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?"
)


# How a duration may also be written.
Iso8601 = Annotated[str, Field(pattern=rf"^{_DURATION.pattern}$")]


def seconds(value: object) -> object:
    """Read a duration: whole seconds, or ISO 8601 as on Azure's wire (`PT30S`, `PT5M`)."""
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value)
    if found is None or value in ("P", "PT"):
        return value
    days, hours, minutes, secs = (float(part or 0) for part in found.groups())
    return math.ceil(((days * 24 + hours) * 60 + minutes) * 60 + secs)


_Seconds = Annotated[Whole, Field(ge=1, le=limits.TIMEOUT_SECONDS_MAX)]


class EndpointDefaults(Noun):
    """What an endpoint uses when the caller names nothing."""

    deployment_name: str | None = None


class BatchEndpoint(Noun):
    """A stable name and URL behind which any number of deployments live."""

    name: Name
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    auth_mode: Annotated[Literal["aad_token"], BeforeValidator(snake)] = "aad_token"
    defaults: EndpointDefaults = EndpointDefaults()
    location: str | None = None
    # Set by the server.
    scoring_uri: str | None = None
    provisioning_state: Literal["Succeeded"] | None = None
    created_at: Moment | None = None


class CodeConfiguration(Noun):
    """The scoring code: a folder (or an uploaded tree, `upload:HASH`) and the script in it."""

    code: str
    scoring_script: str


class RetrySettings(Noun):
    """Attempts are 1 + `max_retries`; `timeout` bounds one `run()` in seconds (unset: adaptive)."""

    max_retries: Whole | None = Field(default=None, ge=0, le=limits.RETRIES_MAX)
    timeout: Annotated[
        _Seconds | None, BeforeValidator(seconds, json_schema_input_type=_Seconds | Iso8601 | None)
    ] = None


class Resources(Noun):
    """Nodes a job of the deployment gets; the instance type is accepted and has no effect."""

    instance_count: Whole | None = Field(default=None, ge=1, le=limits.INSTANCES_MAX)
    instance_type: str | None = None


OutputAction = Annotated[Literal["append_row", "summary_only"], BeforeValidator(snake)]
OutputFormat = Annotated[Literal["batchpoint", "azure"], BeforeValidator(snake)]
# Literal values a script reads by name, or a no-code model gets as MLflow's `params`.
Parameters = Annotated[dict[str, str | int | float | bool], Field(max_length=limits.PARAMETERS_MAX)]
LoggingLevel = Annotated[Literal["debug", "info", "warning"], BeforeValidator(snake)]


class DeploymentSettings(Noun):
    """How a model deployment scores; an unset field takes the server's default (`resolved`)."""

    mini_batch_size: Whole | None = Field(default=None, ge=1, le=limits.MINI_BATCH_ITEMS_MAX)
    max_concurrency_per_instance: Whole | None = Field(
        default=None, ge=1, le=limits.WORKERS_PER_INSTANCE_MAX
    )
    instance_count: Whole | None = Field(default=None, ge=1, le=limits.INSTANCES_MAX)
    retry_settings: RetrySettings = RetrySettings()
    error_threshold: Whole | None = Field(default=None, ge=-1, le=limits.ERROR_THRESHOLD_MAX)
    logging_level: LoggingLevel | None = None
    output_action: OutputAction | None = None
    output_file_name: str | None = None
    output_format: OutputFormat | None = None
    environment_variables: TextMap = Field(default_factory=dict)
    parameters: Parameters = Field(default_factory=dict)
    # Ours: let a script receive slices of big text files, and let no-code models coalesce files.
    split_files: Flag | None = None
    coalesce_files: Flag | None = None


class ModelDeployment(Noun):
    """A model with everything needed to score with it, behind one endpoint (`type: model`)."""

    name: Name
    endpoint_name: Name
    type: Annotated[Literal["model"], BeforeValidator(snake)] = "model"
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    model: str | Model
    code_configuration: CodeConfiguration | None = None
    environment: str | Environment | None = None
    compute: Text = "local"
    resources: Resources = Resources()
    settings: DeploymentSettings = DeploymentSettings()
    # Set by the server.
    provisioning_state: Literal["Succeeded"] | None = None
    created_at: Moment | None = None
