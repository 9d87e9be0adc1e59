"""What people read about pipeline jobs and their steps: the cause first, then graph and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from batchpoint.cli.job_cards import (
    card_field,
    cause_card,
    headline,
    parameters_line,
    warning_fields,
    webhook_line,
    wrapped_lines,
)
from batchpoint.cli.job_graph import draw_graph, step_name
from batchpoint.cli.text_tables import between, count, moment, one_line, short_hash, wrapped
from batchpoint.core.binding import Kind, literal_text, shown_text
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import Job, JobState
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import CommandSpec, OutputOf, PipelineSpec, StepInput, StepPlace
from batchpoint.domain.results import NamedOutput

Outputs = Mapping[str, NamedOutput]
_COMMAND_LINES_MAX = 12


def guilty_step(steps: Sequence[Job]) -> Job | None:
    """Find the step that failed first; None when none has."""
    failed = [step for step in steps if step.status.state is JobState.FAILED]
    ended = [step for step in failed if step.status.ended_at is not None]
    return min(ended, key=lambda step: str(step.status.ended_at), default=next(iter(failed), None))


def failure_card(job: Job, steps: Sequence[Job], width: int) -> str:
    """Say why a pipeline failed: what happened in the step that failed first, and its log."""
    step = guilty_step(steps)
    if step is None or step.status.error is None:
        return cause_card(job.status.error, width) if job.status.error is not None else ""
    others = sum(each.status.state is JobState.FAILED for each in steps) - 1
    more = f" (and {count(others, 'more step')} failed)" if others else ""
    error = step.status.error.model_copy(update={"log": f"batchpoint job logs {step.name}"})
    return "\n".join([card_field("step", step_name(step) + more), cause_card(error, width)])


def pipeline_card(
    job: Job,
    steps: Sequence[Job],
    outputs: Outputs,
    width: int,
    now: datetime,
    *,
    colour: bool = False,
) -> str:
    """Show a pipeline job: why it failed, its graph, what went in and what comes out."""
    spec, status = job.spec, job.status
    assert isinstance(spec, PipelineSpec)
    lines = [headline(job)]
    if status.error is not None:
        lines += [failure_card(job, steps, width), ""]
    owner = f"{spec.endpoint_name} / {spec.deployment_name}" if spec.endpoint_name else ""
    fields = [
        ("state", status.state.value),
        ("endpoint", owner),
        ("component", short_hash(spec.component)),
        ("experiment", spec.experiment_name or ""),
        ("tags", parameters_line(spec.tags)),
        ("created", moment(job.created_at)),
        ("took", between(status.started_at, status.ended_at or now)),
        ("settings", _settings(spec)),
        ("webhook", webhook_line(job)),
    ]
    lines += [card_field(label, one_line(value)) for label, value in fields if value]
    lines += ["", _steps_line(job), *draw_graph(steps, width, now, colour=colour)]
    if spec.inputs:
        lines += ["", "Inputs", *_values({n: _given(v) for n, v in spec.inputs.items()}, width)]
    if outputs:
        lines += ["", "Outputs", *outputs_lines(outputs, width)]
    return "\n".join([*lines, *warning_fields(job)])


def _settings(spec: PipelineSpec) -> str:
    told = ["steps beside one that failed go on" if spec.continue_on_step_failure
            else "the first step that fails stops all"]  # fmt: skip
    return ", ".join([*told, *["nothing is reused"] * spec.force_rerun])


def _steps_line(job: Job) -> str:
    progress = job.status.progress
    parts = [f"{progress.steps_done} of {progress.steps_total} done"]
    for number, word in (
        (progress.steps_reused, "reused"),
        (progress.steps_running, "running"),
        (progress.steps_failed, "failed"),
        (progress.steps_canceled, "canceled or not run"),
    ):
        if number:
            parts.append(f"{number} {word}")
    return f"Steps: {', '.join(parts)}"


def step_card(job: Job, width: int, now: datetime) -> str:
    """Show a step that runs a command: the cause when it failed, the command, what it got."""
    spec, status = job.spec, job.status
    assert isinstance(spec, CommandSpec)
    lines = [headline(job)]
    if status.error is not None:
        lines += [cause_card(status.error, width), ""]
    step = spec.step
    attempts = 1 + spec.max_retries
    timeout = f", timeout {spec.timeout_seconds:,} s" if spec.timeout_seconds else ""
    fields = [
        ("state", status.state.value),
        *(step_fields(step) if step is not None else []),
        ("reused from", status.reused_from or ""),
        ("exit code", "" if status.exit_code is None else str(status.exit_code)),
        ("created", moment(job.created_at)),
        ("started", moment(status.started_at)),
        ("took", between(status.started_at, status.ended_at or now)),
        ("compute", spec.compute),
        ("attempts", f"{status.attempts} of {attempts}{timeout}"),
        ("environment", short_hash(f"{spec.environment.name}:{spec.environment.version}")),
        ("variables", ", ".join(sorted(spec.environment_variables))),
    ]
    lines += [card_field(label, one_line(value)) for label, value in fields if value]
    lines += [card_field("note", one_line(note)) for note in spec.environment.notes]
    lines += ["", "Command", *command_lines(spec, width)]
    if step is not None and step.inputs:
        given = {name: _told(value) for name, value in step.inputs.items()}
        lines += ["", "Inputs", *_values(given, width)]
    if step is not None and step.outputs:
        lines += ["", "Outputs", *step_output_lines(job, step, width)]
    return "\n".join([*lines, *warning_fields(job)])


def step_fields(step: StepPlace) -> list[tuple[str, str]]:
    """Give what a step's card says of its place in the pipeline."""
    return [
        ("pipeline", step.parent),
        ("step", step.name),
        ("component", short_hash(step.component)),
        ("needs", ", ".join(step.needs)),
    ]


