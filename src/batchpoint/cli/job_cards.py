"""What people read about a job: its cause of failure first, then counts, results and what to do."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import compress

from batchpoint.cli.text_tables import (
    between,
    count,
    cut,
    moment,
    one_line,
    safe,
    short_hash,
    table,
    wrapped,
)
from batchpoint.domain.job import TERMINAL_STATES, ErrorInfo, Job, JobState, Progress
from batchpoint.domain.job_spec import PipelineSpec, ResolvedModel, ScoreSpec, ScoringSettings
from batchpoint.domain.results import ResultsHead

_FAULTS = {
    "user": "your code, model or data",
    "environment": "the environment the code runs in",
    "input": "the input",
    "storage": "storage",
    "batchpoint": "batchpoint itself",
}
# Nobody's fault: the message names the step that is to blame, or that somebody canceled.
_NOBODYS = ("step_canceled", "step_not_run")
_TRACEBACK_LINES_MAX = 12
# Where uploaded code lies, or the copy of it that a command ran in, says nothing to its author.
_CODE = re.compile(r"[^\s\"']*/(?:store/[0-9a-f]{64}|work/command-\w+/code)/")
_LINE = re.compile(r"^\((line [\d,]+)\):")
_EXAMPLES = 3
_MESSAGE_LINES_MAX = 3
_LABEL_WIDTH = 11


def exit_code(job: Job) -> int:
    """Give the exit code of a command that waited for this job (docs/cli.md, exit codes)."""
    state = job.status.state
    if state == JobState.FAILED:
        return 1
    if state == JobState.CANCELED:
        return 4
    return 3 if job.status.progress.items_failed or job.status.progress.rows_failed else 0


def headline(job: Job) -> str:
    """Say in one line what became of a job, or what it is doing."""
    status = job.status
    took = between(job.created_at, status.ended_at)
    after = f" after {took}" if took else ""
    if status.state == JobState.FAILED:
        code = f" [{status.error.code}]" if status.error else ""
        return f"Job {job.name} failed{after}{code}"
    if status.state == JobState.CANCELED:
        return f"Job {job.name} was canceled{after}"
    if status.state != JobState.COMPLETED:
        return f"Job {job.name} is {_doing(status.state)}"
    return f"Job {job.name} completed in {took or '?'}{_result(job)}"


def _result(job: Job) -> str:
    """Say what came out of a job that has completed."""
    status, progress = job.status, job.status.progress
    if status.reused_from is not None:
        return f": outputs taken over from {status.reused_from}"
    if job.spec.type == "pipeline":
        reused = f", {progress.steps_reused:,} of them reused" if progress.steps_reused else ""
        return f": {count(progress.steps_total, 'step')}{reused}"
    return f": {_scored(progress)}" if job.spec.type == "score" else ""


def _scored(progress: Progress) -> str:
    """Say what was scored and what was not: a failed item may have rows that were scored."""
    files, rows = count(progress.items_done, "file"), count(progress.rows_done, "row")
    lost = count(progress.rows_failed, "row") if progress.rows_failed else ""
    if not progress.items_failed:
        return " ".join(
            [f"{files} scored"]
            + [f"({rows})"] * bool(progress.rows_done)
            + [f"but for {lost}"] * bool(lost)
        )
    scored = f"{rows} scored, " if progress.rows_done else ""
    return f"{scored}{progress.items_failed:,} of {files} with failures" + (
        f" ({lost})" if lost else ""
    )


def _doing(state: JobState) -> str:
    return {
        JobState.QUEUED: "queued",
        JobState.PREPARING: "being prepared",
        JobState.RUNNING: "running",
        JobState.FINALIZING: "putting its results together",
        JobState.CANCEL_REQUESTED: "being canceled",
    }.get(state, str(state))


def cause_card(error: ErrorInfo, width: int) -> str:
    """Say why a job failed: whose fault, the exception and its line, the file and row, the log."""
    told = _CODE.sub("", safe(error.message))
    lines = wrapped_lines(told, width, "  ")
    lines.append("")
    if error.code not in _NOBODYS:
        lines.append(card_field("cause", _FAULTS[error.origin]))
    if error.type:
        lines.append(card_field("exception", one_line(error.type)))
    if error.line:
        lines.append(card_field("line", one_line(error.line)))
    if error.file:
        row = f", row {error.row}" if error.row is not None else ""
        lines.append(card_field("file", one_line(error.file) + row))
    if error.log:
        lines.append(card_field("log", one_line(error.log)))
    tail = _tail(error.traceback) if error.traceback else []
    if tail[1:] or "".join(tail) not in told:  # the message already ends with a lone last line
        lines.append("")
        lines += [f"  {cut(line, max(width - 2, 20))}" for line in tail]
    if error.origin == "batchpoint":
        lines += ["", "  This is not your mistake; please report it with the log."]
    return "\n".join(lines)


def _tail(traceback: str) -> list[str]:
    """Keep the end of a traceback: that is where the user's own line and exception are."""
    lines = [_CODE.sub("", line) for line in safe(traceback).rstrip().splitlines()]
    if len(lines) <= _TRACEBACK_LINES_MAX:
        return lines
    return ["…", *lines[-_TRACEBACK_LINES_MAX:]]


