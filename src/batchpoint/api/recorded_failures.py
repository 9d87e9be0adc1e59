"""Failed items of a job that has no output (yet): read from the parts that are recorded so far."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from batchpoint.domain import limits
from batchpoint.domain.errors import NotFound
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.parts import PartReader
from batchpoint.node.output_failures import KEYS
from batchpoint.runner.progress import unpack

PARTS_OPEN_MAX = 32


class _Place(NamedTuple):
    """Where a recorded frame with failures belongs in input order, and where it lies."""

    mini_batch: int
    start: int
    row_start: int
    part: str
    frame: int


def recorded_failures(folder: JobFolder, checkpoints: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a JSON line for each failure recorded so far, in input order.

    Memory grows with the mini-batches that had failures. Raises: NotFound (`output_not_found`)
    when the parts were deleted; Unavailable (`storage_unavailable`).
    """
    places = sorted(
        _Place(task.mini_batch, task.start, task.row_start, record.part, frame)
        for record in unpack(checkpoints)
        if record.failed_items or record.failed_rows
        for frame, task in record.frames
    )
    if places and not folder.parts.is_dir():
        raise NotFound(
            "the failed items of this job are no longer there: what a job without results leaves "
            f"is kept for {limits.PARTS_KEPT_DAYS} days",
            code="output_not_found",
        )
    return _lines(folder, places)


def _lines(folder: JobFolder, places: list[_Place]) -> Iterator[bytes]:
    readers: dict[str, PartReader] = {}
    try:
        for place in places:
            reader = readers.get(place.part)
            if reader is None:
                if len(readers) >= PARTS_OPEN_MAX:
                    readers.pop(next(iter(readers))).close()
                reader = readers[place.part] = PartReader(folder.part(place.part))
            if reader.frames.failures_length[place.frame]:
                _, failures = reader.read(place.frame)
                for line in failures.splitlines():
                    found: dict[str, Any] = json.loads(line)
                    kept = {key: found.get(key) for key in KEYS}
                    text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
                    yield text.encode("utf-8", "backslashreplace") + b"\n"
    finally:
        for reader in readers.values():
            reader.close()
