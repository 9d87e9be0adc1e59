"""Clients of both kinds: one with the app inside, one that speaks HTTP over a real socket."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from batchpoint import Client
from tests.unit.control_plane import ControlPlane, control_plane


@pytest.fixture
def client(plane: ControlPlane) -> Iterator[Client]:
    with Client(app=plane.app()) as made:
        yield made


class Server:
    """A real server in a thread, on a port of its own."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        # Without its own logging, which it would set up for the whole process.
        config = uvicorn.Config(plane.app(), log_config=None, log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self.socket],))
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.socket.close()
        self.plane.ledger.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(control_plane(tmp_path / "server", embedded=False))
    yield made
    made.close()


@pytest.fixture(params=["embedded", "server"])
def either(request: pytest.FixtureRequest) -> Iterator[tuple[Client, ControlPlane]]:
    """A client with the control plane behind it, once without a server and once with one."""
    if request.param == "embedded":
        plane: ControlPlane = request.getfixturevalue("plane")
        with Client(app=plane.app()) as made:
            yield made, plane
    else:
        running: Server = request.getfixturevalue("server")
        with Client(running.url) as made:
            yield made, running.plane
