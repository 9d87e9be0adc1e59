"""Lines that break: what may be repeated is, what came half is not taken for a whole."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from batchpoint.client.connection import ATTEMPTS_MAX, Connection
from batchpoint.client.jobs import JobHandle
from batchpoint.domain.compute import Compute
from batchpoint.domain.errors import Unavailable
from tests.unit.resolved_jobs import new_job


class Flaky(http.server.BaseHTTPRequestHandler):
    """Hangs up on the first requests, then answers."""

    protocol_version = "HTTP/1.1"
    hang_ups = 0
    cut = False
    seen: ClassVar[list[str]] = []

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        self.seen.append(self.command)
        if len(self.seen) <= Flaky.hang_ups:
            self.close_connection = True
            return
        if "outputs/score/" in self.path:
            body, claimed = b"x" * 10, 10 if not Flaky.cut else 20
        elif "outputs/score" in self.path:
            file = {"path": "p.csv", "size": 10, "modified_at": "2026-01-01T00:00:00Z"}
            body = json.dumps({"value": [file], "next_after": None}).encode()
            claimed = len(body)
        elif "html" in self.path:
            body, claimed = b"<html>", 6
        else:
            body = Compute(name="local").model_dump_json().encode()
            claimed = len(body)
        self.send_response(502 if "html" in self.path else 200)
        self.send_header("content-length", str(claimed))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = claimed != len(body)

    do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    monkeypatch.setattr("batchpoint.client.connection.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(Flaky, "seen", [])
    monkeypatch.setattr(Flaky, "hang_ups", 0)
    monkeypatch.setattr(Flaky, "cut", False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made = Connection(f"http://127.0.0.1:{server.server_port}")
    yield made
    made.close()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_may_be_repeated_is(connection: Connection, method: str) -> None:
    Flaky.hang_ups = ATTEMPTS_MAX - 1
    assert connection.send(method, "/computes/local").status_code == 200
    assert Flaky.seen == [method] * ATTEMPTS_MAX


def test_attempts_are_bounded(connection: Connection) -> None:
    Flaky.hang_ups = 99
    with pytest.raises(Unavailable) as caught:
        connection.get(Compute, "/computes/local")
    assert caught.value.code == "server_unreachable"
    assert len(Flaky.seen) == ATTEMPTS_MAX


def test_what_might_happen_twice_is_sent_once(connection: Connection) -> None:
    Flaky.hang_ups = 1
    with pytest.raises(Unavailable):
        connection.send("POST", "/models")
    assert Flaky.seen == ["POST"]
    Flaky.hang_ups = 2
    connection.send("POST", "/endpoints/e/jobs", repeatable=True)
    assert Flaky.seen == ["POST"] * 3


def test_somebody_elses_server_is_recognised(connection: Connection) -> None:
    with pytest.raises(Unavailable, match="answered 502, and not as batchpoint does"):
        connection.send("GET", "/html")


def test_half_a_download_is_no_file(connection: Connection, tmp_path: Path) -> None:
    job = JobHandle(connection, new_job())
    assert [path.read_bytes() for path in job.download(tmp_path)] == [b"x" * 10]
    Flaky.cut = True
    (tmp_path / "p.csv").write_bytes(b"before")
    with pytest.raises(Unavailable):
        job.download(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    assert (tmp_path / "p.csv").read_bytes() == b"before"
