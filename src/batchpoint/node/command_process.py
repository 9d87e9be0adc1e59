"""The command of a step as the agent sees it: started by a guard, logged, stopped, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from batchpoint.node import command_guard, process_tree
from batchpoint.node.user_log import LogPump, UserLog
from batchpoint.node.worker_launch import inherited_variables

_GUARD = Path(command_guard.__file__)
_READ_BYTES = 1 << 16
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
TAIL_BYTES = 64 * 1024
# Longer than it waits for processes that do not die.
_GUARD_SECONDS_MAX = 15.0


class Ended(NamedTuple):
    """How a command ended: exit code, or the negative number of a signal.

    `left` counts processes that could not be killed; `errno` says why it was not even started.
    """

    status: int | None
    left: int = 0
    errno: int = 0


class TailedLog(UserLog):
    """A log whose last lines are kept in memory, whatever became of the file."""

    def __init__(self, path: Path) -> None:
        """Append to `path`."""
        super().__init__(path)
        self._tail = bytearray()

    def write(self, data: bytes) -> None:
        """See `UserLog`."""
        self._tail += data
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]
        super().write(data)

    @property
    def tail(self) -> str:
        """The last that was written, at least `TAIL_BYTES` of it."""
        return self._tail.decode("utf-8", "replace")


class CommandProcess:
    """Starts commands on this node, one at a time; used on the event loop.

    They are children of a guard (`command_guard`), which starts with the first of them and ends
    with `close`: nothing that a command started is left then, even if the agent is killed.
    """

    def __init__(self, spared: Callable[[], Collection[int]] = tuple) -> None:
        """Nothing is started yet; `spared` tells which other children of ours are no orphans."""
        self._spared = spared
        self._sending = False
        self._unsent: list[str] = []
        self._control: socket.socket | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._ended: asyncio.Future[Ended] | None = None

    def prepare(self) -> None:
        """Start the guard, if there is none, so that it is there when it is needed.

        Raises: OSError.
        """
        if self._control is not None:
            return
        near, far = socket.socketpair()
        try:
            # In our session, where only what user code left behind is taken for an orphan.
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), str(far.fileno())],
                stdin=subprocess.DEVNULL,
                env=inherited_variables(),  # a command can read those of its parent
                pass_fds=[far.fileno()],
                process_group=0,
            )
        except OSError:
            near.close()
            raise
        finally:
            far.close()
        near.settimeout(0)
        self._control, self._buffer = near, b""
        asyncio.get_running_loop().add_reader(near, self._readable)

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        log: UserLog,
        lock: int,
    ) -> Ended:
        """Run a command to its end; what it prints goes into `log`, to the last byte.

        `argv[0]` is a path. `lock` is a descriptor that the guard keeps open until nothing of the
        command runs any more.

        Raises:
            OSError: the guard cannot be started, or there is no room for a pipe.
        """
        self.prepare()
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        pump = LogPump(read)
        pump.log = log
        try:
            os.set_blocking(read, False)
            _enlarge(write)
            self._ended = loop.create_future()
            message = {
                "op": "run",
                "argv": list(argv),
                "cwd": str(cwd),
                "environment": dict(environment),
            }
            await self._send(message, (write, lock))
        finally:
            os.close(write)
        loop.add_reader(read, _pump, pump)
        try:
            return await self._ended
        finally:
            loop.remove_reader(read)
            pump.finish()
            self._ended = None

    def stop(self) -> None:
        """Ask everything that the command started to end (SIGTERM)."""
        self._order("stop")

    def kill(self) -> None:
        """Kill everything that the command started; `run` returns when it is gone."""
        self._order("kill")

    async def close(self) -> None:
        """End the guard, and with it whatever runs; returns when nothing does. Idempotent."""
        self._hang_up()
        guard, self._guard = self._guard, None
        if guard is not None and not await asyncio.to_thread(_ended, guard):
            process_tree.end_orphans(self._spared())

    # --- the guard ------------------------------------------------------------------------------

    def _order(self, op: str) -> None:
        if self._sending:
            self._unsent.append(op)
        elif self._control is not None and self._ended is not None:
            with contextlib.suppress(OSError):
                self._control.send(_encoded({"op": op}))
                if self._guard is not None:
                    self._guard.send_signal(signal.SIGCONT)  # if user code has stopped it

    async def _send(self, message: dict[str, Any], fds: Sequence[int]) -> None:
        """Send a message, the descriptors with its first bytes."""
        assert self._control is not None
        data = memoryview(_encoded(message))
        self._sending = True
        try:
            # An empty socket takes the length and two descriptors at once.
            sent = socket.send_fds(self._control, [data[: command_guard.LENGTH.size]], list(fds))
            await asyncio.get_running_loop().sock_sendall(self._control, data[sent:])
        except OSError:
            self._lost()  # between two commands, by somebody's hand
        finally:
            self._sending = False
            orders, self._unsent = self._unsent, []
            for op in orders:
                self._order(op)

    def _readable(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        self._buffer += data
        size = command_guard.LENGTH.size
        while len(self._buffer) >= size:
            (length,) = command_guard.LENGTH.unpack_from(self._buffer)
            if len(self._buffer) < size + length:
                return
            message = json.loads(self._buffer[size : size + length])
            self._buffer = self._buffer[size + length :]
            if message["op"] == "failed":
                self._tell(Ended(None, errno=message["errno"]))
            else:
                self._tell(Ended(message["status"], message["left"]))

    def _lost(self) -> None:
        """Take note that the guard was killed: its children are ours now, and end here."""
        self._hang_up()
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            self._guard = None
        process_tree.end_orphans(self._spared())
        self._tell(Ended(None))

    def _hang_up(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None

    def _tell(self, ended: Ended) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(ended)


def _encoded(message: Mapping[str, Any]) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return command_guard.LENGTH.pack(len(body)) + body


def _enlarge(pipe: int) -> None:
    """Make room for floods of output, where the kernel lets us."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not everywhere

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)


def _ended(guard: subprocess.Popen[bytes]) -> bool:
    """Wait until a guard that we hung up on has ended; False: it had to be killed."""
    guard.send_signal(signal.SIGCONT)  # if user code has stopped it
    try:
        guard.wait(_GUARD_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
        return False
    return True


def _pump(pump: LogPump) -> None:
    if not pump.pump():
        asyncio.get_running_loop().remove_reader(pump.fd)
