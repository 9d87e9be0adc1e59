"""`batchpoint serve` as a process: it answers, keeps a supervisor, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from batchpoint.client.client import Client

WAIT_SECONDS = 30

Serve = Callable[[], tuple[subprocess.Popen[str], str]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "batchpoint", "serve", "--port", "0"],
            env={**os.environ, "BATCHPOINT_HOME": str(tmp_path / "home")},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:  # ends when the process does
            said.append(line)
            found = re.search(r"BATCHPOINT_URL=(http://\S+)", line)
            if found:
                return process, found[1]
        raise AssertionError("".join(said))

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def supervisor_of(process: subprocess.Popen[str]) -> psutil.Process:
    """Wait until the server has started its supervisor and that one answers with its lock."""
    assert process.stderr is not None
    for line in process.stderr:
        if "supervisor ready" in line:
            break
    [child] = psutil.Process(process.pid).children()
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_ends_with_its_supervisor(serve: Serve, number: signal.Signals) -> None:
    process, url = serve()
    with Client(url) as client:
        assert client.server_version()
        assert [compute.name for compute in client.computes.list()] == ["local"]
    supervisor = supervisor_of(process)
    process.send_signal(number)
    assert process.wait(WAIT_SECONDS) == 0
    assert psutil.wait_procs([supervisor], WAIT_SECONDS)[1] == []


@pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel tells of a dead parent on Linux only"
)
def test_a_killed_server_leaves_no_supervisor(serve: Serve) -> None:
    process, _ = serve()
    supervisor = supervisor_of(process)
    process.kill()
    assert psutil.wait_procs([supervisor], WAIT_SECONDS)[1] == []


def test_a_killed_supervisor_is_replaced(serve: Serve) -> None:
    process, _ = serve()
    first = supervisor_of(process)
    first.kill()
    assert psutil.wait_procs([first], WAIT_SECONDS)[1] == []
    assert supervisor_of(process).pid != first.pid


def test_a_port_that_is_taken_is_said(serve: Serve, tmp_path: Path) -> None:
    _, url = serve()
    done = subprocess.run(
        [sys.executable, "-m", "batchpoint", "serve", "--port", url.rpartition(":")[2]],
        env={**os.environ, "BATCHPOINT_HOME": str(tmp_path / "other")},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert done.returncode == 2
    assert "error[settings_invalid]: cannot listen on 127.0.0.1:" in done.stderr
