"""What an agent makes of workers that crash, hang and fail, of lost runners and full disks."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchpoint.domain import limits
from batchpoint.formats.parts import PartReader
from tests.integration.agent_harness import (
    AgentProcess,
    Heard,
    Tiny,
    alive,
    kill,
    listen,
    rows_of,
    run,
    served,
    until,
)

ECHO = "def init(): pass\ndef run(b): return [open(p).read().strip() for p in b]\n"

# Does what the content of its input says.
OBEDIENT = """
import ctypes, os, signal, sys, time
def init(): pass
def run(batch):
    for path in batch:
        order = open(path).read().strip()
        if order == "exit":
            os._exit(3)
        elif order == "leave":
            sys.exit(4)
        elif order == "segfault":
            ctypes.string_at(0)
        elif order == "abort":
            os.abort()
        elif order == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif order == "raise":
            raise ValueError("no good: " + order)
        elif order == "hang":
            busy()
    return list(batch)
def busy():
    while True:
        time.sleep(60)
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    started = AgentProcess.start(tmp_path)
    yield started
    started.end()


def scored_once(heard: Heard, without: set[int], count: int) -> None:
    tasks = [result.task.mini_batch for result in heard.of("scored")]
    assert sorted(tasks) == [i for i in range(count) if i not in without]


@pytest.mark.parametrize(
    ("order", "outcome", "words"),
    [
        ("exit", "crashed", "the worker exited with code 3 in run()"),
        ("segfault", "crashed", "the worker was killed by signal 11 (segmentation fault) in run()"),
        ("abort", "crashed", "the worker was killed by signal 6 (aborted) in run()"),
        ("killed", "lost", "the worker was killed by signal 9 (killed from outside) in run()"),
    ],
)
async def test_only_the_task_that_ended_its_worker_is_charged(
    agent: AgentProcess, tmp_path: Path, order: str, outcome: str, words: str
) -> None:
    job = Tiny(tmp_path, OBEDIENT, per_batch=1, contents=["ok"] * 30 + [order] + ["ok"] * 30)
    heard = await run(agent, job)
    assert len(heard.results) == 61
    scored_once(heard, {30}, 61)
    [charged] = heard.of(outcome)
    assert charged.task.mini_batch == 30
    assert charged.items == (30,)
    assert charged.error is not None
    assert charged.error.message == words
    assert charged.error.file == "f00030.txt"


