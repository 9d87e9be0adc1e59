"""A fork server: one small preloaded single-threaded process that starts children in milliseconds.

The supervisor runs an event loop and threads, and must therefore not fork itself. The zygote is
forked before any of that, has everything imported, and does nothing but fork children and tell
how they ended. Children die with the supervisor: the zygote on end of file of its socket, the
children on end of file of the lifeline (and, on Linux, by PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

from batchpoint.domain.errors import Unavailable

Target = Callable[[dict[str, Any], int], None]
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere a no-op)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A started child: its process id, and a future of its exit status (negative: signal)."""

    def __init__(self, pid: int, exited: asyncio.Future[int]) -> None:
        """Made by `Zygote.spawn`."""
        self.pid = pid
        self.exited = exited

    def terminate(self) -> None:
        """Ask the child to end (SIGTERM); does nothing when it has ended."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the child (SIGKILL); does nothing when it has ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self.exited.done():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


class Zygote:
    """The supervisor's side of the fork server."""

    def __init__(self, pid: int, control: socket.socket, lifeline: int) -> None:
        """Made by `start`."""
        self.pid = pid
        self._control = control
        self._lifeline = lifeline
        self._starting: dict[int, asyncio.Future[Child]] = {}
        self._running: dict[int, Child] = {}
        self._serial = 0
        self._buffer = b""
        self._gone: asyncio.Future[None] | None = None
        self._sending = asyncio.Lock()

    @classmethod
    def start(cls, targets: Mapping[str, Target], preloaded: Sequence[str] = ()) -> Zygote:
        """Fork the zygote; call it before any thread or event loop exists in this process.

        It imports the modules `preloaded` before it starts children, which have them then.
        """
        ours, theirs = socket.socketpair()
        lifeline_read, lifeline_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            os.close(lifeline_write)
            _serve(theirs, lifeline_read, targets, preloaded)
        theirs.close()
        os.close(lifeline_read)
        ours.settimeout(0)  # the loop waits
        return cls(pid, ours, lifeline_write)

    def attach(self) -> asyncio.Future[None]:
        """Begin to listen on the running loop; the returned future ends when the zygote is gone."""
        loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        loop.add_reader(self._control.fileno(), self._readable)
        return self._gone

    async def spawn(self, target: str, arguments: Mapping[str, object]) -> Child:
        """Start a child that calls `targets[target](arguments, lifeline_fd)` and exits.

        Raises:
            Unavailable: the machine has no room for another process, or the zygote is gone.
        """
        loop = asyncio.get_running_loop()
        if self._gone is None or self._gone.done():
            raise _gone()
        self._serial += 1
        future: asyncio.Future[Child] = loop.create_future()
        self._starting[self._serial] = future
        request = {"serial": self._serial, "target": target, "arguments": dict(arguments)}
        try:
            async with self._sending:
                await loop.sock_sendall(self._control, json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise _gone() from error
        return await future

    def close(self) -> None:
        """End the zygote and every child of it, at once."""
        if self._gone is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        os.close(self._lifeline)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            return

    def _readable(self) -> None:
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._told(json.loads(line))

    def _ended(self) -> None:
        """Tell those who wait for a child that none will come.

        Nobody will tell any more how children end: the kernel or the lifeline ends them now.
        """
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        for waiting in self._starting.values():
            if not waiting.done():
                waiting.set_exception(_gone())
        self._starting.clear()
        for child in self._running.values():
            if not child.exited.done():
                child.exited.set_result(-signal.SIGKILL)
        self._running.clear()

    def _told(self, message: dict[str, Any]) -> None:
        if "error" in message:
            waiting = self._starting.pop(message["serial"])
            if not waiting.done():
                waiting.set_exception(Unavailable(f"cannot start a process: {message['error']}"))
            return
        if "serial" in message:
            child = Child(message["pid"], asyncio.get_running_loop().create_future())
            self._running[child.pid] = child
            waiting = self._starting.pop(message["serial"])
            if not waiting.done():
                waiting.set_result(child)
            return
        child = self._running.pop(message["pid"], None)
        if child is not None and not child.exited.done():
            child.exited.set_result(message["status"])


def _serve(
    control: socket.socket, lifeline: int, targets: Mapping[str, Target], preloaded: Sequence[str]
) -> NoReturn:
    """Run the zygote: fork on request, tell of ended children, end on end of file."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, _wake_up)
    for module in preloaded:
        importlib.import_module(module)
    gc.freeze()  # so that children do not copy the pages of what is already imported
    gc.enable()
    children: set[int] = set()
    buffer = b""
    while True:
        ready, _, _ = select.select([control, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(children, control)
        if control not in ready:
            continue
        data = control.recv(1 << 16)
        if not data:
            _end(children)
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            try:
                pid = os.fork()
            except OSError as error:
                _tell(control, {"serial": request["serial"], "error": str(error)})
                continue
            if pid == 0:
                signal.set_wakeup_fd(-1)
                os.close(wake_read)
                os.close(wake_write)
                control.close()
                _become(targets[request["target"]], request["arguments"], lifeline)
            children.add(pid)
            _tell(control, {"serial": request["serial"], "pid": pid})


def _gone() -> Unavailable:
    return Unavailable("the process that starts all others is gone; the supervisor ends, too")


def _wake_up(_number: int, _frame: FrameType | None) -> None:
    """Exist, so that the wake-up descriptor is written to; the loop does the work."""


def _become(target: Target, arguments: dict[str, Any], lifeline: int) -> NoReturn:
    """Be the child: default signals, own fate tied to the zygote, then the target."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent()
        target(arguments, lifeline)
        status = 0
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:  # noqa: BLE001 - last line before os._exit: nothing else would show it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _reap(children: set[int], control: socket.socket) -> None:
    while children:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        children.discard(pid)
        _tell(control, {"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _tell(control: socket.socket, message: dict[str, int | str]) -> None:
    try:
        control.sendall(json.dumps(message).encode() + b"\n")
    except (BrokenPipeError, ConnectionResetError):
        return  # the supervisor is gone; end of file follows


def _end(children: set[int]) -> NoReturn:
    """End with the supervisor: agents get a moment by their lifeline, then the kernel's kill."""
    for pid in children:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    os._exit(0)
