"""Progress of a running job: what is committed (records), and what people see (display)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from batchpoint.core.messages import Record
from batchpoint.domain.job import Progress
from batchpoint.domain.minibatch import Task
from batchpoint.formats.documents import readable
from batchpoint.node.wire import Heartbeat

# Begins of a node's warnings that are true only while it sends them (`PartFlow.warning`).
_PASSING = ("disk full: ", "storage: ")
_WARNINGS_MAX = 100
# A runner that goes on with a job reads its plan again; what was known before still holds.
_GROWING = (
    "items_total",
    "items_failed",
    "rows_failed",
    "mini_batches_total",
    "mini_batches_done",
)
_PHASES = ("queued", "environment", "model", "scoring", "writing", "done")


def pack(records: Iterable[Record]) -> bytes:
    """Pack the records of one checkpoint (zlib of JSON; described in docs/formats.md)."""
    rows = [
        {
            "part": record.part,
            "frames": [frame for frame, _ in record.frames],
            "tasks": [list(task) for _, task in record.frames],
            "rows": record.rows,
            "failed_rows": record.failed_rows,
            "failed_items": list(record.failed_items),
            "unattributed": record.unattributed,
            "scored_items": record.scored_items,
            "failed_mini_batches": list(record.failed_mini_batches),
        }
        for record in records
    ]
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 1)


def unpack(checkpoints: Iterable[bytes]) -> Iterator[Record]:
    """Yield the records of all checkpoints, in the order in which they were committed."""
    for body in checkpoints:
        for row in json.loads(zlib.decompress(body)):
            yield Record(
                part=row["part"],
                frames=tuple(
                    (frame, Task(*task))
                    for frame, task in zip(row["frames"], row["tasks"], strict=True)
                ),
                rows=row["rows"],
                failed_rows=row["failed_rows"],
                failed_items=tuple(row["failed_items"]),
                unattributed=row["unattributed"],
                scored_items=row["scored_items"],
                # Absent in jobs that were begun before mini-batches were counted.
                failed_mini_batches=tuple(row.get("failed_mini_batches", ())),
            )


def passes(warning: str) -> bool:
    """Tell whether a warning is about a trouble that may be over by now."""
    return warning.startswith(_PASSING)


class Display:
    """Folds heartbeats and counts into the progress that people see; nothing goes backwards."""

    def __init__(self, shown: Progress) -> None:
        """Begin where an earlier runner of the job stopped showing."""
        self._shown = shown
        self._retries_of_others = shown.retries
        self._beats: dict[str, Heartbeat] = {}
        self._lasting: set[str] = set()
        self._idle: tuple[float, int, int] | None = None
        self._began: tuple[float, int, int] | None = None

    @property
    def warnings(self) -> list[str]:
        """Return what nodes warn of now ("disk full: ..."), and all that user code warned of."""
        now = {beat.warning for beat in self._beats.values() if beat.warning}
        return sorted(now | self._lasting)

    def heard(self, beat: Heartbeat) -> None:
        """Take in a node's heartbeat."""
        beat = replace(beat, warning=readable(beat.warning))
        if beat.warning and not passes(beat.warning) and len(self._lasting) < _WARNINGS_MAX:
            self._lasting.add(beat.warning)
        self._beats[beat.node] = beat

    def reported(self, node: str) -> None:
        """Take in that what a node counted in its last heartbeat is now decided, or soon is."""
        beat = self._beats.get(node)
        if beat is not None:
            self._beats[node] = replace(beat, rows=0, items=0)

    def lost(self, node: str) -> None:
        """Forget a node that is gone."""
        self._beats.pop(node, None)

    def show(self, counted: Progress, now: float) -> Progress:
        """Return what to show for the decided counts (`counted`), at monotonic time `now`."""
        before = self._shown
        rows = counted.rows_done + sum(beat.rows for beat in self._beats.values())
        items = counted.items_done + sum(beat.items for beat in self._beats.values())
        if counted.items_total:
            items = min(items, counted.items_total)
        phase = max(counted.phase, self._phase(), before.phase, key=_PHASES.index)
        shown = counted.model_copy(
            update={
                "phase": phase,
                "listed": counted.listed or before.listed,
                "rows_done": max(rows, before.rows_done),
                "items_done": max(items, before.items_done),
                "retries": self._retries_of_others + counted.retries,
                "workers": sum(beat.workers for beat in self._beats.values()),
                **{name: max(getattr(counted, name), getattr(before, name)) for name in _GROWING},
            }
        )
        shown = shown.model_copy(update=self._pace(shown, now))
        self._shown = shown
        return shown

    def _phase(self) -> str:
        return max(
            (b.phase for b in self._beats.values() if b.phase in _PHASES),
            key=_PHASES.index,
            default="queued",
        )

    def _pace(self, shown: Progress, now: float) -> dict[str, float | None]:
        """Rate and remaining time, measured from what was shown before the scoring began."""
        counts = (now, shown.rows_done, shown.items_done)
        if shown.phase != "scoring":
            self._idle = counts
            return {"rows_per_second": self._shown.rows_per_second, "eta_seconds": None}
        if self._began is None:
            self._began = self._idle or counts
        began, rows, items = self._began
        elapsed = now - began
        if elapsed <= 0:
            return {}
        pace = (shown.items_done - items) / elapsed
        remaining = shown.items_total - shown.items_done
        return {
            "rows_per_second": max(0.0, (shown.rows_done - rows) / elapsed),
            "eta_seconds": remaining / pace if pace > 0 and shown.listed else None,
        }