async def test_an_exception_is_a_failed_attempt_with_its_place(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job = Tiny(tmp_path, OBEDIENT, per_batch=1, contents=["ok", "raise", "leave"])
    async with served(agent, job) as connection:
        connection.assign(job.work(attempt=3))
        heard = await listen(connection, lambda heard: len(heard.results) == 3)
    scored_once(heard, {1, 2}, 3)
    first, second = sorted(heard.of("failed"))
    assert first.error is not None
    assert second.error is not None
    assert {result.attempt for result in heard.results} == {3}
    assert (first.error.origin, first.error.type) == ("user", "ValueError")
    assert first.error.message == "no good: raise"
    assert first.error.line.startswith("score.py:")
    assert first.error.kind == f"ValueError at {first.error.line}"
    assert "raise ValueError" in first.error.traceback
    assert first.error.log in ("logs/user/n1-0.txt", "logs/user/n1-1.txt")
    assert second.error.type == "SystemExit"


async def test_a_worker_that_breaks_its_pipe_is_stopped_and_charged(
    agent: AgentProcess, tmp_path: Path
) -> None:
    script = """
import os
def init(): pass
def run(batch):
    if open(batch[0]).read() == "vandal":
        for fd in os.listdir("/proc/self/fd"):
            try:
                if "pipe" in os.readlink("/proc/self/fd/" + fd) and int(fd) > 2:
                    os.write(int(fd), b"\\xff" * 64)
            except OSError:
                pass
        while True: pass
    return list(batch)
"""
    job = Tiny(tmp_path, script, per_batch=1, contents=["ok", "ok", "vandal", "ok", "ok"])
    heard = await run(agent, job)
    scored_once(heard, {2}, 5)
    [charged] = heard.of("crashed")
    assert charged.error is not None
    assert "what it sends is not understood" in charged.error.message


async def test_a_task_that_hangs_is_killed_and_its_neighbours_are_not_charged(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job = Tiny(
        tmp_path,
        OBEDIENT,
        per_batch=1,
        slots=1,
        contents=["ok"] * 10 + ["hang"] + ["ok"] * 10,
        timeout_seconds=1.0,
    )
    heard = await run(agent, job)
    scored_once(heard, {10}, 21)
    [charged] = heard.of("timed_out")
    assert charged.task.mini_batch == 10
    assert 1.0 <= charged.seconds < 5.0
    assert charged.error is not None
    assert charged.error.message == "run() took longer than 1 s and was stopped"
    assert " in busy" in charged.error.traceback
    assert "batchpoint_worker" not in charged.error.traceback


async def test_a_task_of_a_slow_neighbour_goes_to_another_worker(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job = Tiny(
        tmp_path, OBEDIENT, per_batch=1, slots=2, contents=["hang"] + ["ok"] * 40, timeout_seconds=2
    )
    heard = await run(agent, job)
    scored_once(heard, {0}, 41)
    assert [result.task.mini_batch for result in heard.of("timed_out")] == [0]


async def test_init_that_raises_is_told_with_the_users_error(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job = Tiny(tmp_path, "def init():\n    raise KeyError('weights')\ndef run(b): return b\n")
    async with served(agent, job) as connection:
        heard = await listen(connection, lambda heard: len(heard.failed_loads) >= 3)
    error = heard.failed_loads[0].error
    assert (error.origin, error.type, error.line) == ("user", "KeyError", "score.py:2")
    assert "weights" in error.message
    assert heard.ready, "a node that nobody knows of cannot be judged"


async def test_init_that_ends_the_process_is_told(agent: AgentProcess, tmp_path: Path) -> None:
    job = Tiny(tmp_path, "import os\ndef init(): os._exit(7)\ndef run(b): return b\n")
    async with served(agent, job) as connection:
        heard = await listen(connection, lambda heard: len(heard.failed_loads) >= 2)
    assert heard.failed_loads[0].error.message == "the worker exited with code 7 in init()"


async def test_a_load_that_fails_once_is_tried_again(agent: AgentProcess, tmp_path: Path) -> None:
    script = f"""
import os
def init():
    flag = {str(tmp_path / "flag")!r}
    if not os.path.exists(flag):
        open(flag, "w").close()
        raise RuntimeError("not yet")
def run(b): return list(b)
"""
    heard = await run(agent, Tiny(tmp_path, script, slots=1))
    assert len(heard.failed_loads) == 1
    assert len(heard.of("scored")) == 4


async def test_an_interpreter_that_is_missing_is_told(agent: AgentProcess, tmp_path: Path) -> None:
    job = Tiny(tmp_path, ECHO)
    environment = job.spec.environment.model_copy(update={"python": "/no/such/python"})
    job.spec = job.spec.model_copy(update={"environment": environment})
    async with served(agent, job) as connection:
        heard = await listen(connection, lambda heard: bool(heard.failed_loads))
    error = heard.failed_loads[0].error
    assert error.origin == "environment"
    assert error.message == "/no/such/python cannot be started: No such file or directory"


async def test_a_worker_killed_between_tasks_charges_nobody(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job = Tiny(tmp_path, ECHO, files=8, per_batch=1)
    async with served(agent, job) as connection:
        connection.assign(job.work(range(4)))
        first = await listen(connection, lambda heard: len(heard.results) == 4)
        for pid in agent.workers():
            kill(pid)
        connection.assign(job.work(range(4, 8)))
        second = await listen(connection, lambda heard: len(heard.results) == 4)
    assert {result.outcome for result in (*first.results, *second.results)} == {"scored"}


async def test_kills_from_outside_lose_and_double_nothing(
    agent: AgentProcess, tmp_path: Path
) -> None:
    count = 2000
    loaded = tmp_path / "loaded"
    loaded.mkdir()
    script = f"""
import os, time
def init(): open(os.path.join({str(loaded)!r}, str(os.getpid())), "w").close()
def run(batch):
    time.sleep(0.001)
    return list(batch)
"""
    job = Tiny(tmp_path, script, files=count, per_batch=1)
    heard = Heard()
    killed: set[str] = set()

    async def kill_workers() -> None:
        for _ in range(20):
            await until(lambda: bool({path.name for path in loaded.iterdir()} - killed))
            victim = min({path.name for path in loaded.iterdir()} - killed)
            killed.add(victim)
            kill(int(victim))

    async with served(agent, job) as connection:
        await listen(connection, lambda h: any(beat.workers == 2 for beat in h.heartbeats))
        descriptors = agent.descriptors()
        connection.assign(job.work())
        killing = asyncio.create_task(kill_workers())
        while len(heard.of("scored")) < count:
            more = await listen(connection, lambda heard: bool(heard.results))
            heard.reports += more.reports
            lost = [result.task.mini_batch for result in more.of("lost")]
            connection.assign(job.work(lost))
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        await listen(connection, lambda h: any(beat.workers == 2 for beat in h.heartbeats))
        assert agent.descriptors() <= descriptors + 4, "one log per slot, one part, one segment"
    assert len(killed) >= 10
    assert sorted(result.task.mini_batch for result in heard.of("scored")) == list(range(count))
    rows = rows_of(job, heard)
    assert all(rows[i].startswith(f"f{i:05d}.txt,") for i in range(count))
    assert {result.outcome for result in heard.results} <= {"scored", "lost"}


# --- runners and agents that go -----------------------------------------------------------------

STUBBORN = """
import os, signal, subprocess, sys, time
def init():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
def run(batch):
    if open(batch[0]).read() == "ok":
        return list(batch)
    with open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], "half.txt"), "w") as out:
        out.write("half")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.environ["PIDS"] + ".new", "w") as out:
        out.write("%d %d" % (os.getpid(), child.pid))
    os.rename(os.environ["PIDS"] + ".new", os.environ["PIDS"])
    while True:
        time.sleep(60)
"""


async def stuck(agent: AgentProcess, tmp_path: Path):
    """A job with one worker in the middle of a run that ends at nothing but SIGKILL."""
    pids = tmp_path / "pids"
    job = Tiny(
        tmp_path, STUBBORN, per_batch=1, contents=["ok", "stick"], variables={"PIDS": str(pids)}
    )
    connection = await agent.connect()
    await connection.open(job.order)
    await listen(connection, lambda h: any(beat.workers == 2 for beat in h.heartbeats))
    connection.assign(job.work())
    await until(pids.exists)
    return job, connection, [int(pid) for pid in pids.read_text().split()]


async def test_abort_ends_user_code_in_time_and_keeps_what_was_scored(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job, connection, pids = await stuck(agent, tmp_path)
    begin = asyncio.get_running_loop().time()
    await connection.abort()
    assert asyncio.get_running_loop().time() - begin < 5
    await until(lambda: not any(alive(pid) for pid in pids), 1)
    assert len(agent.workers()) == 1, "the idle worker stays warm"
    heard = await listen(connection, lambda heard: bool(heard.results))
    assert [result.task.mini_batch for result in heard.of("scored")] == [0]
    await connection.close()
    assert len(list(job.folder.parts.iterdir())) == 1


async def test_a_lost_runner_ends_its_user_code_and_leaves_nothing(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job, connection, pids = await stuck(agent, tmp_path)
    assert connection._transport is not None
    connection._transport.abort()
    await until(lambda: not any(alive(pid) for pid in pids), 5)
    assert len(agent.workers()) == 1, "the idle worker stays warm"
    await connection._gone.wait()
    again = Tiny(tmp_path, STUBBORN, contents=["ok"], epoch=2, variables=job.variables)
    heard = await run(agent, again)
    assert len(heard.of("scored")) == 1
    assert not list(job.folder.files.iterdir())
    assert not list(job.folder.parts.glob("*.tmp"))
    assert all(
        path.name.startswith("000002-") or sealed(path) for path in job.folder.parts.iterdir()
    )


def sealed(path: Path) -> bool:
    with PartReader(path) as reader:
        return len(reader.frames) > 0


async def test_kill_9_of_the_agent_leaves_no_process(agent: AgentProcess, tmp_path: Path) -> None:
    _, connection, pids = await stuck(agent, tmp_path)
    everybody = {*pids, *agent.workers()}
    agent.process.kill()
    await until(lambda: not any(alive(pid) for pid in everybody), 5)
    await connection.close()
    agent.process.wait()
    next_one = AgentProcess.start(tmp_path)
    try:
        assert len((await run(next_one, Tiny(tmp_path, ECHO, job="next"))).of("scored")) == 4
    finally:
        next_one.end()
    assert not (tmp_path / "agent.work").exists()


async def test_an_agent_waits_for_its_predecessor_to_end(
    agent: AgentProcess, tmp_path: Path
) -> None:
    """A new supervisor may use the socket of a killed one while its agent is still ending."""
    _, connection, _ = await stuck(agent, tmp_path)
    next_one = AgentProcess.start(tmp_path)
    try:
        agent.end()
        await connection.close()
        assert len((await run(next_one, Tiny(tmp_path, ECHO, job="next"))).of("scored")) == 4
    finally:
        next_one.end()


@pytest.mark.parametrize("how", ["lifeline", "SIGTERM"])
async def test_the_end_of_an_agent_leaves_nothing(
    agent: AgentProcess, tmp_path: Path, how: str
) -> None:
    job, connection, pids = await stuck(agent, tmp_path)
    everybody = {*pids, *agent.workers()}
    if how == "lifeline":
        agent.cut_lifeline()
    else:
        agent.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(agent.process.wait, 10) == 0
    assert not any(alive(pid) for pid in everybody)
    await connection.close()
    assert not (tmp_path / "agent.work").exists()
    assert not (tmp_path / "agent.sock").exists()
    assert not list(job.folder.files.iterdir())
    assert not list(job.folder.parts.glob("*.tmp"))


async def test_idle_workers_may_shut_down_in_peace(agent: AgentProcess, tmp_path: Path) -> None:
    script = f"""
def init(): pass
def run(b): return list(b)
def shutdown():
    open({str(tmp_path / "bye")!r}, "a").write("bye\\n")
"""
    job = Tiny(tmp_path, script)
    async with served(agent, job) as connection:
        connection.assign(job.work())
        await listen(connection, lambda h: any(beat.workers == 2 for beat in h.heartbeats))
    agent.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(agent.process.wait, 10) == 0
    assert (tmp_path / "bye").read_text() == "bye\nbye\n"


async def test_a_flood_between_two_agents_ends_with_the_lifeline(tmp_path: Path) -> None:
    """Workers that never stop printing do not keep an agent from ending."""
    agent = AgentProcess.start(tmp_path)
    script = "def init(): pass\ndef run(b):\n    while True: print('x' * 1000)\n"
    job = Tiny(tmp_path, script, files=2, per_batch=1)
    connection = await agent.connect()
    await connection.open(job.order)
    connection.assign(job.work())
    await until(lambda: any(p.stat().st_size > 1e6 for p in job.folder.logs.glob("user/*")))
    workers = agent.workers()
    agent.end()
    assert not any(alive(pid) for pid in workers)
    await connection.close()
    sizes = [path.stat().st_size for path in job.folder.logs.glob("user/*")]
    assert max(sizes) <= limits.LOG_BYTES_PER_FILE_MAX + 1000


# --- disks and memory ---------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit to fill and free a disk")
async def test_a_full_disk_is_said_and_waited_for(agent: AgentProcess, tmp_path: Path) -> None:
    job = Tiny(tmp_path, ECHO, files=40, per_batch=1)
    pid = agent.process.pid
    async with served(agent, job) as connection:
        await listen(connection, lambda h: any(beat.workers == 2 for beat in h.heartbeats))
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (10, before[1]))
        connection.assign(job.work())
        heard = await listen(connection, lambda h: any(beat.warning for beat in h.heartbeats))
        assert not heard.results
        warning = heard.heartbeats[-1].warning
        assert warning.startswith("disk full")
        assert str(job.folder.parts) in warning
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        heard = await listen(connection, lambda heard: len(heard.results) == 40)
        after = await listen(connection, lambda h: bool(h.heartbeats))
    scored_once(heard, set(), 40)
    assert len(rows_of(job, heard)) == 40
    assert after.heartbeats[-1].warning == ""


def memory_cgroup() -> Path | None:
    """A cgroup of our own with a memory limit, where this machine and user allow one."""
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        folder = parent / f"batchpoint-test-{os.getpid()}"
        try:
            if not (parent / "cgroup.procs").exists():
                continue
            folder.mkdir()
            (folder / limit).write_text(str(100 << 20))
        except OSError:
            if folder.exists():
                folder.rmdir()
            continue
        return folder
    return None


async def test_a_worker_that_runs_out_of_memory_is_charged(
    agent: AgentProcess, tmp_path: Path
) -> None:
    group = memory_cgroup()
    if group is None:
        pytest.skip("no cgroup can be made here")
    script = f"""
import os
def init(): open({str(group / "cgroup.procs")!r}, "w").write(str(os.getpid()))
def run(batch):
    if open(batch[0]).read() == "hog":
        hog = [bytearray(b"x") * (10 << 20) for _ in range(100)]
    return list(batch)
"""
    try:
        job = Tiny(tmp_path, script, per_batch=1, contents=["ok"] * 5 + ["hog"] + ["ok"] * 5)
        heard = await run(agent, job)
        scored_once(heard, {5}, 11)
        [charged] = heard.of("crashed")
        assert charged.error is not None
        assert "ran out of memory" in charged.error.message
    finally:
        for pid in agent.workers():
            kill(pid)
        await until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


async def test_daemons_of_user_code_end_with_the_job(agent: AgentProcess, tmp_path: Path) -> None:
    """A process that left session and parents behind is still found."""
    script = f"""
import os, subprocess, sys
def init(): pass
def run(batch):
    code = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
    code += "'import time; time.sleep(600)'], start_new_session=True, stdout=-3, stderr=-3); "
    code += "print(p.pid)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    open({str(tmp_path / "daemon")!r}, "w").write(made.stdout)
    return list(batch)
"""
    await run(agent, Tiny(tmp_path, script, files=1))
    daemon = int((tmp_path / "daemon").read_text())
    assert not alive(daemon)
