"""The guard of a node's commands: a process that starts them, and that none of them outlives.

It is run by path with the standard library only, speaks to its agent over one socket, and is the
parent of whatever a command leaves behind: processes that left the group, or whose own parents have
ended. When the agent is gone, however that was, everything is killed, and then the guard ends.

Agent -> guard
    run   {argv, cwd, environment}   with two file descriptors: where it prints, and a lock that is
                                     held until nothing of the command runs any more
    stop                             SIGTERM to all of it
    kill                             SIGKILL to all of it
Guard -> agent
    ended {status, left}             nothing runs any more, but `left` processes that do not die
    failed {errno}                   it could not be started
A message is `u32 length (little endian) | JSON`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import time

TYPE_CHECKING = False  # `typing` costs more than all of the above
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

LENGTH = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FDS = 2
# A process in an uninterruptible wait (a file server that is gone) dies when that ends.
_UNKILLABLE_SECONDS = 10.0
_POLL_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02)
_STOP_ROUNDS_MAX = 1_000
_LINUX = sys.platform == "linux"


class Guard:
    """Starts one command at a time, and sees to it that nothing is left of it."""

    def __init__(self, control: socket.socket) -> None:
        """Speak to the agent over `control`."""
        self._control = control
        self._wake, self._wake_write = os.pipe()
        for fd in (self._wake, self._wake_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._libc = ctypes.CDLL(None) if _LINUX else None
        if self._libc is not None:
            self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            # Stopped by user code, it has to wake up when there is something to clean up.
            self._libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)
        self._command = 0
        self._lock = -1

    def serve(self) -> None:
        """Serve until the agent hangs up; nothing is left then."""
        try:
            while True:
                ready, _, _ = select.select([self._control, self._wake], [], [])
                if self._wake in ready:
                    os.read(self._wake, 4096)
                    self._reap()
                if self._control in ready and not self._obey():
                    return
        finally:
            self._end_all()

    def _obey(self) -> bool:
        message, fds = self._receive()
        if message is None:
            return False
        if message["op"] == "run":
            self._run(message, *fds)
        elif message["op"] == "stop":
            for pid in self._below():
                _signal(pid, signal.SIGTERM)
                _signal(pid, signal.SIGCONT)
        else:
            self._kill_all()
        return True

    def _receive(self) -> tuple[Message | None, list[int]]:
        try:
            head, fds, _, _ = socket.recv_fds(self._control, LENGTH.size, _FDS)
        except OSError:  # the agent was killed with an answer of ours unread
            return None, []
        for fd in fds:
            os.set_inheritable(fd, False)  # noqa: FBT003
        body = b""
        if len(head) == LENGTH.size:
            (length,) = LENGTH.unpack(head)
            while len(body) < length:
                more = self._control.recv(length - len(body))
                if not more:
                    return None, fds
                body += more
        return (json.loads(body) if body else None), fds

    def _send(self, message: Message) -> None:
        body = json.dumps(message).encode()
        with contextlib.suppress(OSError):  # the agent is gone; end of file follows
            self._control.sendall(LENGTH.pack(len(body)) + body)

    # --- starting -------------------------------------------------------------------------------

    def _run(self, message: Message, log: int, lock: int) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become(message, log, write)
        os.close(write)
        os.close(log)
        trouble = os.read(read, 64)  # nothing, once the command has taken our place
        os.close(read)
        if trouble:
            os.waitpid(pid, 0)
            os.close(lock)
            self._send({"op": "failed", "errno": int(trouble)})
            return
        self._command, self._lock = pid, lock

    def _become(self, message: Message, log: int, trouble: int) -> None:
        """Be the command: a session of its own, default signals, its folder; never returns."""
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in signal.valid_signals():
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if self._libc is not None:
                self._libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(message["cwd"])
            argv = [os.fsencode(each) for each in message["argv"]]
            os.execve(argv[0], argv, message["environment"])  # noqa: S606
        except OSError as error:
            os.write(trouble, str(error.errno or 1).encode())
        finally:
            os._exit(127)

    # --- ending ---------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Take note of processes that have ended; with the command itself ends all of it."""
        for pid, status in _ended():
            if pid == self._command:
                left = self._end_all()
                self._command = 0
                code = os.waitstatus_to_exitcode(status)
                self._send({"op": "ended", "status": code, "left": left})
                return

    def _end_all(self) -> int:
        """Kill everything below us and wait until it is gone; returns how much does not die."""
        deadline = time.monotonic() + _UNKILLABLE_SECONDS
        turn = 0
        while left := self._kill_all():
            for _ in _ended():
                pass
            if time.monotonic() > deadline:
                break
            if self._below():
                time.sleep(_POLL_SECONDS[min(turn, len(_POLL_SECONDS) - 1)])
            turn += 1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        return left

    def _kill_all(self) -> int:
        """Stop everything first, so that nothing can start more while it is being killed."""
        stopped = set[int]()
        for _ in range(_STOP_ROUNDS_MAX):
            more = set(self._below()) - stopped
            if not more:
                break
            for pid in more:
                _signal(pid, signal.SIGSTOP)
            stopped |= more
        for pid in stopped:
            _signal(pid, signal.SIGKILL)
        return len(stopped)

    def _below(self) -> list[int]:
        """Every process below this one that has not ended and been reaped."""
        if not _LINUX:
            return [-self._command] if self._command and _group_lives(self._command) else []
        found: list[int] = []
        todo = [os.getpid()]
        while todo:
            children = _children(todo.pop())
            found += children
            todo += children
        return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names, and quick to start
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    except OSError:
        return found
    return found


def _ended() -> list[tuple[int, int]]:
    """Reap what has ended."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, status))


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except OSError:
        return False
    return True


def _signal(pid: int, number: int) -> None:
    """Send a signal to a process, or to a group by its negative number."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def main() -> None:
    """Be the guard; the argument is the descriptor of the socket to the agent."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)  # no command may speak to the agent in our name
    Guard(control).serve()


if __name__ == "__main__":
    main()
