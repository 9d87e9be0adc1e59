"""The node agent: one process per node that serves one job's runner at a time.

It listens on a unix socket. When the runner goes, user code of its job is killed and what was not
reported is deleted; loaded workers stay warm. When the supervisor goes (end of file on the
lifeline), everything ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import time
import traceback
from itertools import count
from pathlib import Path
from typing import Any

from batchpoint.core.messages import AttemptError, TaskResult
from batchpoint.domain.errors import BatchpointError, Conflict, Unavailable
from batchpoint.node import process_tree, wire
from batchpoint.node.command_desk import CommandDesk
from batchpoint.node.command_order import CommandBeat, CommandOrder
from batchpoint.node.exit_words import WorkerEnd
from batchpoint.node.job_run import JobRun
from batchpoint.node.side_work import SideWork
from batchpoint.node.slot import Slot
from batchpoint.node.worker_messages import Body, Header
from batchpoint.node.worker_pool import WorkerPool
from batchpoint.node.worker_process import WorkerProcess

_TICK_SECONDS = 0.1
_TICKS_PER_HEARTBEAT = 5
# The agent of a supervisor that was killed a moment ago is still ending its workers.
_PREDECESSOR_SECONDS = 15.0


class RunnerLink(asyncio.Protocol):
    """The agent's end of the connection to a runner."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._buffer = wire.MessageBuffer()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._agent.runner_came(self)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._buffer.feed(data)
        except Unavailable:
            if self.transport is not None:
                self.transport.abort()  # whoever that is, it is no runner
            return
        for message in messages:
            self._agent.runner_said(self, message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.transport = None
        self._agent.runner_went(self)

    def send(self, message: wire.Message) -> None:
        """Send a message; to a runner that is gone it does nothing."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(wire.encode(message))

    def gone(self) -> bool:
        """Whether the runner has hung up, although its end of file was not read yet."""
        if self.transport is None or self.transport.is_closing():
            return True
        found: socket.socket = self.transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(found.fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.close()


class Agent:
    """Serves runners on one node; a `PoolListener`."""

    def __init__(self, node: str, scratch: Path) -> None:
        """Workers get their folders below `scratch`; nothing runs before a runner opens a job."""
        self._node = node
        self._scratch = scratch
        self._pool = WorkerPool(node, scratch, self)
        self._ids = count(1)
        self._runner: RunnerLink | None = None
        self._job: JobRun | None = None
        self._side: SideWork | None = None
        self._commands = CommandDesk(node, self._pool.pids)
        self._ready_told = False
        self._ending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    async def run(self, listening: socket.socket, lifeline_fd: int) -> None:
        """Serve until SIGTERM or until the lifeline ends; then no worker is left."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._failed)
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(lifeline_fd, self._lifeline_readable, lifeline_fd)
        server = await loop.create_unix_server(lambda: RunnerLink(self), sock=listening)
        ticking = loop.create_task(self._tick())
        try:
            await self._stop.wait()
        finally:
            ticking.cancel()
            server.close()
            if self._runner is not None:
                self._runner.close()
            await self._commands.end()
            await self._end_job()
            await self._pool.close()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Bulkhead: after an error of ours a task may never be told of, so the node ends.

        The runner takes it as a lost node and has its work done elsewhere.
        """
        loop.default_exception_handler(context)
        self._stop.set()

    def _lifeline_readable(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            if os.read(fd, 64):
                return
            asyncio.get_running_loop().remove_reader(fd)
            self._pool.kill_all()
            self._commands.kill()
            self._stop.set()

    # --- the runner -----------------------------------------------------------------------------

    def runner_came(self, link: RunnerLink) -> None:
        """Take a connection, unless another runner is being served."""
        if self._runner is not None:
            if not self._runner.gone():
                return  # it will be told when it asks for something
            self.runner_went(self._runner)
        self._runner = link

    def runner_went(self, link: RunnerLink) -> None:
        """The runner is gone: so is its job."""
        if link is self._runner:
            self._runner = None
            if self._job is not None:
                self._go(self._end_job())
            self._commands.end()

    def runner_said(self, link: RunnerLink, message: wire.Message) -> None:
        """Take a message of the runner that is served; refuse those of any other."""
        if link is not self._runner:
            told = {"code": "unavailable", "message": f"node {self._node} serves another runner"}
            if "id" in message:
                link.send({"op": "answer", "id": message["id"], "error": told})
        elif message["op"] == "assign":
            if self._job is not None:
                self._job.assign(wire.work_from_json(message["work"]))
        elif message["op"] == "retime":
            if self._job is not None:
                self._job.retime(message["timeout_seconds"])
        else:
            self._go(self._answer(link, message))

    async def _answer(self, link: RunnerLink, message: wire.Message) -> None:
        try:
            value = await self._do(link, message)
        except BatchpointError as error:
            told = {"code": error.code, "message": error.message}
            link.send({"op": "answer", "id": message["id"], "error": told})
        except Exception as error:  # noqa: BLE001
            # Bulkhead: whoever asked must not wait for ever for an error of ours.
            told = {"code": "internal_error", "message": f"{type(error).__name__}: {error}"}
            link.send({"op": "answer", "id": message["id"], "error": told})
            traceback.print_exc()
        else:
            link.send({"op": "answer", "id": message["id"], "value": value})

    async def _do(self, link: RunnerLink, message: wire.Message) -> Any:
        op = message["op"]
        if op == "open":
            await self._open(link, wire.order_from_json(message["order"]))
        elif op == "run_command":
            await self._free_for(link)
            order = CommandOrder.from_json(message["order"])
            end = await self._commands.run(order, self._command_beat)
            return end.to_json()
        elif op == "stop_command":
            self._commands.stop(message["job"])
        elif op == "close":
            await self._end_job(keep_loading=True)
        elif self._job is None or self._side is None:
            raise Conflict(f"node {self._node} has no job open")
        elif op == "abort":
            await self._job.abort()
        elif op == "index":
            [whole] = wire.slices_from_json([message["slice"]])
            return wire.slices_to_json(await self._side.index(whole, message["target_bytes"]))
        elif op == "assemble":
            return await self._side.assemble(message["request"])
        return None

    async def _open(self, link: RunnerLink, order: wire.NodeOrder) -> None:
        await self._free_for(link)
        try:
            self._job = JobRun(order, self._pool, self._scratch, self._ids, self._report)
            self._side = SideWork(order)
            self._ready_told = False
            self._pool.open(order)
        except OSError as error:
            raise BatchpointError(
                f"node {self._node} cannot write its folders: {error}", code="storage_unavailable"
            ) from error
        self._tell_ready()

    async def _free_for(self, link: RunnerLink) -> None:
        """Wait until the work of a runner that has just gone has ended.

        Raises: Conflict: this runner, or another one, has work here.
        """
        if self._ending is not None:
            await self._ending
        await self._commands.free()
        if self._job is not None:
            raise Conflict(f"node {self._node} has job {self._job.order.job} open")
        if link is not self._runner:
            raise Conflict(f"node {self._node} serves another runner")

    async def _end_job(self, *, keep_loading: bool = False) -> None:
        """End the job that is open, once; whoever calls meanwhile waits for it."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(
                self._end_job_once(keep_loading=keep_loading)
            )
        await self._ending

    async def _end_job_once(self, *, keep_loading: bool) -> None:
        job, side = self._job, self._side
        try:
            if job is not None:
                await job.close(keep_loading=keep_loading)
            if side is not None:
                await side.close()
            self._pool.close_job()
        finally:
            self._job = self._side = self._ending = None

    # --- telling the runner -----------------------------------------------------------------------

    def _send(self, message: wire.Message) -> None:
        if self._runner is not None:
            self._runner.send(message)

    def _report(self, part: str | None, results: list[TaskResult]) -> None:
        # The job may end with this report, so what user code warned of has to be told before it.
        while self._job is not None and (text := self._job.untold_warning()):
            self._beat(self._job, text)
        self._send({"op": "reported", "part": part, "results": wire.results_to_json(results)})

    def _tell_ready(self, *, failing: bool = False) -> None:
        """Tell once that the node is there: it has loaded, or is to be judged for not loading."""
        if not self._ready_told and self._job is not None and (self._pool.ready or failing):
            self._ready_told = True
            self._send({"op": "ready", "slots": self._job.order.slots})

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        for turn in count():
            await asyncio.sleep(_TICK_SECONDS)
            beat = turn % _TICKS_PER_HEARTBEAT == 0
            if beat:
                self._pool.look(loop.time())
                self._commands.sample_memory()
                if self._commands.beat is not None:
                    self._command_beat(self._commands.beat)
            job = self._job
            if job is None:
                continue
            job.tick(loop.time())
            if beat:
                side = self._side.warning if self._side is not None else ""
                self._beat(job, side or job.warning())

    def _beat(self, job: JobRun, warning: str) -> None:
        self._send(
            {
                "op": "heartbeat",
                "phase": job.phase,
                "workers": len(self._pool.ready),
                "rows": job.flow.rows,
                "items": job.flow.items,
                "warning": warning,
            }
        )

    def _command_beat(self, beat: CommandBeat) -> None:
        self._send({"op": "command_beat", "phase": beat.phase, "warning": beat.warning})

    def _go(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- PoolListener -------------------------------------------------------------------------

    def slot_ready(self, slot: Slot) -> None:
        self._tell_ready()
        if self._job is not None:
            self._job.slot_ready(slot)

    def slot_said(self, slot: Slot, header: Header, body: Body) -> None:
        if self._job is not None:
            self._job.slot_said(slot, header, body)

    def slot_ended(self, slot: Slot, worker: WorkerProcess, end: WorkerEnd) -> None:
        if self._job is not None:
            self._job.slot_ended(slot, worker, end)

    def load_failed(self, error: AttemptError) -> None:
        self._tell_ready(failing=True)
        self._send({"op": "worker_failed", "error": list(error)})


def scratch_of(socket_path: Path) -> Path:
    """The folder in which the agent that listens on `socket_path` keeps its temporary files."""
    return socket_path.with_suffix(".work")


def sweep(socket_path: Path) -> bool:
    """Remove what a killed agent left behind; False: an agent lives there."""
    scratch = scratch_of(socket_path)
    try:
        fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        socket_path.unlink(missing_ok=True)
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(scratch, ignore_errors=True)
        socket_path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def agent_main(socket_path: Path, lifeline_fd: int, node: str) -> None:
    """Be the agent of `node` until SIGTERM or the end of the lifeline; the process ends with it.

    Raises:
        Conflict: another agent listens on `socket_path` and does not end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_blocking(lifeline_fd, False)
    deadline = time.monotonic() + _PREDECESSOR_SECONDS
    while not sweep(socket_path):
        if time.monotonic() > deadline:
            raise Conflict(f"another agent listens on {socket_path}")
        time.sleep(_TICK_SECONDS / 5)
    scratch = scratch_of(socket_path)
    scratch.mkdir(parents=True, mode=0o700)
    process_tree.adopt_orphans()
    guard = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(guard, fcntl.LOCK_EX)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o077)
    listening.bind(str(socket_path))
    os.umask(mask)
    listening.listen()
    try:
        asyncio.run(Agent(node, scratch).run(listening, lifeline_fd))
    finally:
        listening.close()
        socket_path.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(guard)


def main() -> None:
    """Run an agent from the command line: for tests, and for engines without a zygote."""
    parser = argparse.ArgumentParser(prog="batchpoint.node.agent")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--lifeline-fd", type=int, required=True)
    parser.add_argument("--node", required=True)
    arguments = parser.parse_args()
    agent_main(arguments.socket, arguments.lifeline_fd, arguments.node)


if __name__ == "__main__":
    main()
