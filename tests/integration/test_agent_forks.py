"""An agent with a model that is loaded once and forked into its workers."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.agent_harness import (
    AgentProcess,
    Tiny,
    alive,
    kill,
    listen,
    rows_of,
    run,
    served,
    until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers fork on Linux only")

MODEL = """
import ctypes, os, time
print("loaded in", os.getpid())
class Obedient:
    def predict(self, frame):
        if (frame.x == 13).any():
            os._exit(3)
        if (frame.x == 66).any():
            ctypes.string_at(0)
        if (frame.x == 99).any():
            time.sleep(600)
        print("scored in", os.getpid())
        return frame.x / 2
"""

MLMODEL = {
    "flavors": {
        "python_function": {
            "loader_module": "mlflow.sklearn",
            "model_path": "model.pkl",
            "code": "code",
        },
        "sklearn": {"pickled_model": "model.pkl", "serialization_format": "pickle"},
    },
    "signature": {
        "inputs": json.dumps([{"type": "long", "name": "x", "required": True}]),
        "outputs": None,
        "params": None,
    },
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "obedient_of_a_test.py").write_text(MODEL)
    (folder / "model.pkl").write_bytes(b"cobedient_of_a_test\nObedient\n)\x81.")
    (folder / "MLmodel").write_text(json.dumps(MLMODEL))
    return folder


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    started = AgentProcess.start(tmp_path)
    yield started
    started.end()


def tabular(tmp_path: Path, model: Path, *numbers: int, **more) -> Tiny:
    contents = [f"x\n{number}\n" for number in numbers]
    return Tiny(
        tmp_path, "", contents=contents, per_batch=1, mlflow_model=model, suffix=".csv", **more
    )


def logs(job: Tiny) -> str:
    return "".join(path.read_text() for path in sorted(job.folder.logs.glob("user/*")))


async def test_the_model_is_loaded_once_for_all_workers(
    agent: AgentProcess, tmp_path: Path, model: Path
) -> None:
    job = tabular(tmp_path, model, *range(12))
    async with served(agent, job) as connection:
        await listen(connection, lambda h: any(beat.workers == 2 for beat in h.heartbeats))
        connection.assign(job.work())
        heard = await listen(connection, lambda heard: len(heard.results) == 12)
    rows = rows_of(job, heard)
    assert [rows[i] for i in sorted(rows)] == [f"f{i:05d}.csv,0,{i / 2}\n" for i in range(12)]
    text = logs(job)
    assert text.count("loaded in") == 1
    parent = int(text.split("loaded in ")[1].split()[0])
    assert f"scored in {parent}" not in text
    assert parent in agent.workers()


@pytest.mark.parametrize(
    ("number", "words"), [(13, "exited with code 3"), (66, "signal 11 (segmentation fault)")]
)
async def test_a_fork_that_dies_is_charged_and_forked_again(
    agent: AgentProcess, tmp_path: Path, model: Path, number: int, words: str
) -> None:
    job = tabular(tmp_path, model, 1, 2, 3, number, 4, 5, 6)
    heard = await run(agent, job)
    [charged] = heard.of("crashed")
    assert charged.task.mini_batch == 3
    assert charged.slice_rows == 1
    assert charged.error is not None
    assert words in charged.error.message
    assert len(heard.of("scored")) == 6
    assert logs(job).count("loaded in") == 1


async def test_a_fork_that_hangs_is_killed(
    agent: AgentProcess, tmp_path: Path, model: Path
) -> None:
    job = tabular(tmp_path, model, 1, 2, 99, 3, 4, timeout_seconds=1.0)
    heard = await run(agent, job)
    assert [result.task.mini_batch for result in heard.of("timed_out")] == [2]
    assert len(heard.of("scored")) == 4
    assert logs(job).count("loaded in") == 1


async def test_a_killed_parent_costs_nothing_that_was_scored(
    agent: AgentProcess, tmp_path: Path, model: Path
) -> None:
    job = tabular(tmp_path, model, *range(10))
    async with served(agent, job) as connection:
        connection.assign(job.work(range(5)))
        heard = await listen(connection, lambda heard: len(heard.results) == 5)
        for pid in agent.workers():
            kill(pid)
        connection.assign(job.work(range(5, 10)))
        more = await listen(connection, lambda heard: len(heard.results) == 5)
    assert len(heard.of("scored")) == len(more.of("scored")) == 5
    assert logs(job).count("loaded in") == 2


async def test_warm_forks_serve_the_next_job(
    agent: AgentProcess, tmp_path: Path, model: Path
) -> None:
    job = tabular(tmp_path, model, 1, 2)
    async with served(agent, job) as connection:
        await listen(connection, lambda h: any(beat.workers == 2 for beat in h.heartbeats))
    before = sorted(agent.workers())
    assert len(before) == 3
    again = tabular(tmp_path, model, 3, 4, job="again", epoch=2)
    assert len((await run(agent, again)).of("scored")) == 2
    assert sorted(agent.workers()) == before


async def test_no_fork_outlives_its_agent(agent: AgentProcess, tmp_path: Path, model: Path) -> None:
    job = tabular(tmp_path, model, 99, 99)
    connection = await agent.connect()
    await connection.open(job.order)
    await listen(connection, lambda h: any(beat.workers == 2 for beat in h.heartbeats))
    connection.assign(job.work())
    await listen(connection, lambda h: any(beat.phase == "scoring" for beat in h.heartbeats))
    everybody = agent.workers()
    assert len(everybody) == 3
    agent.process.send_signal(signal.SIGKILL)
    await until(lambda: not any(alive(pid) for pid in everybody), 5)
    agent.process.wait()
    await connection.close()
