"""The runner of one scoring job: takes events to `Dispatch`, carries its commands out, commits."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchpoint.clock import Clock
from batchpoint.core import messages as m
from batchpoint.core.accounting import recover
from batchpoint.core.dispatch import Dispatch
from batchpoint.domain import limits
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, Unavailable
from batchpoint.domain.job import (
    ErrorInfo,
    Job,
    JobState,
    JobStatus,
    Progress,
    PublishedOutput,
)
from batchpoint.engines.interface import Engine
from batchpoint.formats.layout import JobFolder
from batchpoint.ledger.job_store import Renewed
from batchpoint.ledger.ledger import Ledger
from batchpoint.node.output_request import AssembledOutput
from batchpoint.node.wire import Heartbeat
from batchpoint.runner import causes, progress
from batchpoint.runner.job_log import JobLog
from batchpoint.runner.output import request_for, write_assembly_plan
from batchpoint.runner.patience import end_tasks, pause, when_there_is_room
from batchpoint.runner.planner import Planner
from batchpoint.runner.standing import Standing
from batchpoint.runner.verdicts import VerdictWriter
from batchpoint.storage.locate import shown_of

_WITHDRAWALS_MAX = 4


@dataclass(frozen=True, slots=True)
class RunnerParts:
    """What a runner works with; put together by `batchpoint.wiring`.

    `prepare` makes sure that the job's environment can be used, blocking; it returns sentences for
    the job's log and raises Invalid when it cannot. `saw` is told every status, the last one once
    it is committed. `access` opens the data the job reads.

    Steps of pipelines have two more: `publish` puts the finished results where the step's outputs
    belong, blocking, and says where; it may be called again after a kill. `finish` takes the last
    status of a job whose end is recorded by others; without it the ledger's row is ended here.
    """

    ledger: Ledger
    engine: Engine
    clock: Clock
    folder: JobFolder
    prepare: Callable[[], list[str]]
    saw: Callable[[JobStatus], None] = lambda _: None
    access: StorageAccess = field(default_factory=StorageAccess, repr=False)
    publish: Callable[[AssembledOutput], Mapping[str, PublishedOutput]] | None = None
    finish: Callable[[JobStatus], None] | None = None


class ScoreRunner:
    """Runs one job from what is committed to its end. Resume is start."""

    def __init__(self, job: Job, epoch: int, parts: RunnerParts) -> None:
        """Build for a job whose lease is held under `epoch`."""
        self._job = job
        self._spec = job.scoring
        self._epoch = epoch
        self._ledger = parts.ledger
        self._engine = parts.engine
        self._clock = parts.clock
        self._folder = parts.folder
        self._prepare = parts.prepare
        self._access = parts.access
        self._publish_step = parts.publish
        self._record_end = parts.finish or self._finish_row
        self._log = JobLog(parts.folder.job_log, parts.clock)
        self._standing = Standing(job.scoring, job.status, parts.saw)
        self._records: list[m.Record] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._finish: m.Finish | None = None
        self._failure: ErrorInfo | None = None
        self._cancel_seen = False
        self._published = False
        self._ended = False
        self._trouble = ""  # why results cannot be published now
        self._lease_lost: Unavailable | None = None
        self._mistake: Exception | None = None
        self._verdicts: VerdictWriter | None = None
        self._committing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()

    async def run(self) -> JobState:
        """Run the job to its end and return its terminal state.

        Raises:
            Unavailable: the lease was lost (`lease_lost`); nothing was written after that.
        """
        self._inbox: asyncio.Queue[m.Event] = asyncio.Queue()
        self._standing.begin(self._clock.now())
        attempts = self._standing.status.attempts
        if attempts > 1:
            self._log(f"resumed from what is committed (runner {attempts})")
        try:
            await self._decide_until_finished()
            return await self._end_while_leased()
        finally:
            await end_tasks(self._tasks)
            await self._engine.close()

    # --- deciding -----------------------------------------------------------------------------

    async def _decide_until_finished(self) -> None:
        await when_there_is_room(lambda: asyncio.to_thread(self._folder.make), self._folder.root)
        records = await asyncio.to_thread(
            lambda: list(progress.unpack(self._ledger.checkpoints(self._job.name)))
        )
        self._dispatch = Dispatch(self._policy(), recover(records))
        self._planner = Planner(self._spec, self._folder, self._engine, self._log, self._access)
        self._verdicts = VerdictWriter(self._job.name, self._epoch, self._folder, self._planner)
        self._go(self._beat())
        self._go(self._listen())
        self._go(self._start())
        decide = asyncio.create_task(self._decide())
        await self._wait_unless_stopped(decide)
        if decide.done():
            await decide
        await end_tasks([decide])
        self._raise_what_stopped()

    async def _wait_unless_stopped(self, work: asyncio.Task[Any]) -> None:
        """Wait until `work` has ended, or something beside it makes going on useless."""
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await end_tasks([work])
            raise
        finally:
            stopped.cancel()

    def _raise_what_stopped(self) -> None:
        if self._lease_lost is not None:
            raise self._lease_lost
        if self._mistake is not None:
            raise self._mistake

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a part of the job beside the others; an error of ours in it ends the job.

        Any other exception is a mistake in this code: it ends the process, and another one goes on.
        """

        async def guarded() -> None:
            try:
                await work
            except BatchpointError as error:
                if error.code == "lease_lost":
                    self._lease_lost = Unavailable(error.message, code=error.code)
                self._failure = self._failure or causes.cause_from(error)
                self._stopped.set()
            except Exception as error:  # noqa: BLE001 - bulkhead: raised again by the waiting side
                self._log(f"internal error: {type(error).__name__}: {error}")
                self._mistake = error
                self._stopped.set()

        self._tasks.append(asyncio.create_task(guarded()))

    async def _start(self) -> None:
        """Prepare the environment, then list; nodes start meanwhile."""
        for note in await asyncio.to_thread(self._prepare):
            self._log(note)
        async for event in self._planner.grow():
            self._inbox.put_nowait(event)

    async def _listen(self) -> None:
        async for event in self._engine.events():
            if isinstance(event, Heartbeat):
                self._standing.display.heard(event)
                continue
            if isinstance(event, m.Reported):
                self._standing.display.reported(event.node)
            elif isinstance(event, m.NodeReady):
                self._log(f"node {event.node} is ready with {event.slots} workers")
            elif isinstance(event, m.NodeLost):
                self._standing.display.lost(event.node)
                self._log(f"node {event.node} was lost: {event.cause}")
            else:
                self._log(f"a worker on {event.node} failed to start: {event.error.message}")
            self._inbox.put_nowait(event)

    async def _decide(self) -> None:
        """Take one event after the other to the one door; carry out what it orders."""
        loop = asyncio.get_running_loop()
        while self._finish is None:
            event = await self._inbox.get()
            if isinstance(event, m.Reported):
                self._log_failed_attempts(event)
            for command in self._dispatch.handle(event, loop.time()):
                await self._carry_out(command)

    async def _carry_out(self, command: m.Command) -> None:
        match command:
            case m.Assign():
                book = self._planner.book
                await self._engine.assign(
                    command.node,
                    [(book.mini_batch(a.task.mini_batch), a) for a in command.assignments],
                )
            case m.Record():
                self._records.append(command)
            case m.Quarantine():
                self._log(
                    f"failed for good after {len(command.history.outcomes)} attempts "
                    f"({', '.join(command.history.outcomes)}): {command.error.type} "
                    f"{command.error.message[:200]}"
                )
                assert self._verdicts is not None
                self._verdicts.add(command)
            case m.Provision():
                await self._engine.provision(command.count)
            case m.SetAlarm():
                self._set_alarm(command.at)
            case m.Retime():
                await self._engine.retime(command.timeout_seconds)
            case m.Abort():
                await self._engine.abort()
            case m.Finish():
                self._finish = command

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(at, self._inbox.put_nowait, m.AlarmRang())

    def _policy(self) -> m.Policy:
        settings = self._spec.settings
        return m.Policy(
            instance_count=settings.instance_count,
            max_retries=settings.max_retries,
            timeout_seconds=settings.timeout_seconds,
            error_threshold=settings.error_threshold,
            mini_batch_error_threshold=settings.mini_batch_error_threshold,
            allowed_failed_percent=settings.allowed_failed_percent,
            isolate_rows=self._spec.code is None,
        )

    def _log_failed_attempts(self, event: m.Reported) -> None:
        for result in event.results:
            if result.outcome != "scored" and result.error is not None:
                self._log(
                    f"mini-batch {result.task.mini_batch} "
                    f"[{result.task.start}:{result.task.stop}] attempt {result.attempt} "
                    f"{result.outcome} after {result.seconds:.2f} s: {result.error.type} "
                    f"{result.error.message[:200]}"
                )

    # --- committing ---------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Renew the lease and commit what was recorded, every second or so, until cancelled."""
        while True:
            await self._commit()
            await asyncio.sleep(limits.CHECKPOINT_SECONDS)

    async def _commit(self) -> None:
        """Commit pending records and the status in one transaction; keeps them when it fails.

        Raises:
            Unavailable: `lease_lost`. A full or failing disk is waited for instead, and said.
        """
        async with self._committing:
            if self._ended:
                return
            await self._seal_verdicts()
            try:
                taken = len(self._records)
                body = progress.pack(self._records[:taken]) if taken else None
                renewed = await asyncio.to_thread(self._renew, self._show(), body)
            except BatchpointError as error:
                if error.code == "lease_lost":
                    raise
                self._log(f"cannot commit now, trying again: {error.message}")
                return
            del self._records[:taken]
            if renewed.cancel_requested and not self._cancel_seen:
                self._cancel_seen = True
                self._log("cancel was requested")
                self._standing.cancel_requested()
                # What an earlier runner may have published already is not taken back.
                if not self._standing.was_writing:
                    self._inbox.put_nowait(m.CancelRequested())

    async def _seal_verdicts(self) -> None:
        """Make verdicts durable; while that fails they wait, and the lease is renewed."""
        if self._verdicts is None:
            return
        try:
            self._records.extend(await asyncio.to_thread(self._verdicts.seal))
        except BatchpointError as error:
            self._log(f"cannot write down failed items now, trying again: {error.message}")

    def _renew(self, status: JobStatus, body: bytes | None) -> Renewed:
        return self._ledger.renew(
            self._job.name,
            self._epoch,
            self._clock.seconds(),
            limits.LEASE_SECONDS,
            status=status,
            records=body,
        )

    async def _commit_all(self) -> None:
        """Commit until nothing is pending, waiting for a full disk as long as it takes."""
        await self._commit()
        for attempt in itertools.count():
            if not self._records and (self._verdicts is None or not self._verdicts.pending):
                return
            await pause(attempt)
            await self._commit()

    def _show(self) -> JobStatus:
        if self._verdicts is None or self._published:
            return self._standing.status  # nothing is known of this runner's own, or all is
        book, planner = self._planner.book, self._planner
        listed = planner.totals is not None
        self._standing.trouble = self._trouble or planner.trouble
        totals = Progress(
            listed=listed,
            items_total=book.items if listed else max(book.items, planner.items_listed),
            mini_batches_total=book.mini_batches,
        )
        now = asyncio.get_running_loop().time()
        return self._standing.show(self._dispatch.tally, totals, now)

    # --- the end ------------------------------------------------------------------------------

    async def _end_while_leased(self) -> JobState:
        """End the job; at once without a result when the lease is lost meanwhile."""
        self._stopped.clear()
        end = asyncio.create_task(self._end())
        while not end.done():
            await self._wait_unless_stopped(end)
            if not end.done() and self._stopped.is_set():
                self._stopped.clear()
                if self._lease_lost is not None or self._mistake is not None:
                    await end_tasks([end])
                    self._raise_what_stopped()
        return await end

    async def _end(self) -> JobState:
        if self._alarm is not None:
            self._alarm.cancel()
        if self._failure is None and self._finish is not None:
            await self._commit_all()
            if self._finish.outcome == "completed":
                return await self._publish()
            if self._finish.outcome == "canceled":
                return await self._close_canceled()
            progress_now = self._standing.status.progress
            self._failure = causes.cause_of(self._finish, self._spec, progress_now)
        assert self._failure is not None
        await self._engine.abort()
        with contextlib.suppress(BatchpointError):
            await self._commit()
        return await self._close_failed(self._failure)

    async def _publish(self) -> JobState:
        """Assemble and publish; the lease is renewed meanwhile by the beat."""
        self._standing.writing()
        output: AssembledOutput | None = None
        outputs: Mapping[str, PublishedOutput] = {}
        for attempt in itertools.count():
            await self._commit()
            try:
                output = await self._assemble()
                if self._publish_step is not None:
                    outputs = await asyncio.to_thread(self._publish_step, output)
                break
            except BatchpointError as error:
                if not error.retryable:
                    return await self._close_failed(causes.cause_from(error))
                if self._cancel_seen:
                    return await self._close_canceled()
                self._log(f"cannot publish now, trying again: {error.message}")
                self._trouble = f"storage: {error.message}"
            await pause(attempt)
        assert output is not None
        self._log(f"results are complete at {shown_of(output.output_uri)}")
        async with self._committing:
            self._published = True
            self._standing.published(output, outputs)
        return await self._close(JobState.COMPLETED, None)

    async def _assemble(self) -> AssembledOutput:
        counted = await asyncio.to_thread(
            write_assembly_plan, self._job, self._folder, self._ledger
        )
        status = self._standing.status
        request = request_for(self._job, status, self._folder, counted, self._clock.now())
        return await self._engine.assemble(request)

    async def _close_canceled(self) -> JobState:
        self._log("canceled; what was scored is kept for some days")
        await self._withdraw()
        return await self._close(JobState.CANCELED, None)

    async def _close_failed(self, failure: ErrorInfo) -> JobState:
        self._log(f"failed ({failure.code}): {failure.message}")
        await self._withdraw()
        return await self._close(JobState.FAILED, failure)

    async def _withdraw(self) -> None:
        """Remove what was published of an output that will not be completed, if that can be."""
        if not (self._standing.was_writing or self._folder.publication.exists()):
            return
        now = self._clock.now()
        request = request_for(self._job, self._standing.status, self._folder, None, now)
        for attempt in range(_WITHDRAWALS_MAX):
            try:
                await self._engine.withdraw(request)
                break
            except BatchpointError as error:
                self._log(f"what was published could not be removed: {error.message}")
            await pause(attempt)

    async def _close(self, state: JobState, error: ErrorInfo | None) -> JobState:
        """Write down how the job ended, waiting for a full disk as long as it takes."""
        for attempt in itertools.count():
            status = self._standing.ended(state, error, self._clock.now())
            try:
                async with self._committing:
                    await asyncio.to_thread(self._record_end, status)
                    self._ended = True
                self._standing.status = status
                return state
            except BatchpointError as trouble:
                if not trouble.retryable or trouble.code == "lease_lost":
                    raise
                self._log(f"cannot note the end of the job, trying again: {trouble.message}")
            await pause(attempt)
        raise AssertionError  # never reached: the loop has no end of its own

    def _finish_row(self, status: JobStatus) -> None:
        self._ledger.finish(self._job.name, self._epoch, status)
