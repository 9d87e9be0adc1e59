"""Results in an object store: listed by their receipt, read by ranges and never as a whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from batchpoint.domain.errors import Invalid, NotFound
from batchpoint.domain.job import Job
from batchpoint.domain.results import StoredFile
from batchpoint.formats import receipt as receipts
from batchpoint.formats.layout import RECEIPT
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
        return RemoteFile(path.rpartition("/")[2], found, self._store, missing)
