"""Parts: immutable files that hold the results of many tasks, each in a frame of its own.

    part    = magic | frames, back to back | footer | trailer
    frame   = rendered rows | failure lines (JSON lines)
    footer  = document (see `documents`): JSON {"version", "job", "epoch", "node", "schemas":
              [{"encoding", "columns": [[name, type]..]}..], "files": {frame: [folder,
              [[path, bytes]..]]}} and one column per name in `FrameTable`, a number per frame
    trailer = u64 offset of the footer | u32 its length | 32 bytes sha256 of it | end magic

Where a frame begins is not stored: it is the sum of the lengths before it.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Self, cast

from batchpoint.domain.errors import Unavailable
from batchpoint.domain.minibatch import Task
from batchpoint.formats import documents
from batchpoint.formats.durable import (
    damaged,
    storage_error,
    sync_folder,
    temporary_of,
    write_fully,
)
from batchpoint.formats.frame_table import FrameFiles, FrameTable, Schema

MAGIC = b"BPPART1\n"
END_MAGIC = b"BPEND1\n\n"
VERSION = 1

_TRAILER = struct.Struct("<QI32s8s")
_FLUSH_BYTES = 1 << 20
# What is larger may be a memory map of a file: it is written from there, never copied.
_JOIN_BYTES_MAX = 4 << 20


class PartWriter:
    """Writes a part under a temporary name; it exists only once sealed.

    When the disk is full, `add` and `seal` raise `Unavailable` (`storage_full`) and lose nothing:
    frames given to `add` are kept, and `seal` may be called again when there is room.
    """

    def __init__(self, path: Path, *, job: str, epoch: int, node: str) -> None:
        """Open the temporary file beside `path`; raises Unavailable."""
        self.path = path
        self._temporary = temporary_of(path)
        self._identity = {"version": VERSION, "job": job, "epoch": epoch, "node": node}
        self._schemas: dict[Schema, int] = {}
        self._files: dict[int, FrameFiles] = {}
        self._columns: tuple[list[int], ...] = tuple([] for _ in FrameTable.STORED)
        self._pending: list[bytes] = [MAGIC]
        self._pending_bytes = len(MAGIC)
        self._written = 0
        try:
            self._fd = os.open(
                self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
            )
        except OSError as error:
            raise storage_error(error, path) from error

    @property
    def size(self) -> int:
        """Bytes of the part so far, without its footer."""
        return self._written + self._pending_bytes

    @property
    def frames(self) -> int:
        """How many frames were added."""
        return len(self._columns[0])

    def add(  # noqa: PLR0913 - a frame has as many properties
        self,
        task: Task,
        rows_bytes: bytes,
        failures: bytes,
        *,
        rows: int,
        failed_rows: int,
        columns: Sequence[tuple[str, str]],
        encoding: str,
        items: int,
        unattributed: int = 0,
        files: FrameFiles | None = None,
    ) -> int:
        """Append the result of a task and return its frame's ordinal.

        Args:
            task: whose result it is.
            rows_bytes: rendered rows in `encoding`, without header.
            failures: JSON lines, one per failed row or item.
            rows: how many rows were scored.
            failed_rows: how many rows failed.
            columns: name and type of each column of the rows (none: no rows are rendered).
            encoding: "csv", "jsonl", "arrow", "azure" or "none".
            items: how many distinct items the task covers.
            unattributed: by how many fewer rows than items came back.
            files: what the script wrote into its output folder.

        Raises:
            Unavailable: `storage_full` or `storage_unavailable`; the frame is kept all the same.
        """
        schema = Schema(encoding, tuple((name, kind) for name, kind in columns))
        crc32 = zlib.crc32(failures, zlib.crc32(rows_bytes))
        ordinal = self.frames
        numbers = (
            *task,
            len(rows_bytes),
            len(failures),
            crc32,
            rows,
            failed_rows,
            items,
            unattributed,
            self._schemas.setdefault(schema, len(self._schemas)),
        )
        for column, number in zip(self._columns, numbers, strict=True):
            column.append(number)
        if files is not None and files.files:
            self._files[ordinal] = files
        self._pending += (rows_bytes, failures)
        self._pending_bytes += len(rows_bytes) + len(failures)
        if self._pending_bytes >= _FLUSH_BYTES:
            self._flush()
        return ordinal

    def _flush(self) -> None:
        """Write what is pending; after an error the same bytes are written again at their place."""
        if self._pending_bytes < _JOIN_BYTES_MAX:
            self._pending = [b"".join(self._pending)]
        try:
            os.lseek(self._fd, self._written, os.SEEK_SET)
            for data in self._pending:
                write_fully(self._fd, data)
        except OSError as error:
            raise storage_error(error, self.path, self._pending_bytes) from error
        self._written += self._pending_bytes
        self._pending, self._pending_bytes = [], 0

    def seal(self) -> Path:
        """Make the part durable under its name and return the path; a sealed part never changes.

        Raises:
            ValueError: there are no frames; `discard` such a part.
            Unavailable: `storage_full` or `storage_unavailable`; seal again later, or discard.
        """
        if not self.frames:
            raise ValueError(f"{self.path.name} has no frames: a part without any is not sealed")
        self._flush()
        footer = documents.encode(
            {
                **self._identity,
                "schemas": [schema._asdict() for schema in self._schemas],
                "files": self._files,
            },
            self._columns,
        )
        digest = hashlib.sha256(footer).digest()
        trailer = _TRAILER.pack(self._written, len(footer), digest, END_MAGIC)
        try:
            # The place of an earlier try that found the disk full.
            os.ftruncate(self._fd, self._written)
            os.lseek(self._fd, self._written, os.SEEK_SET)
            write_fully(self._fd, footer + trailer)
            os.fsync(self._fd)
            self._temporary.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise storage_error(error, self.path, len(footer) + len(trailer)) from error
        self._close()
        return self.path

    def discard(self) -> None:
        """Forget the part and remove its temporary file; harmless after `seal`."""
        self._close()
        self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _table(document: dict[str, object], columns: Sequence[array[int]]) -> FrameTable:
    """Build the frame table of a footer; raises KeyError, TypeError or ValueError."""
    schemas = [
        Schema(each["encoding"], tuple((name, kind) for name, kind in each["columns"]))
        for each in cast("list[dict[str, str]]", document["schemas"])
    ]
    listed = cast("dict[str, tuple[str, list[tuple[str, int]]]]", document["files"])
    files = {
        int(ordinal): FrameFiles(folder, tuple((path, size) for path, size in pairs))
        for ordinal, (folder, pairs) in listed.items()
    }
    return FrameTable(columns, schemas, files)


class PartReader:
    """Reads a sealed part and verifies what it reads; a context manager.

    Attributes:
        frames: everything the footer tells of the frames.
        job, epoch, node: who wrote the part.
        digest: sha256 of the footer, which vouches for every byte of the part (checksums in it).
    """

    def __init__(self, path: Path) -> None:
        """Open a part and check its footer.

        Raises:
            Unavailable: `storage_unavailable`, when it is missing, cut off or damaged.
        """
        self.path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            footer = self._read_footer()
        except OSError as error:
            self.close()
            raise storage_error(error, path) from error
        except BaseException:
            self.close()
            raise
        self.footer = footer

    def _read_footer(self) -> dict[str, object]:
        size = os.fstat(self._fd).st_size
        if size < len(MAGIC) + _TRAILER.size or os.pread(self._fd, len(MAGIC), 0) != MAGIC:
            raise damaged(self.path, "it is not a part, or it is cut off")
        end = size - _TRAILER.size
        trailer = os.pread(self._fd, _TRAILER.size, end)
        offset, length, self.digest, magic = _TRAILER.unpack(trailer)
        if magic != END_MAGIC or offset + length != end:
            raise damaged(self.path, "its end is cut off")
        footer = os.pread(self._fd, length, offset)
        if hashlib.sha256(footer).digest() != self.digest:
            raise damaged(self.path, "the checksum of its footer differs")
        try:
            document, columns = documents.decode(footer)
            self.job = str(document["job"])
            self.epoch = cast("int", document["epoch"])
            self.node = str(document["node"])
            self.frames = _table(document, columns)
        except (documents.Corrupt, KeyError, TypeError, ValueError) as error:
            raise damaged(self.path, f"its footer cannot be read ({error})") from error
        if document["version"] != VERSION:
            raise Unavailable(
                f"{self.path} is a part of version {document['version']}, but only version "
                f"{VERSION} can be read here; use the release that wrote it",
                code="storage_unavailable",
            )
        if self.frames.end != offset:
            raise damaged(self.path, "its frames do not fill it")
        return document

    def read(self, ordinal: int) -> tuple[bytes, bytes]:
        """Return (rendered rows, failure lines) of a frame.

        Raises:
            Unavailable: `storage_unavailable`, when its checksum differs.
        """
        split = self.frames.length[ordinal]
        data = self.read_run(ordinal, ordinal + 1)
        return data[:split], data[split:]

    def read_run(self, first: int, stop: int) -> bytes:
        """Return the bytes of frames `first` to `stop` (exclusive), each one verified.

        Raises:
            Unavailable: `storage_unavailable`, when a checksum differs.
        """
        table = self.frames
        begin = table.offset[first]
        end = table.offset[stop] if stop < len(table) else table.end
        data = self._read_at(begin, end - begin)
        view = memoryview(data)
        position = 0
        for ordinal in range(first, stop):
            size = table.length[ordinal] + table.failures_length[ordinal]
            if zlib.crc32(view[position : position + size]) != table.crc32[ordinal]:
                raise damaged(self.path, f"the checksum of frame {ordinal} differs")
            position += size
        return data

    def _read_at(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size:  # Linux returns at most 2 GiB at once
                more = os.pread(self._fd, size - len(data), offset + len(data))
                if not more:
                    raise damaged(self.path, "it is cut off")
                data += more
        except OSError as error:
            raise storage_error(error, self.path) from error
        return data

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()