def card_field(label: str, value: str) -> str:
    """Write a line of a card: what it is, and its value."""
    return f"  {label:<{_LABEL_WIDTH}} {value}"


def wrapped_lines(text: str, width: int, indent: str) -> list[str]:
    """Break text into indented lines, between words where possible."""
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        lines += textwrap.wrap(
            line,
            max(width, 40),
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        ) or [""]
    return lines


def failed_items_card(job: Job, examples: Sequence[Mapping[str, object]], width: int) -> str:
    """Show the first failed items and how to see all; nothing when none failed."""
    failed = job.status.progress.items_failed
    if not failed and not examples:
        return ""
    lines = [f"{count(max(failed, len(examples)), 'failed item')}:"]
    for item in examples[:_EXAMPLES]:
        row = item.get("row")
        name = str(item.get("name") or "(files unknown)")  # rows were missing, nobody knows whose
        place = one_line(name) + (f", row {row}" if row is not None else "")
        kind = str(item.get("type") or "")
        said = failure_said(item)
        kind = f"{one_line(kind)}: " if kind else ""
        shown = wrapped(f"{place}  {kind}{said}", width - 4)
        lines.append(f"  {shown[0]}")
        lines += [f"    {line}" for line in shown[1:_MESSAGE_LINES_MAX]]
        lines[-1] += "…" if len(shown) > _MESSAGE_LINES_MAX else ""
    lines.append(f"  all of them: batchpoint job failed-items {job.name}")
    return "\n".join(lines)


def failure_said(item: Mapping[str, object]) -> str:
    """Give the message of a failed item on one line, without the place that stands beside it."""
    message, name, row = str(item.get("message") or ""), str(item.get("name")), item.get("row")
    said = message.removeprefix(name if row is None else f"{name}, row {row}")
    return _LINE.sub(r"\1:", one_line(said).lstrip(":, "))


def failed_items_table(items: Sequence[Mapping[str, object]], width: int) -> str:
    """List failed items with all of their messages."""
    rows = [
        [
            str(item.get("name") or ""),
            "" if item.get("row") is None else str(item["row"]),
            str(item.get("type") or ""),
            failure_said(item),
        ]
        for item in items
    ]
    return table(["file", "row", "type", "message"], rows, width, whole=["type"], wrap_last=True)


def head_columns(head: ResultsHead) -> list[str]:
    """Name the columns of the predictions; those of a file without a header are numbered."""
    if head.columns is not None:
        return head.columns
    widest = max((len(row) for row in head.rows), default=0)
    return [f"column{number}" for number in range(1, widest + 1)]


def predictions_table(head: ResultsHead, width: int) -> str:
    """Lay out the first rows of the predictions."""
    columns = head_columns(head)
    rows = [["" if cell is None else str(cell) for cell in row] for row in head.rows]
    short = [row + [""] * (len(columns) - len(row)) for row in rows]
    return table(columns, short, width)


