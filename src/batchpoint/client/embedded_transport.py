"""Requests to an ASGI app in this very process: no port, no server, answers streamed."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import Future
from typing import Any, cast

import httpx

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]

_CANCEL_AGAIN_SECONDS = 0.1


class EmbeddedTransport(httpx.BaseTransport):
    """Hands requests to an app that runs on an event loop in a thread of its own.

    The app is made with the first request. A body is passed on chunk by chunk in both directions;
    the app waits until the caller has taken a chunk, so that nothing piles up in memory.
    """

    def __init__(self, make_app: Callable[[], AsgiApp]) -> None:
        """Nothing is started yet."""
        self._make_app = make_app
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._app: AsgiApp | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Run the app on one request and return as soon as the answer's head is there."""
        app, loop = self._started()
        exchange = _Exchange(request, loop)
        exchange.task = asyncio.run_coroutine_threadsafe(exchange.run(app), loop)
        start = exchange.taken()
        if start is None:
            raise httpx.RemoteProtocolError("the app ended without an answer", request=request)
        return httpx.Response(
            start["status"],
            headers=start["headers"],
            stream=_Answer(exchange),
            request=request,
        )

    def close(self) -> None:
        """End the loop and its thread."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = self._app = None

    def _started(self) -> tuple[AsgiApp, asyncio.AbstractEventLoop]:
        with self._starting:
            if self._loop is None or self._app is None:
                self._app = self._make_app()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="batchpoint-embedded", daemon=True
                )
                self._thread.start()
            return self._app, self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    while left := asyncio.all_tasks(loop):
        # More than once: `wait_for` forgets of it when what it waits for comes at the same time.
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=_CANCEL_AGAIN_SECONDS))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


class _Exchange:
    """One request and its answer, between the caller's thread and the loop's."""

    def __init__(self, request: httpx.Request, loop: asyncio.AbstractEventLoop) -> None:
        self._request = request
        self._loop = loop
        self._body: Iterator[bytes] | None = None
        self._answered = asyncio.Event()
        # What the app sent, each with a promise that is kept when the caller has taken it.
        self._sent: queue.SimpleQueue[tuple[Message | None, Future[None]]] = queue.SimpleQueue()
        self.task: Future[None] | None = None

    async def run(self, app: AsgiApp) -> None:
        url = self._request.url
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._request.method,
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "server": (url.host, url.port),
            "client": ("embedded", 0),
            "root_path": "",
        }
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._sent.put((None, Future()))

    async def _receive(self) -> Message:
        if self._body is None:
            self._body = iter(cast("httpx.SyncByteStream", self._request.stream))
        elif isinstance(self._request.stream, httpx.ByteStream):
            await self._answered.wait()
            return {"type": "http.disconnect"}
        if isinstance(self._request.stream, httpx.ByteStream):
            return {"type": "http.request", "body": next(self._body, b""), "more_body": False}
        chunk = await self._loop.run_in_executor(None, next, self._body, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._sent.put((message, Future()))
        elif message["type"] == "http.response.body":
            if message.get("body"):
                taken: Future[None] = Future()
                self._sent.put((message, taken))
                await asyncio.wrap_future(taken)
            if not message.get("more_body", False):
                self._answered.set()

    def taken(self) -> Message | None:
        """Wait for the next message of the app; None after the last one."""
        message, promise = self._sent.get()
        promise.set_result(None)
        return message

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


class _Answer(httpx.SyncByteStream):
    """The body of an answer, taken from the app chunk by chunk."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        while (message := self._exchange.taken()) is not None:
            yield message["body"]
        self._ended = True
        assert self._exchange.task is not None
        failure = self._exchange.task.exception()
        if failure is not None:
            raise httpx.RemoteProtocolError("the app failed in the middle of its answer")

    def close(self) -> None:
        if not self._ended:
            self._exchange.cancel()
