"""What user code can do to a real worker, and what the agent can still learn from it."""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchpoint_worker import protocol
from tests.integration.worker_driver import WAIT_SECONDS, Driver, is_running, wait_gone

Start = Callable[..., Driver]

# What run() does is told by the name of its first file.
SCRIPT = """
    import ctypes, os, signal, subprocess, sys, threading, time
    import multiprocessing

    def init(): pass

    def run(mini_batch):
        what = os.path.basename(mini_batch[0])
        return globals().get(what, lambda: mini_batch)() or mini_batch

    def boom():
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("no such thing") from error

    def leave(): sys.exit(3)
    def interrupt(): raise KeyboardInterrupt
    def memory(): raise MemoryError
    def deep(): return deep()
    def long_message(): raise RuntimeError("x" * 10_000_000)
    def odd_text(): raise RuntimeError("\\udcff \\x00")

    class Mute(Exception):
        def __str__(self): raise RuntimeError("no")
    def mute(): raise Mute
    def generator():
        yield 1
        raise ValueError("in the middle")

    def die(): os._exit(7)
    def segfault(): ctypes.string_at(0)
    def killed(): os.kill(os.getpid(), signal.SIGKILL)

    def flood():
        for number in range(20000): print("line", number)
        os.write(2, b"e" * 1_000_000)
    def close_low(): os.closerange(3, 100)
    def fork_through():
        if os.fork(): os.wait()
    def pool():
        with multiprocessing.get_context("fork").Pool(2) as workers:
            return workers.map(abs, [-1, -2])
    def spawned():
        with multiprocessing.get_context("spawn").Pool(1) as workers:
            return workers.map(double, [1, 2])
    def descriptors():
        code = "import os; print(sorted(int(f) for f in os.listdir('/proc/self/fd'))[:-1])"
        return [subprocess.check_output([sys.executable, "-c", code], close_fds=False).decode()]
    def hang():
        child = subprocess.Popen(["sleep", "1000"])
        with open("started", "w") as file: file.write(str(child.pid))
        os.rename("started", "child")
        while True: pass
    def hang_in_c():
        child = subprocess.Popen(["sleep", "1000"])
        with open("started", "w") as file: file.write(str(child.pid))
        os.rename("started", "child")
        ctypes.PyDLL(None).sleep(1000)

    def double(number): return number * 2
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    drivers: list[Driver] = []

    def make(**options) -> Driver:
        drivers.append(Driver(tmp_path, **options))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.end()


@pytest.fixture
def driver(start: Start) -> Driver:
    made = start()
    assert made.load(SCRIPT)["op"] == "loaded"
    return made


def child_of(driver: Driver) -> int:
    """Wait until the script has started its child and return the child's process id."""
    limit = time.monotonic() + WAIT_SECONDS
    path = driver.work / "child"
    while not path.exists():
        assert time.monotonic() < limit, driver.log()
        assert driver.process.poll() is None, driver.log()
        os.sched_yield()
    return int(path.read_text())


def test_an_exception_is_told_with_the_users_own_frames(driver: Driver):
    result, _ = driver.score("boom")

    error = result["error"]
    line = next(
        number
        for number, text in enumerate((driver.code / "score.py").read_text().splitlines(), 1)
        if "no such thing" in text
    )
    assert error["origin"] == "user"
    assert (error["type"], error["message"]) == ("ValueError", "no such thing")
    assert (error["file"], error["line"]) == (str(driver.code / "score.py"), line)
    assert "KeyError: 'missing'" in error["traceback"]
    assert "direct cause" in error["traceback"]
    assert 'raise ValueError("no such thing") from error' in error["traceback"]
    assert "batchpoint_worker" not in error["traceback"]
    assert driver.score()[0]["ok"]


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("leave", "SystemExit", "run() called sys.exit(3); return rows"),
        ("interrupt", "KeyboardInterrupt", "run() raised KeyboardInterrupt"),
        ("memory", "MemoryError", ""),
        ("deep", "RecursionError", "maximum recursion depth"),
        ("long_message", "RuntimeError", "characters left out"),
        ("odd_text", "RuntimeError", "\\udcff \x00"),
        ("mute", "score.Mute", "__str__ raised RuntimeError"),
        ("generator", "ValueError", "in the middle"),
    ],
)
def test_a_failing_run_is_a_failed_task_and_the_worker_goes_on(
    driver: Driver, what: str, kind: str, message: str
):
    result, _ = driver.score(what)
    assert not result["ok"]
    assert result["error"]["type"] == kind
    assert message in result["error"]["message"]
    assert len(result["error"]["message"]) <= 4_000
    assert len(result["error"]["traceback"]) <= 16_000
    assert driver.score()[0]["ok"]


