"""Files that scripts wrote into their output folder: made durable before a part names them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from batchpoint.formats.durable import storage_error, sync_folder

_PROBE_BYTES = 256 * 1024


def settle(folders: Iterable[Path]) -> None:
    """Flush folders and all that is in them to the disk.

    Raises:
        Unavailable: `storage_full` or `storage_unavailable`.
    """
    parents: set[Path] = set()
    for folder in folders:
        try:
            _sync_tree(folder)
        except OSError as error:
            raise storage_error(error, folder) from error
        parents.add(folder.parent)
    for parent in parents:
        try:
            sync_folder(parent)
        except OSError as error:
            raise storage_error(error, parent) from error


def _sync_tree(top: Path) -> None:
    for folder, _, names in os.walk(top):
        for name in names:
            fd = os.open(Path(folder) / name, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_folder(Path(folder))


def publish_init(written: Path, place: Path) -> None:
    """Copy what `init()` wrote to `place`, complete or not at all; it is kept for later jobs.

    Raises:
        Unavailable: `storage_full` or `storage_unavailable`.
    """
    half = place.with_name(place.name + ".half")
    try:
        if place.exists() or not written.exists():
            return
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(written, half)
        _sync_tree(half)
        half.rename(place)
        sync_folder(place.parent)
    except OSError as error:
        shutil.rmtree(half, ignore_errors=True)
        raise storage_error(_plain(error), place) from error


def _plain(error: OSError) -> OSError:
    """Return the first error of a copy: `shutil.Error` has a list of (from, to, text)."""
    if isinstance(error, shutil.Error) and "Errno 28]" in str(error):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return error


def probe(path: Path) -> None:
    """See whether the disk takes bytes: write some, flush and remove them.

    Raises:
        Unavailable: `storage_full` or `storage_unavailable`.
    """
    try:
        with path.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path.parent) from error
    finally:
        path.unlink(missing_ok=True)
