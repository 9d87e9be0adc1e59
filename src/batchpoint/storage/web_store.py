"""A web server as a store: what it says of its files, and files whose length it does not say."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from batchpoint.core.webhook_target import tells_identity
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError, Invalid, Unavailable
from batchpoint.storage.object_errors import changed, gone
from batchpoint.storage.object_store import ObjectStore
from batchpoint.storage.store import Found

if TYPE_CHECKING:
    import httpx

    from batchpoint.storage.object_store_opening import Client

_FIRST_PAUSE_SECONDS = 0.2
_REDIRECTS_MAX = 5
_CONNECTIONS_MAX = 32
_GONE = (404, 410)
_TRANSIENT = (408, 425, 429)
_DENIED = (401, 403, 407)


class WebStore(ObjectStore):
    """A `Store` over HTTP: one that cannot be listed.

    Files that have a length are read as in any object store. `find` asks by HEAD, and by GET where
    a server refuses that. A file of which no length is told is found with size 0 and etag ""; it
    can be streamed as a whole, and nobody can tell whether it has changed.
    """

    def __init__(
        self, client: Client, endpoint: str, *, token: str | None, timeout_seconds: float
    ) -> None:
        """Read below `endpoint` (a URL, its query is sent along), with a bearer token if any."""
        base, mark, query = endpoint.partition("?")
        super().__init__(client, base, listable=False, timeout_seconds=timeout_seconds)
        self._base = base.rstrip("/")
        self._query = mark + query
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._seconds = timeout_seconds
        self._web: httpx.Client | None = None

    def find(self, path: str) -> Found | None:
        """See `Store`."""
        failure: BatchpointError | None = None
        deadline, pause = time.monotonic() + self._seconds, _FIRST_PAUSE_SECONDS
        while failure is None or time.monotonic() + pause < deadline:
            if failure is not None:
                time.sleep(pause)
                pause = min(pause * 2, limits.STORAGE_BACKOFF_SECONDS_MAX)
            try:
                return self._looked_at(path)
            except Unavailable as error:
                failure = error
        raise failure

    def stream(
        self, path: str, *, start: int = 0, stop: int | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        """See `Store`; a whole file of which nothing is known is read until it ends."""
        if start or stop is not None or etag:
            return super().stream(path, start=start, stop=stop, etag=etag)
        return self._whole(path)

    def _looked_at(self, path: str) -> Found | None:
        url = self._url_of(path)
        with self._asked("HEAD", path, url) as answer:
            if answer.is_success:
                return _found(path, answer)
            if answer.status_code in _GONE:
                return None
        # Some servers, and URLs signed for reading, allow nothing but GET.
        with self._asked("GET", path, url) as answer:
            if answer.status_code in _GONE:
                return None
            self._check_answer(path, answer)
            return _found(path, answer)

    def _whole(self, path: str) -> Iterator[bytes]:
        import httpx  # noqa: PLC0415  # slow to import, and few jobs need it

        with self._asked("GET", path, self._url_of(path)) as answer:
            if answer.status_code in _GONE:
                raise gone(self._told(path))
            self._check_answer(path, answer)
            try:
                yield from answer.iter_bytes(limits.STORAGE_CHUNK_BYTES)
            except httpx.HTTPError as error:
                raise self._unavailable(path, "the connection broke off") from error

    def _asked(self, method: str, path: str, url: str) -> _Answer:
        return _Answer(self, method, path, url)

    def send(self, method: str, path: str, url: str) -> httpx.Response:
        """Send a request and return the answer, its body not yet read. Raises: Unavailable."""
        import httpx  # noqa: PLC0415  # slow to import, and few jobs need it

        if self._web is None:
            # A client is thread safe; making two of them at once only wastes one.
            self._web = httpx.Client(
                headers={"User-Agent": "batchpoint", **self._headers},
                follow_redirects=True,
                max_redirects=_REDIRECTS_MAX,
                timeout=httpx.Timeout(self._seconds / 3, connect=min(10.0, self._seconds / 3)),
                limits=httpx.Limits(max_connections=_CONNECTIONS_MAX),
                event_hooks={"request": [self._refuse_identity]},
            )
        request = self._web.build_request(method, url, headers={"Accept-Encoding": "identity"})
        try:
            return self._web.send(request, stream=True)
        except httpx.TimeoutException as error:
            raise self._unavailable(path, "the connection timed out") from error
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise Invalid(
                f"{self._told(path)} leads nowhere ({type(error).__name__}); check the URL",
                code="input_unreadable",
            ) from error
        except httpx.HTTPError as error:
            raise self._unavailable(path, "the connection failed") from error

    def _refuse_identity(self, request: httpx.Request) -> None:
        """Follow no redirect, and no registered endpoint, to where a machine's identity is told."""
        if leads_to_identity(request.url.netloc.decode("ascii")):
            raise Invalid(
                f"{self._base} leads to a link-local address, where clouds keep the identity of a "
                "machine; nothing is read from there",
                code="storage_denied",
            )

    def _check_answer(self, path: str, answer: httpx.Response) -> None:
        status = answer.status_code
        if answer.is_success:
            return
        words = f"{status} {answer.reason_phrase}".strip()
        if status in _TRANSIENT or status >= 500:
            raise self._unavailable(path, words)
        if status in _DENIED:
            raise Invalid(
                f"{self._told(path)} cannot be read ({words}); register a datastore with a token "
                "for it, or give a URL that needs none",
                code="storage_denied",
            )
        if status == 412:
            raise changed(self._told(path))
        raise Invalid(
            f"{self._told(path)} cannot be read: the server answers {words}",
            code="input_unreadable",
        )

    def _unavailable(self, path: str, why: str) -> Unavailable:
        return Unavailable(
            f"{self._told(path)} cannot be read now: {why}; check the server and try again",
            code="storage_unavailable",
        )

    def _url_of(self, path: str) -> str:
        return f"{self._base}/{quote(path)}{self._query}"

    def _told(self, path: str) -> str:
        """Name a file for people; the query may hold a signature."""
        return f"{self._base}/{quote(path)}"


class _Answer:
    """An answer that is closed in the end, whatever was read of it."""

    def __init__(self, store: WebStore, method: str, path: str, url: str) -> None:
        self._send = lambda: store.send(method, path, url)

    def __enter__(self) -> httpx.Response:
        self._response = self._send()
        return self._response

    def __exit__(self, *_: object) -> None:
        self._response.close()


def leads_to_identity(authority: str) -> bool:
    """Tell whether a host (of a URL, with or without port) is one that tells who a machine is."""
    host = urlsplit(f"//{authority}").hostname or ""
    addresses = {host}
    with contextlib.suppress(OSError, UnicodeError):  # an unknown host is told when it is asked
        addresses |= {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    for address in addresses:
        with contextlib.suppress(ValueError):
            if tells_identity(address):
                return True
    return False


def _found(path: str, answer: httpx.Response) -> Found:
    length = answer.headers.get("Content-Length", "")
    if not length.isdecimal() or answer.headers.get("Content-Encoding", "identity") != "identity":
        return Found(path, 0, "")
    etag = answer.headers.get("ETag", "")
    return Found(path, int(length), etag.strip('"') if not etag.startswith("W/") else etag)
