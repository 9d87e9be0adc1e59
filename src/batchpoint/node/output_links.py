"""Makes what a command wrote fit to be published: no link leads out of it, all of it is on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batchpoint.domain.errors import JobFailed
from batchpoint.node.tree_copy import copy_file

_SYNCED_AT_ONCE = 8
_SERIAL_MAX = 16


def settle_links(root: Path, output: str) -> None:
    """Have every link below a folder (or the lone one at `root`) mean the same after a move.

    A link to something in the folder becomes a relative one; one to a file elsewhere becomes a copy
    of that file.

    Raises:
        JobFailed: a link leads nowhere, or to a folder elsewhere (`output_missing`).
        OSError: the disk.
    """
    if root.is_symlink():
        if not root.is_file():
            raise _refused(root.name, root, output)
        _replace_by_copy(str(root))
        return
    top = os.path.realpath(root)
    for link in _links_below(top):
        leads_to = os.path.realpath(link)
        inside = leads_to.startswith(f"{top}/")
        if not os.path.exists(leads_to) or (not inside and not os.path.isfile(leads_to)):
            raise _refused(os.path.relpath(link, top), Path(link), output)
        if not inside:
            _replace_by_copy(link)
        elif not _stays_below(link, top):
            _replace_by_link(link, os.path.relpath(leads_to, os.path.dirname(link)))


def _links_below(top: str) -> Iterator[str]:
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = f"{folder}/{name}"
            if os.path.islink(path):
                yield path


def _stays_below(link: str, top: str) -> bool:
    """Whether a link says a way that does not even pass through a folder above."""
    says = os.readlink(link)
    if os.path.isabs(says):
        return False
    depth = os.path.relpath(link, top).count("/")
    for step in says.split("/"):
        depth += -1 if step == ".." else step not in ("", ".")
        if depth < 0:
            return False
    return True


def _replace_by_copy(link: str) -> None:
    copy = f"{link}.batchpoint-copy"
    copy_file(os.path.realpath(link), copy)
    os.replace(copy, link)


def _replace_by_link(link: str, says: str) -> None:
    new = f"{link}.batchpoint-link"
    os.symlink(says, new)
    os.replace(new, link)


def _refused(name: str, link: Path, output: str) -> JobFailed:
    return JobFailed(
        f"output {output} cannot be published: the link {name} in it leads to {link.readlink()}, "
        "which is not part of the output; copy what it points at, or remove the link",
        code="output_missing",
    )


def sync_tree(root: Path) -> int:
    """Flush a file, or all files and folders below a folder, to the disk; returns their bytes.

    Raises: OSError.
    """
    if not root.is_dir():
        return _synced(str(root))
    paths = _regular_below(str(root))
    first = [path for path, _ in zip(paths, range(_SERIAL_MAX), strict=False)]
    size = sum(map(_synced, first))
    if len(first) == _SERIAL_MAX:
        with ThreadPoolExecutor(_SYNCED_AT_ONCE, thread_name_prefix="sync") as threads:
            size += sum(threads.map(_synced, paths))
    return size


def _regular_below(top: str) -> Iterator[str]:
    """Yield files, and each folder after what is in it."""
    for folder, folders, files in os.walk(top, topdown=False):
        del folders
        for name in files:
            path = f"{folder}/{name}"
            if not os.path.islink(path) and os.path.isfile(path):
                yield path
        yield folder


def _synced(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)
