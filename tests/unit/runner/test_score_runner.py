"""The runner's own mistakes: never a job that hangs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from batchpoint.clock import SystemClock
from batchpoint.core.messages import Assignment
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import JobState
from batchpoint.domain.minibatch import MiniBatch, Slice
from batchpoint.engines.interface import EngineEvent
from batchpoint.formats.layout import job_folder
from batchpoint.ledger.ledger import Ledger
from batchpoint.node.output_request import AssembledOutput, AssembleRequest
from batchpoint.runner.score_runner import RunnerParts, ScoreRunner
from tests.unit.resolved_jobs import new_job

pytestmark = pytest.mark.anyio


class NoNodes:
    """An engine whose nodes never come."""

    def __init__(self) -> None:
        self.closed = False

    async def events(self) -> AsyncIterator[EngineEvent]:
        await asyncio.Event().wait()
        raise AssertionError  # never reached
        yield

    async def provision(self, count: int) -> None:
        pass

    async def assign(self, node: str, assignments: Sequence[tuple[MiniBatch, Assignment]]) -> None:
        pass

    async def retime(self, timeout_seconds: float) -> None:
        pass

    async def abort(self) -> None:
        pass

    async def index(self, whole: Slice, target_bytes: int) -> list[Slice]:
        return [whole]

    async def assemble(self, request: AssembleRequest) -> AssembledOutput:
        raise Unavailable("there are no nodes")

    async def withdraw(self, request: AssembleRequest) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


def runner(tmp_path: Path, engine: NoNodes, problem: Exception) -> ScoreRunner:
    def prepare() -> list[str]:
        raise problem

    ledger, clock = Ledger(tmp_path / "ledger.db"), SystemClock()
    job = ledger.create_job(new_job(), None, None)
    epoch = ledger.acquire_lease(job.name, "me", clock.seconds(), 15)
    assert epoch is not None
    folder = job_folder(tmp_path, job.name)
    return ScoreRunner(job, epoch, RunnerParts(ledger, engine, clock, folder, prepare))


async def test_a_mistake_of_ours_ends_the_runner_so_that_another_one_tries(tmp_path: Path) -> None:
    engine = NoNodes()
    with pytest.raises(TypeError, match="a mistake"):
        await runner(tmp_path, engine, TypeError("a mistake")).run()
    assert engine.closed
    log = job_folder(tmp_path, new_job().name).job_log.read_text()
    assert "internal error: TypeError: a mistake" in log


async def test_an_error_that_was_foreseen_ends_the_job(tmp_path: Path) -> None:
    problem = Unavailable("cannot be had", code="environment_unbuildable")
    assert await runner(tmp_path, NoNodes(), problem).run() == JobState.FAILED
