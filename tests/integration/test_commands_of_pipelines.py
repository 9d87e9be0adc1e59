"""Commands through the engine: nodes leased from a real supervisor, kept, lost and given back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain import limits
from batchpoint.domain.errors import Unavailable
from batchpoint.engines import local_commands
from batchpoint.engines.local import LocalPlace
from batchpoint.engines.local_commands import LocalCommands
from batchpoint.node.command_order import CommandBeat, CommandOrder
from tests.integration.agent_harness import alive, until
from tests.integration.command_orders import log_of, order, output
from tests.integration.conftest import Place
from tests.unit.resolved_jobs import new_job


@pytest.fixture
async def engine(place: Place, tmp_path: Path) -> AsyncIterator[LocalCommands]:
    await asyncio.to_thread(place.link.ensure)
    while not await asyncio.to_thread(place.link.poke):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)  # it is starting
    made = LocalCommands(new_job("pipe"), LocalPlace(place.link.socket_path, tmp_path, 4))
    yield made
    await made.close()


def on(compute: str, given: CommandOrder, max_instances: int = 4) -> CommandOrder:
    """The same order for another compute."""
    update = {"compute": compute, "max_instances": max_instances}
    return replace(given, spec=given.spec.model_copy(update=update))


async def nodes(place: Place, compute: str) -> list[dict[str, Any]]:
    status = await asyncio.to_thread(place.link.ask, "status")
    assert status is not None
    return [node for node in status["nodes"] if node["compute"] == compute]


def running(given: CommandOrder) -> int:
    """The process id that a command has printed, 0 as long as it has not."""
    try:
        return int((log_of(given).splitlines() or ["0"])[0])
    except FileNotFoundError:
        return 0


SLEEPS = "echo $$; exec sleep 1000"


async def test_nodes_are_kept_for_the_next_command_and_given_back(place, engine, tmp_path):
    for number in range(3):
        end = await engine.run(on("kept", order(tmp_path, f"echo {number}")))
        assert end.outcome == "completed"
    (node,) = await nodes(place, "kept")
    assert node["job"] == "pipe"
    async with asyncio.timeout(10):
        while (await nodes(place, "kept"))[0]["job"] is not None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    assert (await engine.run(on("kept", order(tmp_path, "true")))).outcome == "completed"
    assert [each["node"] for each in await nodes(place, "kept")] == [node["node"]]


async def test_as_many_nodes_as_commands_within_what_the_compute_may_have(place, engine, tmp_path):
    flag = tmp_path / "go"
    waits = f"echo $$; while [ ! -e {flag} ]; do sleep 0.02; done"
    given = [on("wide", order(tmp_path, waits), 3) for _ in range(5)]
    tasks = [asyncio.create_task(engine.run(each)) for each in given]
    await until(lambda: sum(1 for each in given if running(each)) == 3)
    assert len(await nodes(place, "wide")) == 3
    flag.touch()
    assert {end.outcome for end in await asyncio.gather(*tasks)} == {"completed"}
    assert len(await nodes(place, "wide")) == 3


async def test_a_cancelled_command_has_ended_when_its_caller_hears_of_it(place, engine, tmp_path):
    given = on("calls", order(tmp_path, SLEEPS, outputs={"out": output(tmp_path / "out")}))
    task = asyncio.create_task(engine.run(given))
    await until(lambda: bool(running(given)))
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # impatient, to no avail
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(running(given))
    assert not (tmp_path / "out").exists()
    assert (await engine.run(on("calls", order(tmp_path, "true")))).outcome == "completed"


async def test_a_caller_that_gives_up_waiting_for_a_node_takes_none(place, engine, tmp_path):
    first = on("one", order(tmp_path, SLEEPS), 1)
    task = asyncio.create_task(engine.run(first))
    await until(lambda: bool(running(first)))
    second = asyncio.create_task(engine.run(on("one", order(tmp_path, "true"), 1)))
    done, _ = await asyncio.wait({second}, timeout=0.2)
    assert not done
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await engine.run(on("one", order(tmp_path, "true"), 1))).outcome == "completed"


async def test_a_lost_node_says_so_leaves_nothing_and_is_replaced(place, engine, tmp_path):
    outputs = {"out": output(tmp_path / "out")}
    told = "echo half > ${{outputs.out}}/half; " + SLEEPS
    given = on("losses", order(tmp_path, told, outputs=outputs))
    task = asyncio.create_task(engine.run(given))
    await until(lambda: bool(running(given)))
    (node,) = await nodes(place, "losses")
    os.kill(node["pid"], signal.SIGKILL)
    with pytest.raises(Unavailable) as caught:
        await task
    assert caught.value.code == "node_lost"
    assert not alive(running(given))
    assert list(tmp_path.rglob("*.partial")) == []
    assert not (given.job_dir / "work").exists()
    again = on("losses", order(tmp_path, "echo x > ${{outputs.out}}/whole", outputs=outputs,
                               job=given.job))  # fmt: skip
    assert (await engine.run(again)).outcome == "completed"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


async def test_a_lost_idle_node_is_replaced(place, engine, tmp_path):
    await engine.run(on("idle", order(tmp_path, "true")))
    (node,) = await nodes(place, "idle")
    os.kill(node["pid"], signal.SIGKILL)
    for _ in range(3):
        try:
            end = await engine.run(on("idle", order(tmp_path, "true")))
        except Unavailable as error:
            assert error.code == "node_lost"  # before anybody could have known  # noqa: PT017
        else:
            assert end.outcome == "completed"
            return
    pytest.fail("it was never replaced")


async def test_close_stops_what_runs(place, engine, tmp_path):
    given = on("closing", order(tmp_path, SLEEPS))
    task = asyncio.create_task(engine.run(given))
    await until(lambda: bool(running(given)))
    await engine.close()
    assert (await task).outcome == "stopped"
    assert not alive(running(given))
    with pytest.raises(Unavailable):
        await engine.run(on("closing", order(tmp_path, "true")))
    await engine.close()


async def test_a_runner_that_is_gone_takes_its_commands_with_it(place, tmp_path, engine):
    other = LocalCommands(new_job("other"), LocalPlace(place.link.socket_path, tmp_path, 4))
    given = on("gone", order(tmp_path, SLEEPS))
    task = asyncio.create_task(other.run(given))
    await until(lambda: bool(running(given)))
    for fleet in other._fleets.values():
        await fleet.close()
    with pytest.raises(Unavailable):
        await task
    await until(lambda: not alive(running(given)))


@pytest.mark.slow
async def test_a_hung_node_is_ended_with_its_command(place, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(local_commands, "_STOP_SECONDS_MAX", 0.5)
    given = on("hung", order(tmp_path, SLEEPS, outputs={"out": output(tmp_path / "out")}))
    task = asyncio.create_task(engine.run(given))
    await until(lambda: bool(running(given)))
    (node,) = await nodes(place, "hung")
    os.kill(node["pid"], signal.SIGSTOP)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(running(given))
    assert list(tmp_path.rglob("*.partial")) == []
    assert (await engine.run(on("hung", order(tmp_path, "true")))).outcome == "completed"


async def test_a_node_says_how_far_its_command_is(place, engine, tmp_path):
    beats: list[CommandBeat] = []
    end = await engine.run(on("told", order(tmp_path, "true")), beats.append)
    assert end.outcome == "completed"
    assert [beat.phase for beat in beats[:1]] == ["inputs"]
    assert list(dict.fromkeys(beat.phase for beat in beats)) == ["inputs", "command", "writing"]


@pytest.mark.slow
async def test_a_node_that_hangs_while_its_command_runs_is_lost(
    place, engine, tmp_path, monkeypatch
):
    monkeypatch.setattr(local_commands, "_LOOK_SECONDS", 0.5)
    monkeypatch.setattr(limits, "NODE_SILENCE_SECONDS_MAX", 2)
    given = on("silent", order(tmp_path, SLEEPS, outputs={"out": output(tmp_path / "out")}))
    task = asyncio.create_task(engine.run(given))
    await until(lambda: bool(running(given)))
    done, _ = await asyncio.wait({task}, timeout=4)
    assert not done  # a node that is there says so, however long its command takes
    (node,) = await nodes(place, "silent")
    os.kill(node["pid"], signal.SIGSTOP)
    with pytest.raises(Unavailable, match="said nothing") as caught:
        await task
    assert caught.value.code == "node_lost"
    assert not alive(running(given))
    assert list(tmp_path.rglob("*.partial")) == []
    assert (await engine.run(on("silent", order(tmp_path, "true")))).outcome == "completed"


async def test_without_a_supervisor_it_says_so(tmp_path):
    engine = LocalCommands(new_job("pipe"), LocalPlace(tmp_path / "nobody.sock", tmp_path, 4))
    with pytest.raises(Unavailable, match="supervisor"):
        await engine.run(order(tmp_path, "true"))
    await engine.close()
