"""Finding the supervisor of a home from any shell, and nobody else's."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path

import pytest

from batchpoint.runner import supervisor_link
from batchpoint.runner.supervisor_link import SOCKET, SupervisorLink, record_address, runtime_dir


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_another_tmpdir_finds_the_same_supervisor(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = runtime_dir(home) / SOCKET
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        record_address(home, path)

        def answer() -> None:
            line, _ = listening.accept()
            with line:
                line.recv(100)
                line.sendall(b'{"pid": 7}\n')

        answering = threading.Thread(target=answer)
        answering.start()
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(tempfile, "tempdir", None)
        assert SupervisorLink(home).ask("status") == {"pid": 7}
        answering.join()
    path.unlink()
    record_address(home, None)
    assert SupervisorLink(home).ask("status") is None
    path.parent.rmdir()


def test_looking_for_a_supervisor_makes_nothing(home: Path) -> None:
    link = SupervisorLink(home)
    assert link.ask("poke") is None
    assert not link.socket_path.parent.exists()
    assert list(home.iterdir()) == []


def test_an_address_that_leads_nowhere_is_no_supervisor(home: Path) -> None:
    for nowhere in (home / "gone" / SOCKET, home / ("x" * 200), home):
        record_address(home, nowhere)
        assert SupervisorLink(home).ask("poke") is None


def test_a_long_log_is_put_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_link, "_LOG_BYTES_MAX", 10)
    for number in range(5):
        with supervisor_link._log_of(home) as log:
            log.write(f"start {number}\n".encode())
    logs = home / "logs"
    assert sorted(path.name for path in logs.iterdir()) == ["supervisor.1.log", "supervisor.log"]
    assert (logs / "supervisor.log").read_text() == "start 4\n"
    assert (logs / "supervisor.1.log").read_text() == "start 2\nstart 3\n"
