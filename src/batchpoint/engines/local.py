"""The local engine: nodes are agents on this machine, leased from the supervisor's pool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchpoint.core.messages import Assignment, NodeLost
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, Unavailable
from batchpoint.domain.job import Job
from batchpoint.domain.minibatch import MiniBatch, Slice
from batchpoint.engines.interface import EngineEvent
from batchpoint.engines.lease_line import LeaseLine, LeaseTerms
from batchpoint.node.agent_connection import AgentConnection
from batchpoint.node.output_assembly import assemble, withdraw
from batchpoint.node.output_request import AssembledOutput, AssembleRequest
from batchpoint.node.wire import NodeOrder

_ABORT_SECONDS_MAX = 10.0
_OPEN_SECONDS_MAX = 60.0
# Nodes that cannot even take the job up are replaced ever more slowly.
_REPLACE_SECONDS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """Where the local engine finds its nodes, what it may take of them, and what opens the data.

    `access` holds secrets and is never written anywhere.
    """

    supervisor_socket: Path
    job_dir: Path
    max_instances: int
    access: StorageAccess = field(default_factory=StorageAccess, repr=False)


class LocalEngine:
    """Nodes for one job, leased over the supervisor's socket; an `Engine`."""

    def __init__(self, job: Job, epoch: int, place: LocalPlace) -> None:
        """Nothing is leased before `provision`."""
        self._job = job
        self._epoch = epoch
        self._place = place
        self._events: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self._connections: dict[str, AgentConnection] = {}
        self._nodes: dict[str, AgentConnection] = {}  # those that have taken the job up
        self._any_node = asyncio.Event()
        self._useless = 0  # nodes lost in a row before they had taken the job up
        self._lost: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._line: LeaseLine | None = None
        self._closed = False

    async def events(self) -> AsyncIterator[EngineEvent]:
        """Yield what nodes tell, until `close`."""
        while (event := await self._events.get()) is not None:
            yield event

    async def provision(self, count: int) -> None:
        """Ask the supervisor for `count` nodes in all; lost ones are replaced."""
        if self._closed:
            return
        if self._line is None:
            self._line = await LeaseLine.open(self._place.supervisor_socket, self._terms())
            self._go(self._line.receive(self._came))
        lost, self._lost = self._lost, []
        self._line.want(count, lost)

    async def assign(self, node: str, assignments: Sequence[tuple[MiniBatch, Assignment]]) -> None:
        """Hand tasks to a node."""
        connection = self._nodes.get(node)
        if connection is not None:
            connection.assign(assignments)

    async def retime(self, timeout_seconds: float) -> None:
        """Pass a shorter timeout on to all nodes."""
        for connection in self._nodes.values():
            connection.retime(timeout_seconds)

    async def abort(self) -> None:
        """Stop all user code of the job now."""
        stopping = [asyncio.ensure_future(node.abort()) for node in self._nodes.values()]
        if not stopping:
            return
        done, stuck = await asyncio.wait(stopping, timeout=_ABORT_SECONDS_MAX)
        for each in stuck:  # the agent itself hangs; its node ends with the lease
            each.cancel()
        for each in done:
            each.exception()  # a node that is gone has stopped, too

    async def index(self, whole: Slice, target_bytes: int) -> list[Slice]:
        """Cut a big item on any node; another one is asked when that one is lost meanwhile."""
        while True:
            await self._any_node.wait()
            node = next(iter(self._nodes.values()), None)
            if node is None:
                self._any_node.clear()
                continue
            with contextlib.suppress(Unavailable):
                return await node.index(whole, target_bytes)
            self._nodes.pop(node.node, None)

    async def assemble(self, request: AssembleRequest) -> AssembledOutput:
        """Have a node write the output; with no node left it is written here, the same way."""
        for node in list(self._nodes.values()):
            with contextlib.suppress(Unavailable):
                return AssembledOutput.from_json(await node.assemble(request.to_json()))
        return await asyncio.to_thread(assemble, request, access=self._place.access)

    async def withdraw(self, request: AssembleRequest) -> None:
        """Remove what is left of an output that will not be completed, from this process."""
        await asyncio.to_thread(withdraw, request, self._place.access)

    async def close(self) -> None:
        """Give all nodes back."""
        if self._closed:
            return
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        closing = [connection.close() for connection in self._connections.values()]
        if closing:
            await asyncio.wait([asyncio.ensure_future(c) for c in closing], timeout=5)
        if self._line is not None:
            self._line.close()
        self._events.put_nowait(None)

    def _terms(self) -> LeaseTerms:
        spec = self._job.scoring
        code = spec.code.hash if spec.code else ""
        model = spec.model.hash if spec.model else ""
        return LeaseTerms(
            job=self._job.name,
            compute=spec.compute,
            max_instances=self._place.max_instances,
            idle_seconds=spec.idle_seconds,
            affinity=f"{spec.environment.hash}/{model}/{code}",
        )

    def _came(self, node: str, socket: Path) -> None:
        assert self._line is not None
        self._go(self._serve(self._line, node, socket))

    async def _serve(self, line: LeaseLine, node: str, socket: Path) -> None:
        """Open the job on one node and pass on what it tells, until it is gone."""
        opened = False
        try:
            connection = await line.reach(node, socket)
            self._connections[node] = connection
            spec = self._job.scoring
            order = NodeOrder(
                job=self._job.name,
                job_dir=self._place.job_dir,
                spec=spec,
                epoch=self._epoch,
                node=node,
                slots=spec.settings.max_concurrency_per_instance,
                access=self._place.access,
            )
            await asyncio.wait_for(connection.open(order), _OPEN_SECONDS_MAX)
            self._nodes[node] = connection
            opened = True
            self._any_node.set()
            self._useless = 0
            async for event in connection.events():
                if isinstance(event, NodeLost):
                    break
                self._events.put_nowait(event)
            cause = "its agent has ended"
        except BatchpointError as error:  # whatever it is, another node may have better luck
            cause = error.message
        except TimeoutError:
            cause = f"its agent did not take the job up in {_OPEN_SECONDS_MAX:.0f} s"
        self._nodes.pop(node, None)
        if not opened:
            await asyncio.sleep(_REPLACE_SECONDS[min(self._useless, len(_REPLACE_SECONDS) - 1)])
            self._useless += 1
        self._lost.append(node)
        self._events.put_nowait(NodeLost(node, cause))
        connection = self._connections.pop(node, None)
        if connection is not None:
            await connection.close()

    def _go(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
