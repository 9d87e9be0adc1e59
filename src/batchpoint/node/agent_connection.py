"""The runner's end of the connection to one node agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchpoint.core.messages import (
    Assignment,
    AttemptError,
    NodeLost,
    NodeReady,
    Reported,
    WorkerFailed,
)
from batchpoint.domain.errors import Unavailable, error_from
from batchpoint.domain.minibatch import MiniBatch, Slice
from batchpoint.node import wire
from batchpoint.node.command_order import (
    CommandBeat,
    CommandEnd,
    CommandOrder,
    Heard,
    heard_by_nobody,
)

AgentEvent = NodeReady | NodeLost | Reported | WorkerFailed | wire.Heartbeat


class AgentConnection(asyncio.Protocol):
    """Speaks to one node agent; make it with `connect`. Used on one event loop only.

    A lost agent is an event (`NodeLost`, the last one), and fails what still waits for an answer
    with `Unavailable`.
    """

    def __init__(self, node: str) -> None:
        """Prepare the connection to the node called `node`; use `connect`."""
        self.node = node
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = wire.MessageBuffer()
        self._events: asyncio.Queue[AgentEvent | None] = asyncio.Queue()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._serial = 0
        self._closing = False
        self._fault = ""
        self._hear: Heard = heard_by_nobody
        self.messages = 0
        """How many messages have come: a node that works says something twice a second."""
        self._gone = asyncio.Event()

    @classmethod
    async def connect(cls, socket_path: Path, node: str) -> AgentConnection:
        """Connect to the agent that listens on `socket_path`.

        Raises:
            Unavailable: nobody listens there.
        """
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(
                lambda: cls(node), path=str(socket_path)
            )
        except OSError as error:
            raise Unavailable(
                f"node {node} does not answer on {socket_path}: {error.strerror}"
            ) from error
        return connection

    async def open(self, order: wire.NodeOrder) -> None:
        """Give the node its job; `NodeReady` follows when the first worker has loaded.

        Raises:
            Unavailable: the node is gone, or serves another runner.
        """
        await self._ask({"op": "open", "order": wire.order_to_json(order)})

    def assign(self, work: Sequence[tuple[MiniBatch, Assignment]]) -> None:
        """Hand tasks to the node; does nothing when it is gone (`NodeLost` comes)."""
        self._send({"op": "assign", "work": wire.work_to_json(work)})

    def retime(self, timeout_seconds: float) -> None:
        """Bound every `run` given out with a longer timeout by this one."""
        self._send({"op": "retime", "timeout_seconds": timeout_seconds})

    async def abort(self) -> None:
        """Stop user code of the job; returns when none runs any more."""
        await self._ask({"op": "abort"})

    async def index(self, whole: Slice, target_bytes: int) -> list[Slice]:
        """Cut a big item into slices of about `target_bytes` on record boundaries.

        Raises:
            Invalid: the item cannot be read (code input_unreadable).
            Unavailable: the node is gone.
        """
        message = {"op": "index", "slice": list(whole), "target_bytes": target_bytes}
        return wire.slices_from_json(await self._ask(message))

    async def assemble(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Write outputs where the bytes are; see `batchpoint.node.output_assembly`.

        Raises:
            BatchpointError: what the assembly raised, by its code.
        """
        return await self._ask({"op": "assemble", "request": dict(request)})

    async def run_command(self, order: CommandOrder, heard: Heard = heard_by_nobody) -> CommandEnd:
        """Run one attempt at a command; returns when nothing of it runs any more.

        `heard` is told how far it is.

        Raises:
            Conflict: the node has a job open, or runs another command.
            Unavailable: the node is gone.
            BatchpointError: an error of ours; nothing of the command runs.
        """
        self._hear = heard
        try:
            answer = await self._ask({"op": "run_command", "order": order.to_json()})
        finally:
            self._hear = heard_by_nobody
        return CommandEnd.from_json(answer)

    async def stop_command(self, job: str) -> None:
        """Have a command end (SIGTERM, then SIGKILL); `run_command` tells when it has.

        Raises:
            Unavailable: the node is gone.
        """
        await self._ask({"op": "stop_command", "job": job})

    @property
    def alive(self) -> bool:
        """Whether the agent can still be spoken to."""
        return self._transport is not None and not self._transport.is_closing()

    def hang_up(self, why: str = "") -> None:
        """Hang up at once: what runs for us there is killed, and `NodeLost` comes."""
        self._fault = self._fault or why
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """End the job on the node, whose loaded workers stay warm; idempotent, never raises."""
        if self._closing:
            return
        self._closing = True
        try:
            await self._ask({"op": "close"})
        except Unavailable:
            pass
        finally:
            if self._transport is not None:
                self._transport.close()
            await self._gone.wait()

    async def events(self) -> AsyncIterator[AgentEvent]:
        """Yield what the node tells, in order; ends after `NodeLost` or `close`."""
        while (event := await self._events.get()) is not None:
            yield event

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._buffer.feed(data)
        except Unavailable as error:
            self._fault = error.message
            assert self._transport is not None
            self._transport.abort()
            return
        self.messages += len(messages)
        for message in messages:
            self._told(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        broken = f"the connection broke: {exc}" if exc else "its agent has ended"
        cause = self._fault or broken
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable(f"node {self.node} is gone: {cause}"))
        self._waiting.clear()
        if not self._closing:
            self._events.put_nowait(NodeLost(self.node, cause))
        self._events.put_nowait(None)
        self._gone.set()

    def _told(self, message: wire.Message) -> None:
        op = message["op"]
        if op == "reported":
            results = wire.results_from_json(message["results"])
            self._events.put_nowait(Reported(self.node, message["part"], results))
        elif op == "heartbeat":
            self._events.put_nowait(
                wire.Heartbeat(
                    self.node,
                    message["phase"],
                    message["workers"],
                    message["rows"],
                    message["items"],
                    message["warning"],
                )
            )
        elif op == "command_beat":
            self._hear(CommandBeat(message["phase"], message["warning"]))
        elif op == "ready":
            self._events.put_nowait(NodeReady(self.node, message["slots"]))
        elif op == "worker_failed":
            self._events.put_nowait(WorkerFailed(self.node, AttemptError(*message["error"])))
        else:
            self._answered(message)

    def _answered(self, message: wire.Message) -> None:
        future = self._waiting.pop(message["id"], None)
        if future is None or future.done():
            return
        if "error" in message:
            error = message["error"]
            future.set_exception(error_from(error["code"], error["message"]))
        else:
            future.set_result(message["value"])

    def _send(self, message: wire.Message) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(wire.encode(message))
        return True

    async def _ask(self, message: wire.Message) -> Any:
        self._serial += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[self._serial] = future
        if not self._send({**message, "id": self._serial}):
            del self._waiting[self._serial]
            raise Unavailable(f"node {self.node} is gone: its agent has ended")
        return await future
