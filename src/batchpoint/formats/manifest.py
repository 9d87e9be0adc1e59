"""Manifest segments: which slices of which input files are scored, cut into mini-batches.

    segment = sealed document (see `documents`)
              JSON: {"first", "cuts", "uris", "names", "etags", "units"}
              columns, one number per slice: item, size, unit, start, stop, row
    totals  = JSON {"version", "segments", "mini_batches", "items", "inputs_hash", "sha256"}

A mini-batch lies in one segment as a whole.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

from batchpoint.domain.minibatch import Slice, Task
from batchpoint.formats import documents
from batchpoint.formats.durable import damaged, read_whole, write_durably

MAGIC = b"BPMAN01\n"
PLAN_VERSION = 1


class Segment:
    """A segment read back: slices on demand, and where its mini-batches are cut.

    `first` is the index of its first mini-batch; `cuts[i]` is the slice at which its i-th
    mini-batch starts, and the last mini-batch ends with the segment.
    """

    def __init__(self, document: dict[str, object], columns: Sequence[array[int]]) -> None:
        """Use `read_segment`."""
        self.first = cast("int", document["first"])
        self.cuts = tuple(cast("list[int]", document["cuts"]))
        self._uris = cast("list[str]", document["uris"])
        self._names = cast("list[str]", document["names"])
        self._etags = cast("list[str]", document["etags"])
        self._units = cast("list[str]", document["units"])
        self.items, self._sizes, self._unit, self._starts, self._stops, self._rows = columns

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.items)

    @property
    def stop(self) -> int:
        """Index of the first mini-batch after this segment."""
        return self.first + len(self.cuts)

    def counts(self) -> array[int]:
        """How many slices each mini-batch has."""
        return array("q", [b - a for a, b in zip(self.cuts, self._ends(), strict=True)])

    def _ends(self) -> tuple[int, ...]:
        return (*self.cuts[1:], len(self))

    def slices(self, start: int = 0, stop: int | None = None) -> list[Slice]:
        """Slices `start` to `stop` (exclusive) of the segment."""
        return [
            Slice(
                self.items[i],
                self._uris[i],
                self._names[i],
                self._sizes[i],
                self._etags[i],
                self._units[self._unit[i]],
                self._starts[i],
                self._stops[i],
                self._rows[i],
            )
            for i in range(start, len(self) if stop is None else stop)
        ]

    def slices_of(self, task: Task) -> list[Slice]:
        """The slices a task covers; raises IndexError when its mini-batch is not in here."""
        place = task.mini_batch - self.first
        if not 0 <= place < len(self.cuts):
            raise IndexError(f"mini-batch {task.mini_batch} is not in this segment")
        begin, end = self.cuts[place], self._ends()[place]
        if not 0 <= task.start <= task.stop <= end - begin:
            raise IndexError(f"mini-batch {task.mini_batch} has only {end - begin} slices")
        return self.slices(begin + task.start, begin + task.stop)


def segment_of(firsts: Sequence[int], mini_batch: int) -> int:
    """Find the segment of a mini-batch; `firsts[i]` is the first mini-batch of segment i."""
    return bisect_right(firsts, mini_batch) - 1


def write_segment(path: Path, slices: Sequence[Slice], cuts: Sequence[int], first: int) -> None:
    """Write a segment atomically.

    Args:
        path: `JobFolder.segment(index)`.
        slices: in input order; a mini-batch lies in one segment.
        cuts: at which slice each mini-batch starts, ascending, the first 0.
        first: index of the first mini-batch.

    Raises:
        ValueError: the cuts do not cut `slices` into non-empty mini-batches.
        Unavailable: `storage_full` or `storage_unavailable`.
    """
    bounds = [*cuts, len(slices)]
    if not cuts or cuts[0] != 0 or any(a >= b for a, b in pairwise(bounds)):
        raise ValueError("cuts must begin with 0 and leave no mini-batch empty")
    units = list(dict.fromkeys(each.unit for each in slices))
    code = {unit: index for index, unit in enumerate(units)}
    document = documents.encode(
        {
            "first": first,
            "cuts": list(cuts),
            "uris": [each.uri for each in slices],
            "names": [each.name for each in slices],
            "etags": [each.etag for each in slices],
            "units": units,
        },
        (
            [each.item for each in slices],
            [each.size for each in slices],
            [code[each.unit] for each in slices],
            [each.start for each in slices],
            [each.stop for each in slices],
            [each.row for each in slices],
        ),
    )
    write_durably(path, (documents.seal(MAGIC, document),))


def read_segment(path: Path) -> Segment:
    """Read and check a segment.

    Raises:
        Unavailable: `storage_unavailable`, when it is missing or damaged.
    """
    document, columns = documents.unseal(MAGIC, read_whole(path), path)
    return Segment(document, columns)


class PlanTotals(NamedTuple):
    """What the whole plan comes to; written once listing has ended.

    `inputs_hash` is a hex digest over all slices in order.
    """

    segments: int
    mini_batches: int
    items: int
    inputs_hash: str


def _totals_bytes(totals: PlanTotals) -> bytes:
    document = {"version": PLAN_VERSION, **totals._asdict()}
    body = json.dumps(document, separators=(",", ":"))
    digest = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({**document, "sha256": digest}, separators=(",", ":")).encode() + b"\n"


def write_totals(path: Path, totals: PlanTotals) -> None:
    """Write `JobFolder.plan_totals` atomically.

    Raises:
        Unavailable: `storage_full` or `storage_unavailable`.
    """
    write_durably(path, (_totals_bytes(totals),))


def read_totals(path: Path) -> PlanTotals:
    """Read and check `JobFolder.plan_totals`.

    Raises:
        Unavailable: `storage_unavailable`, when it is missing or damaged.
    """
    data = read_whole(path)
    try:
        document = json.loads(data)
        totals = PlanTotals(**{name: document[name] for name in PlanTotals._fields})
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"its contents cannot be read ({error})") from error
    if _totals_bytes(totals) != data:
        raise damaged(path, "its checksum differs")
    return totals