def next_commands(job: Job) -> str:
    """Tell what can be done with a job that ended or runs."""
    name, state = job.name, job.status.state
    if state == JobState.COMPLETED:
        spec = job.spec
        commands = [f"job show {name}"]
        if not isinstance(spec, PipelineSpec) or spec.outputs:
            commands = [f"job download {name} --download-path ./out"]
        if isinstance(spec, ScoreSpec) and spec.settings.output_action != "summary_only":
            commands.insert(0, f"job head {name}")  # else there are no rows to show
        if job.status.progress.items_failed:
            commands.append(f"job failed-items {name}")
    elif state in TERMINAL_STATES:
        commands = [f"job show {name}", f"job logs {name}"]
        if job.status.progress.items_failed:
            commands.append(f"job failed-items {name}")
    else:
        commands = [f"job stream {name}", f"job cancel {name}"]
    return "\n".join(f"  batchpoint {command}" for command in commands)


def job_card(job: Job, width: int, now: datetime) -> str:
    """Show a job: the cause first when it failed, then everything that decides what it does."""
    status, spec, settings = job.status, job.scoring, job.scoring.settings
    lines = [headline(job)]
    if status.error is not None:
        lines += [cause_card(status.error, width), ""]
    progress = status.progress
    rough = "" if progress.listed else "~"
    timeout = f"{settings.timeout_seconds} s" if settings.timeout_seconds else "adaptive"
    if not settings.timeout_seconds and progress.timeout_seconds:
        timeout += f" ({progress.timeout_seconds:,.0f} s now)"
    running = status.ended_at or now
    fields = [
        ("state", status.state.value),
        ("endpoint", f"{spec.endpoint_name} / {spec.deployment_name}" * bool(spec.endpoint_name)),
        *((("pipeline", spec.step.parent), ("step", spec.step.name)) if spec.step else ()),
        ("reused from", status.reused_from or ""),
        ("model", _model_line(spec.model)),
        ("input", f"{spec.input.shown} ({spec.input.type})"),
        ("data asset", spec.input.asset or ""),
        ("parameters", parameters_line(settings.parameters)),
        *_output_fields(job),
        ("items", (f"{progress.items_done:,} of {rough}{progress.items_total:,} done, "
                  f"{progress.items_failed:,} failed")),
        ("rows", f"{progress.rows_done:,} done, {progress.rows_failed:,} failed"),
        ("created", moment(job.created_at)),
        ("took", between(status.started_at, running)),
        ("compute", (f"{spec.compute}: {count(settings.instance_count, 'instance')} × "
                    f"{count(settings.max_concurrency_per_instance, 'worker')}")),
        ("mini-batch", (f"{_mini_batch(settings)}, "
                       f"{count(settings.max_retries, 'retry', 'retries')}, timeout {timeout}")),
        ("threshold", _thresholds(settings)),
        ("webhook", webhook_line(job)),
    ]  # fmt: skip
    lines += [card_field(label, one_line(value)) for label, value in fields if value]
    lines += [card_field("note", one_line(note)) for note in spec.environment.notes]
    return "\n".join([*lines, *warning_fields(job)])


def warning_fields(job: Job) -> list[str]:
    """Give the lines of a card that tell what a job warned of."""
    return [card_field("warning", one_line(warning)) for warning in job.status.warnings]


def _output_fields(job: Job) -> list[tuple[str, str]]:
    """Name where results are; those of a step lie where its pipeline wants them."""
    status, spec = job.status, job.scoring
    if spec.step is None:
        return [("output", status.output_uri or f"{spec.output.uri} (not complete)")]
    if not status.outputs:
        return [
            ("output", f"{name}: {output.uri} (not complete)")
            for name, output in spec.step.outputs.items()
        ]
    return [("output", f"{name}: {output.uri}") for name, output in status.outputs.items()]


