"""Whether the steps of one pipeline fit together as far as can be seen without their components."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from batchpoint.core.binding import (
    Binding,
    ParentInput,
    ParentOutput,
    StepOutputRef,
    read_binding,
    read_target,
)
from batchpoint.core.input_values import unknown
from batchpoint.domain.component import PipelineComponent, Scalar, Step, StepData, StepOutputBinding
from batchpoint.domain.errors import Finding, Invalid

_CYCLES_TOLD_MAX = 10


class Writer(NamedTuple):
    """The output of a step that is an output of its pipeline."""

    step: str
    output: str


def input_text(value: Scalar | StepData | None) -> str | None:
    """Return the text of a step's input that may be a binding."""
    text = value.path if isinstance(value, StepData) else value
    return text if isinstance(text, str) else None


def output_use(value: str | StepOutputBinding | None) -> StepOutputBinding:
    """Return a step's output in its long form: a bare text is the `path`."""
    if isinstance(value, StepOutputBinding):
        return value
    return StepOutputBinding(path=value)


def writers(component: PipelineComponent) -> dict[str, Writer]:
    """Return which step writes each output of the pipeline, the first of several."""
    found: dict[str, Writer] = {}
    for step_name, step in component.jobs.items():
        for output, value in step.outputs.items():
            try:
                binding = read_target(output_use(value).path or "")
            except Invalid:
                continue
            if isinstance(binding, ParentOutput):
                found.setdefault(binding.name, Writer(step_name, output))
    return found


def check_steps(component: PipelineComponent, prefix: str) -> list[Finding]:
    """Return what is wrong with the bindings of a pipeline: unknown names, cycles, clashes.

    `prefix` stands before each place: "" or such as `jobs.outer.component.`. Components, and so
    the inputs and outputs of steps, are not looked at.
    """
    findings: list[Finding] = []
    needs: dict[str, dict[str, str]] = {}
    for name, step in component.jobs.items():
        place = f"{prefix}jobs.{name}"
        needs[name] = {}
        for input_name, value in step.inputs.items():
            where = f"{place}.inputs.{input_name}"
            binding = _read(input_text(value), where, findings)
            if isinstance(binding, StepOutputRef) and binding.step in component.jobs:
                needs[name].setdefault(binding.step, where)
            elif binding is not None:
                findings.extend(_unknown_source(binding, component, where))
        findings.extend(_unknown_targets(component, step, place))
        findings.extend(_unknown_compute(component, step, place))
    findings.extend(_clashes(component, prefix))
    findings.extend(_cycles(needs))
    return findings


def _read(
    text: str | None,
    where: str,
    findings: list[Finding],
    read: Callable[[str], Binding | None] = read_binding,
) -> Binding | None:
    try:
        return read(text or "")
    except Invalid as error:
        findings.append(Finding(where, error.message, error.code))
        return None


def _unknown_source(
    binding: Binding, component: PipelineComponent, where: str
) -> list[Finding]:  # fmt: skip
    if isinstance(binding, ParentOutput):
        told = (f"an input cannot be bound to the pipeline's output {binding.name!r}; bind it to "
                "the output of the step that writes it")  # fmt: skip
        return [Finding(where, told, "binding_invalid")]
    if isinstance(binding, StepOutputRef):
        return [Finding(where, unknown("step", binding.step, component.jobs), "pipeline_invalid")]
    if binding.name in component.inputs:
        return []
    told = unknown("input of the pipeline", binding.name, component.inputs)
    return [Finding(where, told, "pipeline_invalid")]


def _unknown_targets(component: PipelineComponent, step: Step, place: str) -> list[Finding]:
    findings: list[Finding] = []
    for output, value in step.outputs.items():
        where = f"{place}.outputs.{output}"
        binding = _read(output_use(value).path, where, findings, read_target)
        if isinstance(binding, (ParentInput, StepOutputRef)):
            told = "an output is bound to an output of the pipeline: ${{parent.outputs.NAME}}"
            findings.append(Finding(where, told, "binding_invalid"))
        elif binding is not None and binding.name not in component.outputs:
            told = unknown("output of the pipeline", binding.name, component.outputs)
            findings.append(Finding(where, told, "pipeline_invalid"))
    return findings


def _unknown_compute(component: PipelineComponent, step: Step, place: str) -> list[Finding]:
    """Check a compute that is an input of the pipeline: a text, for a step that is no pipeline."""
    where, findings = f"{place}.compute", list[Finding]()
    binding = _read(step.compute, where, findings)
    if binding is None:
        return findings
    if not isinstance(binding, ParentInput):
        told = "a compute is bound to an input of the pipeline: ${{parent.inputs.NAME}}"
        return [Finding(where, told, "binding_invalid")]
    if step.type == "pipeline" or isinstance(step.component, PipelineComponent):
        told = "bind the computes of the nested pipeline's own steps to inputs of it"
        return [Finding(where, told, "binding_invalid")]
    declared = component.inputs.get(binding.name)
    if declared is not None and declared.type != "string":
        told = f"expected a string, the name of a compute, but it is bound to a {declared.type}"
        return [Finding(where, told, "pipeline_invalid")]
    return _unknown_source(binding, component, where)


def _clashes(component: PipelineComponent, prefix: str) -> list[Finding]:
    """Find outputs of the pipeline that no step writes, and those that several write."""
    findings: list[Finding] = []
    first = writers(component)
    for name, step in component.jobs.items():
        for output, value in step.outputs.items():
            try:
                binding = read_target(output_use(value).path or "")
            except Invalid:
                continue
            if not isinstance(binding, ParentOutput):
                continue
            writer = first[binding.name]
            if writer != (name, output):
                told = (f"the pipeline's output {binding.name!r} is already written by output "
                        f"{writer.output!r} of step {writer.step!r}")  # fmt: skip
                where = f"{prefix}jobs.{name}.outputs.{output}"
                findings.append(Finding(where, told, "pipeline_invalid"))
    findings.extend(
        Finding(
            f"{prefix}outputs.{name}",
            "no step writes this output; bind an output of a step to "
            f"${{{{parent.outputs.{name}}}}}",
            "pipeline_invalid",
        )
        for name in component.outputs
        if name not in first
    )
    return findings


def _cycles(needs: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    """Name steps that wait for each other: one finding a cycle, at one of its bindings.

    `needs` maps each step to those it needs, and these to the place of the binding.
    """
    findings: list[Finding] = []
    done: set[str] = set()
    for start in needs:
        if start in done:
            continue
        path = [start]
        on_path = {start: 0}
        pending = [iter(needs[start])]
        while pending and len(findings) < _CYCLES_TOLD_MAX:
            needed = next(pending[-1], None)
            if needed is None:
                pending.pop()
                step = path.pop()
                del on_path[step]
                done.add(step)
            elif needed in on_path:
                cycle = path[on_path[needed] :]
                told = " → ".join([*cycle, needed])
                findings.append(
                    Finding(
                        needs[path[-1]][needed],
                        f"the steps wait for each other: {told} (each needs the next one)",
                        "pipeline_invalid",
                    )
                )
            elif needed not in done:
                on_path[needed] = len(path)
                path.append(needed)
                pending.append(iter(needs[needed]))
    return findings
