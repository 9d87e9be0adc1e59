"""The node pool: warm nodes are reused, shared in turn, limited in number, and never lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from batchpoint.domain.errors import Unavailable
from batchpoint.engines import local_nodes
from batchpoint.engines.local_nodes import LeaseRequest, NodePool
from batchpoint.engines.zygote import Child, Zygote


class Children:
    """In a zygote's place: children that exist by name only, and end when told to."""

    def __init__(self) -> None:
        self.alive: dict[int, asyncio.Future[int]] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def spawn(self, target: str, arguments: dict[str, object]) -> Child:
        await self.gate.wait()
        assert target == "agent"
        pid = len(self.alive) + 1
        self.alive[pid] = asyncio.get_running_loop().create_future()
        child = Child(pid, self.alive[pid])
        child.terminate = lambda: self.alive[pid].set_result(0)
        return child

    def running(self) -> int:
        return sum(not end.done() for end in self.alive.values())


@pytest.fixture
def children() -> Children:
    return Children()


@pytest.fixture
def pool(children: Children, tmp_path: Path) -> NodePool:
    return NodePool(cast("Zygote", children), tmp_path, idle_max=2)


def want(affinity: str = "a", *, instances: int = 4, compute: str = "local") -> LeaseRequest:
    return LeaseRequest("job", compute, instances, 60.0, affinity)


async def test_a_warm_node_that_fits_is_taken_again(pool: NodePool, children: Children) -> None:
    first = await pool.lease(want())
    pool.give_back(first, 60.0)
    assert await pool.lease(want()) is first
    assert children.running() == 1


async def test_a_full_compute_makes_the_next_wait_for_its_turn(pool: NodePool) -> None:
    one = await pool.lease(want(instances=1))
    waiting = [asyncio.ensure_future(pool.lease(want(instances=1))) for _ in range(2)]
    await asyncio.sleep(0)
    pool.give_back(one, 60.0)
    assert await waiting[0] is one
    assert not waiting[1].done()
    waiting[1].cancel()


async def test_a_cancelled_turn_passes_to_the_next(pool: NodePool) -> None:
    one = await pool.lease(want(instances=1))
    first, second = (asyncio.ensure_future(pool.lease(want(instances=1))) for _ in range(2))
    await asyncio.sleep(0)
    pool.give_back(one, 60.0)
    first.cancel()
    assert await second is one


async def test_a_lease_given_up_while_its_node_starts_loses_no_node(
    pool: NodePool, children: Children
) -> None:
    children.gate.clear()
    lease = asyncio.ensure_future(pool.lease(want()))
    await asyncio.sleep(0)
    lease.cancel()
    children.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await lease
    for _ in range(5):  # turns of the loop until the node is there
        await asyncio.sleep(0)
    assert [node["job"] for node in pool.describe()] == [None]
    assert (await pool.lease(want())).id == pool.describe()[0]["node"]
    assert children.running() == 1


async def test_no_idle_time_ends_the_node_at_once(pool: NodePool, children: Children) -> None:
    pool.give_back(await pool.lease(want()), 0.0)
    assert (len(pool), children.running()) == (0, 0)


async def test_only_so_many_nodes_stay_warm(pool: NodePool, children: Children) -> None:
    nodes = [await pool.lease(want(affinity)) for affinity in "abc"]
    for node in nodes:
        pool.give_back(node, 60.0)
    assert children.running() == 2
    assert [node["node"] for node in pool.describe()] == [nodes[1].id, nodes[2].id]


async def test_a_node_that_ends_makes_room(pool: NodePool, children: Children) -> None:
    one = await pool.lease(want(instances=1))
    waiting = asyncio.ensure_future(pool.lease(want(instances=1)))
    await asyncio.sleep(0)
    children.alive[one.child.pid].set_result(-9)
    assert (await waiting).id != one.id
    await pool.close()
    assert children.running() == 0


async def test_what_is_loaded_is_preferred_to_a_node_with_nothing(pool: NodePool) -> None:
    empty, loaded = await pool.lease(want()), await pool.lease(want())
    empty.affinity = ""
    for node in (empty, loaded):
        pool.give_back(node, 60.0)
    assert await pool.lease(want()) is loaded
    assert await pool.lease(want()) is empty


async def test_an_agent_that_does_not_end_is_killed(
    pool: NodePool, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_nodes, "_HUNG_SECONDS", 0.01)
    node = await pool.lease(want())
    killed = children.alive[node.child.pid]
    node.child.terminate = lambda: None  # it hangs
    node.child.kill = lambda: killed.set_result(-9)
    pool.end(node)
    assert await asyncio.wait_for(node.child.exited, 10) == -9


async def test_a_node_that_cannot_be_started_leaves_its_place(
    pool: NodePool, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    children.gate.clear()
    spawn, failures = children.spawn, [Unavailable("no room")]

    async def once_not(target: str, arguments: dict[str, object]) -> Child:
        await children.gate.wait()
        if failures:
            raise failures.pop()
        return await spawn(target, arguments)

    monkeypatch.setattr(children, "spawn", once_not)
    first = asyncio.ensure_future(pool.lease(want(instances=1)))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(pool.lease(want(instances=1)))
    await asyncio.sleep(0)
    children.gate.set()
    with pytest.raises(Unavailable):
        await first
    assert (await asyncio.wait_for(second, 10)).job == "job"
    assert len(pool) == 1
