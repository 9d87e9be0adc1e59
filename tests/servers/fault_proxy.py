"""A proxy between a client and an HTTP server that does to requests what networks and servers do.

What it does is drawn from a seed, or told by a script, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from batchpoint.domain.datastore import Credentials, Datastore
from tests.servers.store_servers import StoreServer

_HEAD_BYTES_MAX = 256 * 1024
_CHUNK_BYTES = 256 * 1024
FAULTS = ("error", "throttled", "lost_reply", "conflict", "cut", "stall", "hang", "reset")


@dataclass
class Faults:
    """How often each fault happens to a request, each from 0 to 1, one at most to each request.

    `error`: 500 or 503 instead of an answer. `throttled`: 429 or 503 SlowDown. `lost_reply`: the
    server acts, its answer is lost. `conflict`: 409 to a write, with nothing stored. `cut`: the
    body of an answer breaks off. `stall`: the answer comes after `stall_seconds`. `hang`: no answer
    ever. `reset`: the connection breaks before the server hears of it.
    `script`: what happens to the first requests that `only` lets through ("" for nothing); chance
    takes over after that.
    """

    error: float = 0.0
    throttled: float = 0.0
    lost_reply: float = 0.0
    conflict: float = 0.0
    cut: float = 0.0
    stall: float = 0.0
    hang: float = 0.0
    reset: float = 0.0
    stall_seconds: float = 2.0
    script: deque[str] = field(default_factory=deque)
    only: Callable[[str, str], bool] = lambda method, path: True


@dataclass(frozen=True)
class _Message:
    """The head of a request or an answer, with its body's length (-1: until the end)."""

    first: str
    head: bytes
    length: int
    chunked: bool


class FaultProxy:
    """A running proxy before one server."""

    def __init__(self, server: StoreServer, faults: Faults, seed: int = 0) -> None:
        """Start it in a thread of its own, at `port`."""
        self.server = server
        self.faults = faults
        self.counters: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        started = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)

    def datastore(self, name: str) -> tuple[Datastore, Credentials]:
        """Return a datastore over a fresh container of the server, reached through the proxy."""
        return self.server.datastore(name, port=self.port)

    def script(self, kinds: Iterable[str]) -> None:
        """Say what happens to the next requests."""
        self.faults.script.extend(kinds)

    def end(self) -> None:
        """End it with all its connections."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        self._loop.close()

    # --- its thread -----------------------------------------------------------------------------

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        listening = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD_BYTES_MAX)
        self.port = listening.sockets[0].getsockname()[1]
        started.set()
        await self._ended.wait()
        listening.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await self._connection(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while request := await _message(reader):
                method, path = request.first.split(" ")[:2]
                fault = self._drawn(method, path)
                self.counters["requests"] += 1
                self.counters[method] += 1
                if fault:
                    self.counters[fault] += 1
                if fault == "reset":
                    return
                if fault in ("error", "throttled", "conflict"):
                    await _body(reader, request, _nowhere)
                    writer.write(self._refusal(fault))
                    await writer.drain()
                    continue
                if fault == "hang":
                    await _body(reader, request, _nowhere)
                    await self._ended.wait()
                    return
                if up is None:
                    up = await asyncio.open_connection(
                        "127.0.0.1", self.server.port, limit=_HEAD_BYTES_MAX
                    )
                if not await self._passed(request, method, fault, (reader, writer), up):
                    return
        finally:
            if up is not None:
                up[1].transport.abort()

    async def _passed(
        self,
        request: _Message,
        method: str,
        fault: str,
        down: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        up: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        """Pass one request on and its answer back; False when the connection is over then."""
        up[1].write(request.head)
        await _body(down[0], request, _into(up[1]))
        answer = await _message(up[0])
        while answer and answer.first.split(" ")[1] == "100":
            down[1].write(answer.head)
            answer = await _message(up[0])
        if answer is None:
            return False
        bare = method == "HEAD" or answer.first.split(" ")[1] in ("204", "304")
        if fault == "lost_reply":
            if not bare:
                await _body(up[0], answer, _nowhere)
            return False
        if fault == "stall":
            await asyncio.sleep(self.faults.stall_seconds)
        down[1].write(answer.head)
        if bare:
            await down[1].drain()
            return True
        left = self._chance.randrange(max(1, answer.length)) if fault == "cut" else None

        async def back(data: bytes) -> None:
            nonlocal left
            if left is not None:
                data, left = data[:left], left - len(data)
            self.counters["bytes"] += len(data)
            down[1].write(data)
            await down[1].drain()
            if left is not None and left <= 0:
                raise EOFError

        await _body(up[0], answer, back)
        await down[1].drain()
        return answer.length >= 0 or answer.chunked

    def _drawn(self, method: str, path: str) -> str:
        faults = self.faults
        if not faults.only(method, path):
            return ""
        if faults.script:
            return faults.script.popleft()
        drawn = self._chance.random()
        for kind in FAULTS:
            share: float = getattr(faults, kind)
            if drawn < share:
                return "" if kind == "conflict" and method != "PUT" else kind
            drawn -= share
        return ""

    def _refusal(self, fault: str) -> bytes:
        status, code = {
            "error": self._chance.choice(
                (("500 Internal Server Error", "InternalError"), ("503 Busy", "ServerBusy"))
            ),
            "throttled": self._chance.choice(
                (("503 Slow Down", "SlowDown"), ("429 Too Many Requests", "TooManyRequests"))
            ),
            "conflict": ("409 Conflict", "ConditionalRequestConflict"),
        }[fault]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>x</Message></Error>"
        return (
            f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


Sink = Callable[[bytes], Awaitable[None]]


async def _nowhere(data: bytes) -> None:
    """Take bytes that nobody gets."""


def _into(writer: asyncio.StreamWriter) -> Sink:
    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return write


async def _message(reader: asyncio.StreamReader) -> _Message | None:
    """Read the head of the next message; None when there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode("latin-1").split("\r\n")
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:] if line)
    }
    chunked = "chunked" in fields.get("transfer-encoding", "")
    asked = lines[0].endswith(("HTTP/1.1", "HTTP/1.0"))
    length = int(fields.get("content-length", "0" if asked else "-1"))
    return _Message(lines[0], head, length, chunked)


async def _body(reader: asyncio.StreamReader, message: _Message, sink: Sink) -> None:
    if message.chunked:
        while True:
            line = await reader.readline()
            size = int(line.split(b";")[0], 16)
            await sink(line + await reader.readexactly(size + 2))
            if not size:
                return
    left = message.length
    while left:
        data = await reader.read(_CHUNK_BYTES if left < 0 else min(left, _CHUNK_BYTES))
        if not data:
            return
        left -= len(data) if left > 0 else 0
        await sink(data)
