"""What the inputs of the steps get when a graph's own inputs have their values."""

from __future__ import annotations

from collections.abc import Mapping

from batchpoint.core.graph_nouns import BoundInput, FlatStep, InlineData, LiteralValue
from batchpoint.core.input_values import expected, fits, literal_value
from batchpoint.domain.component import CommandComponent, Scalar, StepData
from batchpoint.domain.errors import Finding, Invalid
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import OutputOf

StepValue = Scalar | JobInput | StepData | OutputOf
"""What an input of a step gets: a literal, data given with the job or named in the pipeline, or
what another step writes."""


def step_inputs(
    step: FlatStep, values: Mapping[str, Scalar | JobInput]
) -> tuple[dict[str, StepValue], list[Finding]]:
    """Return what the inputs of a step get, given the values of the graph's inputs.

    `values` are as `values_for(graph.inputs, …)` returned them. Inputs without a value are absent.
    Findings are at `inputs.NAME`, the graph's input whose value does not suit this step.
    """
    found: dict[str, StepValue] = {}
    findings: list[Finding] = []
    for name, bound in step.inputs.items():
        source = bound.source
        if isinstance(source, LiteralValue):
            found[name] = source.value
        elif isinstance(source, InlineData):
            found[name] = source.data
        elif isinstance(source, OutputOf):
            found[name] = source
        else:
            try:
                value = _passed(bound, values.get(source.name), step)
            except Invalid as error:
                told = f"input {name!r} of step {step.name!r}: {error.message}"
                findings.append(Finding(f"inputs.{source.name}", told, error.code))
                continue
            if value is not None:
                found[name] = value
    return found, findings


def _passed(
    bound: BoundInput, value: Scalar | JobInput | None, step: FlatStep
) -> Scalar | JobInput | None:
    """Lead a value of the graph through nested pipelines to an input of a step."""
    for declared in (*bound.through, bound.declared):
        value = declared.default if value is None else value
        if value is None or isinstance(value, JobInput):
            continue
        value = literal_value(declared, value)
    if not isinstance(value, JobInput):
        return value
    if not fits(value.type, bound.declared.type):
        raise Invalid(f"expected {expected(bound.declared)}, not a {value.type}",
                      code="field_invalid")  # fmt: skip
    if isinstance(step.component, CommandComponent) and (value.uris or value.pattern):
        raise Invalid("a command takes one file or folder, neither several nor a pattern",
                      code="field_unsupported")  # fmt: skip
    return value
