"""Bisecting a failing mini-batch down to its poison items, and the poison rows of an item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from batchpoint.domain.minibatch import Task


def is_lone(task: Task) -> bool:
    """Tell whether a task is one slice, or some rows of one."""
    return task.stop - task.start == 1


def is_narrowed(task: Task) -> bool:
    """Tell whether a task is only some rows of its slice."""
    return task.row_start > 0 or task.row_stop >= 0


def halves(task: Task) -> tuple[Task, Task]:
    """Cut a task of several slices in the middle; the cut depends on nothing but its bounds."""
    middle = (task.start + task.stop) // 2
    assert task.start < middle < task.stop, task
    return task._replace(stop=middle), task._replace(start=middle)


def row_count(task: Task, slice_rows: int) -> int:
    """Count the rows of a lone task; -1 when that is not known.

    `slice_rows` are the rows of the whole slice (-1: unknown).
    """
    if task.row_stop >= 0:
        return task.row_stop - task.row_start
    return slice_rows - task.row_start if slice_rows >= task.row_start else -1


def row_halves(task: Task, slice_rows: int) -> tuple[Task, Task]:
    """Cut the rows of a lone task in the middle; it must have two rows or more.

    The piece that ends with the slice keeps `row_stop` = -1, so that the pieces of a slice are seen
    to be complete without knowing how many rows it has.
    """
    rows = row_count(task, slice_rows)
    assert is_lone(task), task
    assert rows > 1, (task, slice_rows)
    middle = task.row_start + rows // 2
    return task._replace(row_stop=middle), task._replace(row_start=middle)


def remaining(mini_batch: int, slices: int, recorded: Iterable[Task]) -> list[Task]:
    """List what is left of a mini-batch of which `recorded` is done, in order, without overlap.

    What is left is cut where bisecting would have cut it: a resumed job then calls `run` with the
    very same lists of items as an undisturbed one, whose predictions it must equal.
    """
    return list(_left(mini_batch, 0, slices, list(recorded)))


def _left(mini_batch: int, start: int, stop: int, recorded: list[Task]) -> Iterator[Task]:
    inside = [task for task in recorded if task.start < stop and task.stop > start]
    if not inside:
        yield Task(mini_batch, start, stop)
    elif any(t.start <= start and t.stop >= stop and not is_narrowed(t) for t in inside):
        return
    elif stop - start == 1:
        yield from _rows_left(Task(mini_batch, start, stop), inside)
    else:
        middle = (start + stop) // 2
        yield from _left(mini_batch, start, middle, inside)
        yield from _left(mini_batch, middle, stop, inside)


def _rows_left(lone: Task, recorded: list[Task]) -> Iterator[Task]:
    row = 0
    for task in sorted(recorded, key=lambda task: task.row_start):
        if task.row_start > row:
            yield lone._replace(row_start=row, row_stop=task.row_start)
        if task.row_stop < 0:
            return
        row = max(row, task.row_stop)
    yield lone._replace(row_start=row)
