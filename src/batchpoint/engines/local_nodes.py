"""The local node pool: agents on this machine, owned by the supervisor and leased to jobs.

A node outlives the job that used it by its compute's idle time, with environment and model warm,
and is then ended: that is scale to zero.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from batchpoint.domain.errors import Unavailable
from batchpoint.engines.zygote import Child, Zygote
from batchpoint.node.agent import sweep

# An agent that was told to end gives user code a moment, and itself no more than this.
_HUNG_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """What a job wants: one node of `compute`; `affinity` names what should be warm on it."""

    job: str
    compute: str
    max_instances: int
    idle_seconds: float
    affinity: str


@dataclass(slots=True)
class PooledNode:
    """An agent process and the unix socket it listens on; without affinity nothing is loaded."""

    id: str
    compute: str
    socket: Path
    child: Child
    affinity: str = ""
    job: str | None = None
    idle_since: float | None = None
    expiry: asyncio.TimerHandle | None = field(default=None, repr=False)


class NodePool:
    """All nodes of this machine, by compute; used on the supervisor's event loop only."""

    def __init__(
        self,
        zygote: Zygote,
        runtime_dir: Path,
        *,
        idle_max: int,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """Create an empty pool; agents' sockets go into `runtime_dir`.

        At most `idle_max` nodes are kept warm, whatever the idle times of their computes: each
        holds a model in memory.
        """
        self._idle_max = idle_max
        self._zygote = zygote
        self._runtime_dir = runtime_dir
        for left in runtime_dir.glob("*.work"):  # of nodes that were killed with their supervisor
            sweep(left.with_suffix(".sock"))
        self._nodes: dict[str, PooledNode] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._starting: dict[str, int] = {}
        self._serial = 0
        self._on_change = on_change or (lambda: None)

    def __len__(self) -> int:
        """Count the nodes that run now, warm ones included."""
        return len(self._nodes) + sum(self._starting.values())

    def describe(self) -> list[dict[str, object]]:
        """Tell what each node is doing, for `compute show` and `down`."""
        return [
            {"node": node.id, "compute": node.compute, "job": node.job, "pid": node.child.pid}
            for node in self._nodes.values()
        ]

    async def lease(self, request: LeaseRequest) -> PooledNode:
        """Get a node for a job: a warm one that fits, a new one, or a warm one that does not fit.

        Waits, first come first served, while all `max_instances` nodes are leased.

        Raises:
            Unavailable: the machine has no room for another process now.
        """
        while True:
            idle = [n for n in self._of(request.compute) if n.job is None]
            for affinity in (request.affinity, ""):
                for node in idle:
                    if node.affinity == affinity:
                        return self._take(node, request)
            running = len(self._of(request.compute)) + self._starting.get(request.compute, 0)
            if running < request.max_instances:
                return self._take(await self._start(request), request)
            if idle:
                return self._take(idle[0], request)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(request.compute, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._changed(request.compute)  # the turn was ours, and is the next one's now
                raise

    def give_back(self, node: PooledNode, idle_seconds: float) -> None:
        """End a lease; the node stays warm for `idle_seconds`, or ends now when that is 0."""
        if node.id not in self._nodes or node.job is None:
            return
        node.job = None
        if idle_seconds <= 0:
            self.end(node)
            return
        loop = asyncio.get_running_loop()
        node.idle_since = loop.time()
        node.expiry = loop.call_later(idle_seconds, self.end, node)
        idle = [each for each in self._nodes.values() if each.idle_since is not None]
        if len(idle) > self._idle_max:
            self.end(min(idle, key=lambda each: each.idle_since or 0.0))
        self._changed(node.compute)

    def end(self, node: PooledNode) -> None:
        """End a node now; its agent kills its workers on SIGTERM, and is gone shortly after.

        An agent that hangs is killed: its workers end with it.
        """
        if self._nodes.pop(node.id, None) is None:
            return
        if node.expiry is not None:
            node.expiry.cancel()
        node.child.terminate()
        hung = asyncio.get_running_loop().call_later(_HUNG_SECONDS, node.child.kill)
        node.child.exited.add_done_callback(lambda _: hung.cancel())
        self._changed(node.compute)

    async def close(self) -> None:
        """End all nodes and wait until they are gone."""
        nodes = list(self._nodes.values())
        for node in nodes:
            self.end(node)
        if nodes:
            await asyncio.wait([n.child.exited for n in nodes], timeout=5)
        for node in nodes:
            node.child.kill()

    def _of(self, compute: str) -> list[PooledNode]:
        return [node for node in self._nodes.values() if node.compute == compute]

    def _take(self, node: PooledNode, request: LeaseRequest) -> PooledNode:
        if node.expiry is not None:
            node.expiry.cancel()
            node.expiry = None
        node.idle_since = None
        node.job = request.job
        node.affinity = request.affinity
        return node

    async def _start(self, request: LeaseRequest) -> PooledNode:
        """Start a node; a caller that gives up meanwhile leaves a warm node, never a lost one."""
        starting = asyncio.ensure_future(self._spawn(request))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(
                lambda done: self._give_back_started(done, request.idle_seconds)
            )
            raise

    def _give_back_started(self, done: asyncio.Future[PooledNode], idle_seconds: float) -> None:
        if not done.cancelled() and done.exception() is None:
            self.give_back(done.result(), idle_seconds)

    async def _spawn(self, request: LeaseRequest) -> PooledNode:
        self._serial += 1
        identity = f"{request.compute}-{self._serial}"
        socket = self._runtime_dir / f"n{self._serial}.sock"
        socket.unlink(missing_ok=True)
        self._starting[request.compute] = self._starting.get(request.compute, 0) + 1
        try:
            child = await self._zygote.spawn("agent", {"node": identity, "socket": str(socket)})
        except Unavailable:
            # After the count below is right again: whoever waits may have the place.
            asyncio.get_running_loop().call_soon(self._changed, request.compute)
            raise
        finally:
            self._starting[request.compute] -= 1
        node = PooledNode(identity, request.compute, socket, child)
        node.job = request.job
        self._nodes[identity] = node
        child.exited.add_done_callback(lambda _: self._ended(node))
        return node

    def _ended(self, node: PooledNode) -> None:
        sweep(node.socket)
        if self._nodes.pop(node.id, None) is not None:
            if node.expiry is not None:
                node.expiry.cancel()
            self._changed(node.compute)
        self._on_change()

    def _changed(self, compute: str) -> None:
        queue = self._waiting.get(compute)
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        self._on_change()
