"""What a runner holds: no more nodes than it wants, no fewer, and none after its end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from batchpoint.domain.errors import Unavailable
from batchpoint.engines.local_nodes import LeaseRequest, NodePool
from batchpoint.engines.zygote import Child, Zygote
from batchpoint.runner import node_lease
from batchpoint.runner.node_lease import NodeLease


class Machine:
    """In a zygote's place: children by name only, and a machine that may be full."""

    def __init__(self) -> None:
        self.alive: dict[int, asyncio.Future[int]] = {}
        self.full = 0

    async def spawn(self, target: str, arguments: dict[str, object]) -> Child:
        await asyncio.sleep(0)
        assert target == "agent"
        if self.full:
            self.full -= 1
            raise Unavailable("no room for another process")
        pid = len(self.alive) + 1
        self.alive[pid] = asyncio.get_running_loop().create_future()
        child = Child(pid, self.alive[pid])
        child.terminate = lambda: self.alive[pid].set_result(0)
        return child


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def pool(machine: Machine, tmp_path: Path) -> NodePool:
    return NodePool(cast("Zygote", machine), tmp_path, idle_max=9)


class Told:
    """What the runner was told, and a way to wait for more of it."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def __call__(self, message: dict[str, object]) -> None:
        self.all.append(message)

    @property
    def nodes(self) -> list[str]:
        return [each["node"] for each in self.all if "node" in each]


def lease(pool: NodePool, told: Told, *, instances: int = 4) -> NodeLease:
    return NodeLease(pool, LeaseRequest("job", "local", instances, 60.0, "a"), told)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("pause", range(12))
async def test_a_second_wish_while_nodes_come_is_counted_right(pool: NodePool, pause: int) -> None:
    told = Told()
    one = lease(pool, told)
    one.want(1, [])
    await turns(pause)  # the first node is at any stage of its coming
    one.want(3, [])
    await turns()
    assert len(told.nodes) == len(set(told.nodes)) == 3


async def test_nodes_that_are_not_here_yet_are_called_off(pool: NodePool) -> None:
    other, told = lease(pool, Told(), instances=2), Told()
    other.want(2, [])
    await turns()
    one = lease(pool, told, instances=2)
    one.want(2, [])
    await turns()
    one.want(1, [])
    other.close()
    await turns()
    assert len(told.nodes) == 1
    assert sum(node["job"] is None for node in pool.describe()) == 1


async def test_a_lost_node_is_replaced_and_its_end_is_told(
    pool: NodePool, machine: Machine
) -> None:
    told = Told()
    one = lease(pool, told)
    one.want(1, [])
    await turns()
    machine.alive[1].set_result(-9)
    await turns()
    assert told.all[-1] == {"gone": told.nodes[0]}
    one.want(1, [told.nodes[0]])
    await turns()
    assert len(told.nodes) == 2
    assert [node["node"] for node in pool.describe()] == told.nodes[1:]


async def test_on_a_full_machine_nodes_come_later(
    pool: NodePool, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_lease, "_NO_ROOM_SECONDS", 0.0)
    machine.full = 2
    told = Told()
    lease(pool, told).want(2, [])
    await turns(40)
    assert len(told.nodes) == 2


async def test_the_end_gives_everything_back_once(pool: NodePool) -> None:
    told = Told()
    one = lease(pool, told)
    one.want(2, [])
    await turns()
    one.want(4, [])
    one.close()
    one.close()
    await turns()
    assert len(told.nodes) == 2
    assert all(node["job"] is None for node in pool.describe())
