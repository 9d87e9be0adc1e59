"""Writes down what failed for good: frames without rows, in parts of the runner's own."""

from __future__ import annotations

import json

from batchpoint.core.messages import Quarantine, Record
from batchpoint.domain import limits
from batchpoint.domain.minibatch import Task
from batchpoint.formats import layout
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.manifest import read_segment
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
        """Take a verdict; it is durable once `seal` has returned its record and that is committed."""
        self._pending.append(verdict)

    def seal(self) -> list[Record]:
        """Write all pending verdicts as one part and return its record; nothing when there are none.

        Raises:
            Unavailable: the disk is full or failing; the verdicts are kept and sealed next time.
        """
        taken = len(self._pending)
        if taken == 0:
            return []
        name = layout.part_name(self._epoch, "runner", self._serial)
        writer = PartWriter(
            self._folder.part(name), job=self._job, epoch=self._epoch, node="runner"
        )
        frames: list[tuple[int, Task]] = []
        try:
            for verdict in self._pending[:taken]:
                frame = writer.add(
                    verdict.task,
                    b"",
                    self._failure_lines(verdict),
                    rows=0,
                    failed_rows=len(_rows(verdict.task)),
                    columns=(),
                    encoding="none",
                    items=len(verdict.items),
                )
                frames.append((frame, verdict.task))
            writer.seal()
        except BaseException:
            writer.discard()
            raise
        self._serial += 1
        sealed = self._pending[:taken]
        del self._pending[:taken]
        return [
            Record(
                part=name,
                frames=tuple(frames),
                rows=0,
                failed_rows=sum(len(_rows(verdict.task)) for verdict in sealed),
                failed_items=tuple(item for verdict in sealed for item in verdict.items),
            )
        ]

    def _failure_lines(self, verdict: Quarantine) -> bytes:
        """One line per slice of the task, or per row when the task is narrowed to rows."""
        task, error = verdict.task, verdict.error
        batch = self._planner.book.mini_batch(task.mini_batch)
        segment = read_segment(self._folder.segment(batch.segment))
        lines: list[str] = []
        for each in segment.slices_of(task):
            for row in _rows(task) or [None]:
                line = {
                    "item": each.item,
                    "name": each.name,
                    "row": None if row is None else each.row + row,
                    "origin": error.origin,
                    "type": error.type,
                    "message": error.message[: limits.ERROR_TEXT_CHARS_MAX],
                    "traceback": error.traceback[: limits.TRACEBACK_CHARS_MAX],
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
