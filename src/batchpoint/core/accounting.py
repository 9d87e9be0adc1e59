"""Counting items and rows, and reading progress back from what was recorded."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Literal, NamedTuple

from batchpoint.core.isolation import is_narrowed
from batchpoint.core.messages import Record, Recovered, TaskResult
from batchpoint.domain.minibatch import Task

_SEEN = 1
_FAILED = 2


class Tally(NamedTuple):
    """How far a job is. Totals are final once `sealed`.

    `items_done` counts items of which at least a part is scored or given up, `items_failed` those
    that failed, with and without a name. `retries` counts attempts that were followed by another.
    """

    sealed: bool
    items_total: int
    items_done: int
    items_failed: int
    mini_batches_total: int
    mini_batches_done: int
    rows: int
    failed_rows: int
    retries: int
    nodes: int
    timeout_seconds: float
    timeout_known: bool
    finished: Literal["", "completed", "failed", "canceled"]


class ItemCount:
    """Distinct items that are scored or failed, one byte for each item up to the highest seen."""

    def __init__(self, failed: Iterable[int] = ()) -> None:
        self._flags = bytearray()
        self.seen = 0
        self.failed = 0
        self.fail(failed)

    def see(self, items: tuple[int, ...]) -> None:
        """Note items of which a part was scored or given up."""
        if not items:
            return
        first, last = items[0], items[-1]
        self._reach(max(items) if last - first + 1 != len(items) else last)
        if last - first + 1 == len(items) and first <= last:
            new = self._flags.count(0, first, last + 1)
            if new == len(items):
                self._flags[first : last + 1] = bytes((_SEEN,)) * new
                self.seen += new
                return
        for item in items:
            if not self._flags[item]:
                self._flags[item] = _SEEN
                self.seen += 1

    def fail(self, items: Iterable[int]) -> None:
        """Note items of which a part failed; each counts once."""
        for item in items:
            self._reach(item)
            flag = self._flags[item]
            if flag != _FAILED:
                self._flags[item] = _FAILED
                self.failed += 1
                self.seen += not flag

    def new_failures(self, items: Iterable[int]) -> int:
        """Count the distinct items that have not failed yet."""
        size = len(self._flags)
        return sum(item >= size or self._flags[item] != _FAILED for item in set(items))

    def _reach(self, item: int) -> None:
        if item >= len(self._flags):
            self._flags.extend(bytes(item + 1 - len(self._flags)))


def recover(records: Iterable[Record]) -> Recovered:
    """Rebuild progress from all records of a job, in any order; verdicts are records too.

    Tasks must not overlap: the ledger commits a record only under the runner's current lease.
    """
    recovered = Recovered()
    heads = recovered.heads
    for record in records:
        for _, task in record.frames:
            if task.start or is_narrowed(task):
                recovered.pieces.setdefault(task.mini_batch, []).append(task)
                continue
            if task.mini_batch >= len(heads):
                heads.extend(array("I", bytes(4 * (task.mini_batch + 1 - len(heads)))))
            assert not heads[task.mini_batch], f"{task} was recorded before"
            heads[task.mini_batch] = task.stop
        recovered.rows += record.rows
        recovered.failed_rows += record.failed_rows
        recovered.failed_items.update(record.failed_items)
        recovered.failed_mini_batches.update(record.failed_mini_batches)
        recovered.unattributed += record.unattributed
        recovered.scored_items += record.scored_items
    return recovered


class Recording:
    """The accepted frames of one report, on their way into a `Record`."""

    __slots__ = (
        "failed_items",
        "failed_mini_batches",
        "failed_rows",
        "frames",
        "rows",
        "scored_items",
        "unattributed",
    )

    def __init__(self) -> None:
        self.frames: list[tuple[int, Task]] = []
        self.rows = 0
        self.failed_rows = 0
        self.failed_items: tuple[int, ...] = ()
        self.failed_mini_batches: tuple[int, ...] = ()
        self.unattributed = 0
        self.scored_items = 0

    def add(self, result: TaskResult, failed: tuple[int, ...], unattributed: int) -> bool:
        """Add a frame; tell whether something in it succeeded (a file without rows can, too)."""
        good = max(0, len(result.items) - len(failed) - unattributed)
        self.frames.append((result.frame, result.task))
        self.rows += result.rows
        self.failed_rows += result.failed_rows
        if failed or unattributed:
            self.failed_items += failed
            self.failed_mini_batches += (result.task.mini_batch,)
        self.unattributed += unattributed
        self.scored_items += good
        return good > 0 or result.rows > 0

    def command(self, part: str) -> Record:
        """Order the frames of `part` to be committed."""
        return Record(
            part,
            tuple(self.frames),
            self.rows,
            self.failed_rows,
            self.failed_items,
            self.unattributed,
            self.scored_items,
            self.failed_mini_batches,
        )
