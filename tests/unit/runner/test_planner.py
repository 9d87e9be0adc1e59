"""Listing that was interrupted: the same plan again, or the job says that its input has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from batchpoint.core.messages import PlanGrew, PlanSealed
from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.job import Job
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.minibatch import Slice
from batchpoint.formats import manifest
from batchpoint.formats.layout import JobFolder, job_folder
from batchpoint.runner import planner as planners
from batchpoint.runner.planner import Planner
from sim.simulated_engine import SimulatedEngine
from tests.unit.resolved_jobs import new_job


@pytest.fixture(autouse=True)
def segments_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_SLICES_MAX", 10)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    items = tmp_path / "in"
    items.mkdir()
    for number in range(35):
        (items / f"{number:02}.txt").write_text("x")
    plain = new_job()
    source = JobInput(type="uri_folder", uri=str(items))
    return plain.model_copy(update={"spec": plain.spec.model_copy(update={"input": source})})


def planner(job: Job, tmp_path: Path) -> tuple[Planner, JobFolder]:
    folder = job_folder(tmp_path, job.name)
    folder.make()

    def score(pieces: Sequence[Slice]) -> list[str]:
        raise AssertionError(pieces)  # nothing is scored here

    engine = SimulatedEngine(job, 1, folder, score)
    return Planner(job.scoring, folder, engine, lambda _: None), folder


async def grown(plan: Planner, stop_after: int = 99) -> list[PlanGrew | PlanSealed]:
    events: list[PlanGrew | PlanSealed] = []
    async for event in plan.grow():
        events.append(event)
        if len(events) > stop_after:
            break
    return events


async def test_an_interrupted_listing_comes_to_the_same_plan(job: Job, tmp_path: Path) -> None:
    await grown(planner(job, tmp_path)[0], stop_after=2)
    again, folder = planner(job, tmp_path)
    events = await grown(again)
    assert events[-1] == PlanSealed(4, 35)
    (tmp_path / "fresh").mkdir()
    other, _ = planner(job, tmp_path / "fresh")
    assert await grown(other) == events
    read_back, _ = planner(job, tmp_path)
    assert await grown(read_back) == events
    assert again.totals == other.totals == manifest.read_totals(folder.plan_totals)


@pytest.mark.parametrize("left", [35 - 1, 20, 10, 0])
async def test_an_input_that_shrank_meanwhile_is_told(job: Job, tmp_path: Path, left: int) -> None:
    _, folder = planner(job, tmp_path)
    await grown(planner(job, tmp_path)[0])
    folder.plan_totals.unlink()  # killed just before it was written
    for number in range(left, 35):
        (tmp_path / "in" / f"{number:02}.txt").unlink()
    with pytest.raises(Invalid) as caught:
        await grown(planner(job, tmp_path)[0])
    assert caught.value.code == "input_changed"
    assert not folder.plan_totals.exists()


async def test_a_full_disk_delays_the_plan_and_is_told(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, full, refused = manifest.write_segment, [True], asyncio.Event()
    loop, refusals = asyncio.get_running_loop(), 0

    def on_a_full_disk(*arguments: object) -> None:
        nonlocal refusals
        if full:
            refusals += 1
            if refusals > 1:  # the first one has been told by then
                loop.call_soon_threadsafe(refused.set)
            raise Unavailable("the disk is full", code="storage_full")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(planners, "_RETRY_SECONDS_MAX", 0.001)
    monkeypatch.setattr(manifest, "write_segment", on_a_full_disk)
    plan, _ = planner(job, tmp_path)
    growing = asyncio.create_task(grown(plan))
    await asyncio.wait_for(refused.wait(), 10)
    assert plan.trouble == "storage: the disk is full"
    full.clear()
    assert (await growing)[-1] == PlanSealed(4, 35)
    assert plan.trouble == ""
    monkeypatch.undo()
    monkeypatch.setattr(limits, "SEGMENT_SLICES_MAX", 10)
    (tmp_path / "fresh").mkdir()
    other, _ = planner(job, tmp_path / "fresh")
    await grown(other)
    assert other.totals == plan.totals  # the hash of the input, too
