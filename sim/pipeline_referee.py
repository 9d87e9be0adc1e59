"""Runs wild pipelines through `StepBook`, and checks every command against what is promised."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from batchpoint.core import steps as s
from batchpoint.domain.job import TERMINAL_STATES, ErrorInfo, JobState
from batchpoint.domain.limits import STEP_LOSSES_IN_A_ROW_MAX
from sim.pipeline_world import PipelineWorld

EVENTS_MAX = 20_000
KILLS_MAX = 50
NEW = s.RecordedStep(JobState.QUEUED)
MakeBook = Callable[[s.GraphPlan, dict[str, s.RecordedStep]], s.StepBook]


class Violation(AssertionError):
    """The book broke a promise."""


@dataclass
class Ended:
    """An attempt that has ended, and whose consequences are to be seen."""

    step: str
    outcome: s.StepOutcome
    stopping: bool


@dataclass
class PipelineRun:
    """One world from its beginning to its end.

    `recorded` is the ledger: it survives the runner, which may die between any two events, and
    when only some of the ends that it decided on are recorded.
    """

    world: PipelineWorld
    make_book: MakeBook = s.StepBook
    recorded: dict[str, s.RecordedStep] = field(default_factory=dict[str, s.RecordedStep])
    running: set[str] = field(default_factory=set[str])
    stopping: set[str] = field(default_factory=set[str])
    canceled_steps: set[str] = field(default_factory=set[str])
    started: set[str] = field(default_factory=set[str])
    losses: dict[str, int] = field(default_factory=dict[str, int])
    failed_for_good: bool = False
    cancel_requested: bool = False
    finish: s.Finish | None = None
    ended: Ended | None = None
    kills: int = 0
    trace: list[str] = field(default_factory=list[str])

    def run(self) -> s.Finish:
        """Return how the pipeline ended. Raises: Violation."""
        r = random.Random(self.world.seed + 1)
        book = self._open()
        for _ in range(EVENTS_MAX):
            if self.finish is not None:
                self._judge_end(book)
                return self.finish
            self._report_late(book, r)
            event = self._next(r)
            commands = book.handle(event)
            if r.random() < self.world.kill_chance and self.kills < KILLS_MAX:
                book = self._kill(commands, r)
            else:
                self._carry_out(commands)
        raise Violation(f"seed {self.world.seed}: no end after {EVENTS_MAX} events")

    # --- what happens -----------------------------------------------------------------------

    def _open(self) -> s.StepBook:
        book = self.make_book(self.world.plan, dict(self.recorded))
        self._carry_out(book.handle(s.Opened(self.cancel_requested)))
        return book

    def _kill(self, commands: list[s.Command], r: random.Random) -> s.StepBook:
        """End the runner with all that runs, and start another from what is recorded."""
        self.kills += 1
        self.trace.append("killed")
        if self.ended is not None:
            self.stopping.discard(self.ended.step)
        self.ended = None
        self.running.clear()
        for command in commands[: r.randint(0, len(commands))]:
            if isinstance(command, s.CloseStep):
                self._check_close(command)
        self.stopping.clear()
        self.losses.clear()
        return self._open()

    def _report_late(self, book: s.StepBook, r: random.Random) -> None:
        """Tell of attempts that nobody waits for: nothing may come of it."""
        idle = [name for name in self.world.plan.steps if name not in self.running]
        if idle and r.random() < 0.05:
            late = s.StepEnded(r.choice(idle), r.choice(["completed", "failed", "lost"]))
            self._must(not book.handle(late), f"{late} changed something")

    def _next(self, r: random.Random) -> s.Event:
        world = self.world
        if r.random() < world.cancel_chance:
            self.cancel_requested = True
            return s.CancelRequested()
        if r.random() < world.step_cancel_chance:
            name = r.choice(list(world.plan.steps))
            known = self.recorded.get(name, NEW)
            if known.state not in TERMINAL_STATES:
                self.canceled_steps.add(name)
                self.recorded[name] = s.RecordedStep(JobState.CANCEL_REQUESTED, known.attempts)
            return s.StepCancelRequested(name)
        self._must(bool(self.running), "nothing runs, and the pipeline has not ended")
        name = r.choice(sorted(self.running))
        outcome = self._outcome(name, r)
        self.running.discard(name)
        self.trace.append(f"{name} {outcome}")
        self.ended = Ended(name, outcome, name in self.stopping)
        return s.StepEnded(name, outcome, _error(outcome))

    def _outcome(self, name: str, r: random.Random) -> s.StepOutcome:
        if name in self.stopping:
            return r.choice(["stopped", "stopped", "stopped", "completed", "failed", "lost"])
        if name in self.world.deadly_steps or r.random() < self.world.loss_chance:
            return "lost"
        if name in self.world.poor_steps or r.random() < self.world.failure_chance:
            return r.choice(["failed", "timed_out"])
        return r.choice(["completed", "completed", "reused"])

    # --- what must hold ---------------------------------------------------------------------

    def _must(self, holds: bool, told: str) -> None:
        if not holds:
            raise Violation(f"seed {self.world.seed}: {told}; so far: {self.trace[-30:]}")

    def _over(self) -> set[str]:
        return {name for name, known in self.recorded.items() if known.state in TERMINAL_STATES}

    def _carry_out(self, commands: list[s.Command]) -> None:
        self._charge()
        for command in commands:
            self.trace.append(str(command)[:60])
            self._must(self.finish is None, "something comes after Finish")
            if isinstance(command, s.StartStep):
                self._check_start(command)
            elif isinstance(command, s.StopStep):
                self._must(command.step in self.running, f"{command.step} stopped: does not run")
                self._must(command.step not in self.stopping, f"{command.step} stopped twice")
                self._check_reason(command.step)
                self.stopping.add(command.step)
            elif isinstance(command, s.CloseStep):
                self._check_close(command)
            else:
                self.finish = command
        self._check_end_of_attempt()
        self._check_quiet_when_it_should_be()
        if self.finish is None:
            self._check_nothing_waits_for_nothing()

    def _charge(self) -> None:
        if self.ended is None:
            return
        name, outcome = self.ended.step, self.ended.outcome
        self.losses[name] = self.losses.get(name, 0) + 1 if outcome == "lost" else 0
        if outcome in ("failed", "timed_out"):
            known = self.recorded[name]
            self.recorded[name] = s.RecordedStep(known.state, known.attempts + 1)

    def _check_start(self, start: s.StartStep) -> None:
        name, plan = start.step, self.world.plan.steps[start.step]
        known = self.recorded.get(name, NEW)
        self._must(known.state not in TERMINAL_STATES, f"{name} has ended and is started")
        self._must(name not in self.running, f"{name} runs and is started")
        for needed in plan.needs:
            state = self.recorded.get(needed, NEW).state
            self._must(state is JobState.COMPLETED, f"{name} started before {needed} completed")
        self._must(start.attempt == known.attempts + 1, f"{name} starts as {start.attempt}")
        self._must(known.attempts <= plan.max_retries, f"{name} has had all its attempts")
        self._must(not self.cancel_requested, f"{name} started after the cancel")
        self._must(name not in self.canceled_steps, f"{name} started after its own cancel")
        self._must(
            self.world.plan.continue_on_step_failure or not self.failed_for_good,
            f"{name} started after a failure",
        )
        self.running.add(name)
        self.started.add(name)
        self.recorded[name] = s.RecordedStep(JobState.RUNNING, known.attempts)
        on_it = sum(self.world.plan.steps[each].compute == plan.compute for each in self.running)
        self._must(on_it <= plan.capacity, f"{on_it} steps on {plan.compute}")

    def _check_close(self, close: s.CloseStep) -> None:
        name = close.step
        known = self.recorded.get(name, NEW)
        self._must(close.state in TERMINAL_STATES, f"{name} closed as {close.state}")
        self._must(known.state not in TERMINAL_STATES, f"{name} closed twice")
        self._must(name not in self.running, f"{name} closed while it runs")
        if close.state is JobState.FAILED:
            self._must(close.error is not None, f"{name} failed without a cause")
            self.failed_for_good = True
        if close.state is JobState.CANCELED and name not in self.stopping:
            self._check_reason(name)
        if close.state is JobState.CANCELED and name not in self.started:
            blamed = close.error is not None and close.error.code == "step_not_run"
            told = f"{name} did not run, and nothing is to blame"
            self._must(blamed or name in self.canceled_steps, told)
        self.recorded[name] = s.RecordedStep(close.state, known.attempts, close.error)

    def _check_reason(self, name: str) -> None:
        """Whoever is stopped, or never run, is so for a reason."""
        if self.cancel_requested or name in self.canceled_steps:
            return
        if self.failed_for_good and not self.world.plan.continue_on_step_failure:
            return
        steps, todo, above = self.world.plan.steps, [name], {name}
        while todo:
            needs = [each for each in steps[todo.pop()].needs if each not in above]
            above.update(needs)
            todo.extend(needs)
        ended = {JobState.FAILED, JobState.CANCELED}
        culprits = [each for each in above if self.recorded.get(each, NEW).state in ended]
        self._must(bool(culprits), f"{name} is stopped or closed for no reason")

    def _check_end_of_attempt(self) -> None:
        """What an attempt's end must have led to, whatever else did."""
        if self.ended is None:
            return
        name, outcome, stopping = self.ended.step, self.ended.outcome, self.ended.stopping
        self.ended = None
        self.stopping.discard(name)
        known = self.recorded[name]
        closed = known.state if known.state in TERMINAL_STATES else None
        if outcome in ("completed", "reused"):
            self._must(closed is JobState.COMPLETED, f"the success of {name} is {closed}")
        elif stopping:
            self._must(closed is JobState.CANCELED, f"{name} was stopped and is {closed}")
        elif outcome == "lost":
            poison = self.losses[name] >= STEP_LOSSES_IN_A_ROW_MAX
            self._must((closed is JobState.FAILED) == poison, f"lost {name} is {closed}")
        else:
            spent = known.attempts > self.world.plan.steps[name].max_retries
            self._must((closed is JobState.FAILED) == spent, f"{name} failed and is {closed}")

    def _check_quiet_when_it_should_be(self) -> None:
        after_failure = self.failed_for_good and not self.world.plan.continue_on_step_failure
        if self.cancel_requested or after_failure:
            self._must(self.running <= self.stopping, "something runs on after the stop")
        unheard = (self.canceled_steps & self.running) - self.stopping
        self._must(not unheard, f"{unheard} run on after their cancel")

    def _check_nothing_waits_for_nothing(self) -> None:
        """Steps that could start do, and those that never will are closed."""
        over, plan = self._over(), self.world.plan
        for name, step in plan.steps.items():
            if name in over or name in self.running:
                continue
            states = [self.recorded[each].state for each in step.needs if each in over]
            bad = [state for state in states if state is not JobState.COMPLETED]
            self._must(not bad, f"{name} waits for what will never be")
            on_it = sum(plan.steps[each].compute == step.compute for each in self.running)
            ready = len(states) == len(step.needs)
            self._must(not ready or on_it >= step.capacity, f"{name} could run, and does not")

    def _judge_end(self, book: s.StepBook) -> None:
        """The one lawful end, and silence after it."""
        assert self.finish is not None
        states = [self.recorded[name].state for name in self._over()]
        self._must(len(states) == len(self.world.plan.steps), "the end before that of its steps")
        lawful = JobState.CANCELED if self.cancel_requested else JobState.FAILED
        if all(state is JobState.COMPLETED for state in states):
            lawful = JobState.COMPLETED
        self._must(self.finish.state is lawful, f"{self.finish.state}, lawful is {lawful}")
        error = self.finish.error
        told = error is not None and error.code in ("step_failed", "step_canceled")
        self._must(told == (lawful is JobState.FAILED), f"{lawful} is told as {error}")
        for name in self.world.plan.steps:
            for event in (s.StepEnded(name, "completed"), s.StepCancelRequested(name), s.Opened()):
                self._must(not book.handle(event), "commands after the end")


def _error(outcome: s.StepOutcome) -> ErrorInfo | None:
    if outcome in ("failed", "timed_out"):
        return ErrorInfo(origin="user", code="command_failed", message="exit code 1")
    return None
