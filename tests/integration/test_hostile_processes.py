"""Processes stopped, killed and run wild: jobs go on, and nothing is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from batchpoint import Client, JobHandle, wiring
from batchpoint.domain.job import JobState
from batchpoint.ledger.ledger import Ledger
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from tests.integration.conftest import Place

# A supervisor whose patience is short; runners and agents inherit it.
SUPERVISOR = """
import os
from pathlib import Path
from batchpoint.domain import limits
limits.LEASE_SECONDS, limits.CHECKPOINT_SECONDS = 0.6, 0.1
limits.LOG_BYTES_PER_FILE_MAX = 1 << 20
from batchpoint import wiring
from batchpoint.settings import Settings
wiring.run_supervisor(Settings(home=Path(os.environ["BATCHPOINT_HOME"])), exit_when_idle=False)
"""
PATIENCE_SECONDS = 30.0
# Other sessions of these tests on the machine sleep for other times.
NAP = str(100_000 + os.getpid())
SLOW = """
import os, time

def init():
    pass

def run(mini_batch):
    time.sleep(0.05)
    return ["scored " + os.path.basename(path) for path in mini_batch]
"""


INVOKE = (sys.executable, "-m", "batchpoint", "invoke", "slow-one", "--wait")


def until(happened: Callable[[], object], what: str) -> None:
    """Wait until something has happened."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < give_up, f"waited in vain: {what}"
        time.sleep(0.01)


