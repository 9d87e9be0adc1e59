"""Bringing items, or the parts of them that a task needs, from stores to files on this node."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.domain.minibatch import Slice
from batchpoint.formats.durable import write_fully
from batchpoint.formats.layout import JobFolder
from batchpoint.node.parquet_footers import ParquetFooters, write_sparse
from batchpoint.node.slicing import HEADER_BYTES_MAX
from batchpoint.node.ticket import Part
from batchpoint.node.wire import NodeOrder
from batchpoint.node.worker_index import RowGroup
from batchpoint.storage.locate import shown_of
from batchpoint.storage.store import Found, Location

_HEADER_GUESS_BYTES = 64 * 1024
_HEADERS_CACHED_MAX = 64
_FOLDERS_CACHED_MAX = 1_024
_WEB = ("http://", "https://")
_HEADERLESS = (".jsonl", ".ndjson")
# Readers of row groups may look some bytes further (a workaround for files of old writers).
_BEYOND_GROUP_BYTES = 128
_BUFFER_BYTES = 1 << 20


class Locations(Protocol):
    """Finds the store in which a URI lies."""

    def at(self, uri: str) -> Location:
        """Return the store and the key that a URI names."""
        ...


class RemoteFiles:
    """Reads objects as they were when they were listed; blocking, safe to share by threads.

    Every read is bound to the etag (or size) that was listed.
    """

    def __init__(self, locations: Callable[[], Locations], footers: ParquetFooters) -> None:
        """Find stores by `locations`, which is asked for when the first one is needed."""
        self._find = cache(locations)
        self._footers = footers
        self._folders: dict[str, Location] = {}
        self._headers: dict[tuple[str, str], bytes] = {}

    def bring(self, one: Slice, target: Path) -> Part | None:
        """Write what a slice needs into the new file `target`.

        Returns:
            Which part of the file is the slice, None when it is all of it. A slice of a CSV file
            comes with the header before it; row groups lie where they lie in the whole file, of
            which nothing else takes room.

        Raises:
            Invalid: the object is gone (`input_unreadable`), has changed (`input_changed`) or may
                not be read (`storage_denied`).
            Unavailable: the store does not answer.
            OSError: the file cannot be written.
        """
        location = self._at(one.uri)
        try:
            if one.unit == "bytes":
                return self._range(one, location, target)
            if one.unit == "row_groups":
                return self._row_groups(one, location, target)
            if one.size == 0 and not one.etag:
                _write(target, location.store.stream(location.path))
            else:
                location.store.fetch(Found(location.path, one.size, one.etag), target)
        except BaseException:
            target.unlink(missing_ok=True)  # it may be tried again
            raise
        return None

    def open(self, whole: Slice) -> BinaryIO:
        """Open an object as a stream that is read once; errors as in `bring`."""
        location = self._at(whole.uri)
        chunks = location.store.stream(location.path, etag=whole.etag)
        return io.BufferedReader(_Chunks(chunks), _BUFFER_BYTES)

    def row_groups(self, whole: Slice) -> tuple[RowGroup, ...]:
        """Return the row groups of a Parquet object; errors as in `bring`."""
        return self._footers.of(whole, self._at(whole.uri)).groups

    def _at(self, uri: str) -> Location:
        """Find the store of an object; those of one folder lie in the same one."""
        folder, slash, name = uri.rpartition("/")
        if uri.startswith(_WEB):
            name = unquote(name)
            if "?" in uri or "#" in uri:
                return self._find().at(uri)
        known = self._folders.get(folder)
        if known is not None and name:
            return Location(known.store, f"{known.path}{name}")
        found = self._find().at(uri)
        if slash and name and found.path.endswith(name):
            if len(self._folders) >= _FOLDERS_CACHED_MAX:
                self._folders.clear()
            self._folders[folder] = Location(found.store, found.path[: -len(name)])
        return found

    def _range(self, one: Slice, location: Location, target: Path) -> Part:
        header = b""
        if not one.name.lower().endswith(_HEADERLESS):
            header = self._header(one, location)
        chunks = location.store.stream(location.path, start=one.start, stop=one.stop, etag=one.etag)
        written = _write(target, chunks, header)
        if written != one.stop - one.start:
            shown = shown_of(one.uri)
            raise Invalid(f"{shown} has become shorter during the job", code="input_changed")
        return Part("bytes", len(header), len(header) + written)

    def _header(self, one: Slice, location: Location) -> bytes:
        """Return the first line of a CSV file; it is the whole header of any file that was cut."""
        known = self._headers.get((one.uri, one.etag))
        if known is not None:
            return known
        read = 0
        line = b""
        want = _HEADER_GUESS_BYTES
        while b"\n" not in line and read < HEADER_BYTES_MAX:
            stop = min(read + want, one.size)
            line += b"".join(
                location.store.stream(location.path, start=read, stop=stop, etag=one.etag)
            )
            if stop == one.size:
                break
            read, want = stop, want * 4
        header = line[: line.find(b"\n") + 1]
        if len(self._headers) >= _HEADERS_CACHED_MAX:
            self._headers.clear()
        self._headers[one.uri, one.etag] = header
        return header

    def _row_groups(self, one: Slice, location: Location, target: Path) -> Part:
        footer = self._footers.of(one, location)
        write_sparse(target, one.size, [(footer.start, footer.body)])
        fd = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for start, stop in _joined(footer.groups[one.start : one.stop], footer.start):
                os.lseek(fd, start, os.SEEK_SET)
                for chunk in location.store.stream(
                    location.path, start=start, stop=stop, etag=one.etag
                ):
                    write_fully(fd, chunk)
        finally:
            os.close(fd)
        return Part("row_groups", one.start, one.stop)


def _joined(groups: tuple[RowGroup, ...], end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of bytes in which row groups lie, those that touch as one."""
    ranges = sorted((start, min(stop + _BEYOND_GROUP_BYTES, end)) for _, _, start, stop in groups)
    begun: tuple[int, int] | None = None
    for start, stop in ranges:
        if begun is not None and start <= begun[1]:
            begun = (begun[0], max(begun[1], stop))
        else:
            if begun is not None:
                yield begun
            begun = (start, stop)
    if begun is not None:
        yield begun


def _write(target: Path, chunks: Iterator[bytes], header: bytes = b"") -> int:
    """Write a new file; return how many bytes came after the header."""
    count = 0
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        write_fully(fd, header)
        for chunk in chunks:
            write_fully(fd, chunk)
            count += len(chunk)
    finally:
        os.close(fd)
    return count


def remote_files(order: NodeOrder, scratch: Path) -> RemoteFiles:
    """Read the objects of a job with what its order gives access to."""

    def locations() -> Locations:
        from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415 - slow

        return ObjectLocations(order.access, timeout_seconds=limits.INPUT_ANSWER_SECONDS_MAX)

    folder = JobFolder(order.job_dir).work / "footers"
    return RemoteFiles(locations, ParquetFooters(order.spec.environment.python, folder, scratch))


class _Chunks(io.RawIOBase):
    """Chunks of bytes as a raw stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
