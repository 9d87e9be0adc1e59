"""The component that a pipeline job is an instance of: its shape, types told by its values."""

from __future__ import annotations

from collections.abc import Mapping

from batchpoint.core.graph_checks import output_use, writers
from batchpoint.core.graph_tree import Lookup
from batchpoint.domain.component import (
    Component,
    ComponentInput,
    ComponentOutput,
    DataType,
    LiteralType,
    PipelineComponent,
    Scalar,
    Step,
)
from batchpoint.domain.errors import Invalid, NotFound
from batchpoint.domain.job_pointers import JobInput, PipelineOutput


def component_of_job(
    inputs: Mapping[str, Scalar | JobInput | None],
    jobs: Mapping[str, Step],
    outputs: Mapping[str, PipelineOutput | None],
    lookup: Lookup | None = None,
) -> PipelineComponent:
    """Return the graph of a pipeline job as a component, without values for its inputs.

    Inputs are of the types of their values, those without a value optional texts. Outputs are of
    the type that was said, else of that which the step binding them writes (`lookup` finds its
    component), else a uri_folder. Nothing is checked here: `flatten` does.
    """
    component = PipelineComponent(
        inputs={name: _input(value) for name, value in inputs.items()},
        outputs={
            name: ComponentOutput(
                type=(value.type if value else None) or "uri_folder",
                mode=value.mode if value else None,
            )
            for name, value in outputs.items()
        },
        jobs=dict(jobs),
    )
    untold = [name for name, value in outputs.items() if value is None or value.type is None]
    told = {name: _written(component, name, lookup) for name in untold}
    typed = {
        name: each.model_copy(update={"type": told.get(name) or each.type})
        for name, each in component.outputs.items()
    }
    return component.model_copy(update={"outputs": typed})


def _input(value: Scalar | JobInput | None) -> ComponentInput:
    if value is None:
        return ComponentInput(type="string", optional=True)
    if isinstance(value, JobInput):
        return ComponentInput(type=value.type, mode=value.mode)
    return ComponentInput(type=_type_of(value))


def _type_of(value: Scalar) -> LiteralType:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"


def _written(component: PipelineComponent, name: str, lookup: Lookup | None) -> DataType | None:
    """Return the type of what is written to an output of a pipeline, None when nobody can say."""
    writer = writers(component).get(name)
    if writer is None:
        return None
    step = component.jobs[writer.step]
    said = output_use(step.outputs.get(writer.output)).type
    inner = _component(step, lookup)
    declared = inner.outputs.get(writer.output) if inner is not None else None
    return said or (declared.type if declared is not None else None)


def _component(step: Step, lookup: Lookup | None) -> Component | None:
    if not isinstance(step.component, str):
        return step.component
    try:
        return lookup(step.component)[1] if lookup is not None else None
    except (NotFound, Invalid):
        return None  # told by `flatten`
