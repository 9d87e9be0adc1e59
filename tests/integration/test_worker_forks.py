"""A real worker that forks itself into workers once its model is loaded."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.worker_driver import MAIN, Driver, Fork, is_running, wait_gone

Start = Callable[..., Driver]

# A scorer that says it may be forked, next to the worker as it is: scripts never say so.
FORKABLE = f"""
import runpy, sys
started = runpy.run_path({str(MAIN)!r})
started["find_package"]()
from batchpoint_worker import loop, script


class ForkableScript(script.ScriptScorer):
    def load(self, request):
        return super().load(request)._replace(forkable=True)


loop.SCORERS["script"] = (__name__, "ForkableScript")
sys.exit(started["main"]())
"""

SCRIPT = """
    import os, subprocess, sys, threading, time

    def init():
        global big
        big = os.getpid()
        print("loaded once")

    def run(mini_batch):
        what = os.path.basename(mini_batch[0])
        if what == "die": os._exit(5)
        if what == "thread": threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        if what == "hang":
            child = subprocess.Popen(["sleep", "1000"])
            open("child", "w").write(str(child.pid))
            while True: pass
        print("run in", os.getpid())
        return [big, os.getpid()]
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers fork on Linux only")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Driver]]:
    main = tmp_path / "main.py"
    main.write_text(FORKABLE)
    drivers: list[Driver] = []

    def make(script: str = SCRIPT) -> Driver:
        driver = Driver(tmp_path, main=main, control=True)
        drivers.append(driver)
        driver.loaded = driver.load(script)
        return driver

    yield make
    for driver in drivers:
        driver.end()


def score(fork: Fork, driver: Driver, *names: str, number: int = 1) -> list[str]:
    fork.send("run", tasks=[driver.task(number, names or ("a", "b"))])
    header, body = fork.receive("results")
    assert header["results"][0]["ok"], header
    return [line.split(",")[1] for line in body.decode().splitlines()]


def test_children_share_what_was_loaded_and_are_reaped(start: Start):
    driver = start()
    assert driver.loaded["forkable"] is True

    first, second = driver.fork(0), driver.fork(1)
    pids = {score(fork, driver)[1] for fork in (first, second)}

    assert score(first, driver)[0] == str(driver.process.pid)
    assert pids == {str(first.pid), str(second.pid)}
    assert os.getpgid(first.pid) == first.pid
    assert first.log_path.read_text() == f"run in {first.pid}\n" * 2
    assert driver.log() == "loaded once\n"

    first.send("shutdown")
    first.receive("bye")
    header, _ = driver.receive("exited")
    assert header == {"op": "exited", "slot": 0, "pid": first.pid, "status": 0}

    second.send("run", tasks=[driver.task(9, ("die",))])
    header, _ = driver.receive("exited")
    assert (header["slot"], header["status"]) == (1, 5)
    assert second.page.get()[0] == 9

    third = driver.fork(1)
    assert score(third, driver)[1] == str(third.pid)
    assert driver.stop() == 0
    for fork in (first, second, third):
        fork.end()


def test_a_child_killed_from_outside_is_told_with_its_signal(start: Start):
    driver = start()
    fork = driver.fork(3)
    os.killpg(fork.pid, signal.SIGKILL)
    header, _ = driver.receive("exited")
    assert (header["slot"], header["status"]) == (3, -signal.SIGKILL)
    fork.end()


def test_children_and_grandchildren_end_with_the_agent(start: Start):
    driver = start()
    fork = driver.fork(0)
    fork.send("run", tasks=[driver.task(1, ("hang",))])
    path = driver.work / f"slot-0-{fork.pid}" / "child"
    while not path.exists() or not path.read_text():
        os.sched_yield()
    grandchild = int(path.read_text())
    assert is_running(grandchild)

    fork.let_go()

    assert wait_gone(grandchild)
    header, _ = driver.receive("exited")
    assert header["status"] == -signal.SIGKILL
    fork.end()


def test_the_parent_dies_with_the_agent(start: Start):
    driver = start()
    fork = driver.fork(0)
    score(fork, driver)
    driver.let_go()
    assert driver.process.wait(5) == -signal.SIGKILL
    fork.end()
    assert wait_gone(fork.pid)


WITH_A_THREAD = """
    import threading, time
    def init(): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    def run(mini_batch): return mini_batch
"""

# What torch says once its model is on a GPU; a GPU does not survive a fork.
WITH_A_GPU = """
    import sys, types
    def init():
        cuda = types.SimpleNamespace(is_initialized=lambda: True)
        sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
    def run(mini_batch): return mini_batch
"""


@pytest.mark.parametrize("script", [WITH_A_THREAD, WITH_A_GPU], ids=["thread", "gpu"])
def test_what_does_not_survive_a_fork_is_not_forked(start: Start, script: str):
    driver = start(script)
    assert driver.loaded["forkable"] is False
    assert driver.score()[0]["ok"]
    assert driver.stop() == 0


def test_a_parent_that_scored_by_itself_refuses_to_fork(start: Start):
    driver = start()
    assert driver.score("thread", "b")[0]["ok"]

    assert driver.ask_fork(0) is None
    assert driver.stop() == 0
