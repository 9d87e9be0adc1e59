"""Pipelines as callers ask for them: a graph or a component, with values for its inputs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from batchpoint.domain import limits
from batchpoint.domain.component import PipelineComponent, Scalar, Step
from batchpoint.domain.endpoint import Name
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput, PipelineOutput
from batchpoint.domain.model_shape import Flag, Moment, Noun, Text, TextMap, snake


class PipelineSettings(Noun):
    """How the steps of a pipeline run; an unset field takes the server's default.

    `continue_on_step_failure` (true): steps that do not need the one that failed go on.
    `force_rerun` (false): no step takes over the outputs of an earlier one.
    """

    default_compute: Text | None = None
    default_datastore: Text | None = None
    continue_on_step_failure: Flag | None = None
    force_rerun: Flag | None = None


class PipelineJob(Noun):
    """A pipeline to be run once, without an endpoint: its steps, or a component that has them."""

    type: Annotated[Literal["pipeline"], BeforeValidator(snake)] = "pipeline"
    name: str | None = None
    display_name: str | None = None
    experiment_name: str | None = None
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    compute: Text | None = None
    settings: PipelineSettings = PipelineSettings()
    inputs: dict[str, Scalar | JobInput | None] = Field(
        default_factory=dict[str, Scalar | JobInput | None]
    )
    outputs: dict[str, PipelineOutput | None] = Field(
        default_factory=dict[str, PipelineOutput | None]
    )
    jobs: dict[str, Step] | None = Field(default=None, max_length=limits.STEPS_MAX)
    component: str | PipelineComponent | None = None
    webhook_url: str | None = None

    @model_validator(mode="after")
    def _has_steps(self) -> Self:
        if (self.jobs is None) == (self.component is None):
            raise Invalid("give either jobs, or a component that has them", code="field_invalid")
        return self


class PipelineDeployment(Noun):
    """A graph of steps behind an endpoint (`type: pipeline`).

    `component` is a pipeline component, or `job_definition` a pipeline job that has completed, of
    which one is made: its shape, its literals as defaults.
    """

    name: Name
    endpoint_name: Name
    type: Annotated[Literal["pipeline"], BeforeValidator(snake)] = "pipeline"
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    component: str | PipelineComponent | None = None
    job_definition: str | None = None
    settings: PipelineSettings = PipelineSettings()
    # Set by the server.
    provisioning_state: Literal["Succeeded"] | None = None
    created_at: Moment | None = None

    @model_validator(mode="after")
    def _has_steps(self) -> Self:
        if self.component is None and self.job_definition is None:
            raise Invalid("give a component, or a job_definition to make one of",
                          code="field_invalid")  # fmt: skip
        return self
