"""A container of an object store (S3, Azure Blob and ADLS, GCS, HTTP), read and written by obstore.

obstore retries what its protocol lets it retry; what it cannot know is done here: reading back
after a conditional write, going on with a broken body, falling back from ranges to one stream.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import quote

from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError, Invalid, Unavailable
from batchpoint.formats.durable import write_fully
from batchpoint.storage.key_order import in_order
from batchpoint.storage.object_errors import changed, error_of, gone
from batchpoint.storage.store import Found

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta

    from batchpoint.storage.object_store_opening import Client

T = TypeVar("T")

_LOOKS_AT_ONCE = 16
_FIRST_PAUSE_SECONDS = 0.2
_CREATE_ATTEMPTS_MAX = 4
_SIZE = itemgetter(1)
# What obstore says when a server answers a range with everything.
_NO_RANGES = "non-partial response"


class ObjectStore:
    """A `Store` over one container; see `interface.py` for what each method promises."""

    def __init__(
        self,
        client: Client,
        url: str,
        *,
        listable: bool = True,
        sorted_listing: bool | None = True,
        conditional: bool = True,
        refused: str = "",
        delete: Callable[[str], None] | None = None,
        timeout_seconds: float = limits.STORAGE_TIMEOUT_SECONDS,
    ) -> None:
        """Use an open client.

        Args:
            client: obstore's; safe to share by threads.
            url: where the container is, for people; no credentials.
            listable: whether its protocol can list (HTTP cannot).
            sorted_listing: as `in_order` has it: whether the server is known to list in order of
                the keys.
            conditional: whether it honours conditional writes, as far as is known.
            refused: characters in keys that the server would replace by others.
            delete: deletes an object in the client's place.
            timeout_seconds: after so long without success a call is not tried again; as the client
                has the same limit, no call hangs for more than twice as long.
        """
        self._client = client
        self._url = url.rstrip("/")
        self._listable = listable
        self._sorted = sorted_listing
        self._conditional = conditional
        self._refused = refused
        self._delete = delete or client.delete
        self._timeout = timeout_seconds

    @property
    def url(self) -> str:
        """See `Store`."""
        return self._url

    def __repr__(self) -> str:
        """Name the container and nothing that opens it."""
        return f"ObjectStore({self._url!r})"

    # --- looking ----------------------------------------------------------------------------

    def find(self, path: str) -> Found | None:
        """See `Store`."""
        if not self._can_hold(path):
            return None
        try:
            return _found(self._tried(lambda: self._client.head(path), path, "read"))
        except Invalid as error:
            if error.code == "input_unreadable":
                return None
            raise

    def list(self, prefix: str, *, ordered: bool = True) -> Iterator[list[Found]]:
        """See `Store`."""
        if not self._listable:
            raise Invalid(
                f"{self._url} cannot be listed, as HTTP has no folders; give the URL of each file",
                code="uri_invalid",
            )
        folder = prefix.rstrip("/")
        if folder:
            self._check(folder)
        pages = self._pages(folder)
        return in_order(pages, self._shown(folder), trusted=self._sorted) if ordered else pages

    def _pages(self, folder: str) -> Iterator[list[Found]]:
        # Only the first page can be asked for again: obstore asks for the others by itself.
        stream, page = self._tried(lambda: self._first_page(folder), folder, "listed")
        while page:
            yield self._objects(page, folder)
            try:
                page = next(stream, None)
            except Exception as error:  # noqa: BLE001  # whatever obstore raises, told in our words
                self._raise(error, folder, "listed")

    def _first_page(
        self, folder: str
    ) -> tuple[Iterator[Sequence[ObjectMeta]], Sequence[ObjectMeta] | None]:
        # Dictionaries rather than Arrow: those need another package.
        listed = self._client.list(  # pyright: ignore[reportUnknownMemberType]
            folder or None, chunk_size=limits.STORAGE_LIST_PAGE
        )
        stream = iter(listed)
        return stream, next(stream, None)

    def _objects(self, page: Sequence[ObjectMeta], folder: str) -> list[Found]:
        """Turn a page into what it holds, without the markers that stand for folders."""
        # The hot loop of long listings: no call in it too many. Etags in lists are never weak.
        found = [
            Found(meta["path"], meta["size"], (meta["e_tag"] or "").strip('"')) for meta in page
        ]
        if all(map(_SIZE, found)):
            return found
        found = [entry for entry in found if entry.path != folder]
        empty = [entry.path for entry in found if not entry.size]
        if not empty:
            return found
        with ThreadPoolExecutor(min(_LOOKS_AT_ONCE, len(empty))) as pool:
            looks = pool.map(self._is_object, empty)
            markers = {path for path, is_object in zip(empty, looks, strict=True) if not is_object}
        return [entry for entry in found if entry.size or entry.path not in markers]

    def _is_object(self, path: str) -> bool:
        """Tell an empty object `a` from the marker `a/`, which obstore shows under the same name.

        Azure's own marker for a folder is an empty blob `a` with a word about it.
        """
        try:
            result = self._tried(lambda: self._client.get(path), path, "read")
        except Invalid as error:
            if error.code == "input_unreadable":
                return False
            raise
        attributes = {str(name).lower(): value for name, value in result.attributes.items()}
        return not result.meta["size"] and attributes.get("hdi_isfolder") != "true"

    # --- reading ----------------------------------------------------------------------------

    def stream(
        self, path: str, *, start: int = 0, stop: int | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        """See `Store`."""
        self._check(path)
        return self._stream(path, start, stop, etag)

    def _stream(self, path: str, start: int, stop: int | None, etag: str) -> Iterator[bytes]:
        if stop is not None and stop <= start:
            return
        at, deadline, pause = start, time.monotonic() + self._timeout, _FIRST_PAUSE_SECONDS
        whole = False
        while True:
            try:
                # A server without ranges sends everything; what comes before is passed over.
                result = self._get(path, 0 if whole else at, None if whole else stop, etag)
                etag = etag or _bare(result.meta["e_tag"])
                end = result.range[1] if stop is None else min(stop, result.range[1])
                for chunk in _between(result, at, end):
                    at += len(chunk)
                    yield chunk
                    deadline, pause = time.monotonic() + self._timeout, _FIRST_PAUSE_SECONDS
                if at >= end:
                    return
                failure = Unavailable(
                    f"{self._shown(path)} broke off after {at:,} of {end:,} bytes",
                    code="storage_unavailable",
                )
            except BatchpointError as error:
                failure = error
            except Exception as error:  # noqa: BLE001  # as in `_tried`
                if _NO_RANGES in str(error) and not whole:
                    whole = True
                    continue
                failure = error_of(error, self._shown(path), "read")
            if not failure.retryable or time.monotonic() + pause >= deadline:
                raise failure from None
            time.sleep(pause)
            pause = min(pause * 2, limits.STORAGE_BACKOFF_SECONDS_MAX)

    def _get(self, path: str, start: int, stop: int | None, etag: str) -> GetResult:
        """Ask for a range of a certain content.

        Raises: Invalid (`input_changed`) where the server has another one.
        """
        options: GetOptions = {}
        if start or stop is not None:
            options["range"] = {"offset": start} if stop is None else (start, stop)
        if etag and not etag.startswith("W/"):
            options["if_match"] = f'"{etag}"'
        result = self._client.get(path, options=options)
        if etag and _bare(result.meta["e_tag"]) not in ("", etag):
            raise changed(self._shown(path))
        return result

    def fetch(self, found: Found, target: Path) -> None:
        """See `Store`."""
        self._check(found.path)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            if found.size < limits.STORAGE_BIG_BYTES_MIN:
                self._fetch_small(found, fd)
            elif not self._fetch_ranges(found, fd):
                os.ftruncate(fd, 0)
                os.lseek(fd, 0, os.SEEK_SET)
                self._fetch_stream(found, fd)
        finally:
            os.close(fd)

    def _fetch_small(self, found: Found, fd: int) -> None:
        def whole() -> memoryview:
            result = self._client.get(found.path)
            self._same(found, result)
            return memoryview(result.bytes())

        body = self._tried(whole, found.path, "read")
        if len(body) != found.size:
            raise changed(self._shown(found.path))
        write_fully(fd, body)

    def _fetch_stream(self, found: Found, fd: int) -> None:
        written = 0
        for chunk in self._stream(found.path, 0, None, found.etag):
            written += len(chunk)
            write_fully(fd, chunk)
        if written != found.size:
            raise changed(self._shown(found.path))

    def _fetch_ranges(self, found: Found, fd: int) -> bool:
        """Write all ranges of a big object; False where the server does not serve them well."""
        step = limits.STORAGE_RANGE_BYTES
        pool = ThreadPoolExecutor(limits.STORAGE_RANGES_AT_ONCE)
        try:
            ranges = [
                pool.submit(self._fetch_range, found, fd, start, min(start + step, found.size))
                for start in range(0, found.size, step)
            ]
            return all(each.result() for each in ranges)
        finally:
            pool.shutdown(cancel_futures=True)

    def _fetch_range(self, found: Found, fd: int, start: int, stop: int) -> bool:
        at = start
        try:
            result = self._get(found.path, start, stop, found.etag)
            self._same(found, result)
            if result.range != (start, stop):
                return False
            for chunk in result.stream(min_chunk_size=limits.STORAGE_CHUNK_BYTES):
                view = memoryview(chunk)
                while view:
                    written = os.pwrite(fd, view, at)
                    at += written
                    view = view[written:]
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                raise
            raise gone(self._shown(found.path)) from None
        except BatchpointError:
            raise
        except Exception as error:  # noqa: BLE001  # as in `_tried`
            told = error_of(error, self._shown(found.path), "read")
            if not told.retryable:
                raise told from None
            return False
        return at == stop

    def _same(self, found: Found, result: GetResult) -> None:
        meta = result.meta
        etag = _bare(meta["e_tag"])
        if meta["size"] != found.size or (found.etag and etag not in ("", found.etag)):
            raise changed(self._shown(found.path))

    # --- writing ----------------------------------------------------------------------------

    def put(self, path: str, body: bytes, *, create: bool = False) -> bool:
        """See `Store`."""
        self._check(path)
        if not create:
            self._tried(lambda: self._client.put(path, body, use_multipart=False), path, "written")
            return True
        return self._create(path, body)

    def _create(self, path: str, body: bytes) -> bool:
        from obstore import exceptions as kinds  # noqa: PLC0415  # costs an import of 20 ms

        conditional = self._conditional
        for _ in range(_CREATE_ATTEMPTS_MAX):
            if not conditional:
                # The server would replace it: looking first is the best that can be done.
                there = self._read_back(path)
                if there is not None:
                    return there == body
            try:
                self._client.put(
                    path, body, mode="create" if conditional else "overwrite", use_multipart=False
                )
                return True
            except (kinds.AlreadyExistsError, kinds.PreconditionError):
                pass  # or a lost reply to our own write, or a conflict with nothing stored
            except (kinds.NotSupportedError, NotImplementedError):
                conditional = False
                continue
            except Exception as error:  # noqa: BLE001  # as in `_tried`
                if "status code: 501" in str(error):
                    conditional = False
                    continue
                told = error_of(error, self._shown(path), "written")
                if not told.retryable:
                    raise told from None
                there = self._read_back(path)
                if there is None:
                    raise told from None
                return there == body
            there = self._read_back(path)
            if there is not None:
                return there == body
        raise Unavailable(
            f"{self._shown(path)} cannot be written now: the store says that it exists, and that "
            "it does not; try again",
            code="storage_unavailable",
        )

    def put_if_match(self, path: str, body: bytes, etag: str) -> bool:
        """Replace an object if it still has an etag; False when it has another, or is not there.

        Raises: Unavailable (`storage_unavailable`), Invalid (`storage_denied`).
        """
        self._check(path)
        try:
            self._tried(
                lambda: self._client.put(
                    path, body, mode={"e_tag": f'"{etag}"'}, use_multipart=False
                ),
                path,
                "written",
            )
        except Invalid as error:
            if error.code in ("input_changed", "input_unreadable"):
                return False
            raise
        return True

    def _read_back(self, path: str) -> bytes | None:
        try:
            return self._tried(lambda: bytes(self._client.get(path).bytes()), path, "read")
        except Invalid as error:
            if error.code == "input_unreadable":
                return None
            raise

    def put_file(self, source: Path, path: str) -> None:
        """See `Store`."""
        self._check(path)
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < limits.STORAGE_PART_BYTES_MIN:
                self.put(path, file.read())
                return
        part = max(limits.STORAGE_PART_BYTES_MIN, -(-size // limits.STORAGE_PARTS_MAX))
        self._tried(
            lambda: self._client.put(
                path,
                source,
                use_multipart=True,
                chunk_size=part,
                max_concurrency=limits.STORAGE_PARTS_AT_ONCE,
            ),
            path,
            "written",
        )

    def delete(self, path: str) -> None:
        """See `Store`."""
        self._check(path)
        try:
            self._tried(lambda: self._delete(path), path, "deleted")
        except Invalid as error:
            if error.code != "input_unreadable":
                raise

    # --- inside -----------------------------------------------------------------------------

    def _tried(self, call: Callable[[], T], path: str, doing: str) -> T:
        """Call obstore until it answers; what may pass is tried again for `timeout_seconds`."""
        deadline, pause = 0.0, _FIRST_PAUSE_SECONDS
        begun = time.monotonic()
        while True:
            try:
                return call()
            except BatchpointError as error:
                failure = error
            except Exception as error:  # noqa: BLE001  # obstore raises many kinds, also ValueError
                failure = error_of(error, self._shown(path), doing)
            deadline = begun + self._timeout
            if not failure.retryable or time.monotonic() + pause >= deadline:
                raise failure from None
            time.sleep(pause)
            pause = min(pause * 2, limits.STORAGE_BACKOFF_SECONDS_MAX)

    def _raise(self, error: Exception, path: str, doing: str) -> NoReturn:
        if isinstance(error, BatchpointError):
            raise error
        raise error_of(error, self._shown(path), doing) from None

    def _check(self, path: str) -> None:
        if not self._can_hold(path):
            raise Invalid(
                f"{self._shown(path)!r} is no name that this store can hold: it has an empty "
                f"step, '.', '..', a control character{' or a ' * bool(self._refused)}"
                f"{self._refused}; rename it",
                code="uri_invalid",
            )

    def _can_hold(self, path: str) -> bool:
        return is_key(path) and not any(each in path for each in self._refused)

    def _shown(self, path: str) -> str:
        if not self._url.startswith("http"):
            return f"{self._url}/{path}" if path else self._url
        return f"{self._url}/{quote(path)}" if path else self._url


def is_key(path: str) -> bool:
    """Tell whether a key can be read and written by every store as it is."""
    steps = path.split("/")
    if not all(steps) or "." in steps or ".." in steps:
        return False
    return path.isprintable() or not any(ord(c) < 32 or ord(c) == 127 for c in path)


def _between(result: GetResult, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes `start` to `stop` of an object out of an answer that holds at least those."""
    at = result.range[0]
    for chunk in result.stream(min_chunk_size=limits.STORAGE_CHUNK_BYTES):
        piece = chunk
        if at < start or at + len(chunk) > stop:
            piece = chunk[max(0, start - at) : max(0, stop - at)]
        at += len(chunk)
        if piece:
            yield piece
        if at >= stop:
            return


def _found(meta: ObjectMeta) -> Found:
    return Found(meta["path"], meta["size"], _bare(meta["e_tag"]))


def _bare(etag: str | None) -> str:
    """Leave out the quotes, which Azure puts around an etag in some answers only."""
    return etag.strip('"') if etag and not etag.startswith("W/") else etag or ""
