"""Reads the worker protocol from a pipe piecemeal, with bounded memory.

A body over `SPOOL_BYTES_MIN` goes to an unlinked temporary file as it arrives and is handed on as a
memory map, so that a result of any size needs no memory of its own.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from batchpoint_worker import protocol

SPOOL_BYTES_MIN = 8 * 1024 * 1024

Header = dict[str, Any]
Body = bytes | memoryview


class WorkerMessages:
    """Cuts what a worker writes into (header, body) messages."""

    def __init__(self, spool_dir: Path) -> None:
        """Large bodies are spooled into `spool_dir`."""
        self._spool_dir = spool_dir
        self._buffer = bytearray()
        self._header: Header | None = None
        self._spool: BinaryIO | None = None
        self._spool_left = 0

    def feed(self, data: bytes) -> list[tuple[Header, Body]]:
        """Take what was read and return the messages that are complete now.

        Raises:
            ProtocolError: the worker sent something that is not a message.
            OSError: a large body found no room in the spool directory.
        """
        messages: list[tuple[Header, Body]] = []
        rest: memoryview | bytes = data
        if self._spool is not None:
            rest = self._spooled(memoryview(data), messages)
        self._buffer += rest
        while self._spool is None and self._next(messages):
            pass
        return messages

    def close(self) -> None:
        """Forget a message that will never be complete."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _next(self, messages: list[tuple[Header, Body]]) -> bool:
        buffer = self._buffer
        if len(buffer) < protocol.HEADER.size:
            return False
        head, body = protocol.HEADER.unpack_from(buffer, 0)
        if head > protocol.HEADER_BYTES_MAX:
            raise protocol.ProtocolError(f"a message header of {head} bytes is over the limit")
        begin = protocol.HEADER.size + head
        if body >= SPOOL_BYTES_MIN:
            if len(buffer) < begin:
                return False
            self._header = _parsed(buffer[protocol.HEADER.size : begin])
            self._spool = tempfile.TemporaryFile(dir=self._spool_dir, buffering=0)  # noqa: SIM115
            self._spool_left = body
            arrived = bytes(buffer[begin:])
            buffer.clear()
            buffer += self._spooled(memoryview(arrived), messages)
            return True
        end = begin + body
        if len(buffer) < end:
            return False
        header = _parsed(buffer[protocol.HEADER.size : begin])
        messages.append((header, bytes(buffer[begin:end])))
        del buffer[:end]
        return True

    def _spooled(self, data: memoryview, messages: list[tuple[Header, Body]]) -> memoryview:
        """Write to the spool; when its body is complete, emit the message and return the rest."""
        spool, header = self._spool, self._header
        assert spool is not None
        assert header is not None
        mine = data[: self._spool_left]
        while mine:
            written = spool.write(mine)
            self._spool_left -= written or 0
            mine = mine[written or 0 :]
            data = data[written or 0 :]
        if self._spool_left == 0:
            mapped = mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ)
            messages.append((header, memoryview(mapped)))
            self.close()
            self._header = None
        return data


def _parsed(head: bytearray) -> Header:
    try:
        header: object = json.loads(bytes(head))
    except ValueError as error:
        raise protocol.ProtocolError(f"a message header is not JSON: {error}") from error
    if not isinstance(header, dict) or "op" not in header:
        raise protocol.ProtocolError("a message header has no op")
    return header  # pyright: ignore[reportUnknownVariableType] - JSON has string keys


class WorkerOrders:
    """Writes the worker protocol to a non-blocking pipe; what does not fit waits in memory."""

    def __init__(self, fd: int) -> None:
        """Write to `fd`, which is non-blocking."""
        self._fd = fd
        self._waiting = bytearray()

    def send(self, header: Header) -> bool:
        """Send a message; False: some of it waits for `flush` when the pipe is writable."""
        data = protocol.encode(header)
        if not self._waiting:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._fd, data) :]
        self._waiting += data
        return not self._waiting

    def flush(self) -> bool:
        """Write on; True when nothing waits any more. Raises BrokenPipeError."""
        with contextlib.suppress(BlockingIOError):
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting)]
        return not self._waiting
