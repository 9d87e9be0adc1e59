"""The simulated engine keeps the contract that the local one keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from batchpoint.domain.minibatch import Slice
from batchpoint.formats.layout import job_folder
from sim.simulated_engine import SimulatedEngine
from tests.contracts.engine_contract import EngineContract, Ground, contract_job
from tests.unit.resolved_jobs import new_job


def score(pieces: Sequence[Slice]) -> list[str]:
    """Score by name."""
    if any(piece.name == "poison" for piece in pieces):
        raise ValueError("this one cannot be scored")
    return [f"scored {piece.name}" for piece in pieces]


class TestSimulatedEngine(EngineContract):
    @pytest.fixture
    async def ground(self, tmp_path: Path) -> AsyncIterator[Ground]:
        job = contract_job(new_job(), "contract", tmp_path)
        folder = job_folder(tmp_path, job.name)
        engine = SimulatedEngine(job, 1, folder, score)
        made = Ground(engine, job, folder, engine.lose)
        hearing = asyncio.create_task(made.listen())
        yield made
        await engine.close()
        await hearing
