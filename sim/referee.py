"""Watches every event and command of a simulated job and objects to what must never happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from batchpoint.core.dispatch import Dispatch
from batchpoint.core.lifecycle import TASK_TRANSITIONS, TaskState
from batchpoint.core.messages import (
    Abort,
    Assign,
    CancelRequested,
    Command,
    Event,
    Finish,
    NodeLost,
    NodeReady,
    PlanGrew,
    PlanSealed,
    Provision,
    Quarantine,
    Record,
    Reported,
    TaskResult,
    WorkerFailed,
)
from batchpoint.domain import limits
from batchpoint.domain.minibatch import Task
from sim.world import World

_ENDLESS = 1 << 60


class Violation(AssertionError):
    """An invariant does not hold."""


def require(condition: object, what: str) -> None:
    """Object when a condition does not hold."""
    if not condition:
        raise Violation(what)


def rows_of(task: Task) -> tuple[int, int]:
    """Return the bounds of a task's rows; a task to the last row is endless."""
    return task.row_start, task.row_stop if task.row_stop >= 0 else _ENDLESS


def overlap(one: Task, other: Task) -> bool:
    """Tell whether two tasks have something in common."""
    if one.mini_batch != other.mini_batch:
        return False
    if one.start >= other.stop or other.start >= one.stop:
        return False
    (a, b), (c, d) = rows_of(one), rows_of(other)
    return a < d and c < b


