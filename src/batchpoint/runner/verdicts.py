"""Writes down what failed for good: frames without rows, in parts of the runner's own."""

from __future__ import annotations

import json
from collections.abc import Sequence

from batchpoint.core.messages import Quarantine, Record
from batchpoint.domain import limits
from batchpoint.domain.minibatch import Slice, Task
from batchpoint.formats import layout
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.manifest import Segment, read_segment
from batchpoint.formats.parts import PartWriter
from batchpoint.runner.planner import Planner


class VerdictWriter:
    """Collects `Quarantine` commands and seals them as parts; `seal` may run in a thread."""

    def __init__(self, job: str, epoch: int, folder: JobFolder, planner: Planner) -> None:
        """Write parts for `job` under `epoch`."""
        self._job = job
        self._epoch = epoch
        self._folder = folder
        self._planner = planner
        self._pending: list[Quarantine] = []
        self._serial = 0

    @property
    def pending(self) -> int:
        """How many verdicts are not yet sealed."""
        return len(self._pending)

    def add(self, verdict: Quarantine) -> None:
        """Take a verdict; it counts once `seal` has returned its record and that is committed."""
        self._pending.append(verdict)

    def seal(self) -> list[Record]:
        """Write all pending verdicts as one part and return its record; nothing without any.

        Raises:
            Unavailable: the disk is full or failing; the verdicts are kept and sealed next time.
        """
        sealed = list(self._pending)
        if not sealed:
            return []
        name = layout.part_name(self._epoch, "runner", self._serial)
        writer = PartWriter(
            self._folder.part(name), job=self._job, epoch=self._epoch, node="runner"
        )
        frames: list[tuple[int, Task]] = []
        failed: dict[int, None] = {}
        try:
            segments: dict[int, Segment] = {}
            for verdict in sealed:
                slices = self._slices(verdict.task, segments)
                items = list(dict.fromkeys(each.item for each in slices))
                frame = writer.add(
                    verdict.task,
                    b"",
                    _failure_lines(verdict, slices),
                    rows=0,
                    failed_rows=len(_rows(verdict.task)),
                    columns=(),
                    encoding="none",
                    items=len(items),
                )
                frames.append((frame, verdict.task))
                failed.update(dict.fromkeys(items))
            writer.seal()
        except BaseException:
            writer.discard()
            raise
        self._serial += 1
        del self._pending[: len(sealed)]
        return [
            Record(
                part=name,
                frames=tuple(frames),
                rows=0,
                failed_rows=sum(len(_rows(verdict.task)) for verdict in sealed),
                failed_items=tuple(failed),
                failed_mini_batches=tuple(sorted({each.task.mini_batch for each in sealed})),
            )
        ]

    def _slices(self, task: Task, last: dict[int, Segment]) -> list[Slice]:
        """Look a task up in the manifest; `last` keeps the segment that the next one may need."""
        index = self._planner.book.mini_batch(task.mini_batch).segment
        if index not in last:
            segment = read_segment(self._folder.segment(index))
            last.clear()
            last[index] = segment
        return last[index].slices_of(task)


def _failure_lines(verdict: Quarantine, slices: Sequence[Slice]) -> bytes:
    """One line per slice of the task, or per row when the task is narrowed to rows."""
    error = verdict.error
    history = zip(verdict.history.outcomes, verdict.history.seconds, strict=True)
    attempts = [{"outcome": outcome, "seconds": seconds} for outcome, seconds in history]
    lines: list[str] = []
    for each in slices:
        for row in _rows(verdict.task) or [None]:
            line = {
                "item": each.item,
                "name": each.name,
                "row": None if row is None else each.row + row,
                "origin": error.origin,
                "type": error.type,
                "message": error.message[: limits.ERROR_TEXT_CHARS_MAX],
                "traceback": error.traceback[: limits.TRACEBACK_CHARS_MAX],
                "attempts": attempts,
            }
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines).encode("utf-8", "surrogatepass")


def _rows(task: Task) -> range:
    """Return the rows a task is narrowed to; none for a whole slice.

    The piece that ends with its slice has `row_stop` = -1; given up, it is down to one row.
    """
    if task.row_stop >= 0:
        return range(task.row_start, task.row_stop)
    return range(task.row_start, task.row_start + 1) if task.row_start > 0 else range(0)
