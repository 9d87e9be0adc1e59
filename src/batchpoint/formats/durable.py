"""Files that are complete or absent, also after a power cut.

A file is written under a temporary name, flushed to the disk, renamed, and its folder is flushed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from batchpoint.domain.errors import BatchpointError, Unavailable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
TEMPORARY_SUFFIX = ".tmp"


def storage_error(error: OSError, path: Path, bytes_needed: int = 0) -> BatchpointError:
    """Tell people what a failed read or write of `path` means.

    Args:
        error: what the operating system said.
        path: the file or folder that was being read or written.
        bytes_needed: about how much room the writer still wants (0: not known).

    Returns:
        `Unavailable` with code `storage_full` or `storage_unavailable`; raise it from `error`.
    """
    if error.errno in FULL:
        need = f" (about {bytes_needed:,} bytes are needed)" if bytes_needed else ""
        return Unavailable(
            f"there is no room left to write {path}{need}; free some space there and the job "
            "goes on from where it was",
            code="storage_full",
        )
    return Unavailable(
        f"{path} cannot be read or written ({error.strerror or error}); check that it exists, "
        "is reachable and allows access",
        code="storage_unavailable",
    )


def damaged(path: Path, what: str) -> Unavailable:
    """Build the error for a file whose bytes are not what was once written."""
    return Unavailable(
        f"{path} is damaged: {what}; restore it from a backup or run the job again",
        code="storage_unavailable",
    )


def temporary_of(path: Path) -> Path:
    """The name under which `path` is written before it is complete."""
    return path.with_name(path.name + TEMPORARY_SUFFIX)


def write_fully(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` to a file descriptor; raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a whole file atomically: afterwards it is complete under `path`, or unchanged.

    Raises:
        Unavailable: `storage_full` or `storage_unavailable`, naming the file.
    """
    temporary = temporary_of(path)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            for chunk in chunks:
                write_fully(fd, chunk)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, path) from error


def read_whole(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        Unavailable: `storage_unavailable`, naming the file.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise storage_error(error, path) from error
