"""Footers of Parquet objects: enough to cut them, and to read some row groups of them."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.domain.minibatch import Slice
from batchpoint.formats.durable import write_durably
from batchpoint.node.worker_index import RowGroup, row_groups
from batchpoint.storage.locate import shown_of
from batchpoint.storage.store import Location

_MAGIC = b"PAR1"
_TRAILER_BYTES = 8
_FIRST_GUESS_BYTES = 64 * 1024
_CACHED_MAX = 8


class Footer(NamedTuple):
    """The bytes of a Parquet object from `start` to its end, and its row groups (may be none)."""

    start: int
    body: bytes
    groups: tuple[RowGroup, ...]


class ParquetFooters:
    """Reads each footer once for all nodes of a job: what was found is kept in a folder of the job.

    Safe to share by threads; blocking.
    """

    def __init__(self, python: str, folder: Path, scratch: Path) -> None:
        """Keep footers in `folder`; temporary files go to `scratch`. Both are made when needed."""
        self._python = python
        self._folder = folder
        self._scratch = scratch
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Footer] = OrderedDict()

    def of(self, whole: Slice, location: Location) -> Footer:
        """Return the footer of an item.

        Raises:
            Invalid: it is gone or was changed (`input_unreadable`, `input_changed`).
            Unavailable: the store does not answer.
            OSError: there is no room.
        """
        key = (whole.uri, whole.etag)
        with self._lock:  # whoever wants the same one waits, whoever wants another one too
            if key not in self._known:
                footer = self._stored(whole) or self._fetched(whole, location)
                self._known[key] = footer
                if len(self._known) > _CACHED_MAX:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key]

    def _fetched(self, whole: Slice, location: Location) -> Footer:
        start = max(0, whole.size - _FIRST_GUESS_BYTES)
        body = _read(whole, location, start)
        length = _footer_bytes(whole, body)
        if length > len(body):
            start = whole.size - length
            body = _read(whole, location, start)
        else:
            start, body = whole.size - length, body[-length:]
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._scratch, suffix=".parquet") as sparse:
            write_sparse(Path(sparse.name), whole.size, [(start, body)])
            groups = row_groups(self._python, Path(sparse.name))
        footer = Footer(start, body, tuple(groups))
        self._folder.mkdir(parents=True, exist_ok=True)
        head = {"uri": whole.uri, "etag": whole.etag, "start": start, "groups": groups}
        write_durably(self._path(whole), [json.dumps(head).encode() + b"\n", body])
        return footer

    def _stored(self, whole: Slice) -> Footer | None:
        try:
            line, _, body = self._path(whole).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        head = json.loads(line)
        if (head["uri"], head["etag"]) != (whole.uri, whole.etag):
            return None
        return Footer(head["start"], body, tuple(RowGroup(*group) for group in head["groups"]))

    def _path(self, whole: Slice) -> Path:
        return self._folder / f"{whole.item}.footer"


def _read(whole: Slice, location: Location, start: int) -> bytes:
    """Read an object from `start` to the end that was listed."""
    chunks = location.store.stream(location.path, start=start, stop=whole.size, etag=whole.etag)
    body = b"".join(chunks)
    if len(body) != whole.size - start:
        raise Invalid(
            f"{shown_of(whole.uri)} has {start + len(body)} bytes and had {whole.size} when it was "
            "listed",
            code="input_changed",
        )
    return body


def _footer_bytes(whole: Slice, tail: bytes) -> int:
    """Return how long the footer is, with length and magic at its end."""
    length = int.from_bytes(tail[-_TRAILER_BYTES:-4], "little") + _TRAILER_BYTES
    most = min(whole.size, limits.PARQUET_FOOTER_BYTES_MAX)
    if tail[-4:] != _MAGIC or not _TRAILER_BYTES < length <= most:
        raise Invalid(
            f"{shown_of(whole.uri)} does not end as a Parquet file does; it is damaged, encrypted "
            "or something else",
            code="input_unreadable",
        )
    return length


def write_sparse(path: Path, size: int, pieces: list[tuple[int, bytes]]) -> None:
    """Make a file of `size` bytes of which only some pieces take room. Raises: OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.truncate(fd, size)
        for start, body in pieces:
            left = memoryview(body)
            at = start
            while left:
                written = os.pwrite(fd, left, at)
                left, at = left[written:], at + written
    finally:
        os.close(fd)
