"""The one door through which a running pipeline changes: which steps run, and how it ends."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from batchpoint.core.step_messages import (
    CancelRequested,
    CloseStep,
    Command,
    Event,
    Finish,
    GraphPlan,
    Opened,
    PlannedStep,
    RecordedStep,
    StartStep,
    StepCancelRequested,
    StepEnded,
    StepOutcome,
    StopStep,
)
from batchpoint.domain.job import TERMINAL_STATES, ErrorInfo, JobState
from batchpoint.domain.limits import STEP_LOSSES_IN_A_ROW_MAX

__all__ = [
    "CancelRequested",
    "CloseStep",
    "Command",
    "Event",
    "Finish",
    "GraphPlan",
    "Opened",
    "PlannedStep",
    "RecordedStep",
    "StartStep",
    "StepBook",
    "StepCancelRequested",
    "StepEnded",
    "StepOutcome",
    "StopStep",
]

# --- the book -------------------------------------------------------------------------------

_Standing = Literal["waiting", "ready", "running", "stopping", "completed", "failed", "canceled"]
_ENDED: Mapping[JobState, _Standing] = {
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELED: "canceled",
}


@dataclass(slots=True)
class _Step:
    """One step as the book has it. `rank` orders those that could start: least first."""

    name: str
    plan: PlannedStep
    index: int
    missing: int
    rank: tuple[int, int] = (0, 0)
    dependents: list[_Step] = field(default_factory=list["_Step"])
    standing: _Standing = "waiting"
    charged: int = 0
    lost_in_a_row: int = 0
    canceled_itself: bool = False
    error: ErrorInfo | None = None


@dataclass(slots=True)
class _Compute:
    """The steps that run on one compute, and those that could."""

    capacity: int
    running: int = 0
    ready: list[tuple[tuple[int, int], str]] = field(
        default_factory=list[tuple[tuple[int, int], str]]
    )


class StepBook:
    """Decides for one pipeline which steps start, what is stopped, and how everything ends.

    Deterministic: the same events give the same commands. No clock, no I/O. Of steps that could
    start, the one with the longest chain of steps behind it does, and of equals the first in the
    file. Events about steps that do not run change nothing; after `Finish` none does.
    """

    def __init__(self, plan: GraphPlan, recorded: Mapping[str, RecordedStep] | None = None) -> None:
        """Take up a pipeline: a new one, or one of which `recorded` is known.

        Needs that are no steps of the plan, and cycles, are errors of the caller (asserted).
        """
        self._continue = plan.continue_on_step_failure
        self._steps: dict[str, _Step] = {
            name: _Step(name, each, index, len(set(each.needs)))
            for index, (name, each) in enumerate(plan.steps.items())
        }
        self._computes: dict[str, _Compute] = {}
        self._stirred: dict[str, None] = {}
        self._link()
        self._rank()
        self._open = len(self._steps)
        self._first_failed: _Step | None = None
        self._first_canceled: _Step | None = None
        self._cancel_requested = False
        self._finished = False
        self._out: list[Command] = []
        self._recall(recorded or {})

    def _link(self) -> None:
        for step in self._steps.values():
            for needed in dict.fromkeys(step.plan.needs):
                assert needed in self._steps, f"{step.name} needs {needed}, which is no step"
                self._steps[needed].dependents.append(step)
            capacity = max(1, step.plan.capacity)
            compute = self._computes.setdefault(step.plan.compute, _Compute(capacity))
            compute.capacity = min(compute.capacity, capacity)

    def _rank(self) -> None:
        """Rank steps by the longest chain behind them, from the ends of the graph upwards."""
        behind = {step.name: len(step.dependents) for step in self._steps.values()}
        chain = dict.fromkeys(self._steps, 0)
        todo = [step for step in self._steps.values() if not step.dependents]
        for step in todo:
            step.rank = (-chain[step.name], step.index)
            for name in dict.fromkeys(step.plan.needs):
                chain[name] = max(chain[name], chain[step.name] + 1)
                behind[name] -= 1
                if not behind[name]:
                    todo.append(self._steps[name])
        assert len(todo) == len(self._steps), "the plan has a cycle"

    def _recall(self, recorded: Mapping[str, RecordedStep]) -> None:
        for name, known in recorded.items():
            step = self._steps[name]
            step.charged = known.attempts
            if known.state in TERMINAL_STATES:
                step.standing = _ENDED[known.state]
                step.error = known.error
                self._open -= 1
            elif known.state is JobState.CANCEL_REQUESTED:
                step.canceled_itself = True
        for step in self._steps.values():
            if step.standing == "completed":
                for dependent in step.dependents:
                    dependent.missing -= 1
            elif step.standing == "failed":
                self._first_failed = self._first_failed or step
            elif step.standing == "canceled":
                self._first_canceled = self._first_canceled or step

    # --- the door ---------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Command]:
        """Take one event and return what is to be done, in order."""
        if self._finished:
            return []
        out = self._out = []
        if isinstance(event, Opened):
            self._opened(event)
        elif isinstance(event, StepEnded):
            self._ended(self._steps[event.step], event)
        elif isinstance(event, StepCancelRequested):
            self._cancel_step(self._steps[event.step])
        else:
            self._cancel_requested = True
            self._stop_everything("the pipeline was canceled")
        self._start()
        if not self._open:
            self._finish()
        return out

    # --- events -----------------------------------------------------------------------------

    def _opened(self, event: Opened) -> None:
        """Go on from what is recorded, whose consequences may not have been drawn yet."""
        if event.cancel_requested:
            self._cancel_requested = True
            self._stop_everything("the pipeline was canceled")
            return
        if self._first_failed is not None and not self._continue:
            self._stop_everything(_because_of(self._first_failed))
            return
        seen: set[int] = set()
        for standing in ("failed", "canceled"):
            for step in [each for each in self._steps.values() if each.standing == standing]:
                self._blame(step, seen)
        for step in self._steps.values():
            if step.standing != "waiting":
                continue
            if step.canceled_itself:
                self._cancel_step(step)
            elif not step.missing:
                self._make_ready(step)

    def _ended(self, step: _Step, event: StepEnded) -> None:
        if step.standing not in ("running", "stopping"):
            return
        asked = step.standing == "stopping"
        self._computes[step.plan.compute].running -= 1
        self._stirred[step.plan.compute] = None
        if event.outcome in ("completed", "reused"):
            self._close(step, JobState.COMPLETED)
            for dependent in step.dependents:
                dependent.missing -= 1
                if not dependent.missing and dependent.standing == "waiting":
                    self._make_ready(dependent)
        elif asked:
            self._close(step, JobState.CANCELED, step.error)
            self._blame(step)
        elif event.outcome in ("lost", "stopped"):
            self._lost(step, event)
        else:
            step.lost_in_a_row = 0
            step.charged += 1
            if step.charged <= step.plan.max_retries:
                self._make_ready(step)
            else:
                self._fail(step, event.error or _unexplained(event.outcome))

    def _lost(self, step: _Step, event: StepEnded) -> None:
        step.lost_in_a_row += 1
        if step.lost_in_a_row < STEP_LOSSES_IN_A_ROW_MAX:
            self._make_ready(step)
            return
        why = f" ({event.error.message})" if event.error else ""
        told = f"the step was lost with its node {step.lost_in_a_row} times in a row{why}"
        self._fail(step, ErrorInfo(origin="batchpoint", code="node_lost", message=told))

    def _cancel_step(self, step: _Step) -> None:
        if step.standing == "running":
            step.canceled_itself = True
            self._stop(step, None)
        elif step.standing in ("waiting", "ready"):
            step.canceled_itself = True
            self._close(step, JobState.CANCELED)
            self._blame(step)

    # --- consequences -----------------------------------------------------------------------

    def _fail(self, step: _Step, error: ErrorInfo) -> None:
        self._close(step, JobState.FAILED, error)
        if self._continue:
            self._blame(step)
        else:
            self._stop_everything(_because_of(step))

    def _blame(self, culprit: _Step, seen: set[int] | None = None) -> None:
        """Close every step that can no longer run because one has not completed.

        With `seen`, steps that were closed for this before are passed through, each but once.
        """
        closing: list[_Step] = []
        known: set[int] = set() if seen is None else seen
        todo = [culprit]
        while todo:
            for step in todo.pop().dependents:
                if step.index in known:
                    continue
                if step.standing == "waiting":
                    closing.append(step)
                elif seen is None or step.standing != "canceled":
                    continue
                known.add(step.index)
                todo.append(step)
        because = f"it needs {_what_became_of(culprit)}"
        for step in sorted(closing, key=lambda step: step.index):
            self._close(step, JobState.CANCELED, _not_run(because))

    def _stop_everything(self, because: str) -> None:
        """Stop what runs and close what does not."""
        for step in self._steps.values():
            if step.standing == "running":
                self._stop(step, None if self._cancel_requested else _stopped(because))
            elif step.standing in ("waiting", "ready"):
                own = step.canceled_itself
                self._close(step, JobState.CANCELED, None if own else _not_run(because))

    def _stop(self, step: _Step, error: ErrorInfo | None) -> None:
        step.standing = "stopping"
        step.error = error
        self._out.append(StopStep(step.name))

    def _close(self, step: _Step, state: JobState, error: ErrorInfo | None = None) -> None:
        step.standing = _ENDED[state]
        step.error = error
        self._open -= 1
        if state is JobState.FAILED:
            self._first_failed = self._first_failed or step
        elif state is JobState.CANCELED:
            self._first_canceled = self._first_canceled or step
        self._out.append(CloseStep(step.name, state, error))

    # --- starting and finishing -------------------------------------------------------------

    def _make_ready(self, step: _Step) -> None:
        step.standing = "ready"
        heapq.heappush(self._computes[step.plan.compute].ready, (step.rank, step.name))
        self._stirred[step.plan.compute] = None

    def _start(self) -> None:
        """Start as many steps as the computes hold that have changed."""
        starting: list[_Step] = []
        for name in self._stirred:
            compute = self._computes[name]
            while compute.ready and compute.running < compute.capacity:
                step = self._steps[heapq.heappop(compute.ready)[1]]
                if step.standing != "ready":
                    continue  # closed while it waited for room
                step.standing = "running"
                compute.running += 1
                starting.append(step)
        self._stirred.clear()
        starting.sort(key=lambda step: step.rank)
        self._out.extend(StartStep(step.name, 1 + step.charged) for step in starting)

    def _finish(self) -> None:
        self._finished = True
        culprit = self._first_failed or self._first_canceled
        if culprit is None:
            self._out.append(Finish(JobState.COMPLETED))
        elif self._cancel_requested:
            self._out.append(Finish(JobState.CANCELED))
        else:
            self._out.append(Finish(JobState.FAILED, _cause(culprit)))


# --- what is told ---------------------------------------------------------------------------


def _what_became_of(step: _Step) -> str:
    return f"step {step.name!r}, which {'failed' if step.standing == 'failed' else 'was canceled'}"


def _because_of(step: _Step) -> str:
    return f"step {step.name!r} failed, and continue_on_step_failure is false"


def _not_run(because: str) -> ErrorInfo:
    return ErrorInfo(origin="user", code="step_not_run", message=f"the step was not run: {because}")


def _stopped(because: str) -> ErrorInfo:
    return ErrorInfo(origin="user", code="step_not_run", message=f"the step was stopped: {because}")


def _unexplained(outcome: StepOutcome) -> ErrorInfo:
    code = "command_timed_out" if outcome == "timed_out" else "command_failed"
    return ErrorInfo(origin="batchpoint", code=code, message=f"the attempt ended: {outcome}")


def _cause(culprit: _Step) -> ErrorInfo:
    """Return the pipeline's own error: what befell the first step that did not complete."""
    error = culprit.error
    if error is None or culprit.standing == "canceled":
        canceled = culprit.standing == "canceled"
        became = "the step was canceled" if canceled else "the step failed"
        return ErrorInfo(
            origin="user",
            code="step_canceled" if canceled else "step_failed",
            message=f"step {culprit.name!r}: {error.message if error else became}",
        )
    return error.model_copy(
        update={"code": "step_failed", "message": f"step {culprit.name!r}: {error.message}"}
    )
