"""What the footer of a part tells of its frames, one array per property."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, overload

from batchpoint.domain.minibatch import Task
from batchpoint.formats import documents

FRAMES_BEGIN = 8
"""Offset of the first frame: after the magic of the part."""

Column = tuple[str, str]


class FrameFiles(NamedTuple):
    """Files a script wrote during a task: a folder below `JobFolder.files`, (path, bytes) in it."""

    folder: str
    files: tuple[tuple[str, int], ...]


class Schema(NamedTuple):
    """How the rows of a frame are written ("csv", "jsonl", ...) and which columns they have."""

    encoding: str
    columns: tuple[Column, ...]


class FrameInfo(NamedTuple):
    """What the footer tells of one frame; `offset` and lengths in bytes."""

    task: Task
    offset: int
    length: int
    failures_length: int
    crc32: int
    rows: int
    failed_rows: int
    items: int
    unattributed: int
    schema: Schema
    files: FrameFiles | None


class FrameTable(Sequence[FrameInfo]):
    """All frames of a part, one array per property; a `FrameInfo` is built when asked for."""

    STORED = (
        "mini_batch",
        "start",
        "stop",
        "row_start",
        "row_stop",
        "length",
        "failures_length",
        "crc32",
        "rows",
        "failed_rows",
        "items",
        "unattributed",
        "schema",
    )

    def __init__(
        self,
        columns: Sequence[array[int]],
        schemas: Sequence[Schema],
        files: dict[int, FrameFiles],
    ) -> None:
        """Take the columns in the order of `STORED`."""
        (
            self.mini_batch,
            self.start,
            self.stop,
            self.row_start,
            self.row_stop,
            self.length,
            self.failures_length,
            self.crc32,
            self.rows,
            self.failed_rows,
            self.items,
            self.unattributed,
            self.schema,
        ) = columns
        self.schemas = tuple(schemas)
        self.files = files
        sizes = (a + b for a, b in zip(self.length, self.failures_length, strict=True))
        bounds = array("q", accumulate(sizes, initial=FRAMES_BEGIN))
        self.end = bounds.pop()
        self.offset = documents.narrow(bounds)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.mini_batch)

    @overload
    def __getitem__(self, index: int) -> FrameInfo: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrameInfo]: ...

    def __getitem__(self, index: int | slice) -> FrameInfo | list[FrameInfo]:
        """Build what is known of one frame, or of several."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        ordinal = range(len(self))[index]
        return FrameInfo(
            self.task(ordinal),
            self.offset[ordinal],
            self.length[ordinal],
            self.failures_length[ordinal],
            self.crc32[ordinal],
            self.rows[ordinal],
            self.failed_rows[ordinal],
            self.items[ordinal],
            self.unattributed[ordinal],
            self.schemas[self.schema[ordinal]],
            self.files.get(ordinal),
        )

    def __iter__(self) -> Iterator[FrameInfo]:
        """Yield every frame's info."""
        return (self[ordinal] for ordinal in range(len(self)))

    def task(self, ordinal: int) -> Task:
        """The task whose result frame `ordinal` is."""
        return Task(
            self.mini_batch[ordinal],
            self.start[ordinal],
            self.stop[ordinal],
            self.row_start[ordinal],
            self.row_stop[ordinal],
        )
