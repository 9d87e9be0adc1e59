"""What a worker tells of a task, as the runner hears it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from batchpoint.core.messages import AttemptError, Outcome, TaskResult
from batchpoint.node import attempt_errors
from batchpoint.node.part_flow import Scored
from batchpoint.node.ticket import Ticket
from batchpoint.node.worker_messages import Body

# User code that finds no room deletes what it wrote; with so little room left it was the disk.
_DISK_LOW_BYTES = 64 << 20


def scored_of(ticket: Ticket, told: dict[str, Any], rows: Body, failures: Body) -> Scored:
    """Take over a result that went well (see `batchpoint_worker.protocol`) with its bytes."""
    failed: list[dict[str, Any]] = told.get("failed_items", [])
    result = TaskResult(
        task=ticket.assignment.task,
        attempt=ticket.assignment.attempt,
        outcome="scored",
        seconds=told.get("seconds", 0.0),
        rows=told.get("rows", 0),
        failed_rows=told.get("failed_rows", 0),
        items=ticket.items,
        failed_items=tuple(dict.fromkeys(each["item"] for each in failed)),
        unattributed=told.get("unattributed", 0),
        slice_rows=told.get("slice_rows", -1),
        # What a job leads with if nothing is scored in the end.
        error=_told_of(failed[0]) if failed else None,
    )
    columns = [(name, kind) for name, kind in told.get("columns", ())]
    scored = Scored(result, rows, failures, columns, told.get("encoding", ""))
    files = [(str(path), int(size)) for path, size in told.get("files", ())]
    if files and ticket.harvest:
        scored.folder = ticket.harvest.rpartition("/")[2]
        scored.files = tuple(files)
    return scored


def _told_of(failed: dict[str, Any]) -> AttemptError:
    name = str(failed.get("name") or "")
    return attempt_errors.told(failed.get("error") or {}, file=name, log="")


def ended(ticket: Ticket, outcome: Outcome, seconds: float, error: AttemptError) -> TaskResult:
    """Tell that an attempt left nothing to keep."""
    return TaskResult(
        task=ticket.assignment.task,
        attempt=ticket.assignment.attempt,
        outcome=outcome,
        seconds=seconds,
        items=ticket.items,
        error=error,
    )


def file_of(ticket: Ticket) -> str:
    """Return the name of the input a task is about, when it is a single one."""
    names = {one.name for one in ticket.slices}
    return names.pop() if len(names) == 1 else ""


def is_disk_full(error: AttemptError, *places: Path) -> bool:
    """Tell whether an attempt failed because there is no room at one of some places."""
    if "Errno 28]" not in error.message and error.kind != "storage_full":
        return False
    try:
        return any(
            (found := os.statvfs(place)).f_bavail * found.f_frsize < _DISK_LOW_BYTES
            for place in places
        )
    except OSError:
        return False
