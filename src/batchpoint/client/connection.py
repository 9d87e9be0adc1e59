"""One connection to batchpoint: requests, bounded retries, and errors as they were raised there."""

from __future__ import annotations

import importlib
import ipaddress
import json
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel

from batchpoint.client.embedded_transport import AsgiApp, EmbeddedTransport
from batchpoint.domain.errors import BatchpointError, Finding, Unavailable, error_from

Shape = TypeVar("Shape", bound=BaseModel)
_Plain = str | int | float | bool
Params = Mapping[str, _Plain | Sequence[_Plain] | None]

CONNECT_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 60.0
ATTEMPTS_MAX = 4
FIRST_PAUSE_SECONDS = 0.1
PAGE_ITEMS = 500

_EMBEDDED_URL = "http://embedded.batchpoint"
_REPEATABLE = frozenset({"GET", "PUT", "DELETE", "HEAD"})


class Connection:
    """Speaks to a server at `url`, or with None to the app in this process (embedded mode).

    Raises: what the server raised; Unavailable (`server_unreachable`).
    """

    def __init__(self, url: str | None, app: AsgiApp | None = None) -> None:
        """Nothing is contacted yet; `app` replaces the app of the embedded mode."""
        self.embedded = url is None
        self.url = (url or _EMBEDDED_URL).rstrip("/")
        transport: httpx.BaseTransport = (
            EmbeddedTransport(_embedded_app if app is None else lambda: app)
            if url is None
            else httpx.HTTPTransport()
        )
        self._http = httpx.Client(
            base_url=self.url,
            transport=transport,
            timeout=httpx.Timeout(ANSWER_SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
            trust_env=not self.embedded,
        )

    @property
    def shares_files(self) -> bool:
        """Whether paths mean the same here and there: no server, or one on this machine."""
        return self.embedded or is_this_machine(self.url)

    def close(self) -> None:
        """Close what is open."""
        self._http.close()

    def get(self, shape: type[Shape], path: str, params: Params | None = None) -> Shape:
        """Return what is at a path."""
        return shape.model_validate_json(self.send("GET", path, params=params).content)

    def pages(self, shape: type[Shape], path: str, params: Params | None = None) -> Iterator[Shape]:
        """Yield everything of a list, a page at a time."""
        return map(shape.model_validate, self.documents(path, params))

    def documents(self, path: str, params: Params | None = None) -> Iterator[object]:
        """Yield everything of a list as it came, a page at a time."""
        after: str | None = None
        while True:
            asked = {"limit": PAGE_ITEMS, **(params or {})}
            if after is not None:
                asked["after"] = after
            answer = self.send("GET", path, params=asked).json()
            yield from answer["value"]
            after = answer["next_after"]
            if after is None:
                return

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: BaseModel | Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        answer_seconds_max: float | None = ANSWER_SECONDS_MAX,
        repeatable: bool | None = None,
    ) -> httpx.Response:
        """Send a request and return a good answer; tries again when the line breaks.

        `repeatable`: doing it twice is doing it once; None: as the method promises.
        """
        told = dict(headers or {})
        content: bytes | None = None
        if body is not None:
            told["content-type"] = "application/json"
            content = _json(body)
        request = self._http.build_request(
            method,
            path,
            params=_given(params),
            content=content,
            headers=told,
            timeout=httpx.Timeout(answer_seconds_max, connect=CONNECT_SECONDS_MAX),
        )
        if repeatable is None:
            repeatable = method in _REPEATABLE
        response = self._sent(request, ATTEMPTS_MAX if repeatable else 1)
        if response.is_error:
            raise _error_of(response)
        return response

    def put_bytes(self, path: str, chunks: Iterator[bytes], size: int) -> None:
        """Send a body chunk by chunk, once."""
        request = self._http.build_request(
            "PUT", path, content=chunks, headers={"content-length": str(size)}
        )
        response = self._sent(request, 1)
        if response.is_error:
            raise _error_of(response)

    @contextmanager
    def stream(self, path: str, params: Params | None = None) -> Generator[Iterator[bytes]]:
        """Give the body at a path chunk by chunk."""
        try:
            with self._http.stream("GET", path, params=_given(params)) as response:
                if response.is_error:
                    response.read()
                    raise _error_of(response)
                yield response.iter_bytes()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _sent(self, request: httpx.Request, attempts: int) -> httpx.Response:
        pause = FIRST_PAUSE_SECONDS
        for left in reversed(range(attempts)):
            try:
                return self._http.send(request)
            except httpx.TransportError as error:
                if left == 0:
                    raise self._unreachable(error) from error
            time.sleep(pause)
            pause *= 2
        raise AssertionError(attempts)

    def _unreachable(self, error: httpx.TransportError) -> Unavailable:
        if isinstance(error, httpx.TimeoutException) and not isinstance(
            error, httpx.ConnectTimeout
        ):
            reason = "it did not answer in time"
        else:
            reason = str(error) or type(error).__name__
        return Unavailable(
            f"cannot reach the server at {self.url} ({reason}); check that it runs and that "
            "BATCHPOINT_URL is right, or unset it to work without a server",
            code="server_unreachable",
        )


def segment(name: str) -> str:
    """Quote a name for use in a path."""
    return quote(name, safe="")


def segments(path: str) -> str:
    """Quote a path below something for use in a path."""
    return quote(path, safe="/")


def server_url() -> str | None:
    """Return the address that BATCHPOINT_URL names; None: the embedded mode."""
    return os.environ.get("BATCHPOINT_URL") or None


def is_this_machine(url: str) -> bool:
    """Tell whether a server's address can only be on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _embedded_app() -> AsgiApp:
    # By name, because wiring stands above the SDK: only a running program may reach up to it.
    wiring = importlib.import_module("batchpoint.wiring")
    return cast("AsgiApp", wiring.embedded_app())


def _given(params: Params | None) -> dict[str, _Plain | Sequence[_Plain]]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _json(body: BaseModel | Mapping[str, object]) -> bytes:
    if isinstance(body, BaseModel):
        # Unset fields stay unset: the server fills in its own defaults.
        return body.model_dump_json(exclude_unset=True).encode()
    return json.dumps(body).encode()


def _error_of(response: httpx.Response) -> BatchpointError:
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem: dict[str, Any] = response.json()
        error = error_from(problem["code"], problem["detail"], problem.get("where"))
        error.findings = tuple(
            Finding(part["where"], part["message"], part["code"])
            for part in problem.get("errors", ())
        )
        return error
    return Unavailable(
        f"{response.request.url} answered {response.status_code}, and not as batchpoint does; "
        "check that BATCHPOINT_URL is the address of a batchpoint server",
        code="server_unreachable",
    )