def _mini_batch(settings: ScoringSettings) -> str:
    if settings.mini_batch_bytes is not None:
        return f"{settings.mini_batch_bytes:,} bytes of files"
    return count(settings.mini_batch_size, "file")


def _thresholds(settings: ScoringSettings) -> str:
    items, batches = settings.error_threshold, settings.mini_batch_error_threshold
    percent = settings.allowed_failed_percent
    told = [f"{items}"] if items not in (None, -1) else []
    told += [count(batches, "mini-batch", "mini-batches")] if batches not in (None, -1) else []
    told += [f"{percent} % of mini-batches"] if percent not in (None, -1) else []
    return ", ".join(told) or "none"


def _model_line(model: ResolvedModel | None) -> str:
    return f"{short_hash(model.name + ':' + model.version)} ({model.type})" if model else ""


def parameters_line(parameters: Mapping[str, object]) -> str:
    """Write literal parameters in one line; nothing when there are none."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in parameters.items()
    )


def webhook_line(job: Job) -> str:
    """Say whom a job tells of its end and what came of it; nothing when nobody is told."""
    told = job.webhook
    if job.spec.webhook_url is None or told is None:
        return ""
    parts = [job.spec.webhook_url, told.state.replace("_", " ")]
    if told.attempts:
        parts.append(f"{count(told.attempts, 'try', 'tries')}: {told.said or 'under way'}")
    return ", ".join(parts)


def warnings_card(job: Job, width: int) -> str:
    """Show what a job warned of; nothing when there was nothing."""
    said = [f"Warning: {one_line(warning)}" for warning in job.status.warnings]
    return "\n".join("\n".join(wrapped_lines(line, width, "")) for line in said)


def jobs_table(jobs: Sequence[Job], width: int, now: datetime) -> str:
    """List jobs, newest first as they come.

    Columns of which no job has anything are left out; where room is scarce, moments are short.
    """
    steps = bool(jobs) and all(job.spec.step is not None for job in jobs)
    owner = "step" if steps else "endpoint/deployment"
    headers = ["job", "type", owner, "state", "done", "failed", "created", "took"]
    rows = _job_rows(jobs, now)
    filled = [not rows or any(row[index] for row in rows) for index in range(len(headers))]
    shown = [list(compress(row, filled)) for row in rows]
    names = list(compress(headers, filled))
    widest = [max(cells, key=len) for cells in zip(names, *shown, strict=True)]
    if len("  ".join(widest)) > width:
        at = names.index("created")
        for row, job in zip(shown, jobs, strict=True):
            row[at] = job.created_at.strftime("%m-%d %H:%MZ")
    return table(names, shown, width, whole=["job", "state", "created"])


def _job_rows(jobs: Sequence[Job], now: datetime) -> list[list[str]]:
    return [
        [
            job.name,
            job.spec.type,
            owner_of(job),
            job.status.state.value,
            *_counts(job),
            moment(job.created_at),
            between(job.status.started_at, job.status.ended_at or now),
        ]
        for job in jobs
    ]


def owner_of(job: Job) -> str:
    """Say what a job belongs to: its endpoint and deployment, its step, or nothing."""
    spec = job.spec
    if spec.step is not None:
        return spec.step.name
    return f"{spec.endpoint_name}/{spec.deployment_name}" if spec.endpoint_name else "-"


def _counts(job: Job) -> tuple[str, str]:
    """Tell what is done and what failed: items of a job that scores, steps of a pipeline."""
    progress = job.status.progress
    if isinstance(job.spec, PipelineSpec):
        return f"{progress.steps_done:,}/{progress.steps_total:,}", f"{progress.steps_failed:,}"
    if isinstance(job.spec, ScoreSpec):
        return f"{progress.items_done:,}", f"{progress.items_failed:,}"
    return "", ""


def detached(job: str) -> str:
    """Say how to go on with a job that nobody watches any more."""
    return (
        f"The job goes on without this command.\n"
        f"  batchpoint job stream {job}\n"
        f"  batchpoint job cancel {job}"
    )
