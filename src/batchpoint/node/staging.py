"""Turns tasks into what a worker is told: local paths, and slice files for scripts."""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from batchpoint.core.messages import Assignment
from batchpoint.domain.errors import Invalid
from batchpoint.domain.minibatch import MiniBatch, Slice
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.manifest import Segment, read_segment
from batchpoint.storage.locate import etag_of

_SEGMENTS_CACHED = 8
_COPY_BYTES = 1 << 20
_HEADERLESS = {".jsonl", ".ndjson"}


@dataclass(slots=True)
class Ticket:
    """A task on its way through a worker; `id` is never used twice by one agent.

    `staged`: a folder with files made for this task, deleted after it. `harvest`: where the worker
    puts files that the script wrote.
    """

    id: int
    mini_batch: MiniBatch
    assignment: Assignment
    slices: list[Slice]
    harvest: str = ""
    staged: Path | None = None
    paths: list[str] = field(default_factory=list[str])

    @property
    def items(self) -> tuple[int, ...]:
        """Ordinals of the distinct items the task covers."""
        return tuple(dict.fromkeys(one.item for one in self.slices))

    def order(self) -> dict[str, Any]:
        """Return the task as the worker is told; `paths` must be there."""
        task = self.assignment.task
        narrowed = task.row_start > 0 or task.row_stop >= 0
        return {
            "id": self.id,
            "items": [
                self._place(one, path) if one.unit else _whole(one, path)
                for one, path in zip(self.slices, self.paths, strict=True)
            ],
            "rows": [task.row_start, task.row_stop] if narrowed else None,
            "harvest": self.harvest,
        }

    def _place(self, one: Slice, path: str) -> dict[str, Any]:
        if self.staged:
            return _whole(one, path)
        return {
            **_whole(one, path),
            "unit": one.unit,
            "start": one.start,
            "stop": one.stop,
            "row": one.row,
            "size": one.size,
        }

    def forget_staged(self) -> None:
        """Delete the files that were made for this task."""
        if self.staged is not None:
            shutil.rmtree(self.staged, ignore_errors=True)
            self.staged = None


def _whole(one: Slice, path: str) -> dict[str, Any]:
    return {"path": path, "name": one.name, "item": one.item}


class Staging:
    """Looks up the slices of tasks and makes slice files for scripts."""

    def __init__(self, folder: JobFolder, scratch: Path, *, script: bool) -> None:
        """Read segments below `folder`; slice files go below `scratch`."""
        self._folder = folder
        self._scratch = scratch
        self._script = script
        self._segments: OrderedDict[int, Segment] = OrderedDict()

    def slices(self, mini_batch: MiniBatch, assignment: Assignment) -> list[Slice]:
        """Return the slices a task covers.

        Raises:
            Unavailable: the manifest cannot be read.
        """
        segment = self._segments.get(mini_batch.segment)
        if segment is None:
            segment = read_segment(self._folder.segment(mini_batch.segment))
            self._segments[mini_batch.segment] = segment
            if len(self._segments) > _SEGMENTS_CACHED:
                self._segments.popitem(last=False)
        task = assignment.task
        if not 0 <= task.start < task.stop <= mini_batch.stop - mini_batch.start:
            raise IndexError(f"{task} is not within {mini_batch}")
        return segment.slices(mini_batch.start + task.start, mini_batch.start + task.stop)

    def at_hand(self, ticket: Ticket) -> bool:
        """Fill in the paths of a task that needs no files made; False: it does."""
        if self._script and any(one.unit for one in ticket.slices):
            return False
        ticket.paths = [
            uri if (uri := one.uri).startswith("/") else local_path(uri) for one in ticket.slices
        ]
        return True

    def check_unchanged(self, ticket: Ticket) -> None:
        """Refuse what was scored from files that are no longer those that were listed.

        Slices of such a file would be cut in the wrong places. A file that is gone was read before.

        Raises:
            Invalid: a file was written to since (code input_changed).
        """
        for one in ticket.slices:
            try:
                changed = etag_of(os.stat(local_path(one.uri))) != one.etag  # noqa: PTH116 - fast
            except OSError:
                continue
            if changed:
                raise Invalid(
                    f"{one.name} was written to after the job had listed it; invoke again when the "
                    "input is complete",
                    code="input_changed",
                )

    def make(self, ticket: Ticket) -> None:
        """Make the slice files of a task (in a thread).

        Raises:
            Invalid: an input cannot be read (code input_unreadable).
            OSError: there is no room for the files.
        """
        ticket.staged = self._scratch / f"task-{ticket.id}"
        ticket.staged.mkdir(parents=True, exist_ok=True)
        ticket.paths = [
            _slice_file(one, ticket.staged) if one.unit else local_path(one.uri)
            for one in ticket.slices
        ]


def local_path(uri: str) -> str:
    """Return the absolute path of a `file:` URI or of a path.

    Raises:
        Invalid: the URI is of another kind (code input_unreadable).
    """
    if uri.startswith("/"):
        return uri
    if not uri.startswith("file:"):
        raise Invalid(
            f"{uri} is not on this machine: inputs are local paths or file: URIs",
            code="input_unreadable",
        )
    if "%" not in uri and uri.startswith("file:///"):
        return uri[len("file://") :]
    return unquote(urlsplit(uri.replace("#", "%23").replace("?", "%3F")).path)


def _header_of(source: Path, whole: BinaryIO) -> bytes:
    """Read the header record of a CSV file: up to the first line end outside quotes."""
    if source.suffix.lower() in _HEADERLESS:
        return b""
    header = whole.readline()
    while header.count(b'"') % 2 and (line := whole.readline()):
        header += line
    return header


def _slice_file(one: Slice, folder: Path) -> str:
    """Write a slice with the header of its file, under the file's name and the slice's place."""
    if one.unit != "bytes":
        raise Invalid(
            f"{one.name}: a slice of {one.unit} cannot be given to a script as a file; set "
            "split_files: false",
            code="input_unreadable",
        )
    source = Path(local_path(one.uri))
    target = folder / f"{source.stem}-{one.start:012d}{source.suffix}"
    try:
        with source.open("rb") as whole:
            header = _header_of(source, whole) if one.start else b""
            with target.open("wb") as part:
                part.write(header)
                whole.seek(one.start)
                left = one.stop - one.start
                while left and (chunk := whole.read(min(left, _COPY_BYTES))):
                    part.write(chunk)
                    left -= len(chunk)
    except FileNotFoundError as error:
        raise Invalid(f"{source} is gone", code="input_unreadable") from error
    if left:
        raise Invalid(f"{source} has become shorter during the job", code="input_unreadable")
    return str(target)
