"""One supervisor per home that is found, replaced and ended without any job noticing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from batchpoint import Client, JobHandle, wiring
from batchpoint.clock import SystemClock
from batchpoint.domain.job import JobState
from batchpoint.ledger.ledger import Ledger
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings

ITEMS = 40
SCRIPT = """
import os, time

def init():
    pass

def run(mini_batch):
    time.sleep(0.06)
    return ["scored " + os.path.basename(path) for path in mini_batch]
"""
EXPECTED = "_file,prediction\n" + "".join(f"{n:03}.txt,scored {n:03}.txt\n" for n in range(ITEMS))


@dataclass
class Home:
    """A home with a deployment, whose supervisor leaves soon after its last job."""

    path: Path
    client: Client
    link: SupervisorLink

    def invoke(self) -> JobHandle:
        return self.client.invoke("things", self.path.parent / "items")

    def status(self) -> dict[str, Any]:
        """What the supervisor tells, once it is there."""
        return until(lambda: self.link.ask("status"))

    def check(self, job: JobHandle) -> None:
        assert job.wait().status.state == JobState.COMPLETED
        output = self.path / "outputs" / job.name / "score" / "predictions.csv"
        assert output.read_text() == EXPECTED


def until(look: Callable[[], Any]) -> Any:
    """Look again and again until there is something to see."""
    give_up = time.monotonic() + 30
    while not (seen := look()):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return seen


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("BATCHPOINT_SUPERVISOR_IDLE_SECONDS", "0.2")
    (tmp_path / "items").mkdir()
    for number in range(ITEMS):
        (tmp_path / "items" / f"{number:03}.txt").write_text("x")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text(SCRIPT)
    (tmp_path / "model.txt").write_text("a model")
    path = tmp_path / "home"
    link = SupervisorLink(path)
    with Client(app=wiring.embedded_app(Settings(home=path))) as client:
        client.deploy(
            tmp_path / "model.txt",
            "things",
            scoring_script=str(tmp_path / "code" / "score.py"),
            mini_batch_size=1,
        )
        yield Home(path, client, link)
    status = link.ask("status")
    family = psutil.Process(status["pid"]).children(recursive=True) if status else []
    link.down()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def half_done(job: JobHandle) -> None:
    until(lambda: job.status.progress.mini_batches_done > 2)


def test_a_job_goes_on_after_down(home: Home) -> None:
    job = home.invoke()
    half_done(job)
    supervisor = psutil.Process(home.status()["pid"])
    assert home.link.down()
    psutil.wait_procs([supervisor], timeout=10)
    assert not home.link.poke()
    home.link.ensure()
    home.check(job)
    assert job.status.attempts > 1


def test_a_killed_zygote_takes_all_with_it_and_the_next_supervisor_goes_on(home: Home) -> None:
    job = home.invoke()
    half_done(job)
    supervisor = psutil.Process(home.status()["pid"])
    (zygote,) = supervisor.children()
    zygote.kill()
    _, alive = psutil.wait_procs([supervisor], timeout=4)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    home.link.ensure()
    home.check(job)


def test_a_socket_that_was_cleaned_away_comes_back(home: Home) -> None:
    job = home.invoke()
    half_done(job)
    pid = home.status()["pid"]
    shutil.rmtree(home.link.socket_path.parent, ignore_errors=True)  # nodes write there meanwhile
    assert home.status()["pid"] == pid
    home.check(job)


def test_another_tmpdir_reaches_the_same_supervisor(home: Home, tmp_path: Path) -> None:
    job = home.invoke()
    half_done(job)
    supervisor = psutil.Process(home.status()["pid"])
    (tmp_path / "tmp").mkdir()
    environ = {**os.environ, "BATCHPOINT_HOME": str(home.path), "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-m", "batchpoint", "down"]
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=60)
    psutil.wait_procs([supervisor], timeout=10)
    assert not supervisor.is_running()
    home.link.ensure()
    home.check(job)


def test_many_that_are_started_at_once_become_one(home: Home) -> None:
    starts = [threading.Thread(target=home.link.start) for _ in range(4)]
    for start in starts:
        start.start()
    job = home.invoke()
    for start in starts:
        start.join()
    home.check(job)
    assert job.status.attempts == 1


def test_a_supervisor_waits_for_a_lease_that_nobody_gave_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SupervisorLink, "ensure", lambda _: None)  # nobody is woken up
        job = home.invoke()
    ledger, now = Ledger(wiring.ledger_path(home.path)), SystemClock().seconds()
    # By a machine that was called otherwise before it was restarted, say.
    assert ledger.acquire_lease(job.name, "another-name:/home:1", now, 4.0) is not None
    home.link.start()
    home.check(job)


def test_waiting_for_a_job_replaces_a_supervisor_that_died(home: Home) -> None:
    job = home.invoke()
    psutil.Process(home.status()["pid"]).kill()
    until(lambda: home.link.ask("status") is None)
    home.check(job)
