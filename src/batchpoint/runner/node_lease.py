"""The nodes of one job as its runner holds them: as many as it wants, given back with its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog

from batchpoint.domain.errors import Unavailable
from batchpoint.engines.local_nodes import LeaseRequest, NodePool, PooledNode

_log = structlog.get_logger(__name__)
_NO_ROOM_SECONDS = 1.0


class NodeLease:
    """Leases nodes from the pool for one runner; used on the supervisor's event loop only.

    The runner is told `{"node", "socket"}` of each node it gets, and `{"gone"}` when one has ended.
    """

    def __init__(
        self, nodes: NodePool, request: LeaseRequest, tell: Callable[[dict[str, object]], None]
    ) -> None:
        """Nothing is leased before `want`."""
        self._nodes = nodes
        self._request = request
        self._tell = tell
        self._held: list[PooledNode] = []
        self._coming: set[asyncio.Task[None]] = set()
        self._closed = False

    def want(self, count: int, lost: Collection[str], back: Collection[str] = ()) -> None:
        """Have `count` nodes in all, those that are `lost` or given `back` not among them.

        A lost node is ended, one that is given back stays warm for whoever comes next. Nodes that
        are still on their way are called off when there are too many; none that is here.
        """
        for node in [node for node in self._held if node.id in lost]:
            self._held.remove(node)
            self._nodes.end(node)
        for node in [node for node in self._held if node.id in back]:
            self._held.remove(node)
            self._nodes.give_back(node, self._request.idle_seconds)
        missing = min(count, self._request.max_instances) - len(self._held) - len(self._coming)
        for _ in range(missing):
            self._coming.add(asyncio.get_running_loop().create_task(self._get()))
        for task in list(self._coming)[: max(0, -missing)]:
            self._call_off(task)

    def close(self) -> None:
        """Give everything back."""
        self._closed = True
        for task in list(self._coming):
            self._call_off(task)
        for node in self._held:
            self._nodes.give_back(node, self._request.idle_seconds)
        self._held.clear()

    async def _get(self) -> None:
        while True:
            try:
                node = await self._nodes.lease(self._request)
                break
            except Unavailable as error:
                _log.warning("no node now", job=self._request.job, error=str(error))
                await asyncio.sleep(_NO_ROOM_SECONDS)
        task = asyncio.current_task()
        assert task is not None
        self._coming.discard(task)
        self._held.append(node)
        self._tell({"node": node.id, "socket": str(node.socket)})
        node.child.exited.add_done_callback(lambda _: self._ended(node))

    def _call_off(self, task: asyncio.Task[None]) -> None:
        self._coming.discard(task)
        task.cancel()

    def _ended(self, node: PooledNode) -> None:
        if not self._closed and node in self._held:
            self._tell({"gone": node.id})
