"""Reaching the supervisor of a home: is one there, start one, wake it up, end it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, BinaryIO

from batchpoint.domain.errors import Unavailable

_ANSWER_SECONDS_MAX = 30.0
# A socket's whole path has 104 bytes on macOS; ours adds user, home and the socket's own name.
_TEMPORARY_BYTES_MAX = 50
_START_SECONDS_MAX = 30.0


def runtime_dir(home: Path) -> Path:
    """Return the folder for sockets of a home; short, because socket paths are limited to ~100.

    The folder is made on first use, readable by its owner only.

    Raises:
        Unavailable: somebody else owns the folder, or it cannot be made.
    """
    temporary = Path(tempfile.gettempdir())
    if len(os.fsencode(temporary)) > _TEMPORARY_BYTES_MAX:
        temporary = Path("/tmp")  # noqa: S108 - what is below is checked to be ours
    mine = temporary / f"batchpoint-{os.getuid()}"
    folder = mine / hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"{folder} cannot be made ({error.strerror}); set TMPDIR to a folder of your own"
        ) from error
    for part in (mine, folder):
        state = part.lstat()
        if state.st_uid != os.getuid() or state.st_mode & 0o077 & ~0o055:
            raise Unavailable(
                f"{part} belongs to somebody else or is writable by others; remove it, or set "
                "TMPDIR to a folder of your own"
            )
    return folder


# The last supervisor that this process has started, by home.
_started: dict[Path, subprocess.Popen[bytes]] = {}


class SupervisorLink:
    """The way to the supervisor of one home, from the CLI, the API or a test."""

    def __init__(self, home: Path) -> None:
        """Nothing is contacted yet."""
        self.home = home
        self.socket_path = runtime_dir(home) / "supervisor.sock"

    def ask(self, operation: str) -> dict[str, Any] | None:
        """Send one operation ("poke", "status", "down"); None when no supervisor answers."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(_ANSWER_SECONDS_MAX)
            try:
                line.connect(str(self.socket_path))
                line.sendall(json.dumps({"op": operation}).encode() + b"\n")
                answer = b""
                while not answer.endswith(b"\n"):
                    data = line.recv(1 << 16)
                    if not data:
                        return None
                    answer += data
            except (FileNotFoundError, ConnectionError, TimeoutError):
                return None
        return json.loads(answer)

    def poke(self) -> bool:
        """Wake the supervisor up, so that it looks for jobs at once; False: none is there."""
        return self.ask("poke") is not None

    def ensure(self) -> None:
        """Wake the supervisor up, or start a detached one that ends when it is idle.

        One that this process has started and that does not answer is still starting or about to
        end: either way it looks for jobs once more, so there is no need for another.
        """
        if not self.poke():
            started = _started.get(self.home)
            if started is None or started.poll() is not None:
                self.start()

    def start(self) -> None:
        """Start a detached supervisor; does not wait for it. A second one ends by itself."""
        with _log_of(self.home) as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "batchpoint", "supervisor", "--exit-when-idle"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "BATCHPOINT_HOME": str(self.home)},
            )
        _started[self.home] = supervisor
        # It outlives us as a rule; when it does not, somebody must take note of its end.
        threading.Thread(target=supervisor.wait, name="supervisor-end", daemon=True).start()

    def down(self) -> bool:
        """End the supervisor, its nodes and running jobs' processes now; False: none was there."""
        return self.ask("down") is not None


def _log_of(home: Path) -> BinaryIO:
    """Open the supervisor's log; on a full disk it runs without one."""
    try:
        (home / "logs").mkdir(parents=True, exist_ok=True)
        return (home / "logs" / "supervisor.log").open("ab")
    except OSError:
        return Path(os.devnull).open("ab")
