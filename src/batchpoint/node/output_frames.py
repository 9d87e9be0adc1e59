"""The frames of an output, read from many parts in plan order, each one verified."""

from __future__ import annotations

import hashlib
import os
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from batchpoint.core.assembly import Column, union
from batchpoint.formats.assembly_plan import AssemblyPlan
from batchpoint.formats.durable import damaged, storage_error
from batchpoint.formats.frame_table import FrameTable, Schema
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.parts import PartReader

_WINDOW_BYTES = 1 << 20
_WINDOW_ALIGNMENT = 1 << 18
_OPEN_FILES_MAX = 64


class Frame(NamedTuple):
    """A frame of the output: its part, what the footer tells, its rows and its failure lines."""

    path: Path
    table: FrameTable
    ordinal: int
    rows: memoryview
    failures: memoryview

    @property
    def schema(self) -> Schema:
        """How its rows are written and which columns they have."""
        return self.table.schemas[self.table.schema[self.ordinal]]


class _Window:
    """An open part, and the stretch of it that was read last.

    Frames come nearly in the order of the part, a few places off because several workers wrote it;
    a window turns that into big sequential reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._begin = 0
        self._view = memoryview(b"")

    def read(self, offset: int, size: int) -> memoryview:
        begin = offset - self._begin
        if begin < 0 or begin + size > len(self._view):
            if size >= _WINDOW_ALIGNMENT:
                return memoryview(self._read_at(offset, size))
            self._begin = offset - offset % _WINDOW_ALIGNMENT
            self._view = memoryview(self._read_at(self._begin, _WINDOW_BYTES))
            begin = offset - self._begin
        return self._view[begin : begin + size]

    def _read_at(self, offset: int, size: int) -> bytes:
        data = os.pread(self.fd, size, offset)
        while len(data) < size:
            more = os.pread(self.fd, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data


class OutputFrames:
    """All frames of an output in order; a context manager.

    Footers are read once and stay in memory (about 40 bytes per frame); at most `_OPEN_FILES_MAX`
    parts are open at a time.
    """

    def __init__(self, folder: JobFolder, plan: AssemblyPlan) -> None:
        """Read the footers of all parts.

        Raises:
            Unavailable: `storage_unavailable`, a part is missing or damaged.
        """
        self.paths = [folder.part(name) for name in plan.parts]
        self.tables: list[FrameTable] = []
        self.digests: list[bytes] = []
        self._plan = plan
        self._open: OrderedDict[int, _Window] = OrderedDict()
        for path in self.paths:
            with PartReader(path) as reader:
                if reader.job != plan.job:
                    raise damaged(path, f"it belongs to job {reader.job!r}")
                self.tables.append(reader.frames)
                self.digests.append(reader.digest)
        lengths = array("q", map(len, self.tables))
        for part, ordinal in self.places():
            if ordinal >= lengths[part]:
                raise damaged(self.paths[part], f"it has no frame {ordinal}")

    def places(self) -> Iterator[tuple[int, int]]:
        """Yield (index of the part, ordinal of the frame) in output order."""
        return zip(self._plan.part, self._plan.frame, strict=True)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._plan.frame)

    def columns(self) -> tuple[Column, ...]:
        """Unite the columns of all frames."""
        tables = self.tables
        seen: dict[Schema, None] = {}
        for part, ordinal in self.places():
            table = tables[part]
            seen[table.schemas[table.schema[ordinal]]] = None
        return union(schema.columns for schema in seen)

    def fingerprint(self) -> bytes:
        """Return a digest of every byte of the frames and of their order."""
        digest = hashlib.sha256()
        for path, part in zip(self.paths, self.digests, strict=True):
            digest.update(path.name.encode() + part)
        digest.update(array("I", self._plan.part).tobytes())
        digest.update(array("I", self._plan.frame).tobytes())
        return digest.digest()

    def total(self, name: str) -> int:
        """Sum a property of `FrameTable` over all frames."""
        columns = [getattr(table, name) for table in self.tables]
        return sum(columns[part][ordinal] for part, ordinal in self.places())

    def __iter__(self) -> Iterator[Frame]:
        """Read frame after frame.

        Raises:
            Unavailable: `storage_unavailable`, a frame cannot be read or its checksum differs.
        """
        return (self._read(part, ordinal) for part, ordinal in self.places())

    def failing(self) -> Iterator[Frame]:
        """Read only those frames in which something failed.

        Raises:
            Unavailable: as for all frames.
        """
        for part, ordinal in self.places():
            table = self.tables[part]
            if table.failures_length[ordinal] or table.unattributed[ordinal]:
                yield self._read(part, ordinal)

    def _read(self, part: int, ordinal: int) -> Frame:
        table, path = self.tables[part], self.paths[part]
        split = table.length[ordinal]
        size = split + table.failures_length[ordinal]
        try:
            data = self._window(part).read(table.offset[ordinal], size)
        except OSError as error:
            raise storage_error(error, path) from error
        if len(data) != size or zlib.crc32(data) != table.crc32[ordinal]:
            raise damaged(path, f"the checksum of frame {ordinal} differs")
        return Frame(path, table, ordinal, data[:split], data[split:])

    def _window(self, part: int) -> _Window:
        window = self._open.get(part)
        if window is None:
            if len(self._open) == _OPEN_FILES_MAX:
                os.close(self._open.popitem(last=False)[1].fd)
            window = self._open[part] = _Window(self.paths[part])
        else:
            self._open.move_to_end(part)
        return window

    def __enter__(self) -> Self:
        """Return the frames."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the parts."""
        while self._open:
            os.close(self._open.popitem()[1].fd)
