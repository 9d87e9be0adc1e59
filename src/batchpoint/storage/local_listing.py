"""Listing a local file or folder: every entry with its state, in byte order of the paths."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from batchpoint.domain.errors import Invalid
from batchpoint.storage.locate import etag_of

LEFT_OUT = frozenset({".amlignore", ".DS_Store"})
"""Names of files that are never items, wherever they lie."""


class LocalEntry(NamedTuple):
    """What was found: `below` is its path below the root ("" for the root itself).

    `is_item`: it can be read as a file, or is a link that leads nowhere (and has no size).
    """

    path: str
    below: str
    size: int
    etag: str
    is_item: bool


def local_entries(root: Path) -> Iterator[LocalEntry]:
    """Yield everything at or below `root`; symbolic links are followed, but never in a circle.

    Raises:
        Invalid: there is nothing (`input_not_found`), or it cannot be listed (`input_unreadable`,
            `input_changed`); the message names the path.
    """
    try:
        state = root.stat()
        top = os.fsencode(root)
        names = _walk(top, b"", ()) if stat.S_ISDIR(state.st_mode) else iter([(b"", state)])
        for name, found in names:
            is_file = stat.S_ISREG(found.st_mode)
            yield LocalEntry(
                path=os.fsdecode(os.path.join(top, name) if name else top),
                below=os.fsdecode(name),
                size=found.st_size if is_file else 0,
                etag=etag_of(found),
                is_item=is_file or stat.S_ISLNK(found.st_mode),
            )
    except OSError as error:
        raise _unlisted(error, root) from error


def _unlisted(error: OSError, root: Path) -> Invalid:
    path = os.fsdecode(error.filename or b"")
    if not isinstance(error, FileNotFoundError):
        return Invalid(f"cannot list {path}: {error.strerror}", code="input_unreadable")
    if path == str(root):
        return Invalid(
            f"{path} does not exist; give a file or folder that this machine can read",
            code="input_not_found",
        )
    if os.path.islink(path):
        return Invalid(
            f"{path} is a link to something that does not exist; remove it or put it right",
            code="input_unreadable",
        )
    return Invalid(
        f"{path} went away while the input was being listed; invoke again when it is complete",
        code="input_changed",
    )


_LEFT_OUT_NAMES = frozenset(os.fsencode(name) for name in LEFT_OUT)


def _walk(
    root: bytes, below: bytes, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield (path below root, stat) of every entry, in byte order of the whole path.

    The stat is that of the link itself where a link leads nowhere.
    """
    folder = os.path.join(root, below) if below else root
    entries: list[bytes] = []
    try:
        state = os.stat(folder)
        identity = (state.st_dev, state.st_ino)
        if identity in above:
            return
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name not in _LEFT_OUT_NAMES:
                    # A folder sorts as its name with the separator, so that paths are in order.
                    entries.append(entry.name + b"/" if _is_folder(entry) else entry.name)  # noqa: PERF401
    except FileNotFoundError:
        if not below:
            raise
        return  # deleted since its parent was read
    entries.sort()
    for name in entries:
        if name.endswith(b"/"):
            yield from _walk(root, below + name, (*above, identity))
            continue
        state = _stat(os.path.join(folder, name))
        if state is not None:
            yield below + name, state


def _stat(path: bytes) -> os.stat_result | None:
    """Look where an entry leads, else at the entry itself; None: it has just been deleted."""
    with contextlib.suppress(OSError):
        return os.stat(path)
    with contextlib.suppress(FileNotFoundError):
        return os.lstat(path)
    return None


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
