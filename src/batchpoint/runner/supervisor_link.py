"""Reaching the supervisor of a home: is one there, start one, wake it up, end it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from batchpoint.domain.errors import Unavailable

_ANSWER_SECONDS_MAX = 30.0
# A socket's whole path has 104 bytes on macOS; ours adds user, home and the socket's own name.
_TEMPORARY_BYTES_MAX = 50
_STARTING_POLL_SECONDS = 0.05
_LOG_BYTES_MAX = 16 * 1024 * 1024
_ADDRESS = "supervisor.address"
SOCKET = "supervisor.sock"


def runtime_dir(home: Path) -> Path:
    """Return the folder for sockets of a home; short, because socket paths are limited to ~100.

    The folder is made on first use, readable by its owner only.

    Raises:
        Unavailable: somebody else owns the folder, or it cannot be made.
    """
    folder = _runtime_path(home)
    mine = folder.parent
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


def _runtime_path(home: Path) -> Path:
    temporary = Path(tempfile.gettempdir())
    if len(os.fsencode(temporary)) > _TEMPORARY_BYTES_MAX:
        temporary = Path("/tmp")  # noqa: S108 - what is below is checked to be ours
    mine = temporary / f"batchpoint-{os.getuid()}"
    return mine / hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]


def record_address(home: Path, socket_path: Path | None) -> None:
    """Write down where the supervisor of a home listens (None: nowhere), for its callers to find.

    They may have another TMPDIR than the supervisor. On a full disk they look in their own place.
    """
    address = home / _ADDRESS
    with contextlib.suppress(OSError):
        if socket_path is None:
            address.unlink(missing_ok=True)
            return
        new = address.with_name(_ADDRESS + ".new")
        new.write_bytes(os.fsencode(socket_path))
        new.replace(address)


# The last supervisor that this process has started, by home.
_started: dict[Path, subprocess.Popen[bytes]] = {}


class SupervisorLink:
    """The way to the supervisor of one home, from the CLI, the API or a test."""

    def __init__(self, home: Path) -> None:
        """Nothing is contacted yet."""
        self.home = home

    @property
    def socket_path(self) -> Path:
        """Where the supervisor of the home listens, or would listen if this process started it."""
        try:
            return Path(os.fsdecode((self.home / _ADDRESS).read_bytes()))
        except OSError:
            return _runtime_path(self.home) / SOCKET

    def ask(self, operation: str) -> dict[str, Any] | None:
        """Send one operation ("poke", "status", "down"); None when no supervisor answers."""
        path = self.socket_path
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(_ANSWER_SECONDS_MAX)
            try:
                if path.parent.stat().st_uid != os.getuid():
                    return None  # whoever listens there is not ours
                line.connect(str(path))
                line.sendall(json.dumps({"op": operation}).encode() + b"\n")
                answer = b""
                while not answer.endswith(b"\n"):
                    data = line.recv(1 << 16)
                    if not data:
                        return None
                    answer += data
            except OSError:  # nobody there, nobody who answers in time, or a path that is too long
                return None
        return json.loads(answer)

    def poke(self) -> bool:
        """Wake the supervisor up, so that it looks for jobs at once; False: none is there."""
        return self.ask("poke") is not None

    def ensure(self) -> None:
        """Wake the supervisor up, or start a detached one that ends when it is idle.

        One that this process has started and that does not answer is still starting, and will look
        for jobs, or it was told to end, and will not: a thread sees to it that there is another.
        """
        if not self.poke():
            started = _started.get(self.home)
            if started is None or started.poll() is not None:
                self.start()
            else:
                waiting = threading.Thread(
                    target=self._ensure_after, args=(started,), name="supervisor-start", daemon=True
                )
                waiting.start()

    def _ensure_after(self, started: subprocess.Popen[bytes]) -> None:
        """Wait until a supervisor answers or has ended; start another one in its place."""
        while not self.poke():
            if started.poll() is not None:
                if _started.get(self.home) is started:
                    self.start()
                return
            time.sleep(_STARTING_POLL_SECONDS)

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
    """Open the supervisor's log; on a full disk it runs without one.

    A log that has grown long is put aside, in the place of the one before.
    """
    try:
        (home / "logs").mkdir(parents=True, exist_ok=True)
        log = (home / "logs" / "supervisor.log").open("ab")
        if log.tell() > _LOG_BYTES_MAX:
            log.close()
            path = Path(log.name)
            path.replace(path.with_name("supervisor.1.log"))
            log = path.open("ab")
        return log
    except OSError:
        return Path(os.devnull).open("ab")
