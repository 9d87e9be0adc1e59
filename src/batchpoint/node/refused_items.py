"""Items whose data is gone, changed or closed to us: what a task's result says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from batchpoint.core.messages import AttemptError, TaskResult
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError
from batchpoint.node import attempt_errors
from batchpoint.node.part_flow import Scored
from batchpoint.node.ticket import Ticket


def with_refused(scored: Scored, ticket: Ticket) -> Scored:
    """Add the refused items of a task to what came of the others."""
    if not ticket.refused:
        return scored
    result = scored.result
    refused = (ticket.slices[place].item for place in sorted(ticket.refused))
    failed = tuple(dict.fromkeys((*result.failed_items, *refused)))
    scored.result = result._replace(failed_items=failed, error=result.error or _first(ticket))
    scored.failures = b"".join((scored.failures, *_lines(ticket)))
    return scored


def all_refused(ticket: Ticket) -> Scored | None:
    """Return the result of a task nothing of which can be read; None when something can."""
    if len(ticket.refused) < len(ticket.slices):
        return None
    nothing = TaskResult(
        task=ticket.assignment.task,
        attempt=ticket.assignment.attempt,
        outcome="scored",
        seconds=0.0,
        items=ticket.items,
    )
    return with_refused(Scored(nothing, b"", b"", [], "none"), ticket)


def _first(ticket: Ticket) -> AttemptError:
    place = min(ticket.refused)
    error = ticket.refused[place]
    return attempt_errors.ours(error, _origin(error), file=ticket.slices[place].name)


def _origin(error: BatchpointError) -> attempt_errors.Origin:
    return "storage" if error.code.startswith("storage") else "input"


def _lines(ticket: Ticket) -> Iterator[bytes]:
    for place, error in sorted(ticket.refused.items()):
        one = ticket.slices[place]
        line = {
            "item": one.item,
            "name": one.name,
            "row": None,
            "origin": _origin(error),
            "type": error.code,
            "message": error.message[: limits.ERROR_TEXT_CHARS_MAX],
            "traceback": "",
        }
        yield json.dumps(line).encode("ascii") + b"\n"
