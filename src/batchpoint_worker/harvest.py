"""Files that user code wrote into the output folder, moved to the task they belong to."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from typing import List, Tuple

Harvested = List[Tuple[str, int]]
"""(path below the harvest folder with "/", size in bytes), sorted by path."""


def is_empty(folder: str) -> bool:
    """Tell whether a folder holds nothing; a missing one is empty, anything else is not."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None and not os.path.islink(folder)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def made_real(folder: str) -> bool:
    """Make the output folder again when user code removed it or put something in its place.

    A link there is unlinked and never followed: what it points at is not ours to move or delete.

    Returns:
        Whether it was a folder all along.
    """
    try:
        if stat.S_ISDIR(os.lstat(folder).st_mode):
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                os.chmod(folder, 0o700)
            return True
        os.unlink(folder)
    except FileNotFoundError:
        pass
    os.makedirs(folder, exist_ok=True)
    return False


def take(folder: str, destination: str) -> Tuple[Harvested, List[str]]:
    """Move everything in `folder` to `destination` and list it.

    The destination is made anew. Nothing happens when the folder is empty, which costs one look.

    Returns:
        The files, and warnings about what is no regular file or is still being written.
    """
    if not made_real(folder):
        return [], ["the output folder was removed or replaced by user code; it was made again"]
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    if not names:
        return [], []
    warnings = _still_open(folder)
    shutil.rmtree(destination, ignore_errors=True)
    os.makedirs(destination)
    for name in names:
        _move(os.path.join(folder, name), os.path.join(destination, name))
    return _listed(destination, warnings), warnings


def discard(folder: str) -> None:
    """Delete everything in a folder: what a failed attempt, or a dead worker, left there."""
    if not made_real(folder):
        return
    with os.scandir(folder) as entries:
        found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for path, is_folder in found:
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _move(source: str, destination: str) -> None:
    try:
        os.rename(source, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(source, destination)


def _listed(folder: str, warnings: List[str]) -> Harvested:
    files: Harvested = []
    for parent, folders, names in os.walk(folder):
        for name in (*names, *folders):
            path = os.path.join(parent, name)
            below = os.path.relpath(path, folder).replace(os.sep, "/")
            facts = os.lstat(path)
            if stat.S_ISREG(facts.st_mode):
                files.append((below, facts.st_size))
            elif not stat.S_ISDIR(facts.st_mode):
                os.unlink(path)
                warnings.append("%s is no regular file and was left out" % below)
    return sorted(files)


def _still_open(folder: str) -> List[str]:
    """Name the files below `folder` that this process holds open (Linux only)."""
    warnings: List[str] = []
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return warnings
    prefix = os.path.join(os.path.realpath(folder), "")
    for descriptor in descriptors:
        try:
            path = os.readlink("/proc/self/fd/" + descriptor)
        except OSError:
            continue
        if path.startswith(prefix):
            warnings.append(
                "%s was still open when user code returned; close files there, or lines are lost"
                % path[len(prefix) :]
            )
    return warnings
