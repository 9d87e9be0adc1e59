"""A task that went well and lost items tells why the first was lost: what a job may lead with."""

from __future__ import annotations

from batchpoint.core.messages import Assignment, Task
from batchpoint.domain.minibatch import MiniBatch, Slice
from batchpoint.node.task_results import scored_of
from batchpoint.node.ticket import Ticket


def ticket() -> Ticket:
    parts = [Slice(item=n, name=f"{n}.csv", uri=f"/{n}.csv", size=1, etag="") for n in range(2)]
    return Ticket(7, MiniBatch(0, 0, 0, 2), Assignment(Task(0, 0, 2), 1, 60.0), parts)


def test_the_first_lost_item_says_why() -> None:
    error = {"origin": "user", "type": "input_columns_missing", "message": "0.csv lacks 'age'"}
    lost = [{"item": n, "name": f"{n}.csv", "rows": 0, "error": error} for n in (0, 1)]
    result = scored_of(ticket(), {"failed_items": lost}, b"", b"lines").result
    assert result.failed_items == (0, 1)
    assert result.error is not None
    assert (result.error.type, result.error.message, result.error.file) == (
        "input_columns_missing",
        "0.csv lacks 'age'",
        "0.csv",
    )


def test_a_task_without_losses_has_no_error() -> None:
    assert scored_of(ticket(), {"rows": 2}, b"1\n2\n", b"").result.error is None
