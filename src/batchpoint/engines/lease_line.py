"""The line to the supervisor over which a runner leases nodes of one compute."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from batchpoint.domain.errors import Unavailable
from batchpoint.node.agent_connection import AgentConnection

_CONNECT_SECONDS_MAX = 20.0
_CONNECT_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """What is asked for: nodes of `compute` for `job`; `affinity` names what should be warm.

    A node stays warm for `idle_seconds` after it was given back.
    """

    job: str
    compute: str
    max_instances: int
    idle_seconds: float
    affinity: str


class LeaseLine:
    """Leases nodes over the supervisor's socket; ends all leases when it is closed.

    Used on one event loop only; make it with `open`.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over an open connection; use `open`."""
        self._reader = reader
        self._writer = writer
        self._gone: dict[str, asyncio.Event] = {}  # nodes being reached, and whether they ended

    @classmethod
    async def open(cls, supervisor_socket: Path, terms: LeaseTerms) -> LeaseLine:
        """Connect; nothing is leased before `want`.

        Raises:
            Unavailable: the supervisor does not answer.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(str(supervisor_socket))
        except OSError as error:
            raise Unavailable(f"the supervisor does not answer on {supervisor_socket}") from error
        line = cls(reader, writer)
        line._write({"op": "lease", **asdict(terms)})
        return line

    def want(self, count: int, lost: Sequence[str] = (), back: Sequence[str] = ()) -> None:
        """Have `count` nodes in all; `lost` ones are ended, those given `back` stay warm."""
        self._write({"count": count, "lost": list(lost), "back": list(back)})

    async def receive(self, serve: Callable[[str, Path], None]) -> None:
        """Call `serve` with name and socket of each node that comes, until the supervisor ends."""
        while line := await self._reader.readline():
            told = json.loads(line)
            if "gone" in told:
                if (gone := self._gone.get(told["gone"])) is not None:
                    gone.set()
            else:
                serve(told["node"], Path(told["socket"]))

    async def reach(self, node: str, socket: Path) -> AgentConnection:
        """Connect to an agent that may still be starting.

        Raises:
            Unavailable: it has ended, or does not answer for too long.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CONNECT_SECONDS_MAX
        gone = self._gone[node] = asyncio.Event()
        try:
            while True:
                try:
                    return await AgentConnection.connect(socket, node)
                except Unavailable:
                    if gone.is_set() or loop.time() > deadline:
                        raise
                    await asyncio.sleep(_CONNECT_POLL_SECONDS)
        finally:
            del self._gone[node]

    def close(self) -> None:
        """Give everything back; idempotent."""
        self._writer.close()

    def _write(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")
