"""Runners of a pipeline come and go: a recorded success never runs again, and only one writes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import JobState
from batchpoint.node.command_order import CommandEnd, CommandOrder
from tests.unit.runner.pipeline_world import World, fail, never, step_of, succeed

CHAIN = {"a": [], "b": ["a"], "c": ["b"]}


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, CHAIN)
    yield made
    made.ledger.close()


async def killed(world: World, running: asyncio.Task[JobState]) -> None:
    """End a runner as a kill does: nothing is written after this."""
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_the_next_runner_goes_on_behind_what_is_recorded(chain: World) -> None:
    chain.doing["b"] = never
    first = asyncio.create_task(chain.run())
    await asyncio.sleep(0)
    await chain.engine.until_running("b")
    await chain.until(lambda: chain.states()["b"] == "Running")
    await killed(chain, first)
    chain.doing.clear()
    assert await chain.run() is JobState.COMPLETED
    assert chain.runs == {"a": 1, "b": 2, "c": 1}
    assert [order.attempt for order in chain.engine.orders] == [1, 1]
    assert chain.status().attempts == 2
    assert "resumed" in chain.log()


async def test_attempts_that_failed_are_charged_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.make("p", [world.step("a", max_retries=2)])
    attempts: list[int] = []

    async def fail_then_hang(order: CommandOrder) -> CommandEnd:
        attempts.append(order.attempt)
        return await (fail if order.attempt == 1 else never)(order)

    world.doing["a"] = fail_then_hang
    first = asyncio.create_task(world.run())
    await world.until(lambda: world.ledger.get_job("p-a").status.attempts == 2)
    await killed(world, first)
    world.doing["a"] = fail
    assert await world.run() is JobState.FAILED
    assert attempts == [1, 2]
    assert [order.attempt for order in world.engine.orders] == [2, 3]
    world.ledger.close()


async def test_a_runner_that_lost_its_lease_stops_everything_and_writes_nothing(
    chain: World,
) -> None:
    chain.doing["b"] = never
    first = asyncio.create_task(chain.run())
    await asyncio.sleep(0)
    old = chain.engine
    await old.until_running("b")
    chain.doing["b"] = succeed
    second = chain.runner()
    with pytest.raises(Unavailable) as caught:
        await asyncio.wait_for(first, 4)
    assert caught.value.code == "lease_lost"
    assert old.stopped == ["b"]
    assert old.closed
    assert chain.states()["b"] in ("Queued", "Running")
    assert await second.run() is JobState.COMPLETED
    assert chain.runs == {"a": 1, "b": 2, "c": 1}


async def test_a_success_that_could_not_be_recorded_runs_again(chain: World) -> None:
    """Fencing: what ended after the lease was lost is nobody's result."""
    go = asyncio.Event()

    async def wait(order: CommandOrder) -> CommandEnd:
        await go.wait()
        return await succeed(order)

    chain.doing["a"] = wait
    first = asyncio.create_task(chain.run())
    await asyncio.sleep(0)
    await chain.engine.until_running("a")
    second = chain.runner()
    go.set()
    with pytest.raises(Unavailable):
        await first
    assert chain.states()["a"] != "Completed"
    assert await second.run() is JobState.COMPLETED
    assert chain.runs == {"a": 2, "b": 1, "c": 1}


async def test_consequences_that_were_not_drawn_are_drawn_by_the_next_runner(
    chain: World,
) -> None:
    """Everything was recorded, but the end of the pipeline was not."""
    real = chain.ledger.finish
    hung = asyncio.Event()
    loop = asyncio.get_running_loop()

    def die(*_arguments: object, **_named: object) -> None:
        loop.call_soon_threadsafe(hung.set)
        raise Unavailable("the disk is full", code="storage_full")

    chain.ledger.finish = die
    first = asyncio.create_task(chain.run())
    await hung.wait()
    await killed(chain, first)
    chain.ledger.finish = real
    assert await chain.run() is JobState.COMPLETED
    assert chain.runs == {"a": 1, "b": 1, "c": 1}


async def test_cancels_asked_for_while_nobody_ran_are_heard(chain: World) -> None:
    chain.ledger.request_cancel("p-b")
    assert await chain.run() is JobState.FAILED
    assert chain.states() == {"a": "Completed", "b": "Canceled", "c": "Canceled"}
    assert chain.runs == {"a": 1}


async def test_a_pipeline_canceled_before_it_began_runs_nothing(chain: World) -> None:
    chain.ledger.request_cancel("p")
    assert await chain.run() is JobState.CANCELED
    assert set(chain.states().values()) == {"Canceled"}
    assert chain.runs == {}


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10_000))
async def test_whoever_is_killed_no_recorded_success_runs_again(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    dice = random.Random(seed)
    names = [f"s{number}" for number in range(dice.randint(2, 9))]
    needs = {
        name: dice.sample(names[:index], min(index, dice.randint(0, 2)))
        for index, name in enumerate(names)
    }
    world = World(tmp_path_factory.mktemp("kills"), needs)
    recorded: set[str] = set()

    async def work(order: CommandOrder) -> CommandEnd:
        done = {step for step, state in world.states().items() if state == "Completed"}
        assert done >= set(needs[step_of(order)])
        assert step_of(order) not in done
        await asyncio.sleep(dice.random() * 0.01)
        return await succeed(order)

    world.doing.update(dict.fromkeys(names, work))
    for _ in range(dice.randint(1, 4)):
        if world.ledger.acquire_lease("p", "test", 0.0, 15, force=True) is None:
            break
        running = asyncio.create_task(world.run())
        await asyncio.sleep(dice.random() * 0.1)
        if running.done():
            break
        await killed(world, running)
        assert not recorded & set(world.engine.runs)
        recorded = {step for step, state in world.states().items() if state == "Completed"}
    epoch = world.ledger.acquire_lease("p", "test", 0.0, 15, force=True)
    if epoch is not None:  # the last one may have noted the end in the moment it was killed
        assert await world.run() is JobState.COMPLETED
        assert not recorded & set(world.engine.runs)
    assert set(world.states().values()) == {"Completed"}
    world.ledger.close()
