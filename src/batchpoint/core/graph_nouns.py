"""What a flat graph consists of: steps that run, where their inputs come from and outputs go."""

from __future__ import annotations

from pydantic import Field

from batchpoint.domain.component import (
    CommandComponent,
    ComponentInput,
    ComponentOutput,
    DataType,
    OutputMode,
    ParallelComponent,
    Scalar,
    Step,
    StepData,
)
from batchpoint.domain.job_spec import OutputOf
from batchpoint.domain.model_shape import Noun


class GraphInput(Noun):
    """An input of the whole graph: its value is given with the job."""

    name: str


class LiteralValue(Noun):
    """A literal written in the pipeline, or a default; it is of its input's type."""

    value: Scalar


class InlineData(Noun):
    """Data named in the pipeline itself; its type is never None here."""

    data: StepData


Source = GraphInput | LiteralValue | InlineData | OutputOf


class BoundInput(Noun):
    """An input of a step: where its value comes from, and what was declared (mode of the use).

    `through` are the inputs of pipelines that a value of the graph passes on its way, the graph's
    own first: bounds and defaults of each hold, too.
    """

    source: Source
    declared: ComponentInput
    through: tuple[ComponentInput, ...] = ()


class Sink(Noun):
    """An output of a step: what is written, and where it goes.

    `graph_output` names the output of the graph that it is, `uri` is a place written in the
    pipeline; at most one of them is given. `register_as` and `register_version` are the use's.
    """

    type: DataType
    mode: OutputMode = "rw_mount"
    graph_output: str | None = None
    uri: str | None = None
    register_as: str | None = None
    register_version: str | None = None


class FlatStep(Noun):
    """A step that runs: `train`, or `outer/inner` of a nested pipeline.

    `reference` is the canonical one of its component, None for an inline one. `step` is the use,
    with compute and environment variables of the pipelines around it. `where` is its place in the
    pipeline's fields (`jobs.outer.component.jobs.inner`). `inputs` lacks those without a value,
    `outputs` has all that its component declares.
    """

    name: str
    display_name: str | None = None
    reference: str | None = None
    component: CommandComponent | ParallelComponent = Field(discriminator="type")
    step: Step
    inputs: dict[str, BoundInput]
    outputs: dict[str, Sink]
    needs: tuple[str, ...] = ()
    where: str


class GraphOutput(Noun):
    """An output of the graph: which step writes it, and as what it was declared."""

    written_by: OutputOf
    declared: ComponentOutput


class Graph(Noun):
    """A pipeline with all its steps flat, in file order. `steps` is never empty."""

    inputs: dict[str, ComponentInput]
    outputs: dict[str, GraphOutput]
    steps: dict[str, FlatStep]
