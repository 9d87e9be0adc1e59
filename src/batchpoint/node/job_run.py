"""One job on one node: hands tasks to slots and takes back results, deaths and timeouts."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from batchpoint.core.messages import Assignment, Outcome, TaskResult
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError, Invalid, Unavailable
from batchpoint.domain.minibatch import MiniBatch
from batchpoint.formats.durable import storage_error
from batchpoint.formats.layout import JobFolder, harvest_name
from batchpoint.node import attempt_errors, task_results
from batchpoint.node.exit_words import WorkerEnd
from batchpoint.node.part_flow import PartFlow
from batchpoint.node.refused_items import all_refused, with_refused
from batchpoint.node.remote_files import remote_files
from batchpoint.node.slot import Slot, wanted
from batchpoint.node.staging import Staging
from batchpoint.node.staging_ahead import StagingAhead
from batchpoint.node.ticket import Ticket
from batchpoint.node.wire import NodeOrder, Phase
from batchpoint.node.worker_messages import Body, Header
from batchpoint.node.worker_pool import WorkerPool
from batchpoint.node.worker_process import WorkerProcess
from batchpoint.storage.locate import is_local
from batchpoint_worker.protocol import RUNNING

Work = tuple[MiniBatch, Assignment]
Report = Callable[[str | None, list[TaskResult]], None]

# A worker that hangs gets this long to print where it hangs.
_STACK_SECONDS = 0.15
_IDLE_DEATHS_MAX = 3
_SILENT_SECONDS = 600.0
_STAGING_THREADS = 2
_WARNINGS_MAX = 100


class JobRun:
    """Feeds the slots of a pool with the tasks of one job. Used on the event loop only."""

    def __init__(
        self,
        order: NodeOrder,
        pool: WorkerPool,
        scratch: Path,
        ids: count[int],
        report: Report,
    ) -> None:
        """Serve `order` with the workers of `pool`; `ids` numbers tasks over all jobs.

        `report` gets the name of a sealed part (None: no part) and results. Raises OSError when
        the job's folder cannot be written.
        """
        self.order = order
        self.flow = PartFlow(order, report, self._flow_moved)
        self._pool = pool
        self._scratch = scratch / f"epoch-{order.epoch}"
        self._ids = ids
        self._folder = JobFolder(order.job_dir)
        self._files = str(self._folder.files)
        self._script = order.spec.code is not None
        self._staging = Staging(self._folder, self._scratch, script=self._script)
        self._threads = ThreadPoolExecutor(_STAGING_THREADS, thread_name_prefix="stage")
        self._pending: deque[Work] = deque()
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._closed = False
        self._background: set[asyncio.Task[None]] = set()
        self._warnings: set[str] = set()
        self._untold: deque[str] = deque()
        self._timeout_seconds_max = float("inf")
        self._all_ended = asyncio.Event()
        self._ahead: StagingAhead | None = None
        if not all(is_local(uri) for uri in order.spec.input.sources):
            self._ahead = StagingAhead(
                remote_files(order, self._scratch),
                self._scratch,
                script=self._script,
                arrived=self.feed_all,
                given_up=self._given_up,
                no_room=self._no_room,
            )
        self._folder.files.mkdir(parents=True, exist_ok=True)
        self._folder.parts.mkdir(parents=True, exist_ok=True)
        self._scratch.mkdir(parents=True, exist_ok=True)

    # --- what people see ------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """What the node does now."""
        if not self._pool.ready:
            return "model"
        return "scoring" if any(slot.queued for slot in self._pool.slots) else "waiting"

    def warning(self) -> str:
        """The sentence to show now, or empty; user code's warnings are told once each."""
        return (
            self.flow.warning
            or (self._ahead.warning if self._ahead is not None else "")
            or self.untold_warning()
        )

    def untold_warning(self) -> str:
        """A warning of user code that was not told yet, or empty."""
        return self._untold.popleft() if self._untold else ""

    def _warn(self, text: str) -> None:
        if text not in self._warnings and len(self._warnings) < _WARNINGS_MAX:
            self._warnings.add(text)
            self._untold.append(text)

    # --- feeding --------------------------------------------------------------------------------

    def assign(self, work: Sequence[Work]) -> None:
        """Take tasks from the runner."""
        if self._stopped:
            return
        if self._ahead is None:
            self._pending.extend(work)
        else:
            tickets = (self._ticket(*each) for each in work)
            self._ahead.offer([ticket for ticket in tickets if ticket is not None])
        self.feed_all()

    def feed_all(self) -> None:
        """Give tasks to every slot that has room, the emptiest first."""
        for slot in sorted(self._pool.ready, key=lambda slot: slot.queued):
            self._feed(slot)

    def _feed(self, slot: Slot) -> None:
        if self._stopped or self.flow.blocked or slot.stopped or slot.condemned is not None:
            return
        waiting = len(self._pending) if self._ahead is None else self._ahead.ready
        many = wanted(slot.queued, slot.mean_seconds, waiting, len(self._pool.ready))
        orders: list[dict[str, Any]] = []
        for _ in range(many):
            ticket = self._next()
            if ticket is None:
                continue
            if ticket.paths:
                slot.tickets[ticket.id] = ticket
                orders.append(ticket.order())
            else:
                self._stage(slot, ticket)
        if orders and slot.worker is not None:
            slot.heard = self._loop.time()
            slot.worker.send({"op": "run", "tasks": orders})

    def _next(self) -> Ticket | None:
        """Take the next task for a worker; None: there is nothing in it for a worker to do."""
        if self._ahead is None:
            return self._ticket(*self._pending.popleft())
        ticket = self._ahead.take()
        nothing = None if ticket is None else all_refused(ticket)
        if ticket is None or nothing is None:
            return ticket
        self._forget(ticket)
        self.flow.scored(nothing)
        self._loop.call_soon(self._settle)
        return None

    def _ticket(self, mini_batch: MiniBatch, assignment: Assignment) -> Ticket | None:
        """Look up what a task covers; None: it failed here and was reported."""
        try:
            slices = self._staging.slices(mini_batch, assignment)
            ticket = Ticket(next(self._ids), mini_batch, assignment, slices)
            if self._script:
                name = harvest_name(
                    self.order.epoch, self.order.node, assignment.task, assignment.attempt
                )
                ticket.harvest = f"{self._files}/{name}"
            if self._ahead is None:
                self._staging.at_hand(ticket)
            return ticket
        except BatchpointError as error:
            self._refuse(assignment, (), error)
            return None

    def _refuse(
        self, assignment: Assignment, items: tuple[int, ...], error: BatchpointError
    ) -> None:
        """Report a task that never came to a worker."""
        mine = isinstance(error, Invalid)
        self.flow.failed(
            TaskResult(
                task=assignment.task,
                attempt=assignment.attempt,
                outcome="failed" if mine else "lost",
                seconds=0.0,
                items=items,
                error=attempt_errors.ours(error, "input" if mine else "storage"),
            )
        )

    def _stage(self, slot: Slot, ticket: Ticket) -> None:
        """Make the files of a task in a thread, then give it to its slot."""
        slot.staging += 1
        worker = slot.worker

        async def stage() -> None:
            try:
                await self._loop.run_in_executor(self._threads, self._staging.make, ticket)
            except BatchpointError as error:
                ticket.forget_staged()
                self._refuse(ticket.assignment, ticket.items, error)
                return
            except OSError as error:
                ticket.forget_staged()
                self._again([ticket])
                self._no_room(error)
                return
            finally:
                slot.staging -= 1
            if slot.worker is worker and worker is not None and not self._stopped:
                slot.tickets[ticket.id] = ticket
                worker.send({"op": "run", "tasks": [ticket.order()]})
            else:
                self._again([ticket])

        task = self._loop.create_task(stage())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _again(self, tickets: Sequence[Ticket]) -> None:
        """Put tasks back, uncharged and in their order; other slots get them at once."""
        if self._stopped:
            return
        if self._ahead is None:
            for ticket in tickets:
                ticket.forget_staged()
            self._pending.extendleft((t.mini_batch, t.assignment) for t in reversed(tickets))
        else:
            for ticket in reversed(tickets):
                self._ahead.put_back(ticket)
        self._loop.call_soon(self.feed_all)

    def _given_up(self, ticket: Ticket, error: Unavailable) -> None:
        self._refuse(ticket.assignment, ticket.items, error)

    def _no_room(self, error: OSError) -> None:
        """Files for a task cannot be written: begin nothing new until they can."""
        told = storage_error(error, self._scratch)
        assert isinstance(told, Unavailable)
        self.flow.trouble(told)

    # --- PoolListener, for this job ---------------------------------------------------------------

    def slot_ready(self, slot: Slot) -> None:
        """Feed a worker that has loaded."""
        for text in slot.load_warnings:
            self._warn(text)
        if self._script and slot.wrote_in_init and slot.home is not None:
            self.flow.publish_init(slot.home / "init")
        self._feed(slot)

    def slot_said(self, slot: Slot, header: Header, body: Body) -> None:
        """Take results."""
        if header["op"] != "results":
            return
        view = memoryview(body)
        at = 0
        seconds = 0.0
        results: list[dict[str, Any]] = header["results"]
        for told in results:
            rows_end = at + told.get("length", 0)
            end = rows_end + told.get("failures_length", 0)
            ticket = slot.tickets.pop(told["id"], None)
            if ticket is not None and not self._closed:
                self._result(slot, ticket, told, view[at:rows_end], view[rows_end:end])
            at = end
            seconds += told.get("seconds", 0.0)
        slot.heard = self._loop.time()
        if results:
            slot.idle_deaths = 0
            slot.learn(seconds, len(results))
        if slot.condemned is not None and slot.condemned not in slot.tickets:
            slot.condemned = None  # it came back just in time
        self._feed(slot)
        self.flow.settle(self._remaining())

    def slot_ended(self, slot: Slot, worker: WorkerProcess, end: WorkerEnd) -> None:
        """Charge the task that ended a worker; give its others to other workers."""
        if self._stopped:
            for ticket in slot.tickets.values():
                self._forget(ticket)
            self._all_ended.set()
            return
        task, since, state, slice_rows = worker.page.get()
        tickets = list(slot.tickets.values())
        charged = slot.tickets.get(task) if state == RUNNING else None
        if charged is None and tickets:
            slot.idle_deaths += 1
            if slot.idle_deaths >= _IDLE_DEATHS_MAX:
                charged, slot.idle_deaths = tickets[0], 0
        if charged is not None:
            seconds = max(0.0, self._loop.time() - since) if charged.id == task else 0.0
            self._charge(slot, worker, charged, end, seconds, slice_rows)
        for ticket in tickets:
            self._forget(ticket, files=ticket is charged or self._ahead is None)
        self._again([ticket for ticket in tickets if ticket is not charged])
        self._loop.call_soon(self._settle)

    def tick(self, now: float) -> None:
        """Look for tasks that run longer than they may; call it several times a second."""
        for slot in self._pool.ready:
            worker = slot.worker
            if worker is None or not slot.tickets or slot.condemned is not None:
                continue
            task, since, state, _ = worker.page.get()
            ticket = slot.tickets.get(task)
            if ticket is None or state != RUNNING:
                if now - max(since, slot.heard) > _SILENT_SECONDS:
                    worker.kill()  # it neither scores nor tells; its tasks go to others, uncharged
                continue
            if now - since > self._bound(ticket):
                worker.catch_up()
                if task in slot.tickets and worker.page.get()[0] == task:
                    slot.condemned = task
                    worker.dump_stack()
                    self._loop.call_later(_STACK_SECONDS, self._execute, slot, worker, task)

    def retime(self, timeout_seconds: float) -> None:
        """Bound every `run` given out with a longer timeout, running or not, by this one."""
        self._timeout_seconds_max = timeout_seconds

    def _bound(self, ticket: Ticket) -> float:
        return min(ticket.assignment.timeout_seconds, self._timeout_seconds_max)

    # --- ends -----------------------------------------------------------------------------------

    async def abort(self) -> None:
        """Stop user code within `CANCEL_GRACE_SECONDS`; what was scored is sealed and reported."""
        self._stop(signal.SIGTERM)
        killer = self._loop.call_later(
            limits.CANCEL_GRACE_SECONDS, self._stop_slots, signal.SIGKILL
        )
        await self._until_ended()
        killer.cancel()
        sealing = self._loop.create_task(self.flow.drain())
        await asyncio.wait({sealing}, timeout=limits.CANCEL_GRACE_SECONDS)
        sealing.cancel()

    async def close(self, *, keep_loading: bool) -> None:
        """End the job here: kill what still runs of it, discard what is not reported.

        Workers that are still loading go on with it when `keep_loading`: the next job needs them.
        """
        self._closed = True
        self._stop(signal.SIGKILL, loading=not keep_loading)
        await self._until_ended()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.flow.close()
        await asyncio.to_thread(self._clean)

    def _stop(self, number: signal.Signals, *, loading: bool = True) -> None:
        self._stopped = True
        self._pending.clear()
        if self._ahead is not None:
            self._ahead.stop()
        if loading:
            self._pool.stop_loading(number)
        self._stop_slots(number)

    def _stop_slots(self, number: signal.Signals) -> None:
        """End workers that run user code, or are still to be ended."""
        for slot in self._pool.slots:
            if slot.state == "ready" and slot.tickets:
                self._pool.stop(slot, number)

    async def _until_ended(self) -> None:
        while any(slot.state == "ready" and slot.tickets for slot in self._pool.slots):
            self._all_ended.clear()
            await self._all_ended.wait()

    def _clean(self) -> None:
        self._threads.shutdown()  # a slice file that is being written would come back otherwise
        shutil.rmtree(self._scratch, ignore_errors=True)

    # --- results --------------------------------------------------------------------------------

    def _result(
        self,
        slot: Slot,
        ticket: Ticket,
        told: dict[str, Any],
        rows: memoryview,
        failures: memoryview,
    ) -> None:
        for text in told.get("warnings", ()):
            self._warn(str(text))
        if not told["ok"]:
            self._failed(slot, ticket, told)
            return
        try:
            self._staging.check_unchanged(ticket)
        except Invalid as changed:
            self._forget(ticket)
            error = attempt_errors.ours(changed, "input", file=task_results.file_of(ticket))
            self.flow.failed(task_results.ended(ticket, "failed", told.get("seconds", 0.0), error))
            return
        scored = task_results.scored_of(ticket, told, rows, failures)
        self.flow.scored(with_refused(scored, ticket))
        self._unstage(ticket)

    def _failed(self, slot: Slot, ticket: Ticket, told: dict[str, Any]) -> None:
        error = attempt_errors.told(
            told.get("error") or {},
            file=task_results.file_of(ticket),
            log=self._pool.log_name(slot),
        )
        self._forget(ticket)
        if task_results.is_disk_full(error, self._folder.root, self._scratch):
            # Nobody's fault: it is tried again, uncharged, when there is room.
            self._again([ticket])
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            trouble = storage_error(full, self._folder.root)
            assert isinstance(trouble, Unavailable)
            self.flow.trouble(trouble)
            return
        self.flow.failed(
            task_results.ended(ticket, "failed", told.get("seconds", 0.0), error)._replace(
                slice_rows=told.get("slice_rows", -1)
            )
        )

    def _charge(
        self,
        slot: Slot,
        worker: WorkerProcess,
        ticket: Ticket,
        end: WorkerEnd,
        seconds: float,
        slice_rows: int,
    ) -> None:
        file, log = task_results.file_of(ticket), self._pool.log_name(slot)
        outcome: Outcome
        if slot.condemned == ticket.id:
            outcome = "timed_out"
            error = attempt_errors.timed_out(
                "run()", self._bound(ticket), worker.stack(), file=file, log=log
            )
        else:
            outcome = end.cause
            error = attempt_errors.died(end, "run()", file=file, log=log)
        self.flow.failed(
            task_results.ended(ticket, outcome, seconds, error)._replace(slice_rows=slice_rows)
        )

    def _execute(self, slot: Slot, worker: WorkerProcess, task: int) -> None:
        """Kill a worker for a timeout, unless the task has come back meanwhile."""
        worker.catch_up()
        if slot.condemned == task and slot.worker is worker:
            worker.kill()

    def _forget(self, ticket: Ticket, *, files: bool = True) -> None:
        """Delete what an attempt that does not count left on the disk, the input `files` too."""
        if files:
            self._unstage(ticket)
        if ticket.harvest:
            shutil.rmtree(ticket.harvest, ignore_errors=True)

    def _unstage(self, ticket: Ticket) -> None:
        if self._ahead is None:
            ticket.forget_staged()
        else:
            self._ahead.done(ticket)

    def _remaining(self) -> int:
        ahead = 0 if self._ahead is None else self._ahead.remaining
        return len(self._pending) + ahead + sum(slot.queued for slot in self._pool.slots)

    def _flow_moved(self) -> None:
        self.feed_all()
        self._settle()

    def _settle(self) -> None:
        self.flow.settle(self._remaining())
