"""The process behind `batchpoint serve`: an HTTP server, and a supervisor kept alive beside it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from batchpoint.cli.progress_printers import to_stderr
from batchpoint.domain.errors import Invalid
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.telemetry import log_of

if TYPE_CHECKING:
    from batchpoint.settings import Settings

_SUPERVISOR = (sys.executable, "-m", "batchpoint", "supervisor")
_BACKLOG = 2_048
_FILES_MAX = 65_536
_CHECK_SECONDS = 2.0
_END_SECONDS_MAX = 10.0
_DRAIN_SECONDS_MAX = 3

_log = log_of("serve")


def serve_forever(settings: Settings, *, host: str, port: int, with_supervisor: bool) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        Invalid: `settings_invalid` when the address cannot be listened on.
    """
    import uvicorn

    from batchpoint import wiring

    _allow_connections()
    listening = _listen(host, port)
    url = _url_of(listening)
    app = wiring.server_app(settings, None)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=settings.log_level == "debug",
            timeout_graceful_shutdown=_DRAIN_SECONDS_MAX,
        )
    )
    if not _is_loopback(host):
        _log.warning("anyone who can reach this address may use it: there is no sign-in", url=url)
    to_stderr(
        f"batchpoint serves {settings.home} at {url}\n"
        f"  export BATCHPOINT_URL={url}\n"
        f"  {url}/docs describes the API; Ctrl-C ends it, jobs go on with the next start"
    )
    keeper = SupervisorKeeper(settings) if with_supervisor else None
    try:
        if keeper is not None:
            keeper.start()
        # The server ends on these by itself and then raises them again; there is more to end here.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        server.run(sockets=[listening])
    finally:
        if keeper is not None:
            keeper.stop()
        listening.close()


def _allow_connections() -> None:
    """Let this process have as many connections open as its user may, not the 1,024 of old."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Where the system grants less than it says, there are fewer connections.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # Connections inherit it; asyncio does not set it on them. Without it the second half of
        # an answer waits 40 ms for the first one to be acknowledged.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise Invalid(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with "
            "--host and --port",
            code="settings_invalid",
        ) from error


def _url_of(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host)  # noqa: S104 - only shown
    return f"http://{shown or (f'[{host}]' if ':' in host else host)}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SupervisorKeeper:
    """Keeps one supervisor running for a home: its own child, or one that is there already."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is started yet."""
        self._link = SupervisorLink(settings.home)
        self._ending = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="supervisor-keeper", daemon=True)

    def start(self) -> None:
        """Start keeping."""
        self._thread.start()

    def stop(self) -> None:
        """End the child, if there is one, and wait for it."""
        self._ending.set()
        self._thread.join()
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(_END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _keep(self) -> None:
        # The child ends with the thread that started it (PR_SET_PDEATHSIG), which is this one, so
        # it lives until `stop`.
        while not self._ending.is_set():
            running = self._child is not None and self._child.poll() is None
            if not running and self._link.ask("poke") is None:
                if self._child is not None:
                    _log.warning("supervisor ended", exit_status=self._child.returncode)
                self._child = subprocess.Popen(
                    [*_SUPERVISOR, "--exit-with-parent", str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the server, which then ends it
                )
            self._ending.wait(_CHECK_SECONDS)
