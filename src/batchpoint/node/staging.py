"""Turns tasks over local files into what a worker is told: paths, and slice files for scripts."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from batchpoint.core.messages import Assignment
from batchpoint.domain.errors import Invalid
from batchpoint.domain.minibatch import MiniBatch, Slice
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.manifest import Segment, read_segment
from batchpoint.node.ticket import Part, Ticket
from batchpoint.storage.locate import etag_of, is_local, path_of

_SEGMENTS_CACHED = 8
_COPY_BYTES = 1 << 20
# What every file system takes; longer names are replaced.
_NAME_BYTES_MAX = 255
_PATH_BYTES_MAX = 1_024
_FOLDERS_MAX = 32
_SUFFIX_CHARS_MAX = 16
# `-` and where a slice begins, up to 1 PB: the names of slices are so much longer.
_OFFSET_CHARS = 16
_HEADERLESS = {".jsonl", ".ndjson"}


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
            uri if (uri := one.uri).startswith("/") else _path(uri) for one in ticket.slices
        ]
        for place, one in enumerate(ticket.slices):
            if one.unit:
                ticket.parts[place] = Part(one.unit, one.start, one.stop)
        return True

    def check_unchanged(self, ticket: Ticket) -> None:
        """Refuse what was scored from files that are no longer those that were listed.

        Slices of such a file would be cut in the wrong places. A file that is gone was read before.
        What was fetched from a store was checked when it was read.

        Raises:
            Invalid: a file was written to since (code input_changed).
        """
        for one in ticket.slices:
            if not is_local(one.uri):
                continue
            try:
                changed = etag_of(os.stat(_path(one.uri))) != one.etag  # noqa: PTH116 - fast
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
        for one, name in zip(ticket.slices, staged_names(ticket.slices), strict=True):
            target = ticket.staged / name
            target.parent.mkdir(exist_ok=True)
            ticket.paths.append(str(slice_file(one, target)) if one.unit else _path(one.uri))


def _path(uri: str) -> str:
    """Return the local path that a slice's URI names; the listing gives paths as they are."""
    return uri if uri.startswith("/") else str(path_of(uri))


def _header_of(source: Path, whole: BinaryIO) -> bytes:
    """Read the header record of a CSV file: up to the first line end outside quotes."""
    if source.suffix.lower() in _HEADERLESS:
        return b""
    header = whole.readline()
    while header.count(b'"') % 2 and (line := whole.readline()):
        header += line
    return header


def staged_names(slices: Sequence[Slice], *, folders: bool = False) -> list[str]:
    """Name files for the slices of a task, each different from all others and safe to make.

    A file is called as its item, a slice of one also says where in it it begins. `folders`: with
    the folders of the item's path, where those can be made. What would be called as another one
    gets a folder of its own.
    """
    names: list[str] = []
    files: set[str] = set()
    above: set[str] = set()

    def is_free(name: str) -> bool:
        """Tell whether no file is called so, and none is where a folder is needed or the reverse.

        Some file systems do not tell upper from lower case.
        """
        alike = name.casefold()
        return alike not in files and alike not in above and files.isdisjoint(_above(alike))

    for place, one in enumerate(slices):
        name = one.name if folders and _can_be_made(one.name) else one.name.rpartition("/")[2]
        most = _NAME_BYTES_MAX - (_OFFSET_CHARS if one.unit == "bytes" else 0)
        if len(os.fsencode(name.rpartition("/")[2])) > most or name in ("", ".", ".."):
            name = f"item-{one.item}{PurePosixPath(name).suffix[:_SUFFIX_CHARS_MAX]}"
        if one.unit == "bytes":
            path = PurePosixPath(name)
            name = str(path.with_name(f"{path.stem}-{one.start:012d}{path.suffix}"))
        folder = f"_{place}"
        while not is_free(name):
            name = f"{folder}/{PurePosixPath(name).name}"
            folder += "_"
        files.add(name.casefold())
        above.update(_above(name.casefold()))
        names.append(name)
    return names


def root_name(one: Slice) -> str:
    """Return what the folder is called below which an item is named; "input" where it has none.

    Scripts that look at the folder of a file see the same name wherever the file lies.
    """
    if one.uri.endswith(f"/{one.name}"):
        name = one.uri[: -len(one.name)].rstrip("/").rpartition("/")[2]
        if _can_be_made(name):
            return name
    return "input"


def _above(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _can_be_made(name: str) -> bool:
    parts = name.split("/")
    return (
        len(os.fsencode(name)) <= _PATH_BYTES_MAX
        and len(parts) <= _FOLDERS_MAX
        and all(p not in ("", ".", "..") and len(os.fsencode(p)) <= _NAME_BYTES_MAX for p in parts)
        and "\0" not in name
    )


def slice_file(one: Slice, target: Path) -> Path:
    """Write a slice of a local file, with the file's header, as `target`.

    Raises:
        Invalid: the file cannot be read (`input_unreadable`).
        OSError: there is no room.
    """
    if one.unit != "bytes":
        raise Invalid(
            f"{one.name}: a slice of {one.unit} cannot be given to a script as a file; set "
            "split_files: false",
            code="input_unreadable",
        )
    source = path_of(one.uri)
    try:
        whole = source.open("rb")
    except FileNotFoundError as error:
        raise Invalid(f"{source} is gone", code="input_unreadable") from error
    except OSError as error:  # waiting for room would not help
        why = error.strerror or error
        raise Invalid(f"{source} cannot be read: {why}", code="input_unreadable") from error
    with whole:
        header = _header_of(source, whole) if one.start else b""
        with target.open("wb") as part:
            part.write(header)
            whole.seek(one.start)
            left = one.stop - one.start
            while left and (chunk := whole.read(min(left, _COPY_BYTES))):
                part.write(chunk)
                left -= len(chunk)
    if left:
        raise Invalid(f"{source} has become shorter during the job", code="input_unreadable")
    return target
