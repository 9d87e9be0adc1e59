"""The runner of one pipeline: takes events to `StepBook`, carries its commands out, commits."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from batchpoint.core import steps as s
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError, Unavailable
from batchpoint.domain.job import (
    Job,
    JobState,
    JobStatus,
    PublishedOutput,
)
from batchpoint.domain.job_spec import PipelineSpec
from batchpoint.ledger.ledger import PipelineRenewed
from batchpoint.runner.job_log import JobLog
from batchpoint.runner.patience import end_tasks, pause, when_there_is_room
from batchpoint.runner.pipeline_standing import PipelineStanding
from batchpoint.runner.planned_steps import end_of, planned, recorded_of
from batchpoint.runner.step_run import PipelineParts, StepEnd, StepRun

_P = ParamSpec("_P")
_T = TypeVar("_T")


class PipelineRunner:
    """Runs one pipeline from what is recorded to its end. Resume is start."""

    def __init__(self, job: Job, epoch: int, parts: PipelineParts) -> None:
        """Build for a pipeline whose lease is held under `epoch`."""
        assert isinstance(job.spec, PipelineSpec)
        self._job = job
        self._spec = job.spec
        self._epoch = epoch
        self._parts = parts
        self._log = JobLog(parts.folder_of(job.name).job_log, parts.clock)
        self._children: dict[str, Job] = {}
        self._ends: dict[str, StepEnd] = {}  # how attempts ended that are not recorded yet
        self._published: dict[str, Mapping[str, PublishedOutput]] = {}
        self._results: dict[str, str] = {}
        self._inbox: list[s.Event] = []
        self._happened = asyncio.Event()
        self._starts: list[s.StartStep] = []
        self._running: dict[str, asyncio.Task[StepEnd]] = {}
        self._begun: set[str] = set()  # steps of which this runner has begun an attempt
        self._beside: set[asyncio.Task[None]] = set()
        self._wishes: set[str] = set()  # steps whose cancel was heard of, or asked for here
        self._cancel_seen = False
        self._finish: s.Finish | None = None
        self._trouble: BaseException | None = None
        self._committed_at = float("-inf")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._closing = contextlib.ExitStack()
        self._closing.callback(self._thread.shutdown, wait=False)

    async def run(self) -> JobState:
        """Run the pipeline to its end and return its terminal state.

        Raises:
            Unavailable: the lease was lost (`lease_lost`); nothing was written after that.
        """
        try:
            await self._begin()
            while self._finish is None:
                await self._decide()
            return await self._end(self._finish)
        finally:
            await self._stop_all()

    # --- deciding -----------------------------------------------------------------------------

    async def _begin(self) -> None:
        logs = self._parts.folder_of(self._job.name).logs
        await when_there_is_room(lambda: self._aside(logs.mkdir, parents=True, exist_ok=True), logs)
        children = await self._aside(self._parts.ledger.child_jobs, self._job.name)
        self._children = {child.spec.step.name: child for child in children if child.spec.step}
        self._standing = PipelineStanding(self._job, self._spec, self._children, self._parts.saw)
        look_up = not self._spec.force_rerun
        self._steps = StepRun(
            self._parts, self._standing, self._log, epoch=self._epoch, look_up=look_up
        )
        self._closing.callback(self._steps.close)
        self._standing.begin(self._parts.clock.now())
        done = 0
        for step, child in self._children.items():
            if child.status.state is JobState.COMPLETED:
                self._published[step] = child.status.outputs
                done += 1
        attempts = self._standing.status.attempts
        again = f"resumed from what is recorded (runner {attempts}): " if attempts > 1 else ""
        self._log(f"{again}{done} of {len(self._children)} steps are done")
        plan = s.GraphPlan(
            {step: planned(child) for step, child in self._children.items()},
            self._spec.continue_on_step_failure,
        )
        recorded = {step: recorded_of(child) for step, child in self._children.items()}
        self._book = s.StepBook(plan, recorded)
        self._cancel_seen = self._job.status.state is JobState.CANCEL_REQUESTED
        self._tell(s.Opened(self._cancel_seen))

    def _tell(self, event: s.Event) -> None:
        self._inbox.append(event)
        self._happened.set()

    async def _decide(self) -> None:
        """Take what has happened to the one door, record what it decides, and go on from there."""
        await self._wait()
        loop = asyncio.get_running_loop()
        events, self._inbox = self._inbox, []
        for event in events:
            if isinstance(event, s.StepEnded) and event.outcome in ("failed", "timed_out"):
                self._standing.between(event.step)
            commands = self._book.handle(event)
            await self._clear_leftovers(commands)
            for command in commands:
                self._carry_out(command)
        # What follows a success begins when the success is recorded, and not before.
        due = self._committed_at + limits.CHECKPOINT_SECONDS
        for attempt in itertools.count():
            must = bool(self._standing.ended)
            if (not must and loop.time() < due) or await self._commit() or not must:
                break
            await pause(attempt)
        starts, self._starts = self._starts, []
        for start in starts:
            self._start(start)

    async def _clear_leftovers(self, commands: Iterable[s.Command]) -> None:
        """Take back what steps have published under an earlier runner that now shall not go on.

        Nothing is decided meanwhile: all that follows from one event is recorded together.
        """
        clearing = {
            asyncio.create_task(self._steps.clear(self._children[each.step]))
            for each in commands
            if isinstance(each, s.CloseStep)
            and each.state is not JobState.COMPLETED
            and each.step not in self._begun
            and self._steps.has_begun(self._children[each.step])
        }
        self._beside |= clearing
        left = clearing
        while left:
            _, left = await asyncio.wait(left, timeout=limits.CHECKPOINT_SECONDS)
            if left:
                await self._commit()
        self._beside -= clearing
        for each in clearing:
            each.result()

    async def _wait(self) -> None:
        """Wait for something to happen, or for the time at which the lease is to be renewed."""
        due = self._committed_at + limits.CHECKPOINT_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(max(due, 0.0)):
                await self._happened.wait()
        self._happened.clear()
        if self._trouble is not None:
            raise self._trouble

    def _carry_out(self, command: s.Command) -> None:
        match command:
            case s.StartStep():
                self._starts.append(command)
            case s.StopStep():
                self._stop(command.step)
            case s.CloseStep():
                self._close(command)
            case s.Finish():
                self._finish = command

    def _start(self, start: s.StartStep) -> None:
        step, child = start.step, self._children[start.step]
        task = asyncio.create_task(self._steps.run(child, start.attempt, self._published))
        self._begun.add(step)
        self._running[step] = task
        task.add_done_callback(lambda task: self._ended(step, task))
        self._standing.started(step, start.attempt, self._parts.clock.now())
        again = f", attempt {start.attempt}" if start.attempt > 1 else ""
        self._log(f"step {step} begins{again}")

    def _ended(self, step: str, task: asyncio.Task[StepEnd]) -> None:
        """Take note of how an attempt ended; called by the event loop."""
        self._running.pop(step, None)
        if task.cancelled():
            end = StepEnd("stopped")
        elif (error := task.exception()) is not None:
            # Not the step's fault: the lease was lost, or this code is wrong; another goes on.
            if not isinstance(error, BatchpointError):
                self._log(f"internal error: {type(error).__name__}: {error}")
            self._trouble = self._trouble or error
            self._happened.set()
            return
        else:
            end = task.result()
        if end.outcome == "stopped" and end.status is not None:
            # Whoever scores has heard in the ledger of a wish that we have not heard of yet.
            self._tell(s.StepCancelRequested(step))
        self._ends[step] = end
        self._tell(s.StepEnded(step, end.outcome, end.error))

    def _stop(self, step: str) -> None:
        """Have an attempt stopped; it tells when it has ended."""
        if any(start.step == step for start in self._starts):
            self._starts = [start for start in self._starts if start.step != step]
            self._tell(s.StepEnded(step, "stopped", None))
        task = self._running.get(step)
        if task is None:
            return
        self._steps.unwanted.add(step)
        if step not in self._steps.scoring:
            task.cancel()
            return
        # Whoever scores hears of it in the ledger, and takes back what is published by half.
        name = self._children[step].name
        self._wishes.add(name)
        asking = asyncio.create_task(self._ask_to_stop(name))
        self._beside.add(asking)
        asking.add_done_callback(self._beside.discard)

    async def _ask_to_stop(self, child: str) -> None:
        for attempt in itertools.count():
            with contextlib.suppress(Unavailable):
                await self._aside(self._parts.ledger.request_cancel, child)
                return
            await pause(attempt)

    def _close(self, command: s.CloseStep) -> None:
        """Note the end of a step, which is committed with all others that end now."""
        step, state = command.step, command.state
        end = self._ends.pop(step, None) or StepEnd("stopped")
        status = self._standing.of(step)
        if end.status is not None and end.status.state is state:
            status = end.status
        progress = status.progress
        update: dict[str, object] = {
            "state": state,
            "error": command.error,
            "ended_at": status.ended_at or self._parts.clock.now(),
            "exit_code": end.exit_code,
        }
        if state is JobState.COMPLETED:
            progress = progress.model_copy(update={"phase": "done"})
            update |= {"outputs": dict(end.outputs), "reused_from": end.reused_from}
            self._published[step] = end.outputs
            if end.key is not None:
                self._results[end.key] = self._children[step].name
        update["progress"] = progress.model_copy(update={"eta_seconds": None})
        closed = status.model_copy(update=update)
        self._standing.closed(step, closed)
        self._log(end_of(step, closed))

    # --- committing ---------------------------------------------------------------------------

    async def _commit(self) -> bool:
        """Record everything that changed, and renew the lease, in one transaction.

        Returns:
            False when it cannot be done now (a full or failing disk); nothing is lost then.

        Raises:
            Unavailable: `lease_lost`.
        """
        status = self._standing.show()
        changes, results = self._standing.take_changes(), dict(self._results)
        scoring = [self._children[step].name for step in self._steps.scoring]
        self._committed_at = asyncio.get_running_loop().time()
        try:
            renewed, heard = await self._aside(self._renew, status, changes, results, scoring)
        except BatchpointError as error:
            if error.code == "lease_lost":
                raise
            self._standing.give_back(changes)
            self._log(f"cannot commit now, trying again: {error.message}")
            return False
        for key in results:
            del self._results[key]
        self._hear(renewed)
        for child, told in heard.items():
            self._standing.heard(child, told)
        return True

    def _renew(
        self,
        status: JobStatus,
        changes: Mapping[str, JobStatus],
        results: Mapping[str, str],
        scoring: Collection[str],
    ) -> tuple[PipelineRenewed, Mapping[str, JobStatus]]:
        ledger = self._parts.ledger
        renewed = ledger.renew_pipeline(
            self._job.name,
            self._epoch,
            self._parts.clock.seconds(),
            limits.LEASE_SECONDS,
            status=status,
            children=changes,
            results=results,
        )
        return renewed, ledger.child_statuses(scoring) if scoring else {}

    def _hear(self, renewed: PipelineRenewed) -> None:
        """Take up what people want stopped."""
        if renewed.cancel_requested and not self._cancel_seen:
            self._cancel_seen = True
            self._log("cancel was requested")
            self._standing.cancel_requested()
            self._tell(s.CancelRequested())
        for step, child in self._children.items() if renewed.canceled_children else ():
            if child.name in renewed.canceled_children and child.name not in self._wishes:
                self._wishes.add(child.name)
                self._log(f"cancel of step {step} was requested")
                self._tell(s.StepCancelRequested(step))

    # --- the end ------------------------------------------------------------------------------

    async def _end(self, finish: s.Finish) -> JobState:
        """Write down how the pipeline ended, waiting for a full disk as long as it takes."""
        for attempt in itertools.count():
            if not (self._standing.changed or self._results) or await self._commit():
                break
            await pause(attempt)
        self._log(f"{finish.state.value}" + (f": {finish.error.message}" if finish.error else ""))
        for attempt in itertools.count():
            now = self._parts.clock.now()
            status = self._standing.final(finish.state, finish.error, now)
            try:
                await self._aside(self._parts.ledger.finish, self._job.name, self._epoch, status)
            except BatchpointError as trouble:
                if not trouble.retryable or trouble.code == "lease_lost":
                    raise
                self._log(f"cannot note the end of the job, trying again: {trouble.message}")
                await pause(attempt)
            else:
                self._standing.finished(status)
                return finish.state
        raise AssertionError  # never reached: the loop has no end of its own

    def _aside(
        self, work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Run what blocks in a thread that nothing else can keep busy."""
        call = partial(work, *arguments, **named)
        return asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _stop_all(self) -> None:
        await end_tasks([*self._running.values(), *self._beside])
        await self._parts.engine.close()
        self._closing.close()