@pytest.mark.parametrize("what", ["flood", "close_low", "fork_through", "pool", "spawned"])
def test_what_a_worker_takes_in_its_stride(driver: Driver, what: str):
    result, _ = driver.score(what)
    assert result["ok"], result
    assert driver.score(number=2)[0]["id"] == 2
    assert driver.stop() == 0
    if what == "flood":
        assert "line 19999\n" in driver.log()


def test_children_inherit_none_of_our_descriptors(driver: Driver):
    _, text = driver.score("descriptors")
    assert "[0, 1, 2]" in text


@pytest.mark.parametrize(
    ("what", "status"), [("die", 7), ("segfault", -signal.SIGSEGV), ("killed", -signal.SIGKILL)]
)
def test_a_dead_worker_leaves_its_task_on_the_status_page(driver: Driver, what: str, status: int):
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    began = time.monotonic()
    driver.send("run", tasks=[driver.task(41), driver.task(42, (what,)), driver.task(43)])

    assert driver.process.wait(WAIT_SECONDS) == status
    task, since, state, slice_rows = driver.page.get()
    assert (task, state, slice_rows) == (42, protocol.RUNNING, -1)
    assert began <= since <= time.monotonic()
    if what == "segfault":
        assert "Segmentation fault" in driver.log()
        assert "in segfault" in driver.log()


# Only the kernel can end what keeps the interpreter in C code.
ENDED_BY_THE_KERNEL = [("hang_in_c", True)] if sys.platform == "linux" else []


@pytest.mark.parametrize(
    ("what", "lifeline"), [("hang", True), ("hang", False), *ENDED_BY_THE_KERNEL]
)
def test_the_worker_and_its_children_die_with_the_agent(start: Start, what: str, *, lifeline: bool):
    driver = start(lifeline=lifeline)
    driver.load(SCRIPT)
    driver.send("run", tasks=[driver.task(1, (what,))])
    child = child_of(driver)
    assert is_running(child)

    driver.let_go()

    assert driver.process.wait(5) == -signal.SIGKILL
    assert wait_gone(child)


def test_an_idle_worker_dies_with_the_agent(driver: Driver):
    driver.let_go()
    assert driver.process.wait(5) == -signal.SIGKILL


def test_a_hanging_worker_says_where_it_is(driver: Driver):
    driver.send("run", tasks=[driver.task(1, ("hang",))])
    child_of(driver)
    driver.process.send_signal(signal.SIGUSR1)
    limit = time.monotonic() + WAIT_SECONDS
    while "in hang" not in driver.log():
        assert time.monotonic() < limit
        os.sched_yield()
    assert driver.process.poll() is None


@pytest.mark.parametrize(
    ("script", "kind", "message", "line"),
    [
        ("def init(): 1 / 0\ndef run(b): return b\n", "ZeroDivisionError", "division", 1),
        ("def init(:\n", "SyntaxError", "invalid syntax", 1),
        ("def run(b): return b\n", "function_missing", "defines no init()", 0),
        ("def init(): pass\n", "function_missing", "defines no run(mini_batch)", 0),
        ("import nothing_like_it\n", "ModuleNotFoundError", "nothing_like_it", 1),
        ("import sys\ndef init(): sys.exit(2)\ndef run(b): 0\n", "SystemExit", "init() called", 2),
    ],
)
def test_a_script_that_cannot_be_initialised(
    start: Start, script: str, kind: str, message: str, line: int
):
    driver = start()
    answer = driver.load(script)

    assert answer["op"] == "load_failed"
    assert answer["error"]["type"] == kind
    assert message in answer["error"]["message"]
    assert answer["error"]["line"] == line
    if line:
        assert answer["error"]["file"] == str(driver.code / "score.py")
    assert "importlib" not in answer["error"]["traceback"]
    expected = "environment" if kind == "ModuleNotFoundError" else "user"
    assert answer["error"]["origin"] == expected
    assert driver.process.wait(WAIT_SECONDS) == 1


def test_a_script_that_is_not_there(start: Start):
    answer = start().load(scoring_script="nowhere.py")
    assert answer["error"]["type"] == "script_not_found"
    assert "'nowhere.py'" in answer["error"]["message"]


def test_dying_in_init_is_told_by_the_status_page(start: Start):
    driver = start()
    (driver.code / "score.py").write_text("import os\nos._exit(9)\n")
    driver.send("load", **driver.request())
    assert driver.process.wait(WAIT_SECONDS) == 9
    assert driver.page.get()[2] == protocol.LOADING


def test_a_failing_shutdown_changes_nothing(start: Start):
    driver = start()
    driver.load("def init(): pass\ndef run(b): return b\ndef shutdown(): 1 / 0\n")
    assert driver.score()[0]["ok"]
    assert driver.stop() == 0
    assert "shutdown() failed: division by zero" in driver.log()
