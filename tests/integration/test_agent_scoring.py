"""An agent with real workers: what is scored, reported and left behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.agent_harness import AgentProcess, Tiny, rows_of, run, until

ECHO = """
def init():
    print("init was here")
def run(mini_batch):
    return [open(path).read().strip() for path in mini_batch]
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    started = AgentProcess.start(tmp_path)
    yield started
    started.end()


async def test_every_mini_batch_is_scored_once_and_echoed(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job = Tiny(tmp_path, ECHO, files=20)
    heard = await run(agent, job)
    assert sorted(r.task for r in heard.results) == [a.task for _, a in job.work()]
    assert {(r.outcome, r.attempt, r.rows) for r in heard.results} == {("scored", 1, 2)}
    assert sorted(i for r in heard.results for i in r.items) == list(range(20))
    rows = rows_of(job, heard)
    assert "".join(rows[i] for i in sorted(rows)) == "".join(
        f"f{i:05d}.txt,content {i}\n" for i in range(20)
    )
    assert heard.ready == 1
    log = job.folder.user_log("n1", 0).read_text()
    assert log == "init was here\n"
