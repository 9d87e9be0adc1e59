"""A pipeline with all that its jobs need, as it is kept with a deployment."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from batchpoint.domain.component import Component, PipelineComponent
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import ResolvedEnvironment, ResolvedModel, ResolvedTree
from batchpoint.domain.model_shape import Noun
from batchpoint.domain.pipeline import PipelineDeployment


class StepParts(Noun):
    """What a leaf of the graph came down to: its code, model and inline data by the input's name.

    `environment` is a key of `PreparedPipeline.environments`.
    """

    environment: str
    code: ResolvedTree | None = None
    model: ResolvedModel | None = None
    data: dict[str, JobInput] = Field(default_factory=dict[str, JobInput])


class PreparedPipeline(Noun):
    """A graph whose components, code, environments, models and data are found and pinned.

    `component` names the graph; `components` holds it and all others in it by their references, so
    that what is deleted later is missed by nobody. `steps` holds the leaves by their names in the
    flat graph (`outer/inner`); `computes` are those that steps name themselves.
    """

    format: Literal[1] = 1
    component: str
    components: dict[str, Component]
    steps: dict[str, StepParts]
    environments: dict[str, ResolvedEnvironment]
    computes: list[str] = Field(default_factory=list)

    @property
    def pipeline(self) -> PipelineComponent:
        """The outermost component."""
        found = self.components[self.component]
        assert isinstance(found, PipelineComponent)
        return found

    def found(self, reference: str) -> tuple[str, Component]:
        """Return the canonical reference of a component in the graph, and the component."""
        return reference, self.components[reference]


class DeployedPipeline(NamedTuple):
    """A deployment of a pipeline with all that its jobs need."""

    deployment: PipelineDeployment
    resolution: PreparedPipeline
