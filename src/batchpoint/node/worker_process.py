"""One scoring worker as the agent sees it: its pipes, its status page, its end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import batchpoint_worker
from batchpoint.node.process_tree import (
    descendants,
    end_group,
    end_orphans_among,
    end_tree,
)
from batchpoint.node.user_log import LogPump, UserLog
from batchpoint.node.worker_messages import Body, Header, WorkerMessages, WorkerOrders
from batchpoint_worker import protocol

WORKER_MAIN = Path(batchpoint_worker.__file__).with_name("__main__.py")

_READ_BYTES = 1 << 18
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
# A worker that closed its pipe cannot be spoken to any more; one that is ending gets this long.
_SILENCE_SECONDS = 1.0
# A forking parent tells how its child ended; this long after the child's end nobody will.
_STATUS_SECONDS = 2.0


class WorkerListener(Protocol):
    """Who hears what a worker says; called on the event loop."""

    def worker_said(self, worker: WorkerProcess, header: Header, body: Body) -> None:
        """Take a message."""
        ...

    def worker_ended(self, worker: WorkerProcess) -> None:
        """Take note that the worker is gone; `worker.status` says how, all it said was heard."""
        ...


@dataclass(slots=True)
class WorkerEnds:
    """The file descriptors a new worker gets; closed here once it has them."""

    read: int
    write: int
    status: int
    lifeline: int
    log: int

    def descriptors(self) -> tuple[int, int, int, int, int, int]:
        """In the order in which a forking parent expects them."""
        return (self.read, self.write, self.status, self.lifeline, self.log, self.log)

    def close(self) -> None:
        """Close our copies."""
        for fd in (self.read, self.write, self.status, self.lifeline, self.log):
            os.close(fd)


@dataclass(slots=True)
class AgentEnds:
    """The file descriptors the agent keeps of one worker."""

    orders: int
    reports: int
    lifeline: int
    log: int
    page: protocol.StatusPage

    def close(self, *, log: bool = True) -> None:
        """Close them; the page stays readable and is freed with its object."""
        for fd in (self.orders, self.reports, self.lifeline):
            os.close(fd)
        if log:
            os.close(self.log)


def make_pipes() -> tuple[AgentEnds, WorkerEnds]:
    """Make everything that connects one worker; raises OSError."""
    made: list[int] = []
    try:
        for _ in range(4):
            made += os.pipe()
        made.append(_page_file())
        page = protocol.StatusPage(made[-1])
    except OSError:
        for fd in made:
            os.close(fd)
        raise
    order_read, order_write, report_read, report_write, life_read, life_write, *rest = made
    log_read, log_write, status = rest
    for fd in (order_write, report_read, log_read):
        os.set_blocking(fd, False)
    if sys.platform == "linux":
        for fd in (report_write, log_write):
            with contextlib.suppress(OSError):  # over the user's limit of pipe memory
                fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BYTES)
    return (
        AgentEnds(order_write, report_read, life_write, log_read, page),
        WorkerEnds(order_read, report_write, status, life_read, log_write),
    )


def _page_file() -> int:
    if sys.platform == "linux":
        fd = os.memfd_create("batchpoint-status", os.MFD_CLOEXEC)
    else:
        fd, name = tempfile.mkstemp()
        Path(name).unlink()
    os.ftruncate(fd, max(protocol.STATUS_BYTES, mmap.PAGESIZE))
    return fd


class WorkerProcess:
    """A started worker. `status` is its exit code or negative signal once it has ended.

    `expendable`: nobody asks how it ended. `fault`: why we had to end it ourselves, or empty.
    """

    def __init__(
        self,
        pid: int,
        ends: AgentEnds,
        listener: WorkerListener,
        *,
        spool_dir: Path,
        log: UserLog | None,
        started: subprocess.Popen[bytes] | None = None,
        control: socket.socket | None = None,
    ) -> None:
        """Watch the process `pid`; use `start` or, for a fork of another worker, `adopt`."""
        self.pid = pid
        self.status: int | None = None
        self.ended = False
        self.expendable = False
        self._below: list[int] = []
        self.fault = ""
        self.page = ends.page
        self.control = control
        self._ends = ends
        self._listener = listener
        self._started = started
        self._orders = WorkerOrders(ends.orders)
        self._messages = WorkerMessages(spool_dir)
        self._log = LogPump(ends.log)
        self._log.log = log
        self._loop = asyncio.get_running_loop()
        self._silent: asyncio.TimerHandle | None = None
        self._exit_fd = _watch_exit(pid)
        self._loop.add_reader(self._exit_fd, self._exited)
        self._loop.add_reader(ends.reports, self._readable)
        self._loop.add_reader(ends.log, self._log_readable)

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        listener: WorkerListener,
        *,
        environment: Mapping[str, str],
        cwd: Path,
        spool_dir: Path,
        log: UserLog | None,
        control: bool = False,
    ) -> WorkerProcess:
        """Start a worker: `command` is the interpreter with its options, without our arguments.

        Raises:
            OSError: the interpreter cannot be started.
        """
        ours, theirs = make_pipes()
        near, far = socket.socketpair() if control else (None, None)
        arguments = ["--read-fd", theirs.read, "--write-fd", theirs.write]
        arguments += ["--status-fd", theirs.status, "--lifeline-fd", theirs.lifeline]
        inherited = [theirs.read, theirs.write, theirs.status, theirs.lifeline]
        if far is not None:
            arguments += ["--control-fd", far.fileno()]
            inherited.append(far.fileno())
        try:
            started = subprocess.Popen(
                [*command, str(WORKER_MAIN), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=theirs.log,
                stderr=theirs.log,
                cwd=cwd,
                env=environment,
                pass_fds=inherited,
                start_new_session=True,
            )
        except OSError:
            ours.close()
            if near is not None:
                near.close()
            raise
        finally:
            theirs.close()
            if far is not None:
                far.close()
        return cls(
            started.pid,
            ours,
            listener,
            spool_dir=spool_dir,
            log=log,
            started=started,
            control=near,
        )

    def send(self, header: Header) -> None:
        """Give an order; to a worker that has just died it does nothing (its end is told)."""
        if self.ended:
            return
        try:
            if not self._orders.send(header):
                self._loop.add_writer(self._ends.orders, self._writable)
        except BrokenPipeError:
            return

    def kill(self) -> None:
        """Kill the worker and everything that it started."""
        if not self.ended:
            end_tree(self.pid)

    def kill_alone(self) -> None:
        """Kill the worker's own process group and leave what it has forked into other groups."""
        if not self.ended:
            end_group(self.pid, signal.SIGKILL)

    def interrupt(self, number: signal.Signals) -> None:
        """Send a signal to the worker's process group; SIGKILL goes to all that it started."""
        if number == signal.SIGKILL:
            self.kill()
        elif not self.ended:
            self._below = descendants(self.pid)  # nobody can tell any more when it is gone
            end_group(self.pid, number)

    def dump_stack(self) -> None:
        """Have the worker print where it is; what it prints is kept for `stack`."""
        self._log.capture()
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)

    def stack(self) -> str:
        """Return what the worker printed since `dump_stack`."""
        return self._log.captured()

    def log_to(self, log: UserLog | None) -> None:
        """Let what is printed from now on go to another job's log, or nowhere."""
        if not self.ended:
            self._log.drain()
        self._log.log = log

    def told_status(self, status: int) -> None:
        """Take the exit status of a forked worker from its parent."""
        if self.status is None:
            self.status = status
        self.kill()  # what it started goes with it
        self._finish()

    def catch_up(self) -> None:
        """Hear what the worker has already written."""
        if not self.ended:
            self._readable()

    # --- on the event loop --------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = os.read(self._ends.reports, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._ends.reports)
            if self._silent is None:
                self._silent = self._loop.call_later(_SILENCE_SECONDS, self.kill)
            return
        self._hear(data)

    def _hear(self, data: bytes) -> None:
        try:
            messages = self._messages.feed(data)
        except protocol.ProtocolError as error:  # user code got hold of the pipe
            self.fault = f"what it sends is not understood ({error})"
            self._loop.remove_reader(self._ends.reports)
            self.kill()
            return
        except OSError as error:  # the body of a result found no room
            if self._log.log is not None:
                self._log.log.write(f"[batchpoint stops this worker: {error}]\n".encode())
            self._loop.remove_reader(self._ends.reports)
            self.kill()
            return
        for header, body in messages:
            self._listener.worker_said(self, header, body)

    def _writable(self) -> None:
        try:
            done = self._orders.flush()
        except BrokenPipeError:
            done = True
        if done:
            self._loop.remove_writer(self._ends.orders)

    def _log_readable(self) -> None:
        if not self._log.pump():
            self._loop.remove_reader(self._ends.log)

    def _exited(self) -> None:
        """The process has ended and is perhaps not reaped yet: its group goes with it."""
        self._loop.remove_reader(self._exit_fd)
        os.close(self._exit_fd)
        self._exit_fd = -1
        end_group(self.pid, signal.SIGKILL)
        end_orphans_among(self._below)
        if self._started is not None:
            self.status = self._started.wait()
            self._finish()
        elif self.status is not None or self.expendable:
            self._finish()
        else:
            self._loop.call_later(_STATUS_SECONDS, self._finish)

    def _finish(self) -> None:
        if self.ended:
            return
        for _ in range(2 * _PIPE_BYTES // _READ_BYTES):
            try:
                data = os.read(self._ends.reports, _READ_BYTES)
            except OSError:
                break
            if not data:
                break
            self._hear(data)
        self.ended = True
        if self._silent is not None:
            self._silent.cancel()
        if self._exit_fd >= 0:
            self._loop.remove_reader(self._exit_fd)
            os.close(self._exit_fd)
        self._loop.remove_reader(self._ends.reports)
        self._loop.remove_writer(self._ends.orders)
        self._loop.remove_reader(self._ends.log)
        self._log.finish()
        self._messages.close()
        self._ends.close(log=False)
        if self.control is not None:
            self.control.close()
        self._listener.worker_ended(self)


def _watch_exit(pid: int) -> int:
    """Return a file descriptor that becomes readable when the process has ended."""
    try:
        if sys.platform == "linux":
            return os.pidfd_open(pid)
        with contextlib.closing(select.kqueue()) as queue:
            event = select.kevent(
                pid,
                filter=select.KQ_FILTER_PROC,
                flags=select.KQ_EV_ADD,
                fflags=select.KQ_NOTE_EXIT,
            )
            queue.control([event], 0, 0)
            return os.dup(queue.fileno())
    except ProcessLookupError:  # a fork that has ended already: end of file is readable
        read, write = os.pipe()
        os.close(write)
        return read
