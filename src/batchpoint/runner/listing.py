"""Listing an input: a stream of items in UTF-8 order of their paths, never held as a whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import JobInput
from batchpoint.domain.minibatch import Slice


def local_path(uri: str) -> Path:
    """Return the local path that a `file://` URI or a plain absolute path names.

    Raises:
        Invalid: the URI names something that is not on this machine (code `uri_invalid`).
    """
    if uri.startswith("/"):
        return Path(uri)
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise Invalid(
            f"{uri!r} cannot be read: expected a local path or a file:// URI", code="uri_invalid"
        )
    return Path(unquote(parts.path))


def list_items(source: JobInput) -> Iterator[Slice]:
    """Yield every item of an input in listing order, each with size and etag.

    A folder is listed recursively; hidden files are items like any other, except `.amlignore` and
    `.DS_Store`. Symbolic links are followed, but never into a folder that is being listed already.

    Raises:
        Invalid: the input does not exist (`input_not_found`) or cannot be listed
            (`input_unreadable`); the message names the path.
    """
    root = local_path(source.uri)
    try:
        state = root.stat()
        if stat.S_ISDIR(state.st_mode):
            names = _walk(os.fsencode(root), b"", ())
        else:
            names = iter([(b"", state)])
        for ordinal, (name, found) in enumerate(names):
            path = os.path.join(os.fsencode(root), name) if name else os.fsencode(root)
            shown = name or os.path.basename(path)
            yield Slice(
                item=ordinal,
                uri=os.fsdecode(path),
                name=os.fsdecode(shown),
                size=found.st_size,
                etag=f"{found.st_mtime_ns:x}-{found.st_size:x}",
            )
    except FileNotFoundError as error:
        raise Invalid(
            f"{error.filename!s} does not exist; give a file or folder that this machine can read",
            code="input_not_found",
        ) from error
    except OSError as error:
        raise Invalid(
            f"cannot list {error.filename!s}: {error.strerror}", code="input_unreadable"
        ) from error


_LEFT_OUT = frozenset({b".amlignore", b".DS_Store"})


def _walk(
    root: bytes, below: bytes, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield (path below root, stat) of every file, in byte order of the whole path."""
    folder = os.path.join(root, below) if below else root
    state = os.stat(folder)
    identity = (state.st_dev, state.st_ino)
    if identity in above:
        return
    entries: list[bytes] = []
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name not in _LEFT_OUT:
                # A folder sorts as its name with the separator, so that whole paths are in order.
                entries.append(entry.name + b"/" if entry.is_dir() else entry.name)  # noqa: PERF401
    entries.sort()
    for name in entries:
        if name.endswith(b"/"):
            yield from _walk(root, below + name, (*above, identity))
            continue
        state = os.stat(os.path.join(folder, name))
        if stat.S_ISREG(state.st_mode):
            yield below + name, state
