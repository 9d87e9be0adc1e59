"""Listing an input: a stream of items in UTF-8 order of their paths, never held as a whole."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import JobInput
from batchpoint.domain.minibatch import Slice
from batchpoint.storage.locate import etag_of, path_of


def list_items(
    source: JobInput, left_out: Callable[[str], None] = lambda _: None
) -> Iterator[Slice]:
    """Yield every item of an input in listing order, each with size and etag.

    A folder is listed recursively; hidden files are items like any other, except `.amlignore` and
    `.DS_Store`. Symbolic links are followed, but never into a folder that is being listed already.
    A link that leads nowhere is an item of no size, which fails when it is read. What is neither a
    file nor a folder (a pipe, a socket, a device) is not an item; `left_out` gets its path.

    Args:
        source: the file or folder.
        left_out: called with the path below the input of each entry that is not an item.

    Raises:
        Invalid: the input does not exist (`input_not_found`) or cannot be listed
            (`input_unreadable`); the message names the path.
    """
    root = path_of(source.sources[0])
    try:
        state = root.stat()
        if stat.S_ISDIR(state.st_mode):
            names = _walk(os.fsencode(root), b"", ())
        else:
            names = iter([(b"", state)])
        ordinal = -1
        for name, found in names:
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                left_out(os.fsdecode(name))
                continue
            ordinal += 1
            path = os.path.join(os.fsencode(root), name) if name else os.fsencode(root)
            shown = name or os.path.basename(path)
            yield Slice(
                item=ordinal,
                uri=os.fsdecode(path),
                name=os.fsdecode(shown),
                size=found.st_size if stat.S_ISREG(found.st_mode) else 0,
                etag=etag_of(found),
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


_LEFT_OUT = frozenset({b".amlignore", b".DS_Store"})


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
                if entry.name not in _LEFT_OUT:
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
