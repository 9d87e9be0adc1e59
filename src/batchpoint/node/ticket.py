"""A task on its way through a node: what it covers, where that lies, what the worker is told."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from batchpoint.core.messages import Assignment
from batchpoint.domain.errors import Invalid
from batchpoint.domain.minibatch import MiniBatch, Slice


class Part(NamedTuple):
    """Which part of the file at a path a slice is (`unit`, `start`, `stop` as in `Slice`)."""

    unit: str
    start: int
    stop: int


@dataclass(slots=True)
class Ticket:
    """A task on its way through a worker; `id` is never used twice by one agent.

    `staged`: a folder with files made for this task, deleted after it. `paths`: where each slice
    lies, once that is known; `parts`: which of them are parts of their file. `refused`: slices (by
    their place) whose data is not there any more or was changed; the worker is not told of them and
    their items fail. `harvest`: where the worker puts files that the script wrote.
    """

    id: int
    mini_batch: MiniBatch
    assignment: Assignment
    slices: list[Slice]
    harvest: str = ""
    staged: Path | None = None
    paths: list[str] = field(default_factory=list[str])
    parts: dict[int, Part] = field(default_factory=dict[int, Part])
    refused: dict[int, Invalid] = field(default_factory=dict[int, Invalid])

    @property
    def items(self) -> tuple[int, ...]:
        """Ordinals of the distinct items the task covers."""
        return tuple(dict.fromkeys(one.item for one in self.slices))

    def order(self) -> dict[str, Any]:
        """Return the task as the worker is told; `paths` must be there."""
        task = self.assignment.task
        narrowed = task.row_start > 0 or task.row_stop >= 0
        items = [_whole(one, path) for one, path in zip(self.slices, self.paths, strict=True)]
        for place, part in self.parts.items():
            one = self.slices[place]
            items[place].update(part._asdict(), row=one.row, size=one.size)
        if self.refused:
            items = [item for place, item in enumerate(items) if place not in self.refused]
        return {
            "id": self.id,
            "items": items,
            "rows": [task.row_start, task.row_stop] if narrowed else None,
            "harvest": self.harvest,
        }

    def forget_staged(self) -> None:
        """Delete the files that were made for this task."""
        if self.staged is not None:
            shutil.rmtree(self.staged, ignore_errors=True)
            self.staged = None


def _whole(one: Slice, path: str) -> dict[str, Any]:
    return {"path": path, "name": one.name, "item": one.item}