class Wild(Place):
    """A place with a supervisor of its own."""

    def start(self) -> None:
        """Start a supervisor and wait until it answers."""
        log = (self.home.parent / "supervisor.log").open("ab")
        with log:
            started = subprocess.Popen(
                [sys.executable, "-c", SUPERVISOR],
                env={**os.environ, "BATCHPOINT_HOME": str(self.home)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # A process that nobody waits for is a warning, and here a failure.
        threading.Thread(target=started.wait, daemon=True).start()
        until(self.link.poke, "the supervisor answers")

    def tree(self) -> list[psutil.Process]:
        """Give the supervisor and everything below it."""
        status = self.link.ask("status")
        assert status is not None
        supervisor = psutil.Process(status["pid"])
        return [supervisor, *supervisor.children(recursive=True)]

    def runner(self, job: JobHandle) -> psutil.Process:
        """Wait for the runner of a job."""
        found: list[psutil.Process] = []

        def there() -> bool:
            status = self.link.ask("status") or {"jobs": []}
            found[:] = [psutil.Process(j["pid"]) for j in status["jobs"] if j["job"] == job.name]
            return bool(found)

        until(there, f"{job.name} has a runner")
        return found[0]

    def check(self, job: JobHandle, items: int) -> None:
        """Wait for a job of the slow script; each item must be there once, in order."""
        job.wait(timeout_seconds=PATIENCE_SECONDS)
        names = [f"i{number:03d}.txt" for number in range(items)]
        rows = "".join(f"{name},scored {name}\n" for name in names)
        assert self.predictions(job) == "_file,prediction\n" + rows


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wild]:
    """Give a place whose supervisor has short leases; in the end no process of it is left."""
    home = tmp_path_factory.mktemp("wild") / "home"
    home.mkdir()
    with Client(app=wiring.embedded_app(Settings(home=home))) as client:
        place = Wild(home, client, SupervisorLink(home))
        place.start()
        settings = {"mini_batch_size": 1, "max_concurrency_per_instance": 2}
        place.deploy_script(home.parent / "slow", "slow-one", SLOW, **settings)
        yield place
        family = place.tree()
        place.link.down()
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def items(folder: Path, count: int) -> Path:
    """Write the items of a job."""
    for number in range(count):
        (folder / f"i{number:03d}.txt").write_text(str(number))
    return folder


def running(job: JobHandle) -> bool:
    return job.status.progress.items_done > 0


def test_a_runner_that_stands_still_is_replaced(wild: Wild, tmp_path: Path) -> None:
    job = wild.client.invoke("slow-one", items(tmp_path, 60))
    until(lambda: running(job), "some items are scored")
    stopped = wild.runner(job)
    stopped.send_signal(signal.SIGSTOP)
    until(lambda: job.status.attempts == 2, "another runner has taken over")
    with contextlib.suppress(psutil.NoSuchProcess):
        stopped.send_signal(signal.SIGCONT)
    wild.check(job, 60)


def test_a_runner_that_was_shut_out_changes_nothing_when_it_wakes_up(
    wild: Wild, tmp_path: Path
) -> None:
    job = wild.client.invoke("slow-one", items(tmp_path, 60))
    ledger = Ledger(wiring.ledger_path(wild.home))
    for attempt in (1, 2, 3):
        until(lambda n=attempt: job.status.attempts == n and running(job), "a runner works")
        stopped = wild.runner(job)
        stopped.send_signal(signal.SIGSTOP)
        lease_seconds = 0.5
        epoch = ledger.acquire_lease(job.name, "test", time.time(), lease_seconds, force=True)
        assert epoch is not None
        before, checkpoints = job.job.status, list(ledger.checkpoints(job.name))
        stopped.send_signal(signal.SIGCONT)
        until(lambda p=stopped: not p.is_running(), "the runner that lost its lease has ended")
        assert list(ledger.checkpoints(job.name))[: len(checkpoints)] == checkpoints
        if job.status.attempts == before.attempts:
            assert job.job.status == before
        ledger.release(job.name, epoch)
        wild.link.poke()
    wild.check(job, 60)
    assert job.status.attempts == 4


def test_killing_all_processes_at_once_loses_nothing(wild: Wild, tmp_path: Path) -> None:
    job = wild.client.invoke("slow-one", items(tmp_path, 60))
    until(lambda: running(job), "some items are scored")
    family = wild.tree()
    assert len(family) >= 6, "supervisor, zygote, runner, agent, two workers"
    for process in reversed(family):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    wild.start()
    wild.check(job, 60)
    assert job.status.attempts == 2


def test_killing_the_waiting_command_does_not_end_the_job(wild: Wild, tmp_path: Path) -> None:
    data = items(tmp_path, 40)
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        before = {job.name for job in wild.client.jobs.list()}
        command = subprocess.Popen(
            [*INVOKE, "--input", str(data)],
            env={**os.environ, "BATCHPOINT_HOME": str(wild.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda b=before: len(list(wild.client.jobs.list())) > len(b), "the job is there")
        [name] = {job.name for job in wild.client.jobs.list()} - before
        job = wild.client.job(name)
        until(lambda j=job: running(j), "some items are scored")
        command.send_signal(number)
        _, said = command.communicate(timeout=10)
        assert command.returncode == code
        if number == signal.SIGINT:
            assert "The job goes on" in said
            assert f"{name}\n" in said, "and how to look at it"
        wild.check(job, 40)


STUBBORN = {
    "ignores SIGTERM": "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    time.sleep(1000)\n",
    "catches everything": (
        "    while True:\n        try:\n            time.sleep(1000)\n"
        "        except BaseException:\n            pass\n"
    ),
    "in C code": "    ctypes.PyDLL(None).sleep(1000)\n",
    "has children": (
        f"    subprocess.Popen(['sleep', '{NAP}'], start_new_session=True)\n"
        "    if os.fork() == 0:\n        os.setsid()\n        os.fork()\n        time.sleep(1000)\n"
        "    time.sleep(1000)\n"
    ),
}


@pytest.mark.parametrize("how", STUBBORN)
def test_cancel_ends_user_code_within_five_seconds(wild: Wild, tmp_path: Path, how: str) -> None:
    script = "import ctypes, os, signal, subprocess, time\n\ndef init():\n    pass\n\n"
    script += "def run(mini_batch):\n    print('begun', flush=True)\n" + STUBBORN[how]
    name = f"stubborn-{list(STUBBORN).index(how)}"
    wild.deploy_script(tmp_path / "code", name, script, max_concurrency_per_instance=1)
    (tmp_path / "data").mkdir()
    job = wild.client.invoke(name, items(tmp_path / "data", 3))
    logs = wild.folder(job).logs / "user"
    until(lambda: any("begun" in log.read_text() for log in logs.glob("*.txt")), "run() has begun")
    if how == "has children":
        until(lambda: len(asleep()) == 1, "the grandchild is there")
    job.cancel()
    began = time.monotonic()
    ended = job.wait(check=False, timeout_seconds=PATIENCE_SECONDS)
    assert time.monotonic() - began < 5
    assert ended.status.state == JobState.CANCELED
    assert not asleep()
    assert not wild.output(job).exists()


DAEMON = """
import os, subprocess

def init():
    pass

def run(mini_batch):
    if os.fork() == 0:
        os.setsid()
        subprocess.Popen(["sleep", "%NAP%"], start_new_session=True)
        os._exit(0)
    os.wait()
    return [1 for _ in mini_batch]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can find a daemon's maker")
def test_daemons_of_user_code_end_with_the_job(wild: Wild, tmp_path: Path) -> None:
    wild.deploy_script(
        tmp_path / "code", "daemons", DAEMON.replace("%NAP%", NAP), max_concurrency_per_instance=1
    )
    (tmp_path / "data").mkdir()
    job = wild.client.invoke("daemons", items(tmp_path / "data", 3), mini_batch_size=1)
    job.wait(timeout_seconds=PATIENCE_SECONDS)
    until(lambda: not asleep(), "the daemons have ended, although the node is warm")
    status = wild.link.ask("status")
    assert status is not None
    assert status["nodes"], "the node is warm"


def asleep() -> list[psutil.Process]:
    """Find the child that left its session."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline() == ["sleep", NAP]:
                found.append(process)
    return found


def test_cancelling_a_job_that_is_about_to_end_leaves_one_end(wild: Wild, tmp_path: Path) -> None:
    cancel_at_random(wild, tmp_path, rounds=15)


@pytest.mark.slow
def test_two_hundred_cancellations_leave_one_end_each(wild: Wild, tmp_path: Path) -> None:
    cancel_at_random(wild, tmp_path, rounds=200)


def cancel_at_random(wild: Wild, tmp_path: Path, rounds: int) -> None:
    data = items(tmp_path, 1)
    ends: set[JobState] = set()
    for number in range(rounds):
        job = wild.client.invoke("slow-one", data)
        time.sleep(0.4 * (number % 15) / 15)
        job.cancel()
        ended = job.wait(check=False, timeout_seconds=PATIENCE_SECONDS)
        assert ended.status.state in (JobState.COMPLETED, JobState.CANCELED), ended.status.error
        ends.add(ended.status.state)
        published = (wild.output(job) / "_receipt.json").exists()
        assert published == (ended.status.state == JobState.COMPLETED)
        job.cancel()
        assert job.status.state == ended.status.state, "an end stays"
    assert ends == {JobState.COMPLETED, JobState.CANCELED}, "the race was never run"


def test_a_flood_of_prints_fills_neither_memory_nor_disk(wild: Wild, tmp_path: Path) -> None:
    script = (
        "import os\n\ndef init():\n    pass\n\n"
        "def run(mini_batch):\n"
        "    for _ in range(200):\n        os.write(1, b'x' * (1 << 20) + b'\\n')\n"
        "    return [1 for _ in mini_batch]\n"
    )
    wild.deploy_script(tmp_path / "code", "floods", script, max_concurrency_per_instance=1)
    (tmp_path / "data").mkdir()
    job = wild.client.invoke("floods", items(tmp_path / "data", 1), mini_batch_size=1)
    ended = job.wait(timeout_seconds=PATIENCE_SECONDS)
    assert ended.status.progress.items_failed == 0
    logs = list((wild.folder(job).logs / "user").glob("*.txt"))
    assert 0 < sum(log.stat().st_size for log in logs) < 2 << 20
    assert any("truncated" in log.read_text() for log in logs)
    status = wild.link.ask("status")
    assert status is not None
    for node in status["nodes"]:
        assert psutil.Process(node["pid"]).memory_info().rss < 200 << 20
