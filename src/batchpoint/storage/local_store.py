"""A folder of this machine as a store, with the promises that object stores make."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.formats.durable import storage_error, sync_folder, write_fully
from batchpoint.storage.locate import etag_of
from batchpoint.storage.object_errors import changed, gone
from batchpoint.storage.store import Found

_TEMPORARY = ".batchpoint-writing-"
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})


class LocalStore:
    """A `Store` over one folder; see `interface.py` for what each method promises.

    A key never leads out of the folder; links in it that do were put there by its owner and are
    followed. Names that are not UTF-8 stand in keys as Python writes them (surrogate escapes).
    """

    def __init__(self, root: Path) -> None:
        """Serve what lies below `root`, an absolute path; it need not exist yet."""
        self._root = root

    @property
    def url(self) -> str:
        """See `Store`."""
        return self._root.as_uri()

    def find(self, path: str) -> Found | None:
        """See `Store`."""
        place = self._place(path)
        try:
            state = place.stat()
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise _told(error, place) from error
        return Found(path, state.st_size, etag_of(state)) if stat.S_ISREG(state.st_mode) else None

    def list(
        self,
        prefix: str,
        *,
        ordered: bool = True,  # noqa: ARG002  # always is
    ) -> Iterator[list[Found]]:
        """See `Store`."""
        folder = prefix.rstrip("/")
        top = self._place(folder) if folder else self._root
        page: list[Found] = []
        try:
            for name, state in _walk(os.fsencode(top), b"", ()):
                below = os.fsdecode(name)
                page.append(
                    Found(f"{folder}/{below}" if folder else below, state.st_size, etag_of(state))
                )
                if len(page) >= limits.STORAGE_LIST_PAGE:
                    yield page
                    page = []
        except OSError as error:
            raise _told(error, top) from error
        if page:
            yield page

    def stream(
        self, path: str, *, start: int = 0, stop: int | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        """See `Store`."""
        place = self._place(path)
        try:
            with place.open("rb", buffering=0) as file:
                if etag and etag_of(os.fstat(file.fileno())) != etag:
                    raise changed(str(place))
                file.seek(start)
                left = None if stop is None else stop - start
                while left is None or left > 0:
                    most = limits.STORAGE_CHUNK_BYTES
                    chunk = file.read(most if left is None else min(most, left))
                    if not chunk:
                        return
                    if left is not None:
                        left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise _told(error, place) from error

    def fetch(self, found: Found, target: Path) -> None:
        """See `Store`."""
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        written = 0
        try:
            for chunk in self.stream(found.path, etag=found.etag):
                written += len(chunk)
                write_fully(fd, chunk)
        finally:
            os.close(fd)
        if written != found.size:
            raise changed(str(self._place(found.path)))

    def put(self, path: str, body: bytes, *, create: bool = False) -> bool:
        """See `Store`."""
        place = self._place(path)
        try:
            with self._beside(place) as temporary:
                with temporary.open("wb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                if not create:
                    temporary.replace(place)
                elif not _linked(temporary, place):
                    return place.read_bytes() == body
            sync_folder(place.parent)
        except OSError as error:
            raise _told(error, place) from error
        return True

    def put_file(self, source: Path, path: str) -> None:
        """See `Store`."""
        place = self._place(path)
        with source.open("rb") as given:
            try:
                with self._beside(place) as temporary:
                    with temporary.open("wb") as file:
                        shutil.copyfileobj(given, file, limits.STORAGE_CHUNK_BYTES)
                        file.flush()
                        os.fsync(file.fileno())
                    temporary.replace(place)
                sync_folder(place.parent)
            except OSError as error:
                raise _told(error, place) from error

    def delete(self, path: str) -> None:
        """See `Store`."""
        place = self._place(path)
        try:
            place.unlink()
        except OSError as error:
            if error.errno not in _ABSENT:
                raise _told(error, place) from error

    def _place(self, path: str) -> Path:
        steps = path.split("/")
        if not all(steps) or "." in steps or ".." in steps or "\0" in path:
            raise Invalid(
                f"{path!r} does not name a file below {self._root}: it has an empty step, '.' or "
                "'..'",
                code="uri_invalid",
            )
        return self._root / path

    @contextlib.contextmanager
    def _beside(self, place: Path) -> Generator[Path]:
        """Give a new file in the same folder to write into; it is gone afterwards."""
        place.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=place.parent)
        os.fchmod(fd, 0o666 & ~_UMASK)
        os.close(fd)
        try:
            yield Path(name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()


def _umask() -> int:
    """Read the mask of new files; only possible by setting it, so done once, at import."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _umask()


def _linked(temporary: Path, place: Path) -> bool:
    """Give a complete file its name unless the name is taken."""
    try:
        place.hardlink_to(temporary)
    except FileExistsError:
        return False
    return True


def _walk(
    root: bytes, below: bytes, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield (path below root, state) of every file, in byte order of the whole path."""
    folder = os.path.join(root, below) if below else root  # noqa: PTH118  # names are bytes
    try:
        state = os.stat(folder)  # noqa: PTH116
        if (state.st_dev, state.st_ino) in above:
            return
        with os.scandir(folder) as found:
            # A folder sorts as its name with the separator, so that paths are in order.
            names = sorted(
                entry.name + b"/" if _is_folder(entry) else entry.name
                for entry in found
                if not entry.name.startswith(_TEMPORARY.encode())
            )
    except (FileNotFoundError, NotADirectoryError):
        return  # a folder that is not there is empty, as in an object store
    for name in names:
        if name.endswith(b"/"):
            yield from _walk(root, below + name, (*above, (state.st_dev, state.st_ino)))
            continue
        try:
            found_state = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118
        except OSError as error:
            if error.errno in _ABSENT:
                continue  # deleted meanwhile, or a link that leads nowhere
            raise
        if stat.S_ISREG(found_state.st_mode):
            yield below + name, found_state


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _told(error: OSError, place: Path) -> BatchpointError:
    if error.errno in _ABSENT:
        return gone(str(place))
    if error.errno in _DENIED:
        return Invalid(
            f"{place} cannot be read or written: {error.strerror}; give the user that runs "
            "batchpoint access to it",
            code="storage_denied",
        )
    return storage_error(error, place)
