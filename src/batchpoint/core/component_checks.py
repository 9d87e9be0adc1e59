"""Whether a component is sound in itself: its names, its inputs, and how it uses them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from batchpoint.core.binding import (
    Placeholder,
    arguments,
    evaluated_placeholders,
    placeholders,
    read_placeholder,
    variable_of,
)
from batchpoint.core.graph_checks import check_steps
from batchpoint.core.input_values import is_literal, literal_value, unknown
from batchpoint.domain.component import (
    CommandComponent,
    Component,
    ComponentInput,
    ParallelComponent,
    PipelineComponent,
)
from batchpoint.domain.errors import Finding, Invalid
from batchpoint.domain.ids import asset_name
from batchpoint.domain.limits import (
    COMMAND_BYTES_MAX,
    FIELD_NAME_LENGTH_MAX,
    PIPELINE_DEPTH_MAX,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE_PREFIXES = (variable_of("inputs", ""), variable_of("outputs", ""))


def check_component(component: Component, prefix: str = "", depth: int = 1) -> list[Finding]:
    """Return everything that is wrong with a component as far as it tells itself.

    Inline components of a pipeline are looked into (`jobs.S.component.…`), referenced ones are
    not. Places are fields of the component, behind `prefix`.
    """
    findings = _common(component, prefix)
    if isinstance(component, CommandComponent):
        findings += _command(component, prefix)
    elif isinstance(component, ParallelComponent):
        findings += _parallel(component, prefix)
    else:
        findings += _pipeline(component, prefix, depth)
    return findings


def _pipeline(component: PipelineComponent, prefix: str, depth: int) -> list[Finding]:
    findings = check_steps(component, prefix)
    for name, step in component.jobs.items():
        findings += _field_name(name, f"{prefix}jobs.{name}", "step")
        if isinstance(step.component, str):
            continue
        inner = f"{prefix}jobs.{name}.component"
        if depth >= PIPELINE_DEPTH_MAX and isinstance(step.component, PipelineComponent):
            told = f"pipelines are nested deeper than {PIPELINE_DEPTH_MAX}"
            findings.append(Finding(inner, told, "pipeline_invalid"))
        else:
            findings += check_component(step.component, f"{inner}.", depth + 1)
    return findings


# --- what all components have ---------------------------------------------------------------


def _common(component: Component, prefix: str) -> list[Finding]:
    findings: list[Finding] = []
    if component.name is not None:
        findings += _of(lambda: asset_name(component.name or ""), f"{prefix}name")
    for name, declared in component.inputs.items():
        place = f"{prefix}inputs.{name}"
        findings += _field_name(name, place, "input")
        findings += _declared(declared, place)
    for name in component.outputs:
        findings += _field_name(name, f"{prefix}outputs.{name}", "output")
    if not isinstance(component, PipelineComponent):
        for name, value in component.environment_variables.items():
            findings += _variable(name, value, f"{prefix}environment_variables.{name}")
    return findings


def _field_name(name: str, place: str, what: str) -> list[Finding]:
    if _NAME.fullmatch(name) is not None and len(name) <= FIELD_NAME_LENGTH_MAX:
        return []
    told = (f"{name[:100]!r} cannot name an {what}" if what[0] in "aeiou" else
            f"{name[:100]!r} cannot name a {what}")  # fmt: skip
    expected = (f"expected up to {FIELD_NAME_LENGTH_MAX} letters, digits and '_', "
                "not beginning with a digit")  # fmt: skip
    return [Finding(place, f"{told}; {expected}", "component_invalid")]


def _declared(declared: ComponentInput, place: str) -> list[Finding]:
    if not is_literal(declared.type):
        return [
            Finding(f"{place}.{field}", f"an input of type {declared.type} has no {field}"
                    + ("; give the data where the component is used" if field == "default" else ""),
                    "component_invalid")
            for field in ("default", "min", "max", "enum")
            if getattr(declared, field) is not None
        ]  # fmt: skip
    findings: list[Finding] = []

    def wrong(field: str, told: str) -> None:
        findings.append(Finding(f"{place}.{field}", told, "component_invalid"))

    if declared.mode is not None:
        wrong("mode", f"a {declared.type} has no mode; only data has one")
    if declared.type not in {"number", "integer"}:
        for field in ("min", "max"):
            if getattr(declared, field) is not None:
                wrong(field, f"a {declared.type} has no {field}")
    elif declared.min is not None and declared.max is not None and declared.min > declared.max:
        wrong("min", f"the minimum {declared.min} is above the maximum {declared.max}")
    plain = ComponentInput(type=declared.type)
    if declared.enum is not None:
        if not declared.enum:
            wrong("enum", "an empty list allows no value at all")
        for each in declared.enum:
            findings += _of(lambda each=each: literal_value(plain, each), f"{place}.enum")
    if declared.default is not None and not findings:
        default = declared.default
        findings += _of(lambda: literal_value(declared, default), f"{place}.default")
    return [finding._replace(code="component_invalid") for finding in findings]


def _variable(name: str, value: str, place: str) -> list[Finding]:
    if not name or "=" in name or "\0" in name + value:
        told = "the name of a variable is not empty and holds no '='; neither it nor its value "
        return [Finding(place, told + "holds a NUL character", "component_invalid")]
    if name.startswith(_VARIABLE_PREFIXES):
        told = f"{name!r} is how commands get their inputs and outputs; choose another name"
        return [Finding(place, told, "component_invalid")]
    if "${{" in value:
        told = "environment variables hold no placeholders; use them in the command"
        return [Finding(place, told, "binding_invalid")]
    return []


# --- commands and parallel tasks ------------------------------------------------------------


def _command(component: CommandComponent, prefix: str) -> list[Finding]:
    place = f"{prefix}command"
    if not component.command.strip():
        return [Finding(place, "the command is empty", "component_invalid")]
    if len(component.command.encode(errors="replace")) > COMMAND_BYTES_MAX:
        told = f"the command is longer than {COMMAND_BYTES_MAX:,} bytes; put it into a script"
        return [Finding(place, told, "component_invalid")]
    try:
        used = placeholders(component.command)
        evaluated = evaluated_placeholders(component.command)
    except Invalid as error:
        return [Finding(place, error.message, error.code)]
    findings = _uses(component, used, place)
    told = ("stands where the shell takes values for code or calculates with them (arithmetic, "
            "eval, bash -c, …); only numbers, booleans and texts with an enum are safe there: "
            "pass it as an argument instead")  # fmt: skip
    for each in dict.fromkeys(evaluated):
        declared = component.inputs.get(each.name) if each.kind == "inputs" else None
        if each.kind == "inputs" and declared is None:
            continue  # told as unknown
        if declared is None or not _is_harmless(declared):
            findings.append(Finding(place, f"{each.kind}.{each.name} {told}", "binding_invalid"))
    nodes = component.resources.instance_count
    if nodes is not None and nodes > 1:
        findings.append(several_nodes(f"{prefix}resources.instance_count"))
    return findings


def several_nodes(place: str) -> Finding:
    """Say that a command runs on one node."""
    told = "a command runs on one node; commands over several are not supported, so give 1"
    return Finding(place, told, "field_unsupported")


def _is_harmless(declared: ComponentInput) -> bool:
    return declared.type in {"integer", "number", "boolean"} or declared.enum is not None


def _uses(
    component: CommandComponent | ParallelComponent, used: Sequence[Placeholder], place: str
) -> list[Finding]:
    """Check that what a template names is declared, and that it has a value where it stands."""
    findings: list[Finding] = []
    for each in dict.fromkeys(used):
        declared = component.inputs if each.kind == "inputs" else component.outputs
        if each.name not in declared:
            told = unknown(each.kind[:-1], each.name, declared)
            findings.append(Finding(place, told, "component_invalid"))
        elif each.kind == "inputs" and not each.optional_section:
            of = component.inputs[each.name]
            if of.optional and of.default is None:
                told = (f"input {each.name!r} is optional and may have no value; put it into an "
                        f"optional section: $[[--option ${{{{inputs.{each.name}}}}}]]")  # fmt: skip
                findings.append(Finding(place, told, "component_invalid"))
    return findings


def _parallel(component: ParallelComponent, prefix: str) -> list[Finding]:
    task = component.task
    findings = _input_data(component, f"{prefix}input_data")
    if task.append_row_to is not None:
        findings += _append_row_to(component, task.append_row_to, f"{prefix}task.append_row_to")
    if task.program_arguments is not None:
        findings += _program_arguments(component, task.program_arguments, prefix)
    if task.type == "model":
        missing = {"model": task.model}
    else:
        missing = {"code": task.code, "entry_script": task.entry_script}
    findings.extend(
        Finding(f"{prefix}task.{field}", f"a task of type {task.type} needs this",
                "component_invalid")
        for field, value in missing.items()
        if value is None
    )  # fmt: skip
    return findings


def _program_arguments(component: ParallelComponent, template: str, prefix: str) -> list[Finding]:
    place = f"{prefix}task.program_arguments"
    try:
        used = placeholders(template)
        given = {each.name for each in used}
        arguments(template, {(each.kind, each.name): "" for each in used}, given)
    except Invalid as error:
        return [Finding(place, error.message, error.code)]
    return _uses(component, used, place)


def _input_data(component: ParallelComponent, place: str) -> list[Finding]:
    try:
        found = read_placeholder(component.input_data)
    except Invalid as error:
        return [Finding(place, error.message, error.code)]
    if found is None or found.kind != "inputs":
        told = "expected the input whose data is cut into mini-batches: ${{inputs.NAME}}"
        return [Finding(place, told, "binding_invalid")]
    declared = component.inputs.get(found.name)
    if declared is None:
        return [Finding(place, unknown("input", found.name, component.inputs), "component_invalid")]
    if is_literal(declared.type):
        told = f"input {found.name!r} is a {declared.type}; expected data"
        return [Finding(place, told, "component_invalid")]
    if declared.optional:
        told = f"input {found.name!r} is optional; without it there is nothing to run on"
        return [Finding(place, told, "component_invalid")]
    return []


def _append_row_to(component: ParallelComponent, text: str, place: str) -> list[Finding]:
    try:
        found = read_placeholder(text)
    except Invalid as error:
        return [Finding(place, error.message, error.code)]
    if found is None or found.kind != "outputs":
        told = "expected the output that gets the rows: ${{outputs.NAME}}"
        return [Finding(place, told, "binding_invalid")]
    if found.name not in component.outputs:
        told = unknown("output", found.name, component.outputs)
        return [Finding(place, told, "component_invalid")]
    return []


def _of(check: Callable[[], object], place: str) -> list[Finding]:
    """Run a check that raises, and return what it found."""
    try:
        check()
    except Invalid as error:
        return [Finding(place, error.message, error.code)]
    return []
