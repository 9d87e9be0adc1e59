"""Names the content of data: equal names, equal content, wherever it lies and whenever it came."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from batchpoint.domain import limits
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.minibatch import Slice
from batchpoint.formats.layout import CLAIM, RECEIPT
from batchpoint.storage.data_places import listed_as, localized, locations_with
from batchpoint.storage.listing import Listing
from batchpoint.storage.locate import is_local, path_of

_ABOUT_THE_OUTPUT = frozenset({RECEIPT, CLAIM})
_CHUNK_BYTES = 1 << 20
_HASHED_AT_ONCE = 4
# Smaller files are hashed sooner than threads are told of them, and than a cache is asked.
_BIG_BYTES_MIN = 1 << 20
_KNOWN_MAX = 100_000

_known: dict[tuple[str, int, int, int, int, int], bytes] = {}


def content_identity(source: JobInput | str, access: StorageAccess) -> str:
    """Return a hash (hex sha256) of the names and contents of all that is pointed at; blocking.

    Local files count with their content, wherever links lead, and with whether they can be run;
    folders with nothing in them count, too. Objects in stores count with size and etag, so that
    nothing of them is fetched. The place itself does not count, nor does what was written
    about an output (its receipt). It needs no more memory for millions of files than for one.

    Returns:
        An empty text when a store tells nothing of the content (web servers without etags): then
        nobody knows, and nothing may be taken for the same.

    Raises:
        Invalid: there is nothing (`input_not_found`), it cannot be read (`input_unreadable`,
            `storage_denied`), or is being written to (`input_changed`).
        Unavailable: a store does not answer.
    """
    given = JobInput(type="uri_folder", uri=source) if isinstance(source, str) else source
    found = localized(given, access)
    lone = listed_as(found.sources[0]) if len(found.sources) == 1 else ""
    digest = hashlib.sha256()
    listing = Listing(found, partial(locations_with, access))
    with ThreadPoolExecutor(_HASHED_AT_ONCE, thread_name_prefix="identity") as threads:
        while items := listing.take(limits.STORAGE_LIST_PAGE):
            for item, told in zip(items, _contents(items, threads), strict=True):
                if not told:
                    return ""
                is_root = item.uri == lone
                if item.name in _ABOUT_THE_OUTPUT and not is_root:
                    continue
                name = os.fsencode(item.name)
                digest.update(b"%d %d %s %s\n" % (is_root, len(name), name, told))
    for uri in found.sources if found.pattern is None else ():
        for name in _empty_folders(os.fsencode(path_of(uri))) if is_local(uri) else ():
            digest.update(b"empty %d %s\n" % (len(name), name))
    return digest.hexdigest()


def _contents(items: Sequence[Slice], threads: ThreadPoolExecutor) -> Sequence[bytes]:
    """Name the content of each item; big files are read several at a time."""
    begun = [
        threads.submit(_content, item) if item.size >= _BIG_BYTES_MIN else None for item in items
    ]
    return [
        _content(item) if waiting is None else waiting.result()
        for item, waiting in zip(items, begun, strict=True)
    ]


def _content(item: Slice) -> bytes:
    if is_local(item.uri):
        path = path_of(item.uri)
        return file_digest(path) + (b" x" if _can_be_run(path) else b"")
    return f"{item.size} {item.etag}".encode() if item.etag else b""


def _can_be_run(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o111)
    except OSError:  # a link that leads nowhere
        return False


def _empty_folders(root: bytes) -> Iterator[bytes]:
    """Yield the paths below a folder of all folders with nothing in them: commands see them."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        if not folders and not files and folder != root:
            yield os.path.relpath(folder, root)


def file_digest(path: Path) -> bytes:
    """Return the sha256 of a file as hex; of a link that leads nowhere, of what it says.

    Raises: Invalid (`input_unreadable`, `input_changed`).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return _of_link(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise Invalid(f"{path} is no file any more", code="input_changed")
        # Whoever puts the time of modification back cannot do so with that of change.
        times = (before.st_mtime_ns, before.st_ctime_ns)
        key = (str(path), before.st_size, *times, before.st_dev, before.st_ino)
        if (told := _known.get(key)) is not None:
            return told
        digest = hashlib.sha256()
        while chunk := os.read(fd, _CHUNK_BYTES):
            digest.update(chunk)
        after = os.fstat(fd)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(fd)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise Invalid(
            f"{path} was written to while it was being read; run it again when the data stays as "
            "it is",
            code="input_changed",
        )
    told = digest.hexdigest().encode()
    if before.st_size >= _BIG_BYTES_MIN:
        if len(_known) >= _KNOWN_MAX:
            _known.clear()
        _known[key] = told
    return told


def _of_link(path: Path) -> bytes:
    try:
        target = path.readlink()
    except OSError as error:
        raise Invalid(
            f"{path} went away while it was being read; run it again when the data is complete",
            code="input_changed",
        ) from error
    return b"-> " + hashlib.sha256(os.fsencode(target)).hexdigest().encode()


def _unreadable(path: Path, error: OSError) -> Invalid:
    return Invalid(f"{path} cannot be read: {error.strerror}", code="input_unreadable")
