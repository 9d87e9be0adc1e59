"""Tells from which input files a frame of the output came."""

from __future__ import annotations

from batchpoint.domain.minibatch import Slice, Task
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.manifest import Segment, read_segment


class SourceFinder:
    """Finds the slices of tasks; quick when they are asked for in their order."""

    def __init__(self, folder: JobFolder) -> None:
        """Read segments when they are needed, one at a time."""
        self._folder = folder
        self._index = -1
        self._segment: Segment | None = None

    def slices_of(self, task: Task) -> list[Slice]:
        """Return the slices of a task.

        Raises:
            Unavailable: `storage_unavailable`, a segment cannot be read.
        """
        if self._segment is not None and task.mini_batch < self._segment.first:
            self._index, self._segment = -1, None
        while self._segment is None or task.mini_batch >= self._segment.stop:
            self._index += 1
            self._segment = read_segment(self._folder.segment(self._index))
        return self._segment.slices_of(task)

    def describe(self, task: Task) -> str:
        """Name a mini-batch, or the piece of one, by its first and last file."""
        slices = self.slices_of(task)
        first, last = slices[0].name, slices[-1].name
        files = first if first == last else f"{first} to {last}"
        return f"mini-batch {task.mini_batch} ({files})"