def command_lines(spec: CommandSpec, width: int) -> list[str]:
    """Write a command as it is run, values in it, for people to read."""
    step = spec.step
    inputs = step.inputs if step is not None else {}
    values: dict[tuple[Kind, str], str] = {
        ("inputs", name): _text(value).removeprefix("file://") for name, value in inputs.items()
    }
    for name, output in (step.outputs if step is not None else {}).items():
        values["outputs", name] = output.uri.removeprefix("file://")
    try:
        told = shown_text(spec.command, values, frozenset(inputs))
    except Invalid:
        told = spec.command
    lines: list[str] = []
    for line in told.strip().splitlines():
        first, *more = wrapped(one_line(line), max(width - 4, 20))
        lines += [f"  {first}", *(f"    {rest}" for rest in more)]
    if len(lines) > _COMMAND_LINES_MAX:
        lines[_COMMAND_LINES_MAX:] = [f"  … {count(len(lines) - _COMMAND_LINES_MAX, 'more line')}"]
    return lines


def outputs_lines(outputs: Outputs, width: int) -> list[str]:
    """List outputs with where they are."""
    given: dict[str, tuple[str, str]] = {}
    for name, output in outputs.items():
        more = "" if output.complete else " (not complete)"
        asset = f" → {output.asset}" if output.asset else ""
        given[name] = (output.type, f"{output.uri}{asset}{more}")
    return _values(given, width)


def step_output_lines(job: Job, step: StepPlace, width: int) -> list[str]:
    """List the outputs of a step; those that are published where they really are."""
    given: dict[str, tuple[str, str]] = {}
    for name, output in step.outputs.items():
        found = job.status.outputs.get(name)
        uri = found.uri if found is not None else f"{output.uri} (not complete)"
        asset = f" → {found.asset}" if found is not None and found.asset else ""
        given[name] = (output.type, uri + asset)
    return _values(given, width)


def _given(value: object) -> tuple[str, str]:
    if isinstance(value, JobInput):
        asset = f" ({value.asset})" if value.asset else ""
        return value.type, value.shown + asset
    assert isinstance(value, (str, int, float, bool))
    return "", literal_text(value)


def _told(value: StepInput) -> tuple[str, str]:
    return value.type, _text(value)


def _text(value: StepInput) -> str:
    if value.data is not None:
        return value.data.shown
    if value.output is not None:
        return _from_step(value.output)
    return literal_text(value.value) if value.value is not None else ""


def _from_step(output: OutputOf) -> str:
    return f"{output.step}.{output.output}"


def _values(given: Mapping[str, tuple[str, str]], width: int) -> list[str]:
    """Write names, types and values; long values go on below, but for URIs."""
    named = max((len(name) for name in given), default=0)
    typed = max((len(kind) for kind, _ in given.values()), default=0)
    lines: list[str] = []
    for name, (kind, value) in given.items():
        start = f"  {name:<{named}}  " + (f"{kind:<{typed}}  " if typed else "")
        told = one_line(value)
        # A URI that is broken cannot be copied.
        fitted = [told] if "://" in told else wrapped(told, max(width - len(start), 30))
        first, *more = fitted
        lines.append((start + first).rstrip())
        lines += [" " * len(start) + rest for rest in more]
    return lines


def started_text(job: Job) -> str:
    """Say that a pipeline job was started, and what runs in it."""
    spec = job.spec
    assert isinstance(spec, PipelineSpec)
    steps = f"{count(len(spec.steps), 'step')}: {', '.join(spec.steps)}"
    told = wrapped_lines(one_line(steps), 100, "  ")
    return "\n".join([f"Started job {job.name}", *told[:3], *["  …"] * (len(told) > 3)]) + "\n"
