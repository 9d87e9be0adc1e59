"""A runner killed anywhere: the next one goes on from the ledger, and the output is the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batchpoint.clock import SystemClock
from batchpoint.core.lifecycle import JOB_TRANSITIONS
from batchpoint.core.messages import Record
from batchpoint.domain import limits
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import Job, JobState, JobStatus
from batchpoint.domain.job_pointers import JobInput, JobOutput
from batchpoint.domain.minibatch import Slice
from batchpoint.formats.layout import JobFolder, job_folder
from batchpoint.ledger.job_store import Renewed
from batchpoint.ledger.ledger import Ledger
from batchpoint.node.output_request import AssembledOutput, AssembleRequest
from batchpoint.runner import patience
from batchpoint.runner.score_runner import RunnerParts, ScoreRunner
from batchpoint.runner.verdicts import VerdictWriter
from sim.simulated_engine import SimulatedEngine
from tests.unit.resolved_jobs import new_job

ITEMS, SIZE = 60, 2
POISON = ("item-007", "item-031")


def score(pieces: Sequence[Slice]) -> list[str]:
    """Score by name; two items cannot be."""
    for piece in pieces:
        if piece.name in POISON:
            raise ValueError(f"{piece.name} cannot be scored")
    return [f"scored {piece.name}" for piece in pieces]


@pytest.fixture(autouse=True)
def commits_are_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHECKPOINT_SECONDS", 0.002)


@dataclass
class World:
    """One job over real files, its ledger, and what its runners have told."""

    root: Path
    ledger: Ledger
    job: Job
    told: list[JobStatus] = field(default_factory=list[JobStatus])

    @property
    def folder(self) -> JobFolder:
        return job_folder(self.root, self.job.name)

    def result(self) -> tuple[str, list[str]]:
        """The predictions, and the names of the failed items."""
        out = self.root / "out"
        lines = (out / "_failed_items.jsonl").read_text().splitlines()
        return (out / "predictions.csv").read_text(), [json.loads(line)["name"] for line in lines]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path, str(tmp_path / "out"))


def new_world(root: Path, output: str) -> World:
    (root / "in").mkdir()
    for number in range(ITEMS):
        (root / "in" / f"item-{number:03d}").write_text("x")
    plain = new_job()
    settings = plain.scoring.settings.model_copy(
        update={"mini_batch_size": SIZE, "instance_count": 2, "max_retries": 1}
    )
    spec = plain.spec.model_copy(
        update={
            "settings": settings,
            "input": JobInput(type="uri_folder", uri=str(root / "in")),
            "output": JobOutput(uri=output),
        }
    )
    ledger = Ledger(root / "ledger.db")
    job = ledger.create_job(plain.model_copy(update={"spec": spec}), None, None)
    return World(root, ledger, job)


EXPECTED = (
    "_file,prediction\n"
    + "".join(
        f"item-{n:03d},scored item-{n:03d}\n" for n in range(ITEMS) if f"item-{n:03d}" not in POISON
    ),
    list(POISON),
)


class WatchedLedger:
    """The ledger as one runner sees it, until that runner is killed; `hook` is told each step."""

    def __init__(self, world: World, hook: Callable[[str], None]) -> None:
        self._world = world
        self._hook = hook
        self.dead = False

    def _step(self, name: str) -> None:
        self._hook(name)
        if self.dead:  # a process that is gone writes nothing
            raise Unavailable("the runner was killed", code="lease_lost")

    def checkpoints(self, job: str) -> Any:
        return self._world.ledger.checkpoints(job)

    def renew(self, *where: Any, status: JobStatus, records: bytes | None) -> Renewed:
        self._step("before renew" if records is None else "before commit")
        renewed = self._world.ledger.renew(*where, status=status, records=records)
        self._world.told.append(status)
        self._step("after renew" if records is None else "after commit")
        return renewed

    def finish(self, job: str, epoch: int, status: JobStatus) -> None:
        self._step("before finish")
        self._world.ledger.finish(job, epoch, status)
        self._world.told.append(status)
        self._step("after finish")


class WatchedEngine(SimulatedEngine):
    """An engine whose assembly is told to `hook`, too."""

    hook: Callable[[str], None]

    async def assemble(self, request: AssembleRequest) -> AssembledOutput:
        self.hook("before assembly")
        output = await super().assemble(request)
        self.hook("after assembly")
        return output


async def run_once(
    world: World,
    hook: Callable[[str, Callable[[], None]], None],
    turns_max: int = 0,
    engine_class: type[WatchedEngine] = WatchedEngine,
) -> JobState | None:
    """Run one runner; None when it was killed, by `hook` or after `turns_max` turns of the loop."""
    loop = asyncio.get_running_loop()
    killed = asyncio.Event()

    def kill() -> None:
        ledger.dead = True
        loop.call_soon_threadsafe(killed.set)

    ledger = WatchedLedger(world, lambda step: hook(step, kill))
    epoch = world.ledger.acquire_lease(
        world.job.name, "me", SystemClock().seconds(), 15, force=True
    )
    assert epoch is not None
    job = world.ledger.get_job(world.job.name)
    engine = engine_class(job, epoch, world.folder, score)
    engine.hook = lambda step: hook(step, kill)
    parts = RunnerParts(ledger, engine, SystemClock(), world.folder, list)  # type: ignore[arg-type]
    running = asyncio.create_task(ScoreRunner(job, epoch, parts).run())
    turns = asyncio.create_task(_count_turns(turns_max, kill))
    dying = asyncio.create_task(killed.wait())
    await asyncio.wait({running, dying}, return_when=asyncio.FIRST_COMPLETED)
    for each in (turns, dying):
        each.cancel()
    if not killed.is_set():
        return await running
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError, Unavailable):
        await running
    return None


async def _count_turns(turns_max: int, kill: Callable[[], None]) -> None:
    if turns_max:
        for _ in range(turns_max):
            await asyncio.sleep(0)
        kill()


def never(step: str, kill: Callable[[], None]) -> None:
    """Let the runner live."""


def check(world: World) -> None:
    """The result is what it must be, and what was told on the way was never nonsense."""
    assert world.result() == EXPECTED
    states = [status.state for status in world.told]
    for now, then in pairwise(states):
        # Between two commits a job may go two states on.
        ways = JOB_TRANSITIONS[now].union(*(JOB_TRANSITIONS[mid] for mid in JOB_TRANSITIONS[now]))
        assert now == then or then in ways, states
    for before, after in pairwise(status.progress for status in world.told):
        assert before.rows_done <= after.rows_done
        assert before.items_done <= after.items_done <= ITEMS
        assert before.items_failed <= after.items_failed
    last = world.ledger.get_job(world.job.name).status
    assert last.state == JobState.COMPLETED
    progress = last.progress
    assert (progress.items_done, progress.items_failed, progress.rows_done) == (60, 2, 58)
    assert progress.listed


async def test_a_runner_that_lives_scores_everything_once(world: World) -> None:
    assert await run_once(world, never) == JobState.COMPLETED
    check(world)


STEPS = ("before renew", "after renew", "before commit", "after commit")
ENDS = ("before assembly", "after assembly", "before finish")


@pytest.mark.parametrize(
    ("step", "count"),
    [(step, count) for step in STEPS for count in (1, 2, 4)] + [(step, 1) for step in ENDS],
)
async def test_a_runner_killed_around_a_commit_loses_and_doubles_nothing(
    world: World, step: str, count: int
) -> None:
    seen = 0

    def hook(now: str, kill: Callable[[], None]) -> None:
        nonlocal seen
        seen += now == step
        if now == step and seen == count:
            kill()

    first = await run_once(world, hook)
    assert first is None or seen < count
    if first is None:
        assert await run_once(world, never) == JobState.COMPLETED
    check(world)


async def test_a_runner_killed_when_all_is_done_leaves_nothing_to_do(world: World) -> None:
    def hook(step: str, kill: Callable[[], None]) -> None:
        if step == "after finish":
            kill()

    await run_once(world, hook)
    check(world)
    assert world.ledger.acquire_lease(world.job.name, "me", 0.0, 15, force=True) is None


@pytest.mark.parametrize("seed", range(6))
async def test_runners_killed_at_any_turn_of_their_loop(world: World, seed: int) -> None:
    chance = random.Random(seed)
    for killed in range(12):
        if await run_once(world, never, turns_max=chance.randint(1, 60 + 40 * killed)):
            break
    else:
        assert await run_once(world, never) == JobState.COMPLETED
    check(world)


async def test_a_cancel_at_any_moment_ends_canceled_or_complete(world: World) -> None:
    def hook(step: str, _: Callable[[], None]) -> None:
        if step == "after commit":
            world.ledger.request_cancel(world.job.name)

    assert await run_once(world, hook) in (JobState.CANCELED, JobState.COMPLETED)
    if world.ledger.get_job(world.job.name).status.state == JobState.CANCELED:
        assert not (world.root / "out").exists()


async def test_a_cancel_is_heeded_while_results_cannot_be_published(world: World) -> None:
    def hook(step: str, _: Callable[[], None]) -> None:
        if step == "before assembly":
            world.ledger.request_cancel(world.job.name)
            raise Unavailable("the disk is full", code="storage_full")

    assert await run_once(world, hook) == JobState.CANCELED
    assert not (world.root / "out").exists()


async def test_what_is_published_already_is_not_called_canceled(world: World) -> None:
    def killed(step: str, kill: Callable[[], None]) -> None:
        if step == "after assembly":
            kill()

    assert await run_once(world, killed) is None
    world.ledger.request_cancel(world.job.name)
    assert await run_once(world, never) == JobState.COMPLETED
    assert world.result() == EXPECTED


async def test_a_full_disk_delays_the_end_and_does_not_undo_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_BACKOFF_SECONDS", (0.001,))
    full = 3

    def hook(step: str, _: Callable[[], None]) -> None:
        nonlocal full
        if step == "before finish" and full:
            full -= 1
            raise Unavailable("the disk is full", code="storage_full")

    assert await run_once(world, hook) == JobState.COMPLETED
    assert full == 0
    check(world)


async def test_commits_that_fail_half_way_lose_and_double_nothing(world: World) -> None:
    turn = 0

    def hook(step: str, _: Callable[[], None]) -> None:
        nonlocal turn
        turn += 1
        if step in ("before renew", "before commit") and turn % 3:
            raise Unavailable("the disk is full", code="storage_full")

    assert await run_once(world, hook) == JobState.COMPLETED
    check(world)


async def test_verdicts_that_cannot_be_written_do_not_hold_up_the_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal, renewals, refused = VerdictWriter.seal, 0, 0

    def full(verdicts: VerdictWriter) -> list[Record]:
        nonlocal refused
        if verdicts.pending and renewals < 3:
            refused += 1
            raise Unavailable("the disk is full", code="storage_full")
        return seal(verdicts)

    def hook(step: str, _: Callable[[], None]) -> None:
        nonlocal renewals
        renewals += refused > 0 and step in ("after renew", "after commit")

    monkeypatch.setattr(VerdictWriter, "seal", full)
    monkeypatch.setattr(patience, "_BACKOFF_SECONDS", (0.001,))
    assert await run_once(world, hook) == JobState.COMPLETED
    assert refused, "there are failed items in this world"
    check(world)


async def test_a_lease_lost_while_publishing_stops_the_publication(world: World) -> None:
    publishing = asyncio.Event()

    class Slow(WatchedEngine):
        async def assemble(self, request: AssembleRequest) -> AssembledOutput:
            publishing.set()
            await asyncio.Event().wait()
            return await super().assemble(request)

    running = asyncio.create_task(run_once(world, never, engine_class=Slow))
    await publishing.wait()
    other = world.ledger.acquire_lease(world.job.name, "other", 0.0, 15, force=True)
    assert other is not None
    with pytest.raises(Unavailable, match="no longer held"):
        await asyncio.wait_for(running, 10)
    assert await run_once(world, never) == JobState.COMPLETED
    check(world)
