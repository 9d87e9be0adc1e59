"""The local engine, on a real supervisor and real agents, keeps the contract of engines."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchpoint.domain.job import Job
from batchpoint.engines.local import LocalEngine, LocalPlace
from batchpoint.formats.layout import job_folder
from tests.contracts.engine_contract import EngineContract, Ground, contract_job
from tests.integration.conftest import Place

SCRIPT = """
import os

def init():
    pass

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    if "poison" in names:
        raise ValueError("this one cannot be scored")
    return ["scored " + name for name in names]
"""
_numbers = itertools.count()


@pytest.fixture(scope="module")
def finished(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Run a job, whose specification those of the contract are made of."""
    folder = tmp_path_factory.mktemp("contract")
    place.deploy_script(folder / "deployment", "contract", SCRIPT)
    (folder / "one").mkdir()
    (folder / "one" / "item").write_text("x")
    return place.client.invoke("contract", folder / "one").wait()


class TestLocalEngine(EngineContract):
    @pytest.fixture
    async def ground(self, place: Place, finished: Job, tmp_path: Path) -> AsyncIterator[Ground]:
        await asyncio.to_thread(place.link.ensure)
        job = contract_job(finished, f"contract-{next(_numbers)}", tmp_path)
        folder = job_folder(tmp_path, job.name)
        for _ in range(200):
            if await asyncio.to_thread(place.link.poke):
                break
            await asyncio.sleep(0.05)  # it is starting
        engine = LocalEngine(job, 1, LocalPlace(place.link.socket_path, folder.root, 4))

        async def lose(name: str) -> None:
            status = await asyncio.to_thread(place.link.ask, "status")
            assert status is not None
            (pid,) = [node["pid"] for node in status["nodes"] if node["node"] == name]
            os.kill(pid, signal.SIGKILL)

        made = Ground(engine, job, folder, lose)
        hearing = asyncio.create_task(made.listen())
        yield made
        await engine.close()
        await hearing
