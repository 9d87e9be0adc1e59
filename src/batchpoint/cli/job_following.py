"""Watches a job to its end and says what came out; Ctrl-C lets go of it without stopping it."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import typer

from batchpoint.cli.error_report import INTERRUPTED
from batchpoint.cli.job_cards import (
    cause_card,
    detached,
    exit_code,
    failed_items_card,
    headline,
    next_commands,
    predictions_table,
    warnings_card,
)
from batchpoint.cli.job_logs import wait_a_moment
from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.progress_printers import ProgressPrinter, printer_for, to_stderr
from batchpoint.cli.render import emit, is_coloured, terminal_width
from batchpoint.clock import SystemClock
from batchpoint.domain.errors import Conflict, NotFound
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState

if TYPE_CHECKING:
    from batchpoint.client.client import Client
    from batchpoint.client.jobs import JobHandle

_PREDICTIONS = 5
_EXAMPLES = 3
_LOG_SECONDS = 0.5
# A step may have begun without anything else having changed.
_STEPS_SECONDS = 2.0


def watch_to_end(
    client: Client, handle: JobHandle, *, form: OutputForm | None, query: str | None
) -> None:
    """Show progress until the job has ended, print what came out, and end with its exit code.

    Of a pipeline and of its steps also what user code prints is shown, as it comes.

    Raises:
        typer.Exit: With the job's exit code, or that of an interruption.
    """
    try:
        with printer_for(form, sys.stderr, SystemClock()) as printer:
            if handle.job.spec.type == "score" and handle.job.spec.step is None:
                job = handle.wait(printer.show, check=False)
            else:
                job = _watch_steps(client, handle, printer)
    except KeyboardInterrupt:
        to_stderr("\n" + detached(handle.name))
        raise typer.Exit(INTERRUPTED) from None
    emit(job, form=form, query=query, text=lambda: _outcome(handle, job))
    raise typer.Exit(exit_code(job))


def _watch_steps(client: Client, handle: JobHandle, printer: ProgressPrinter) -> Job:
    """Show progress and logs of a pipeline, or of one step, until it has ended."""
    # Who follows the job of a model pays for no graphs.
    from batchpoint.cli.job_graph import step_name
    from batchpoint.cli.step_logs import StepLogs

    logs = StepLogs(client, printer.log)
    is_pipeline = handle.job.spec.type == "pipeline"
    version, looked_at = -1, float("-inf")
    steps: list[Job] = []
    clock = SystemClock()
    while True:
        job = handle.job
        is_due = clock.monotonic() - looked_at >= _STEPS_SECONDS
        if is_pipeline and (job.version != version or is_due):
            steps, looked_at = list(handle.children()), clock.monotonic()
        version = job.version
        running = [step_name(step) for step in steps if _is_running(step)]
        logs.read(steps if is_pipeline else [job])
        printer.show(job, running)
        if job.status.state in TERMINAL_STATES:
            return job
        wait_a_moment(handle, _LOG_SECONDS)


def _is_running(step: Job) -> bool:
    return step.status.state not in TERMINAL_STATES and step.status.state != JobState.QUEUED


def _outcome(handle: JobHandle, job: Job) -> str:
    """Tell how a job ended: why it failed, or where its results are, and what to do next."""
    if job.spec.type == "score" and job.spec.step is None:
        return _outcome_of_scoring(handle, job)
    from batchpoint.cli.job_graph import draw_graph
    from batchpoint.cli.pipeline_cards import failure_card, outputs_lines

    width = terminal_width()
    blocks = [headline(job)]
    steps = list(handle.children()) if job.spec.type == "pipeline" else []
    if job.status.error is not None:
        blocks[0] += "\n" + failure_card(job, steps, width)
    if steps and job.status.state != JobState.COMPLETED:
        blocks.append(
            "\n".join(draw_graph(steps, width, SystemClock().now(), colour=is_coloured()))
        )
    outputs = {name: output for name, output in handle.outputs().items() if output.complete}
    if outputs:
        blocks.append("\n".join(["Outputs", *outputs_lines(outputs, width)]))
    blocks += [warnings_card(job, width), next_commands(job)]
    return "\n\n".join(block for block in blocks if block)


def _outcome_of_scoring(handle: JobHandle, job: Job) -> str:
    """Tell how a job ended: the cause, or failed items, first predictions and where all are."""
    width = terminal_width()
    blocks = [headline(job)]
    if job.status.error is not None:
        blocks[0] += "\n" + cause_card(job.status.error, width)
    if job.status.progress.items_failed or job.status.progress.rows_failed:
        blocks.append(failed_items_card(job, _examples(handle), width))
    if job.status.state == JobState.COMPLETED:
        blocks.append(_first_predictions(handle, width))
        blocks.append(f"Results: {job.status.output_uri or job.scoring.output.uri}")
    blocks.append(warnings_card(job, width))
    blocks.append(next_commands(job))
    return "\n\n".join(block for block in blocks if block)


def _examples(handle: JobHandle) -> list[dict[str, Any]]:
    try:
        return list(islice(handle.failed_items(), _EXAMPLES))
    except (NotFound, Conflict):
        return []  # their files are gone by now; the number is still told


def _first_predictions(handle: JobHandle, width: int) -> str:
    try:
        head = handle.head(_PREDICTIONS)
    except (NotFound, Conflict):
        return ""  # files that a script wrote, or results that were moved since
    return predictions_table(head, width) if head.rows else ""
