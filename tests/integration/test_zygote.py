"""The fork server: starts children, tells how they ended, and leaves none behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import psutil

PROGRAM = textwrap.dedent(
    """
    import asyncio, os, signal, sys, time
    from batchpoint.engines.zygote import Zygote

    def leave(arguments, lifeline):
        sys.exit(arguments["status"])

    def stay(arguments, lifeline):
        os.read(lifeline, 1)

    def fall(arguments, lifeline):
        raise RuntimeError("on purpose")

    zygote = Zygote.start({"leave": leave, "stay": stay, "fall": fall})

    async def main():
        gone = zygote.attach()
        first = await zygote.spawn("leave", {"status": 7})
        assert await first.exited == 7
        assert await (await zygote.spawn("fall", {})).exited == 1
        killed = await zygote.spawn("stay", {})
        killed.kill()
        assert await killed.exited == -signal.SIGKILL
        asked = await zygote.spawn("stay", {})
        asked.terminate()
        assert await asked.exited == -signal.SIGTERM
        stays = [await zygote.spawn("stay", {}) for _ in range(3)]
        print("pids", zygote.pid, *[child.pid for child in stays], flush=True)
        if "{how}" == "close":
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            zygote.close()
            return
        await gone

    asyncio.run(main())
    """
)


def start(how: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """Start the program and return it with its zygote and the zygote's three children."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("{how}", how)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert program.stdout is not None
    line = program.stdout.readline().split()
    assert line[:1] == ["pids"], line
    return program, [psutil.Process(int(pid)) for pid in line[1:]]


def ended(processes: list[psutil.Process]) -> bool:
    """Wait until all are gone."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_close_ends_zygote_and_children() -> None:
    program, processes = start("close")
    with program:
        program.communicate("go\n", timeout=10)
    assert program.returncode == 0
    assert ended(processes)


def test_killed_supervisor_leaves_nothing() -> None:
    program, processes = start("wait")
    with program:
        program.kill()
    assert ended(processes)


def test_killed_zygote_is_noticed_and_leaves_nothing() -> None:
    program, processes = start("wait")
    with program:
        processes[0].kill()
        assert program.wait(10) == 0
    assert ended(processes)


TROUBLE = textwrap.dedent(
    """
    import asyncio, os, signal
    from batchpoint.domain.errors import Unavailable
    from batchpoint.engines.zygote import Zygote

    fork, forks = os.fork, []

    def no_room_for_the_first_child():
        forks.append(1)
        if len(forks) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    os.fork = no_room_for_the_first_child
    zygote = Zygote.start({"stay": lambda arguments, lifeline: os.read(lifeline, 1)})

    async def refused():
        try:
            await asyncio.wait_for(zygote.spawn("stay", {}), 10)
        except Unavailable as error:
            return str(error)

    async def main():
        gone = zygote.attach()
        assert "Resource temporarily unavailable" in await refused()
        child = await zygote.spawn("stay", {})  # and on it goes
        os.kill(zygote.pid, signal.SIGSTOP)
        waiting = asyncio.ensure_future(refused())
        await asyncio.sleep(0)
        os.kill(zygote.pid, signal.SIGKILL)
        assert "is gone" in await waiting
        assert gone.done()
        assert "is gone" in await refused()

    asyncio.run(main())
    """
)


def test_a_child_that_cannot_be_started_is_an_error_and_no_wait() -> None:
    subprocess.run([sys.executable, "-c", TROUBLE], check=True, timeout=30)
