"""The workers of one node: starts them, forks them where a model allows, replaces the dead."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
from pathlib import Path
from typing import Protocol

from batchpoint.core.messages import AttemptError
from batchpoint.domain import limits
from batchpoint.formats.layout import JobFolder
from batchpoint.node import attempt_errors, process_tree
from batchpoint.node.exit_words import OutOfMemoryWatch, WorkerEnd, explain
from batchpoint.node.slot import Slot
from batchpoint.node.user_log import UserLog
from batchpoint.node.wire import NodeOrder
from batchpoint.node.worker_launch import Launch, WarmKey, warm_key
from batchpoint.node.worker_messages import Body, Header
from batchpoint.node.worker_process import AgentEnds, WorkerProcess, make_pipes

_BACKOFF_FIRST_SECONDS = 0.1
_BACKOFF_SECONDS_MAX = 5.0
_SHUTDOWN_SECONDS = 3.0
# Loads killed from outside this often in a row are told as failed loads.
_LOST_LOADS_MAX = 10


class PoolListener(Protocol):
    """Who feeds the slots; called on the event loop."""

    def slot_ready(self, slot: Slot) -> None:
        """A worker has loaded."""
        ...

    def slot_said(self, slot: Slot, header: Header, body: Body) -> None:
        """A loaded worker sent a message."""
        ...

    def slot_ended(self, slot: Slot, worker: WorkerProcess, end: WorkerEnd) -> None:
        """A loaded worker is gone; `slot.tickets` are the tasks it had."""
        ...

    def load_failed(self, error: AttemptError) -> None:
        """A worker could not load; another one is started after a moment."""
        ...


class WorkerPool:
    """Slots with workers of one `WarmKey`; a `WorkerListener`.

    A model with no code is loaded by one parent process that forks the workers, where it says that
    it may; else each slot starts its own.
    """

    def __init__(self, node: str, scratch: Path, listener: PoolListener) -> None:
        """Workers get their folders below `scratch`; nothing runs before `open`."""
        self.node = node
        self.slots: list[Slot] = []
        self._scratch = scratch
        self._listener = listener
        self._key: WarmKey | None = None
        self._launch: Launch | None = None
        self._order: NodeOrder | None = None
        self._logs: dict[int, UserLog] = {}
        self._parent = Slot(-1)
        self._forking: dict[int, AgentEnds] = {}
        self._retiring: dict[WorkerProcess, tuple[asyncio.TimerHandle, Path | None]] = {}
        self._memory = OutOfMemoryWatch()
        self._failed_loads = 0
        self._lost_loads = 0
        self._serial = 0
        self._retry: asyncio.TimerHandle | None = None
        self._held = False
        self._gone = asyncio.Event()

    @property
    def ready(self) -> list[Slot]:
        """Slots whose worker has loaded and is not being stopped."""
        return [slot for slot in self.slots if slot.state == "ready" and not slot.stopped]

    def open(self, order: NodeOrder) -> None:
        """Serve a job: keep workers that fit it, replace those that do not, start what lacks.

        Raises:
            OSError: the model's folder cannot be made in the scratch folder.
        """
        key = warm_key(order)
        if key != self._key:
            self._retire_all()
            self._launch = Launch(order, self._scratch)
            self._key = key
            self.slots = [Slot(index) for index in range(order.slots)]
        self._order = order
        self._held = False
        self._failed_loads = self._lost_loads = 0
        folder = JobFolder(order.job_dir)
        self._logs = {
            index: UserLog(folder.user_log(self.node, index)) for index in range(order.slots)
        }
        for slot in (self._parent, *self.slots):
            if slot.worker is not None:
                slot.worker.log_to(self._log_of(slot))
        for slot in self.ready:
            self._turn_to_job(slot)
            self._listener.slot_ready(slot)
        self.refill()

    def close_job(self) -> None:
        """The job has ended: its logs are closed, loaded workers stay, its daemons do not."""
        self._order = None
        process_tree.end_orphans(self.pids())
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for slot in (self._parent, *self.slots):
            if slot.worker is not None:
                slot.worker.log_to(None)
        for log in self._logs.values():
            log.close()
        self._logs = {}

    def log_name(self, slot: Slot) -> str:
        """The log of a slot, relative to the job's folder."""
        return f"logs/user/{self.node}-{max(slot.index, 0)}.txt"

    def stop(self, slot: Slot, number: signal.Signals) -> None:
        """End what runs in a slot; a job that is open gets a new worker there."""
        if slot.worker is not None:
            slot.stopped = slot.worker.expendable = True
            slot.worker.interrupt(number)

    def stop_loading(self, number: signal.Signals) -> None:
        """End workers that are still loading, in `init()`; start no more for this job."""
        self._held = True
        for slot in (self._parent, *self.slots):
            if slot.state == "loading":
                self.stop(slot, number)

    def look(self, now: float) -> None:
        """End workers whose load takes longer than it may; call it twice a second or so."""
        self._memory.sample()
        if self._order is None:
            process_tree.end_orphans(self.pids())  # some were on their way when the job ended
        else:
            process_tree.reap_orphans(self.pids())
        for slot in (self._parent, *self.slots):
            if (
                slot.state == "loading"
                and slot.worker is not None
                and not slot.stopped
                and now - slot.since > limits.INIT_TIMEOUT_SECONDS
            ):
                slot.stopped = True
                slot.worker.kill()
                self._load_failed(
                    attempt_errors.timed_out(
                        "init()",
                        limits.INIT_TIMEOUT_SECONDS,
                        "",
                        file="",
                        log=self.log_name(slot),
                    )
                )

    async def close(self) -> None:
        """End all workers: loaded ones may run `shutdown()`, and all are gone afterwards."""
        self.close_job()
        self._retire_all()
        while self._retiring:
            self._gone.clear()
            await self._gone.wait()
        process_tree.end_orphans(())

    def kill_all(self) -> None:
        """Kill every worker now."""
        for slot in (self._parent, *self.slots):
            if slot.worker is not None:
                slot.worker.kill()
        for worker in self._retiring:
            worker.kill()

    # --- starting -----------------------------------------------------------------------------

    def refill(self) -> None:
        """Start workers in empty slots while a job is open, unless a failed load asks to wait."""
        if self._order is None or self._held or self._retry is not None or self._launch is None:
            return
        if self._launch.forks and self._parent.state != "ready":
            if self._parent.state == "empty" and not all(s.worker for s in self.slots):
                self._start(self._parent, control=True)
            return
        for slot in self.slots:
            if slot.state == "empty":
                if self._parent.state == "ready":
                    self._fork(slot)
                else:
                    self._start(slot)

    def _start(self, slot: Slot, *, control: bool = False) -> None:
        launch = self._launch
        assert launch is not None
        self._serial += 1
        slot.home = self._scratch / f"worker-{self._serial}"
        cwd, output, init = (slot.home / name for name in ("cwd", "output", "init"))
        try:
            for folder in (cwd, output):
                folder.mkdir(parents=True)
            slot.worker = WorkerProcess.start(
                launch.command,
                self,
                environment=launch.process_environment(output),
                cwd=cwd,
                spool_dir=self._scratch,
                log=self._log_of(slot),
                control=control,
            )
        except (OSError, ValueError) as error:
            # ValueError: a variable with NUL in it. Nothing was started.
            shutil.rmtree(slot.home, ignore_errors=True)
            told = error if isinstance(error, OSError) else OSError(0, str(error))
            self._load_failed(attempt_errors.not_started(told, launch.command[0]))
            return
        slot.state = "loading"
        slot.since = asyncio.get_running_loop().time()
        slot.worker.send(launch.load(output, init))

    def _fork(self, slot: Slot) -> None:
        """Have the parent fork a worker; `forked` tells its process id."""
        parent = self._parent.worker
        assert parent is not None
        assert parent.control is not None
        ours, theirs = make_pipes()
        try:
            socket.send_fds(parent.control, [b"f"], list(theirs.descriptors()))
        except OSError:
            ours.close()
            parent.kill_alone()  # its end is told, and a new one is started
            return
        finally:
            theirs.close()
        self._forking[slot.index] = ours
        slot.state = "loading"
        slot.since = asyncio.get_running_loop().time()
        parent.send({"op": "fork", "slot": slot.index})

    def _forked(self, index: int, pid: int) -> None:
        ends = self._forking.pop(index, None)
        if ends is None:
            return  # given up meanwhile: its pipes are closed, and it has ended itself
        slot = self.slots[index]
        slot.worker = WorkerProcess(
            pid,
            ends,
            self,
            spool_dir=self._scratch,
            log=self._log_of(slot),
        )
        self._serial += 1
        slot.home = self._scratch / f"worker-{self._serial}"
        (slot.home / "output").mkdir(parents=True, exist_ok=True)
        self._set_ready(slot)

    def _set_ready(self, slot: Slot) -> None:
        slot.state = "ready"
        slot.mean_seconds = None
        self._failed_loads = self._lost_loads = 0
        if self._order is not None:
            self._turn_to_job(slot)
            self._listener.slot_ready(slot)

    def _turn_to_job(self, slot: Slot) -> None:
        assert self._launch is not None
        assert self._order is not None
        assert slot.worker is not None
        assert slot.home is not None
        slot.mean_seconds = None
        slot.worker.send(self._launch.job(self._order, slot.home / "output"))

    def _log_of(self, slot: Slot) -> UserLog | None:
        return self._logs.get(max(slot.index, 0))

    # --- WorkerListener -----------------------------------------------------------------------

    def worker_said(self, worker: WorkerProcess, header: Header, body: Body) -> None:
        op = header["op"]
        if op == "exited":
            self._child_exited(header["pid"], header["status"])
            return
        slot = self._slot_of(worker)
        if slot is None:
            return
        if op == "loaded":
            self._loaded(slot, header)
        elif op == "load_failed":
            slot.stopped = True
            error = attempt_errors.told(header["error"], file="", log=self.log_name(slot))
            self._load_failed(error)
        elif op == "forked":
            self._forked(header["slot"], header["pid"])
        elif op == "op_failed" and slot is self._parent:
            # It has threads by now: from here on each slot starts a worker of its own.
            assert self._launch is not None
            self._launch.forks = False
            self._forget_forks()
            worker.kill_alone()
        elif slot.state == "ready":
            self._listener.slot_said(slot, header, body)

    def _loaded(self, slot: Slot, header: Header) -> None:
        slot.wrote_in_init = bool(header.get("files"))
        slot.load_warnings = tuple(map(str, header.get("warnings", ())))
        if slot is not self._parent:
            self._set_ready(slot)
        elif header.get("forkable"):
            slot.state = "ready"
            self.refill()
        else:
            # It may not be forked, but it has loaded: it is the first worker itself.
            first = self.slots[0]
            first.worker, first.home = slot.worker, slot.home
            first.wrote_in_init, first.load_warnings = slot.wrote_in_init, slot.load_warnings
            slot.vacate()
            assert self._launch is not None
            self._launch.forks = False
            self._set_ready(first)
            self.refill()

    def _child_exited(self, pid: int, status: int) -> None:
        workers = [slot.worker for slot in self.slots]
        for worker in (*workers, *self._retiring):
            if worker is not None and worker.pid == pid:
                worker.told_status(status)
                return

    def worker_ended(self, worker: WorkerProcess) -> None:
        if worker in self._retiring:
            timer, home = self._retiring.pop(worker)
            timer.cancel()
            _remove(home)
            self._gone.set()
            return
        slot = self._slot_of(worker)
        if slot is None:
            return
        end = explain(worker.status, out_of_memory=self._killed_for_memory(worker))
        if worker.fault:
            end = WorkerEnd("crashed", f"the worker was stopped: {worker.fault}", "protocol broken")
        if slot is self._parent:
            self._parent_ended(end)
        elif slot.state == "ready":
            self._listener.slot_ended(slot, worker, end)
        elif not slot.stopped:
            self._died_loading(slot, end)
        _remove(slot.home)
        slot.vacate()
        self.refill()

    def _forget_forks(self) -> None:
        for index, ends in self._forking.items():
            ends.close()
            self.slots[index].vacate()
        self._forking.clear()

    def _killed_for_memory(self, worker: WorkerProcess) -> bool:
        return (
            worker.status == -signal.SIGKILL and not worker.expendable and self._memory.happened()
        )

    def _parent_ended(self, end: WorkerEnd) -> None:
        self._forget_forks()
        if self._parent.state == "loading" and not self._parent.stopped:
            self._died_loading(self._parent, end)

    def _died_loading(self, slot: Slot, end: WorkerEnd) -> None:
        if end.cause == "lost":
            self._lost_loads += 1
            if self._lost_loads < _LOST_LOADS_MAX:
                return
        error = attempt_errors.died(end, "init()", file="", log=self.log_name(slot))
        self._load_failed(error)

    def _load_failed(self, error: AttemptError) -> None:
        self._failed_loads += 1
        wait = min(_BACKOFF_SECONDS_MAX, _BACKOFF_FIRST_SECONDS * 2 ** (self._failed_loads - 1))
        if self._order is None:
            return
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(wait, self._try_again)
        self._listener.load_failed(error)

    def _try_again(self) -> None:
        self._retry = None
        self.refill()

    def pids(self) -> set[int]:
        workers = [slot.worker for slot in (self._parent, *self.slots)]
        return {worker.pid for worker in (*workers, *self._retiring) if worker is not None}

    def _slot_of(self, worker: WorkerProcess) -> Slot | None:
        for slot in (self._parent, *self.slots):
            if slot.worker is worker:
                return slot
        return None

    # --- ending -------------------------------------------------------------------------------

    def _retire_all(self) -> None:
        """Let every worker end by itself within a moment; nobody waits for it."""
        loop = asyncio.get_running_loop()
        self._forget_forks()
        for slot in (*self.slots, self._parent):
            worker = slot.worker
            if worker is None:
                continue
            worker.expendable = True
            if slot.state == "ready" and not slot.tickets and not slot.stopped:
                worker.send({"op": "shutdown"})
                timer = loop.call_later(_SHUTDOWN_SECONDS, worker.kill)
            else:
                timer = loop.call_later(0, worker.kill)
            self._retiring[worker] = (timer, slot.home)
            slot.vacate()
        self.slots = []
        self._key = None


def _remove(home: Path | None) -> None:
    if home is not None:
        shutil.rmtree(home, ignore_errors=True)
