"""Results in an object store: listed by receipt or by the store, read by ranges, never whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice

from batchpoint.domain.errors import Invalid, NotFound
from batchpoint.domain.job import Job
from batchpoint.domain.results import StoredFile
from batchpoint.formats import receipt as receipts
from batchpoint.formats.layout import CLAIM, RECEIPT
from batchpoint.storage.store import Found, Location, Store

_GONE = ("input_unreadable", "input_changed")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of an output in an object store, as it was found."""

    name: str
    found: Found
    store: Store
    missing: NotFound

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to `stop`; they have begun to arrive when this returns.

        Raises: NotFound (`output_not_found`) when it is gone or was replaced; Unavailable.
        """
        stop = self.found.size if stop is None else min(stop, self.found.size)
        if start >= stop:
            return iter(())
        path, etag = self.found.path, self.found.etag
        stream = self.store.stream(path, start=start, stop=stop, etag=etag)
        try:
            first = next(stream, b"")
        except Invalid as error:
            if error.code in _GONE:
                raise self.missing from error
            raise
        return chain((first,), stream)

    def open(self) -> io.BufferedReader:
        """Return a file that reads from the store as it is read, forwards only."""
        return io.BufferedReader(_Chunks(self.chunks()))


class _Chunks(io.RawIOBase):
    """Makes a file of an iterator of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


class RemoteResults:
    """The output of a completed job in an object store."""

    def __init__(self, job: Job, uri: str, location: Location) -> None:
        """Read the receipt, which tells what belongs to the output.

        Raises: NotFound (`output_not_found`) when it is gone; Unavailable; Invalid
        (`storage_denied`).
        """
        self._job = job
        self._store = location.store
        self._prefix = f"{location.path}/" if location.path else ""
        self._missing = NotFound(
            f"the output of job {job.name!r} is no longer at {uri}; it was moved or deleted",
            code="output_not_found",
        )
        mark = self._find(RECEIPT, self._missing)
        try:
            receipt = receipts.decode(b"".join(mark.chunks()))
        except ValueError as error:
            raise self._missing from error
        if receipt.job != job.name:
            raise self._missing
        self._sizes = {file.path: file.size for file in receipt.files}
        self._sizes[RECEIPT] = mark.found.size

    def files(self, limit: int, after: str | None) -> list[StoredFile]:
        """List files in the order of their paths, beginning after one."""
        ended = self._job.status.ended_at or self._job.created_at
        names = sorted(name for name in self._sizes if after is None or name > after)
        return [
            StoredFile(path=name, size=self._sizes[name], modified_at=ended)
            for name in names[:limit]
        ]

    def file(self, path: str) -> RemoteFile:
        """Find one file of the output. Raises: NotFound (`output_not_found`); Unavailable."""
        missing = NotFound(
            f"the output of job {self._job.name!r} has no file {path!r}", code="output_not_found"
        )
        if path not in self._sizes:
            raise missing
        return self._find(path, missing)

    def _find(self, path: str, missing: NotFound) -> RemoteFile:
        found = self._store.find(self._prefix + path)
        if found is None:
            raise missing
        return RemoteFile(_last(path), found, self._store, missing)


class RemoteFiles:
    """A named output in an object store: one file, or all that lies in a folder."""

    def __init__(
        self, location: Location, when: datetime, missing: NotFound, *, is_file: bool | None
    ) -> None:
        """Look at `location` later.

        Args:
            location: the file or the folder.
            when: the time at which all of it was written.
            missing: raised when nothing is there.
            is_file: whether it is a file or a folder; None: found by looking.
        """
        self._store, self._path = location
        self._when = when
        self._missing = missing
        self._is_file = is_file

    def files(self, limit: int, after: str | None) -> list[StoredFile]:
        """List files in the order of their paths, beginning after one.

        Raises: NotFound (`output_not_found`) when nothing is there; Unavailable; Invalid
        (`storage_denied`).
        """
        found = self._file()
        entries = iter(((_last(found.path), found),)) if found is not None else self._below()
        first = next(entries, None)
        if first is None:
            raise self._missing
        wanted = (each for each in chain((first,), entries) if after is None or each[0] > after)
        return [
            StoredFile(path=name, size=each.size, modified_at=self._when)
            for name, each in islice(wanted, limit)
        ]

    def file(self, path: str, otherwise: str) -> RemoteFile:
        """Find one file; `otherwise` begins to say what is missing. Raises: as `files`."""
        missing = NotFound(f"{otherwise} {path!r}", code="output_not_found")
        found = self._file()
        if found is not None:
            if path != _last(found.path):
                raise missing
        elif path and "\0" not in path and path not in (CLAIM, RECEIPT):
            found = self._store.find(self._prefix + path)
        if found is None:
            raise missing
        return RemoteFile(_last(path), found, self._store, missing)

    @property
    def _prefix(self) -> str:
        return f"{self._path}/" if self._path else ""

    def _file(self) -> Found | None:
        """Return the output if it is one file; None: it is a folder."""
        if self._is_file is False or not self._path:
            return None
        found = self._store.find(self._path)
        if found is None and self._is_file:
            raise self._missing
        return found

    def _below(self) -> Iterator[tuple[str, Found]]:
        for some in self._store.list(self._prefix):
            for each in some:
                name = each.path[len(self._prefix) :]
                if name not in (CLAIM, RECEIPT):  # ours, beside what the step wrote
                    yield name, each


def _last(path: str) -> str:
    return path.rpartition("/")[2]
