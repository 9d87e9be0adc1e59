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
from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.progress_printers import printer_for, to_stderr
from batchpoint.cli.render import emit, terminal_width
from batchpoint.clock import SystemClock
from batchpoint.domain.errors import Conflict, NotFound
from batchpoint.domain.job import Job, JobState

if TYPE_CHECKING:
    from batchpoint.client.jobs import JobHandle

_PREDICTIONS = 5
_EXAMPLES = 3


def watch_to_end(handle: JobHandle, *, form: OutputForm | None, query: str | None) -> None:
    """Show progress until the job has ended, print what came out, and end with its exit code.

    Raises:
        typer.Exit: With the job's exit code, or that of an interruption.
    """
    try:
        with printer_for(form, sys.stderr, SystemClock()) as printer:
            job = handle.wait(printer.show, check=False)
    except KeyboardInterrupt:
        to_stderr("\n" + detached(handle.name))
        raise typer.Exit(INTERRUPTED) from None
    emit(job, form=form, query=query, text=lambda: _outcome(handle, job))
    raise typer.Exit(exit_code(job))


def _outcome(handle: JobHandle, job: Job) -> str:
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
