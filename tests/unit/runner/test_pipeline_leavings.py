"""Of steps that do not complete nothing is left at the places of their outputs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import JobState, PublishedOutput
from batchpoint.node.command_attempt import Attempt
from batchpoint.node.command_order import CommandEnd, CommandOrder
from batchpoint.node.command_outputs import CommandOutputs
from tests.unit.runner.pipeline_world import World, never


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.ledger.close()


def really_published(order: CommandOrder) -> dict[str, PublishedOutput]:
    """Publish as a node does."""
    attempt = Attempt.begin(order.job_dir, order.epoch)
    try:
        outputs = CommandOutputs(order, attempt.scratch)
        earlier = outputs.earlier()
        if earlier is not None:
            return earlier
        outputs.prepare()
        (Path(outputs.texts()["made"]) / "text").write_text("x")
        return outputs.publish()
    finally:
        attempt.end()


async def succeed(order: CommandOrder) -> CommandEnd:
    return CommandEnd("completed", 0.0, 0, outputs=really_published(order))


async def publish_and_hang(order: CommandOrder) -> CommandEnd:
    really_published(order)
    return await never(order)


def place(world: World) -> Path:
    return world.home / "outputs" / "p-a" / "made"


def registering(world: World) -> None:
    child = world.step("a")
    assert child.spec.step is not None
    wanted = {"made": child.spec.step.outputs["made"].model_copy(update={"register_as": "m"})}
    step = child.spec.step.model_copy(update={"outputs": wanted})
    world.make("p", [child.model_copy(update={"spec": child.spec.model_copy(
        update={"step": step})}), world.step("b", ["a"])])  # fmt: skip


async def test_an_output_that_cannot_be_registered_is_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_world: World, _child: object, _name: str, output: PublishedOutput) -> None:
        assert (place(world) / "text").exists(), output
        raise Invalid("this is no model", code="model_invalid")

    monkeypatch.setattr(World, "_register", refuse)
    registering(world)
    world.doing["a"] = succeed
    assert await world.run() is JobState.FAILED
    assert world.states() == {"a": "Failed", "b": "Canceled"}
    error = world.ledger.get_job("p-a").status.error
    assert error is not None
    assert error.code == "model_invalid"
    assert not place(world).exists()


async def test_a_step_that_is_canceled_in_the_moment_it_has_published_leaves_nothing(
    world: World,
) -> None:
    world.make("p", [world.step("a")])
    world.doing["a"] = publish_and_hang
    running = asyncio.create_task(world.run())
    await world.until(place(world).exists)
    world.ledger.request_cancel("p")
    assert await running is JobState.CANCELED
    assert not place(world).exists()


async def test_what_a_killed_runner_has_published_is_taken_back_when_the_job_is_canceled(
    world: World,
) -> None:
    world.make("p", [world.step("a"), world.step("b", ["a"])])
    world.doing["a"] = publish_and_hang
    running = asyncio.create_task(world.run())
    await world.until(lambda: place(world).exists() and world.states()["a"] == "Running")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert place(world).exists()  # the next runner may go on with it
    world.ledger.request_cancel("p")
    assert await world.run() is JobState.CANCELED
    assert world.states() == {"a": "Canceled", "b": "Canceled"}
    assert not place(world).exists()


async def test_what_a_killed_runner_has_published_is_taken_up_else(world: World) -> None:
    world.make("p", [world.step("a"), world.step("b", ["a"])])
    world.doing["a"] = publish_and_hang
    running = asyncio.create_task(world.run())
    await world.until(lambda: place(world).exists() and world.states()["a"] == "Running")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    inode = (place(world) / "text").stat().st_ino
    world.doing["a"] = succeed
    assert await world.run() is JobState.COMPLETED
    assert (place(world) / "text").stat().st_ino == inode
