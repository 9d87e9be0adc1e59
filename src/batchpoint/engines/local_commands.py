"""Commands on nodes of this machine, leased from the supervisor's pool; a `CommandEngine`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Protocol, TypeVar

from batchpoint.core.messages import NodeLost
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError, Unavailable
from batchpoint.domain.job import Job
from batchpoint.domain.job_spec import NodeSpec
from batchpoint.engines.lease_line import LeaseLine, LeaseTerms
from batchpoint.node.agent_connection import AgentConnection
from batchpoint.node.command_attempt import withdraw_attempt
from batchpoint.node.command_order import CommandEnd, CommandOrder, Heard, heard_by_nobody

_LOOK_SECONDS = 1.0
# A node that is not needed any more is kept for the next step, which may come at once.
_KEPT_SECONDS = 1.0
# After a stop a command has its moment to end, and its node one to tell; then the node is ended.
_STOP_SECONDS_MAX = 20.0
# Nodes that cannot even be reached are replaced ever more slowly.
_REPLACE_SECONDS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)

_T = TypeVar("_T")


class SupervisorPlace(Protocol):
    """What is needed to reach the nodes of this machine; a `LocalPlace` is one."""

    @property
    def supervisor_socket(self) -> Path:
        """Where the supervisor leases nodes."""
        ...


class LocalCommands:
    """Runs the commands of one pipeline, each on a node of its compute; a `CommandEngine`.

    Used on one event loop only. As many nodes of a compute are leased as commands run or wait
    there, within what the compute may have.
    """

    def __init__(self, job: Job, place: SupervisorPlace) -> None:
        """Nothing is leased before the first command; `job` is the pipeline."""
        self._job = job
        self._place = place
        self._fleets: dict[str, _Fleet] = {}
        self._running: dict[asyncio.Task[CommandEnd], tuple[AgentConnection, CommandOrder]] = {}
        self._closed = False

    async def run(self, order: CommandOrder, heard: Heard = heard_by_nobody) -> CommandEnd:
        """See `CommandEngine`."""
        if self._closed:
            raise Unavailable("the nodes of this pipeline were given back")
        fleet = self._fleet(order.spec)
        connection = await fleet.take()
        running = asyncio.create_task(self._attempt(fleet, connection, order, heard))
        self._running[running] = connection, order
        running.add_done_callback(self._running.pop)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await _to_the_end(self._stop(running))
            raise

    async def close(self) -> None:
        """See `CommandEngine`."""
        self._closed = True
        for fleet in self._fleets.values():
            fleet.refuse()
        await asyncio.gather(*map(self._stop, list(self._running)))
        for fleet in self._fleets.values():
            await fleet.close()

    def _fleet(self, spec: NodeSpec) -> _Fleet:
        fleet = self._fleets.get(spec.compute)
        if fleet is None:
            terms = LeaseTerms(
                job=self._job.name,
                compute=spec.compute,
                max_instances=spec.max_instances,
                idle_seconds=spec.idle_seconds,
                affinity="",  # commands leave nothing warm behind
            )
            fleet = self._fleets[spec.compute] = _Fleet(self._place.supervisor_socket, terms)
        return fleet

    async def _attempt(
        self, fleet: _Fleet, connection: AgentConnection, order: CommandOrder, heard: Heard
    ) -> CommandEnd:
        watching = asyncio.create_task(_watch(connection))
        try:
            return await connection.run_command(order, heard)
        except Unavailable as error:
            if connection.alive or error.code == "lease_lost":
                raise  # the node has said so itself, and nothing of it runs there
            connection.hang_up()
            # When this returns nothing of it runs any more, and nothing is left where it wrote.
            await asyncio.to_thread(withdraw_attempt, order)
            raise Unavailable(
                f"node {connection.node} was lost with the command of {order.job}: {error.message}",
                code="node_lost",
            ) from error
        finally:
            watching.cancel()
            fleet.put_back(connection)

    async def _stop(self, running: asyncio.Task[CommandEnd]) -> None:
        """Stop a command; a node that does not manage to is ended, and the command with it."""
        told = self._running.get(running)
        if told is None:
            return
        connection, order = told
        with contextlib.suppress(BatchpointError, TimeoutError):
            await asyncio.wait_for(connection.stop_command(order.job), _STOP_SECONDS_MAX)
        _, stuck = await asyncio.wait({running}, timeout=_STOP_SECONDS_MAX)
        if stuck:
            connection.hang_up()
            await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # whatever it was, it has ended


class _Fleet:
    """The nodes of one compute that this pipeline holds, and the commands that wait for one."""

    def __init__(self, supervisor_socket: Path, terms: LeaseTerms) -> None:
        self._socket = supervisor_socket
        self._terms = terms
        self._line: LeaseLine | None = None
        self._opening = asyncio.Lock()
        self._waiting: deque[asyncio.Future[AgentConnection]] = deque()
        self._idle: list[AgentConnection] = []
        self.busy: set[AgentConnection] = set()
        self._lost: list[str] = []
        self._useless = 0  # nodes in a row that could not be reached
        self._tasks: set[asyncio.Task[None]] = set()
        self._surplus: asyncio.TimerHandle | None = None
        self._fault: Unavailable | None = None

    async def take(self) -> AgentConnection:
        """Get a node that nobody uses, waiting for one as long as it takes.

        Raises:
            Unavailable: the supervisor is gone, so that no node will come.
        """
        if self._fault is not None:
            raise self._fault
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                self.busy.add(connection)
                return connection
        await self._open()
        turn: asyncio.Future[AgentConnection] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            self._ask()
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.put_back(turn.result())  # it came in the very moment
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._ask()

    def put_back(self, connection: AgentConnection) -> None:
        """Let another command have a node; a lost one is replaced when somebody waits."""
        self.busy.discard(connection)
        if connection.alive:
            self._offer(connection)

    def refuse(self) -> None:
        """Let nobody wait for a node any more."""
        self._fail(Unavailable("the nodes of this pipeline were given back"))

    async def close(self) -> None:
        """Give everything back; what still runs on these nodes is killed."""
        if self._surplus is not None:
            self._surplus.cancel()
        for task in list(self._tasks):
            task.cancel()
        for connection in (*self._idle, *self.busy):
            connection.hang_up()
        self._idle.clear()
        if self._line is not None:
            self._line.close()

    # --- the lease ------------------------------------------------------------------------------

    async def _open(self) -> None:
        async with self._opening:
            if self._line is None:
                self._line = await LeaseLine.open(self._socket, self._terms)
                self._go(self._receive(self._line))

    async def _receive(self, line: LeaseLine) -> None:
        with contextlib.suppress(ConnectionError):
            await line.receive(lambda node, socket: self._go(self._serve(line, node, socket)))
        self._fail(Unavailable("the supervisor is gone, and all nodes with it"))

    def _ask(self, back: tuple[str, ...] = ()) -> None:
        """Tell the supervisor how many nodes are wanted now."""
        if self._line is None or self._fault is not None:
            return
        lost, self._lost = self._lost, []
        count = len(self._waiting) + len(self.busy) + len(self._idle)
        self._line.want(count, lost, back)

    async def _serve(self, line: LeaseLine, node: str, socket: Path) -> None:
        """Reach a node that was leased, offer it, and take note of its end."""
        try:
            connection = await line.reach(node, socket)
        except Unavailable:
            await asyncio.sleep(_REPLACE_SECONDS[min(self._useless, len(_REPLACE_SECONDS) - 1)])
            self._useless += 1
        else:
            self._useless = 0
            self._offer(connection)
            lost = [event async for event in connection.events() if isinstance(event, NodeLost)]
            if connection in self._idle:
                self._idle.remove(connection)
            if not lost:  # it was given back
                return
        self._lost.append(node)
        self._ask()

    def _offer(self, connection: AgentConnection) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self.busy.add(connection)
                turn.set_result(connection)
                return
        self._idle.append(connection)
        if self._surplus is None:
            loop = asyncio.get_running_loop()
            self._surplus = loop.call_later(_KEPT_SECONDS, self._give_surplus_back)

    def _give_surplus_back(self) -> None:
        self._surplus = None
        idle, self._idle = self._idle, []
        for connection in idle:
            self._go(self._give_back(connection))

    async def _give_back(self, connection: AgentConnection) -> None:
        """Hang up first, so that the node serves whoever gets it next."""
        await connection.close()
        self._ask(back=(connection.node,))

    def _fail(self, error: Unavailable) -> None:
        self._fault = self._fault or error
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)

    def _go(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _watch(connection: AgentConnection) -> None:
    """Hang up on a node that runs a command and says nothing for long: it hangs, and is replaced.

    What counts is time in which this process itself was there to hear something.
    """
    heard, silent = connection.messages, 0.0
    while silent < limits.NODE_SILENCE_SECONDS_MAX:
        await asyncio.sleep(_LOOK_SECONDS)
        silent = silent + _LOOK_SECONDS if connection.messages == heard else 0.0
        heard = connection.messages
    connection.hang_up(f"it has said nothing for {silent:.0f} s")


async def _to_the_end(work: Awaitable[_T]) -> _T:
    """Wait for something that has to be finished, however often we are told to stop."""
    task = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
