"""Private copies of files and folders: what is written to a copy never reaches the original."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from pathlib import Path

_FICLONE = 0x40049409
_CLONED_BYTES_MIN = 1 << 20
_NO_CLONES = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM}
)


def copy_file(source: Path | str, target: Path | str) -> None:
    """Copy a file, sharing its blocks until one is written to where the file system can.

    The copy can be written to, and run if the original can. Raises: OSError.
    """
    with open(source, "rb") as given, open(target, "xb") as made:
        state = os.fstat(given.fileno())
        if not _cloned(given.fileno(), made.fileno(), state.st_size):
            shutil.copyfileobj(given, made, 1 << 20)
        if state.st_mode & 0o111:
            os.fchmod(made.fileno(), stat.S_IMODE(os.fstat(made.fileno()).st_mode) | 0o111)


def _cloned(source: int, target: int, size: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        if size >= _CLONED_BYTES_MIN:
            import fcntl  # noqa: PLC0415 - not everywhere

            fcntl.ioctl(target, _FICLONE, source)
            return True
    except OSError as error:
        if error.errno not in _NO_CLONES:
            raise
    left = size
    try:
        while left > 0:
            count = os.copy_file_range(source, target, left)
            if count == 0:
                return True
            left -= count
    except OSError as error:
        if error.errno not in _NO_CLONES or left != size:
            raise
        return False
    return size > 0  # files of /proc have no size, and content


def copy_tree(source: Path, target: Path) -> None:
    """Copy all that lies below a folder into the new folder `target`, empty folders included.

    Links are followed, but never in a circle; one that leads nowhere is left out, and so is what is
    neither a file nor a folder. Raises: OSError.
    """
    _copy(os.fspath(source), os.fspath(target), ())


def _copy(source: str, target: str, above: tuple[tuple[int, int], ...]) -> None:
    state = os.stat(source)
    identity = (state.st_dev, state.st_ino)
    if identity in above:
        return
    os.mkdir(target)
    with os.scandir(source) as entries:
        for entry in entries:
            copy = f"{target}/{entry.name}"
            if entry.is_dir():
                _copy(entry.path, copy, (*above, identity))
            elif entry.is_file():
                copy_file(entry.path, copy)
