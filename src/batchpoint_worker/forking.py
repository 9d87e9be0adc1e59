"""A worker that has loaded a model once and forks itself into workers that share its memory."""

from __future__ import annotations

import array
import contextlib
import os
import select
import signal
import socket
import sys
import traceback
from typing import Dict, List

from batchpoint_worker import lifeline, protocol, surroundings
from batchpoint_worker.loop import Pipes, Worker
from batchpoint_worker.outbox import Outbox
from batchpoint_worker.pipes import SELF, moved_away
from batchpoint_worker.protocol import Header
from batchpoint_worker.scorer import Info


class ForkingWorker(Worker):
    """A worker with a control socket: until it has to score by itself it stays single-threaded.

    Its children are workers in process groups of their own. It reaps them and tells how they ended.
    """

    def __init__(self, pipes: Pipes, control: int) -> None:
        super().__init__(pipes)
        self._control = socket.socket(fileno=control)
        self._may_fork = True
        self._children: Dict[int, int] = {}
        self._wake: List[int] = []
        self._orders["fork"] = self.fork

    def loaded(self, info: Info) -> None:
        """Decide for good whether this process forks; if not, it becomes a usual worker."""
        if not self.forkable(info):
            self._stop_forking()
            return
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        self._wake = [moved_away(read), moved_away(write)]
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)

    def forkable(self, info: Info) -> bool:
        """Tell whether a fork of this process is safe and wanted."""
        return info.forkable and self._may_fork and single_threaded()

    def run(self, header: Header) -> None:
        """Score by itself: from now on there is no forking any more."""
        self._stop_forking()
        super().run(header)

    def wait(self) -> None:
        """Wait for an order; meanwhile, reap children that have ended."""
        if not self._wake:
            return
        while True:
            ready = select.select([self.pipes.read, self._wake[0]], [], [])[0]
            if self._wake[0] in ready:
                os.read(self._wake[0], 4096)
                self._reap()
            if self.pipes.read in ready:
                return

    def fork(self, header: Header) -> None:
        """Fork a worker for a slot onto the file descriptors that came on the control socket."""
        slot = header["slot"]
        descriptors = _received(self._control)
        if not self._may_fork or not single_threaded():
            for fd in descriptors:
                os.close(fd)
            message = "this process has threads, or has scored by itself, and cannot be forked"
            error = {"origin": "batchpoint", "type": "not_forkable", "message": message}
            self.outbox.send({"op": "op_failed", "slot": slot, "error": error})
            return
        surroundings.flush_streams()
        with SELF.forking():
            pid = os.fork()
        if pid == 0:
            self._be_child(slot, descriptors)
        for fd in descriptors:
            os.close(fd)
        with contextlib.suppress(OSError):  # both do it, so that it is done for whoever is first
            os.setpgid(pid, pid)
        self._children[pid] = slot
        self.outbox.send({"op": "forked", "slot": slot, "pid": pid})

    def _be_child(self, slot: int, descriptors: List[int]) -> None:
        """Go on as a worker of its own in the forked process; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            lifeline.lead_group()
            read, write, page, life, out, err = descriptors
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
            self._close_parents()
            pipes = Pipes(*[moved_away(fd) for fd in (read, write, page, life)])
            SELF.hold(pipes)
            child = Worker(pipes)
            child.scorer, child.request = self.scorer, self.request
            lifeline.guard(pipes.read, pipes.lifeline)
            folder = "slot-%s-%d" % (slot, os.getpid())
            os.makedirs(folder, exist_ok=True)
            os.chdir(folder)
            status = child.serve()
        except BaseException:  # noqa: BLE001 - bulkhead: a child never runs on as its parent
            traceback.print_exc()
        finally:
            surroundings.flush_streams()
            os._exit(status)

    def _close_parents(self) -> None:
        for fd in (*self.pipes, *self._wake):
            if fd >= 0:
                os.close(fd)
        self._control.close()
        self.status.close()
        self.outbox = Outbox(-1)

    def _reap(self) -> None:
        for pid in list(self._children):
            done, wait_status = os.waitpid(pid, os.WNOHANG)
            if done:
                slot = self._children.pop(pid)
                code = (
                    os.WEXITSTATUS(wait_status)
                    if os.WIFEXITED(wait_status)
                    else -os.WTERMSIG(wait_status)
                )
                self.outbox.send({"op": "exited", "slot": slot, "pid": pid, "status": code})

    def _stop_forking(self) -> None:
        if self._may_fork:
            self._may_fork = False
            lifeline.watch(self.pipes.read)


def single_threaded() -> bool:
    """Tell whether a fork of this process would be whole: one thread, no GPU touched (Linux)."""
    try:
        threads = len(os.listdir("/proc/self/task"))
    except OSError:
        return False
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return threads == 1 and not (cuda is not None and cuda.is_initialized())


def _received(control: socket.socket) -> List[int]:
    size = array.array("i").itemsize
    room = socket.CMSG_SPACE(protocol.FORK_DESCRIPTORS * size)
    _, ancillary, _, _ = control.recvmsg(1, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % size])
    if len(descriptors) != protocol.FORK_DESCRIPTORS:
        for fd in descriptors:
            os.close(fd)
        raise protocol.ProtocolError("a fork came with %d file descriptors" % len(descriptors))
    return list(descriptors)