class Referee:
    """Follows one life of a `Dispatch` (from start or resume to a kill or the end)."""

    def __init__(self, world: World, committed: Iterable[Record]) -> None:
        self._world = world
        self._policy = world.policy
        self._held: dict[str, dict[Task, int]] = {}
        self._heard: dict[str, float] = {}
        self._revocable: set[str] = set()
        self._attempts: Counter[Task] = Counter()
        self._charged: Counter[Task] = Counter()
        self._excused: set[Task] = set()
        self._losses: Counter[int] = Counter()
        self._states: dict[Task, TaskState] = {}
        self._covered: dict[int, list[Task]] = {}
        self._planned = 0
        self._sealed = False
        self._failed_items: set[int] = set()
        self._unnamed = 0
        self._rows = 0
        self._succeeded = False
        self._gave_up: list[Quarantine] = []
        self._init_failed: set[str] = set()
        self._init_failures = 0
        self._canceled = False
        self._results: dict[Task, TaskResult] = {}
        self.finished: Finish | None = None
        for record in committed:
            for _, task in record.frames:
                self._cover(task)
            self._failed_items.update(record.failed_items)
            self._unnamed += record.unattributed
            self._rows += record.rows
            self._succeeded |= record.scored_items > 0 or record.rows > 0

    # --- what is told -----------------------------------------------------------------------

    def before(self, event: Event, dispatch: Dispatch, now: float) -> None:
        """Note an event before `Dispatch` sees it."""
        self._results = {}
        self._look_inside(dispatch)
        if isinstance(event, Reported):
            self._reported(event, now)
        elif isinstance(event, NodeReady):
            self._held.setdefault(event.node, {})
            self._heard[event.node] = now
        elif isinstance(event, NodeLost):
            self._revocable.discard(event.node)
            for task in self._held.pop(event.node, {}):
                self._losses[task.mini_batch] += 1
            self._init_failed.discard(event.node)
        elif isinstance(event, WorkerFailed):
            if event.node in self._held:
                self._init_failures += 1
                self._init_failed.add(event.node)
                self._revocable.add(event.node)
        elif isinstance(event, PlanGrew):
            self._planned += len(event.slices)
        elif isinstance(event, PlanSealed):
            self._sealed = True
        elif isinstance(event, CancelRequested):
            self._canceled = True
        else:
            silent = limits.INIT_TIMEOUT_SECONDS
            self._revocable.update(n for n, at in self._heard.items() if now - at >= silent)

    def _look_inside(self, dispatch: Dispatch) -> None:
        """Learn what was taken away from silent and broken nodes, which no command tells."""
        for name in self._revocable & self._held.keys():
            node = dispatch._roster.get(name)  # pyright: ignore[reportPrivateUsage]
            kept = node.held if node else {}
            for task in [task for task in self._held[name] if task not in kept]:
                del self._held[name][task]
                self._losses[task.mini_batch] += 1

    def _reported(self, event: Reported, now: float) -> None:
        held = self._held.get(event.node)
        if held is None:
            return
        self._heard[event.node] = now
        for result in event.results:
            if held.get(result.task) != result.attempt:
                continue
            del held[result.task]
            self._results[result.task] = result
            if result.outcome == "lost":
                self._losses[result.task.mini_batch] += 1
                continue
            self._init_failures = 0
            self._init_failed.clear()
            if result.outcome != "scored":
                self._charged[result.task] += 1
            elif result.unattributed:
                self._excused.add(result.task)

    # --- what is ordered --------------------------------------------------------------------

    def after(self, commands: list[Command], dispatch: Dispatch, now: float) -> None:
        """Check the commands that `Dispatch` gave in answer."""
        require(not (self.finished and commands), f"commands after the end: {commands}")
        for command in commands:
            require(self.finished is None, f"{command} after Finish")
            if isinstance(command, Assign):
                self._assigned(command, now)
            elif isinstance(command, Record):
                self._recorded(command)
            elif isinstance(command, Quarantine):
                self._quarantined(command)
            elif isinstance(command, Provision):
                require(1 <= command.count <= self._policy.instance_count, f"{command}")
            elif isinstance(command, Finish):
                self.finished = command
        if self.finished and commands:
            self._ended(commands)
        self._check_counts(dispatch)
        if not self.finished:
            self._check_not_idle(dispatch)

    def _assigned(self, command: Assign, now: float) -> None:
        held = self._held.get(command.node)
        require(held is not None, f"work for a node that is not there: {command.node}")
        assert held is not None
        if not held:
            self._heard[command.node] = now
        for task, attempt, timeout in command.assignments:
            self._check_free(task)
            self._attempts[task] += 1
            require(attempt == self._attempts[task], f"{task}: {attempt} is not the next attempt")
            fixed = self._policy.timeout_seconds
            floor = limits.TIMEOUT_FLOOR_SECONDS
            require(timeout == fixed if fixed else timeout >= floor, f"timeout {timeout}")
            allowed = self._allowed(task)
            require(self._charged[task] < allowed, f"{task} is tried more than {allowed} times")
            if task not in self._states:
                self._check_bisected(task)
            self._move(task, TaskState.HELD)
            held[task] = attempt
        cap = limits.PREFETCH_PER_SLOT_MAX * self._world.slots
        require(len(held) <= cap, f"{command.node} holds {len(held)} tasks")

    def _check_free(self, task: Task) -> None:
        for done in self._covered.get(task.mini_batch, ()):
            require(not overlap(task, done), f"{task} is done already, by {done}")
        for name, tasks in self._held.items():
            for other in [other for other in tasks if overlap(task, other)]:
                require(name in self._revocable, f"{task} is held twice: {name} has {other}")
                self._losses[other.mini_batch] += 1
                del tasks[other]

    def _allowed(self, task: Task) -> int:
        if self._is_whole(task):
            return 1 + self._policy.max_retries
        return 2 if task.stop - task.start == 1 else 1

    def _is_whole(self, task: Task) -> bool:
        slices = len(self._world.batches[task.mini_batch])
        return (task.start, task.stop, rows_of(task)) == (0, slices, (0, _ENDLESS))

    def _check_bisected(self, piece: Task) -> None:
        """A piece that is new has a parent whose attempts were used up, or was resumed."""
        parents = [
            task
            for task, state in self._states.items()
            if overlap(task, piece) and state is TaskState.HELD
        ]
        for parent in parents:
            may_lose = self._losses[parent.mini_batch] >= limits.INFRASTRUCTURE_LOSSES_IN_A_ROW_MAX
            used = self._charged[parent] >= (
                1 if not self._is_whole(parent) else 1 + self._policy.max_retries
            )
            require(used or may_lose or parent in self._excused, f"{parent} bisected too early")
            self._move(parent, TaskState.BISECTED)

    def _move(self, task: Task, to: TaskState) -> None:
        state = self._states.get(task, TaskState.WAITING)
        if state is TaskState.HELD and to is TaskState.HELD:
            state = TaskState.WAITING  # it came back without a verdict
        require(to in TASK_TRANSITIONS[state], f"{task}: {state} to {to}")
        self._states[task] = to

    def _cover(self, task: Task) -> None:
        for done in self._covered.setdefault(task.mini_batch, []):
            require(not overlap(task, done), f"{task} counts twice, {done} is recorded")
        self._covered[task.mini_batch].append(task)

    def _recorded(self, record: Record) -> None:
        rows = unattributed = 0
        failed: set[int] = set()
        for frame, task in record.frames:
            result = self._results.get(task)
            require(result and result.outcome == "scored", f"{task} was not just scored")
            assert result is not None
            require(result.frame == frame, f"{task} is not frame {frame}")
            rows += result.rows
            lone = task.stop - task.start == 1
            failed.update(result.items if lone and result.unattributed else result.failed_items)
            unattributed += 0 if lone else result.unattributed
            self._cover(task)
            self._move(task, TaskState.SCORED)
        require(record.rows == rows, f"{record.rows} rows recorded of {rows}")
        require(set(record.failed_items) == failed, f"{record.failed_items} failed, not {failed}")
        require(record.unattributed == unattributed, f"{record.unattributed} unattributed")
        self._rows += rows
        self._failed_items |= failed
        self._unnamed += unattributed
        self._succeeded |= record.rows > 0 or record.scored_items > 0

    def _quarantined(self, verdict: Quarantine) -> None:
        task = verdict.task
        require(task.stop - task.start == 1, f"{task} is given up without being isolated")
        losses = self._losses[task.mini_batch]
        poison = losses >= limits.INFRASTRUCTURE_LOSSES_IN_A_ROW_MAX
        require(
            self._charged[task] == self._allowed(task) or poison,
            f"{task} is given up after {self._charged[task]} attempts",
        )
        charged = sum(outcome != "lost" for outcome in verdict.history.outcomes)
        require(charged == self._charged[task], f"history {verdict.history} of {task}")
        require(verdict.items or poison, f"{task} is given up without naming its item")
        self._cover(task)
        self._move(task, TaskState.QUARANTINED)
        self._failed_items.update(verdict.items)
        self._unnamed += not verdict.items
        self._gave_up.append(verdict)

    # --- counts and the end -----------------------------------------------------------------

    @property
    def failures(self) -> int:
        """How many failures count against the threshold."""
        return len(self._failed_items) + self._unnamed

    def _check_counts(self, dispatch: Dispatch) -> None:
        tally = dispatch.tally
        require(tally.mini_batches_total == self._planned, f"planned {self._planned}: {tally}")
        done = sum(self._complete(index) for index in range(self._planned))
        require(tally.mini_batches_done == done, f"{done} mini-batches are done: {tally}")
        require(tally.rows == self._rows, f"{self._rows} rows are recorded: {tally}")
        require(tally.items_failed == self.failures, f"{self.failures} failures: {tally}")
        threshold = self._policy.error_threshold
        if threshold is not None and 0 <= threshold < self.failures:
            ended = self.finished and self.finished.outcome != "completed"
            require(ended, f"{self.failures} failures, more than {threshold}, and no end")

    def _complete(self, index: int) -> bool:
        covered = self._covered.get(index, ())
        for number in range(len(self._world.batches[index])):
            row = 0
            pieces = [rows_of(t) for t in covered if t.start <= number < t.stop]
            for start, stop in sorted(pieces):
                row = stop if start == row else row
            if row != _ENDLESS:
                return False
        return True

    def _check_not_idle(self, dispatch: Dispatch) -> None:
        backlog = dispatch._backlog  # pyright: ignore[reportPrivateUsage]
        probation = dispatch._probation  # pyright: ignore[reportPrivateUsage]
        if not backlog.waiting or probation.verdict_due:
            return
        idle = [n for n, held in self._held.items() if not held and n not in self._revocable]
        require(not idle, f"{idle} have nothing to do while tasks wait")

    def _ended(self, commands: list[Command]) -> None:
        finish = self.finished
        assert finish is not None
        require(commands[-1] is finish, "Finish is not the last command")
        aborted = any(isinstance(command, Abort) for command in commands)
        require(aborted == (finish.outcome != "completed"), f"{finish} with abort: {aborted}")
        all_done = self._sealed and all(map(self._complete, range(self._planned)))
        threshold = self._policy.error_threshold
        kinds = {verdict.error.kind for verdict in self._gave_up}
        batches = {verdict.task.mini_batch for verdict in self._gave_up}
        many = len(batches) >= limits.SYSTEMIC_FAILURES_MIN
        out = any(held for name, held in self._held.items() if name not in self._revocable)
        justified = {
            "": finish.outcome == "completed" and all_done and self._succeeded,
            "error_threshold_exceeded": (threshold is not None and 0 <= threshold < self.failures),
            "nothing_scored": all_done and not self._succeeded,
            "no_input_items": all_done and not self._world.items,
            "systemic_failure": (not self._succeeded and many and len(kinds) == 1 and not out),
            "init_failed": (
                self._init_failures > self._policy.max_retries
                and self._init_failed >= self._held.keys()
            ),
        }
        if finish.outcome == "canceled":
            require(self._canceled, "canceled and nobody asked")
        else:
            require(justified.get(finish.code), f"not justified: {finish}")
