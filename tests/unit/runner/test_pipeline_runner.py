"""A pipeline's runner: order, failures, cancels; each success is recorded before others use it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.job import ErrorInfo, JobState, JobStatus, Progress, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import ResolvedEnvironment
from batchpoint.node.command_order import CommandEnd, CommandOrder
from batchpoint.runner import planned_steps
from batchpoint.runner.score_step import StepResult
from tests.unit.resolved_pipelines import score_step
from tests.unit.runner.pipeline_world import (
    World,
    fail,
    never,
    published,
    step_of,
    succeed,
)

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def diamond(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, DIAMOND)
    yield made
    made.ledger.close()


async def test_steps_run_after_what_they_need_and_get_what_it_made(diamond: World) -> None:
    recorded: dict[str, dict[str, str]] = {}

    async def look(order: CommandOrder) -> CommandEnd:
        recorded[step_of(order)] = diamond.states()
        return await succeed(order)

    diamond.doing.update(dict.fromkeys("abcd", look))
    assert await diamond.run() is JobState.COMPLETED
    assert diamond.runs == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert recorded["b"]["a"] == recorded["c"]["a"] == "Completed"
    assert (recorded["d"]["b"], recorded["d"]["c"]) == ("Completed", "Completed")
    inputs = {step_of(order): order.inputs for order in diamond.engine.orders}
    uri = (diamond.home / "outputs" / "p-b" / "made").as_uri()
    assert inputs["d"]["b"] == JobInput(type="uri_folder", uri=uri, mode="ro_mount")
    assert diamond.engine.closed
    assert set(diamond.states().values()) == {"Completed"}


async def test_the_pipeline_tells_how_far_it_is(diamond: World) -> None:
    diamond.doing["d"] = never
    running = asyncio.create_task(diamond.run())
    await diamond.until(lambda: diamond.status().progress.steps_done == 3)
    shown = diamond.status()
    assert shown.state is JobState.RUNNING
    assert shown.progress.phase == "steps"
    assert shown.progress.steps_total == 4
    await diamond.until(lambda: diamond.states()["d"] == "Running")
    assert diamond.status().progress.steps_running == 1
    assert diamond.ledger.get_job("p-d").status.progress.phase == "command"
    diamond.ledger.request_cancel("p")
    assert await running is JobState.CANCELED
    done = diamond.status().progress
    assert (done.steps_done, done.steps_canceled, done.steps_running) == (3, 1, 0)


async def test_outputs_of_the_pipeline_are_those_of_its_steps(world: World) -> None:
    children = [world.step("a"), world.step("b", ["a"])]
    world.make("p", children, outputs={"model": ("b", "made"), "data": ("a", "made")})
    await world.run()
    outputs = world.status().outputs
    assert {name: output.uri for name, output in outputs.items()} == {
        "model": (world.home / "outputs" / "p-b" / "made").as_uri(),
        "data": (world.home / "outputs" / "p-a" / "made").as_uri(),
    }


async def test_a_failed_step_fails_the_pipeline_with_its_own_cause(diamond: World) -> None:
    diamond.doing["b"] = fail
    assert await diamond.run() is JobState.FAILED
    error = diamond.status().error
    assert error is not None
    assert (error.code, error.type, error.file) == ("step_failed", "ValueError", "train.py")
    assert error.line == "train.py:12"
    assert error.log == "user/std_log.txt"
    assert error.message == "step 'b': the command ended with 3"
    assert diamond.states() == {"a": "Completed", "b": "Failed", "c": "Completed", "d": "Canceled"}
    child = diamond.ledger.get_job("p-b").status
    assert (child.exit_code, child.error and child.error.code) == (3, "command_failed")
    not_run = diamond.ledger.get_job("p-d").status
    assert not_run.error is not None
    assert not_run.error.code == "step_not_run"
    assert "'b'" in not_run.error.message
    assert not_run.started_at is None
    assert "step b: Failed" in diamond.log()
    assert diamond.status().progress.steps_failed == 1


async def test_the_first_failure_can_stop_everything(world: World) -> None:
    children = [world.step("bad"), world.step("long"), world.step("after", ["long"])]
    world.make("p", children, continue_on_step_failure=False)

    async def fail_beside(order: CommandOrder) -> CommandEnd:
        await world.engine.until_running("long")
        return await fail(order)

    world.doing.update({"bad": fail_beside, "long": never})
    assert await world.run() is JobState.FAILED
    assert world.engine.stopped == ["long"]
    assert world.states() == {"bad": "Failed", "long": "Canceled", "after": "Canceled"}


async def test_attempts_are_what_the_step_allows(world: World) -> None:
    world.make("p", [world.step("a", max_retries=2)])
    attempts: list[int] = []

    async def third_time(order: CommandOrder) -> CommandEnd:
        attempts.append(order.attempt)
        return await (succeed if order.attempt == 3 else fail)(order)

    world.doing["a"] = third_time
    assert await world.run() is JobState.COMPLETED
    assert attempts == [1, 2, 3]
    assert world.ledger.get_job("p-a").status.attempts == 3


async def test_a_lost_node_costs_a_step_nothing(world: World) -> None:
    world.make("p", [world.step("a")])
    attempts: list[int] = []

    async def lost_once(order: CommandOrder) -> CommandEnd:
        attempts.append(order.attempt)
        if len(attempts) == 1:
            raise Unavailable("the node is gone", code="node_lost")
        return await succeed(order)

    world.doing["a"] = lost_once
    assert await world.run() is JobState.COMPLETED
    assert attempts == [1, 1]


async def test_this_machine_without_a_number_runs_as_many_steps_as_it_has_cores(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned_steps, "cores", lambda: 4)
    without = limits.INSTANCES_MAX
    world.make("p", [world.step(f"s{number}", max_instances=without) for number in range(12)])

    async def together(order: CommandOrder) -> CommandEnd:
        await asyncio.sleep(0.01)
        return await succeed(order)

    world.doing.update({f"s{number}": together for number in range(12)})
    assert await world.run() is JobState.COMPLETED
    assert world.engine.most_at_once == 4


async def test_a_compute_runs_no_more_steps_than_it_has_nodes(world: World) -> None:
    world.make("p", [world.step(f"s{number}", max_instances=3) for number in range(12)])

    async def together(order: CommandOrder) -> CommandEnd:
        await asyncio.sleep(0.01)
        return await succeed(order)

    world.doing.update({f"s{number}": together for number in range(12)})
    assert await world.run() is JobState.COMPLETED
    assert world.engine.most_at_once == 3


async def test_canceling_the_pipeline_stops_what_runs(diamond: World) -> None:
    diamond.doing.update({"b": never})
    running = asyncio.create_task(diamond.run())
    await asyncio.sleep(0)
    await diamond.engine.until_running("b")
    diamond.ledger.request_cancel("p")
    assert await asyncio.wait_for(running, 3) is JobState.CANCELED
    assert diamond.engine.stopped == ["b"]
    assert diamond.states()["d"] == diamond.states()["b"] == "Canceled"
    assert diamond.status().error is None


async def test_a_step_can_be_canceled_alone(diamond: World) -> None:
    diamond.doing.update({"b": never})
    running = asyncio.create_task(diamond.run())
    await asyncio.sleep(0)
    await diamond.engine.until_running("b")
    diamond.ledger.request_cancel("p-b")
    assert await asyncio.wait_for(running, 3) is JobState.FAILED
    assert diamond.states() == {
        "a": "Completed", "b": "Canceled", "c": "Completed", "d": "Canceled",
    }  # fmt: skip
    error = diamond.status().error
    assert error is not None
    assert "'b'" in error.message
    assert diamond.ledger.get_job("p-b").status.error is None


async def test_an_environment_is_made_ready_once_for_all_steps(world: World) -> None:
    other = ResolvedEnvironment(name="o", version="1", hash="d" * 64, python="/usr/bin/python3")
    wide = [world.step(f"s{number}") for number in range(4)]
    world.make("p", [*wide, world.step("z", environment=other)])
    assert await world.run() is JobState.COMPLETED
    assert sorted(world.prepared) == ["e", "o"]


async def test_an_environment_that_cannot_be_used_fails_its_steps_only(world: World) -> None:
    other = ResolvedEnvironment(name="o", version="1", hash="d" * 64, python="/usr/bin/python3")
    world.make("p", [world.step("a"), world.step("z", environment=other)])

    def prepare(environment: ResolvedEnvironment) -> list[str]:
        if environment.name == "o":
            raise Invalid("no such lock", code="environment_unbuildable")
        return []

    world.prepare = prepare
    assert await world.run() is JobState.FAILED
    assert world.states() == {"a": "Completed", "z": "Failed"}
    error = world.ledger.get_job("p-z").status.error
    assert error is not None
    assert (error.code, error.origin) == ("environment_unbuildable", "environment")


async def test_what_a_command_is_told_about_itself(world: World) -> None:
    mine = {"MLFLOW_EXPERIMENT_NAME": "own"}
    world.make(
        "p", [world.step("a"), world.step("b", environment_variables=mine, experiment_name="x")]
    )
    await world.run()
    told = {step_of(order): order.variables for order in world.engine.orders}
    assert told["a"] == {
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "AZUREML_RUN_ID": "p-a",
        "BATCHPOINT_JOB": "p-a",
        "MLFLOW_TRACKING_URI": "file:///runs",
        "MLFLOW_EXPERIMENT_NAME": "Default",
        "MLFLOW_RUN_CONTEXT": '{"batchpoint.job": "p-a", "batchpoint.parent_job": "p", '
        '"batchpoint.step": "a"}',
    }
    assert "MLFLOW_EXPERIMENT_NAME" not in told["b"]


async def test_outputs_are_registered_before_the_step_counts_as_done(world: World) -> None:
    step = world.step("a")
    place = step.spec.step
    assert place is not None
    wanted = {"made": place.outputs["made"].model_copy(update={"register_as": "data"})}
    spec = step.spec.model_copy(update={"step": place.model_copy(update={"outputs": wanted})})
    world.make("p", [step.model_copy(update={"spec": spec}), world.step("b", ["a"])])
    await world.run()
    assert world.registered == [("p-a", "made")]
    assert world.ledger.get_job("p-a").status.outputs["made"].asset == "azureml:made:1"


async def test_many_ends_at_once_are_recorded_together(world: World) -> None:
    world.make("p", [world.step(f"s{number}", max_instances=60) for number in range(50)])
    everyone = asyncio.Event()

    async def together(order: CommandOrder) -> CommandEnd:
        if len(world.engine.running) == 50:
            everyone.set()
        await everyone.wait()
        return await succeed(order)

    world.doing.update({f"s{number}": together for number in range(50)})
    before = world.ledger.get_job("p").version
    assert await world.run() is JobState.COMPLETED
    assert world.ledger.get_job("p").version - before <= 8


async def test_a_step_that_scores_counts_with_its_items(world: World) -> None:
    child = score_step("p", "s", ["a"])
    world.make("p", [world.step("a"), child, world.step("b", ["s"])])
    done = Progress(phase="done", items_total=7, items_done=7, rows_done=70, mini_batches_done=2)
    made = PublishedOutput(type="uri_folder", uri="file:///rows", hash="r")

    async def score(job) -> StepResult:
        last = JobStatus(
            state=JobState.COMPLETED, progress=done, outputs={"made": made}, attempts=1
        )
        return StepResult("completed", None, {"made": made}, done, last)

    world.score = score
    assert await world.run() is JobState.COMPLETED
    [(name, inputs)] = world.scored
    assert name == "p-s"
    assert set(inputs) == {"a"}
    status = world.ledger.get_job("p-s").status
    assert (status.state, status.progress.rows_done) == (JobState.COMPLETED, 70)
    whole = world.status().progress
    assert (whole.items_done, whole.rows_done, whole.mini_batches_done) == (7, 70, 2)
    assert world.engine.orders[-1].inputs["s"] == JobInput(
        type="uri_folder", uri="file:///rows", mode="ro_mount"
    )


async def test_a_step_that_scores_is_stopped_through_the_ledger(world: World) -> None:
    world.make("p", [score_step("p", "s")])
    scoring = asyncio.Event()

    async def score(job) -> StepResult:
        scoring.set()
        state = JobState.CANCEL_REQUESTED
        await world.until(lambda: world.ledger.get_job(job.name).status.state is state)
        last = JobStatus(state=JobState.CANCELED, progress=Progress(items_done=3))
        return StepResult("stopped", None, {}, last.progress, last)

    world.score = score
    running = asyncio.create_task(world.run())
    await scoring.wait()
    world.ledger.request_cancel("p")
    assert await asyncio.wait_for(running, 4) is JobState.CANCELED
    assert world.ledger.get_job("p-s").status.progress.items_done == 3


async def test_a_step_that_stops_scoring_by_a_wish_of_its_own_is_not_begun_again(
    world: World,
) -> None:
    world.make("p", [score_step("p", "s")])

    async def score(job) -> StepResult:
        world.ledger.request_cancel("p-s")
        last = JobStatus(state=JobState.CANCELED)
        return StepResult("stopped", None, {}, last.progress, last)

    world.score = score
    assert await asyncio.wait_for(world.run(), 4) is JobState.FAILED
    assert len(world.scored) == 1
    assert world.states() == {"s": "Canceled"}


async def test_storage_that_is_away_is_waited_for(world: World) -> None:
    world.make("p", [world.step("a")])
    tries: list[int] = []

    async def away_at_first(order: CommandOrder) -> CommandEnd:
        tries.append(order.attempt)
        if len(tries) == 1:
            raise Unavailable("the store does not answer", code="storage_unavailable")
        return await succeed(order)

    world.doing["a"] = away_at_first
    assert await world.run() is JobState.COMPLETED
    assert tries == [1, 1]
    assert world.status().warnings == []


async def test_a_disk_that_is_full_holds_up_what_comes_next(world: World) -> None:
    world.make("p", [world.step("a"), world.step("b", ["a"])])
    full = threading.Event()
    real = world.ledger.renew_pipeline
    refused: list[int] = []

    def renew(*arguments, **named):
        if full.is_set() and len(refused) < 2:
            refused.append(1)
            raise Unavailable("the disk is full", code="storage_full")
        return real(*arguments, **named)

    async def fill(order: CommandOrder) -> CommandEnd:
        full.set()
        return await succeed(order)

    async def after(order: CommandOrder) -> CommandEnd:
        assert len(refused) == 2
        assert world.states()["a"] == "Completed"
        return await succeed(order)

    world.doing.update({"a": fill, "b": after})
    world.ledger.renew_pipeline = renew
    assert await world.run() is JobState.COMPLETED


async def test_a_mistake_of_ours_ends_the_runner_and_nothing_is_decided(world: World) -> None:
    world.make("p", [world.step("a"), world.step("b")])

    async def break_down(_order: CommandOrder) -> CommandEnd:
        await world.engine.until_running("b")
        raise RuntimeError("a mistake")

    world.doing.update({"a": break_down, "b": never})
    with pytest.raises(RuntimeError, match="a mistake"):
        await world.run()
    assert world.engine.closed
    assert world.engine.stopped == ["b"]
    assert world.status().state is JobState.RUNNING
    assert "internal error" in world.log()


async def test_errors_of_steps_reach_the_log_of_the_pipeline_with_their_names(
    world: World,
) -> None:
    world.make("p", [world.step("a")])

    async def time_out(_order: CommandOrder) -> CommandEnd:
        error = ErrorInfo(origin="user", code="command_timed_out", message="stopped after 5 s")
        return CommandEnd("timed_out", 5.0, None, error)

    world.doing["a"] = time_out
    await world.run()
    assert "step a begins" in world.log()
    assert "step a: Failed" in world.log()
    assert "stopped after 5 s" in world.log()


async def test_published_outputs_of_an_earlier_attempt_count_for_nothing(world: World) -> None:
    world.make("p", [world.step("a", max_retries=1)])

    async def half(order: CommandOrder) -> CommandEnd:
        published(order, "half")
        return await (fail if order.attempt == 1 else succeed)(order)

    world.doing["a"] = half
    await world.run()
    assert (world.home / "outputs" / "p-a" / "made" / "text").read_text() == "a"
