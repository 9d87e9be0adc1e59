"""What the output is made of: one result for every place of the plan, in input order.

Everything here works on flat arrays, about 60 bytes per frame, so that a job of a million
mini-batches is ordered in a second or two without a Python object per mini-batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from batchpoint.core.messages import Record
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.minibatch import Task

Column = tuple[str, str]

# Ours stand first, whatever the first frame happens to have.
RESERVED_COLUMNS = ("_file", "_row")

# From narrow to wide. Anything that is not a number stands as text beside anything else.
_NUMBERS = ("int", "float")
_UNKNOWN = "null"


class Order(NamedTuple):
    """Frames in output order: the i-th is frame `frame[i]` of part `parts[part[i]]`."""

    parts: tuple[str, ...]
    part: array[int]
    frame: array[int]


class RecordedFrames:
    """Collects the frames of all records, in the order in which they were committed."""

    def __init__(self) -> None:
        """Begin with none."""
        self.parts: dict[str, int] = {}
        self.part = array("I")
        self.frame = array("I")
        self.mini_batch = array("q")
        self.start = array("I")
        self.stop = array("I")
        self.row_start = array("q")
        self.row_stop = array("q")

    def add(self, record: Record) -> None:
        """Take the frames of one record."""
        part = self.parts.setdefault(record.part, len(self.parts))
        for frame, task in record.frames:
            self.part.append(part)
            self.frame.append(frame)
            self.mini_batch.append(task.mini_batch)
            self.start.append(task.start)
            self.stop.append(task.stop)
            self.row_start.append(task.row_start)
            self.row_stop.append(task.row_stop)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.frame)

    def task(self, index: int) -> Task:
        """The task of the frame that was taken as number `index`."""
        return Task(
            self.mini_batch[index],
            self.start[index],
            self.stop[index],
            self.row_start[index],
            self.row_stop[index],
        )


def order(recorded: RecordedFrames, slices: Sequence[int]) -> Order:
    """Put frames into input order and verify that they are the whole output, each place once.

    Of several results for the very same task the one recorded first counts.

    Args:
        recorded: the frames of all records of the job.
        slices: how many slices each mini-batch of the sealed plan has.

    Raises:
        BatchpointError: a place of the plan has no result, or two (`internal_error`); such output
            must not be published.
    """
    places, bounds = _by_mini_batch(recorded.mini_batch, len(slices))
    start, stop, row_start, row_stop = (
        recorded.start,
        recorded.stop,
        recorded.row_start,
        recorded.row_stop,
    )
    chosen = array("I")
    for mini_batch, count in enumerate(slices):
        begin, end = bounds[mini_batch], bounds[mini_batch + 1]
        if end - begin == 1:
            i = places[begin]
            if stop[i] == count and not start[i] and not row_start[i] and row_stop[i] == -1:
                chosen.append(i)
                continue
        chosen.extend(_pieces(recorded, mini_batch, count, places[begin:end]))
    return Order(
        tuple(recorded.parts),
        array("I", map(recorded.part.__getitem__, chosen)),
        array("I", map(recorded.frame.__getitem__, chosen)),
    )


def _by_mini_batch(mini_batch: array[int], count: int) -> tuple[array[int], array[int]]:
    """Sort indices of frames by their mini-batch, in linear time.

    Returns:
        (indices, bounds): those of mini-batch m are `indices[bounds[m]:bounds[m + 1]]`, in the
        order in which they were recorded.
    """
    if len(mini_batch) and not 0 <= min(mini_batch) <= max(mini_batch) < count:
        raise _inconsistent(
            f"there is a result for mini-batch {max(mini_batch)}, but only {count} were planned"
        )
    counts = array("I", bytes(4 * (count + 1)))
    for each in mini_batch:
        counts[each + 1] += 1
    bounds = array("I", accumulate(counts))
    cursor = array("I", bounds)
    indices = array("I", bytes(4 * len(mini_batch)))
    for index, each in enumerate(mini_batch):
        indices[cursor[each]] = index
        cursor[each] += 1
    return indices, bounds


def _pieces(
    recorded: RecordedFrames, mini_batch: int, slices: int, indices: Iterable[int]
) -> list[int]:
    """Order the pieces of one bisected mini-batch and check that they join without gap."""
    chosen: list[int] = []
    before: Task | None = None
    at, row = 0, 0  # the next slice without a result, and the next row of it
    for index in sorted(indices, key=lambda i: (recorded.start[i], recorded.row_start[i])):
        task = recorded.task(index)
        if task == before:
            continue
        narrowed = task.row_start != 0 or task.row_stop != -1
        if (task.start, task.row_start) != (at, row):
            raise _inconsistent(
                f"the results of mini-batch {mini_batch} do not join at slice {at}, row {row}: "
                f"the next one is for {task}"
            )
        if task.stop <= task.start or (narrowed and task.stop != task.start + 1):
            raise _inconsistent(f"{task} is not a piece of a mini-batch")
        if task.row_stop == -1:
            at, row = task.stop, 0
        elif task.row_stop > task.row_start:
            row = task.row_stop
        else:
            raise _inconsistent(f"{task} is not a piece of a mini-batch")
        chosen.append(index)
        before = task
    if (at, row) != (slices, 0):
        raise _inconsistent(
            f"mini-batch {mini_batch} has {slices} slices, but no result from slice {at}, "
            f"row {row} on"
        )
    return chosen


def _inconsistent(what: str) -> BatchpointError:
    return BatchpointError(
        f"the output was not published because it would be incomplete: {what}; this is a defect "
        "of batchpoint, please report it with the job's log",
        code="internal_error",
    )


def widened(one: str, other: str) -> str:
    """Return the narrowest column type that holds both: int, then float, then string.

    "null" (no value was seen) gives way to anything.
    """
    if other in (one, _UNKNOWN):
        return one
    if one == _UNKNOWN:
        return other
    return "float" if one in _NUMBERS and other in _NUMBERS else "string"


def union(column_lists: Iterable[Sequence[Column]]) -> tuple[Column, ...]:
    """Unite the columns of frames: by name, in first-seen order, ours first, types widened.

    Args:
        column_lists: (name, type) of the columns of each frame, in output order; lists that occur
            again may be left out, and frames without columns have no say.
    """
    types: dict[str, str] = {}
    for columns in column_lists:
        for name, kind in columns:
            types[name] = widened(types.get(name, kind), kind)
    ours = [name for name in RESERVED_COLUMNS if name in types]
    return tuple((name, types[name]) for name in dict.fromkeys((*ours, *types)))
