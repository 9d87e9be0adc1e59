"""The one door through which a running job changes: events in, commands out."""

from __future__ import annotations

from typing import Literal

from batchpoint.core.accounting import ItemCount, Recording, Tally
from batchpoint.core.backlog import Backlog
from batchpoint.core.isolation import halves, is_lone, is_narrowed, row_halves
from batchpoint.core.messages import (
    Abort,
    AlarmRang,
    Assign,
    Assignment,
    AttemptError,
    CancelRequested,
    Command,
    Event,
    Finish,
    NodeLost,
    NodeReady,
    PlanGrew,
    PlanSealed,
    Policy,
    Provision,
    Quarantine,
    Recovered,
    Reported,
    Retime,
    SetAlarm,
    TaskResult,
    WorkerFailed,
)
from batchpoint.core.retry import Attempts, Decision, Patience, Probation, decide
from batchpoint.core.roster import Node, Roster
from batchpoint.domain import limits
from batchpoint.domain.minibatch import Task


class Dispatch:
    """Decides for one job what is attempted where, what counts, and when the job is over.

    Deterministic: the same events at the same times give the same commands. No clock, no I/O.
    `now` never goes back. Results count only when their node holds that very attempt, so late and
    repeated reports change nothing. After `Finish` every event is ignored.
    """

    def __init__(self, policy: Policy, recovered: Recovered | None = None) -> None:
        """Start a job, or go on with one of which `recovered` is recorded."""
        recovered = recovered or Recovered()
        self._policy = policy
        self._backlog = Backlog(recovered)
        self._roster = Roster(policy.instance_count)
        self._patience = Patience(policy.timeout_seconds)
        self._items = ItemCount(recovered.failed_items)
        self._unnamed_failures = recovered.unattributed
        self._failed_mini_batches = set(recovered.failed_mini_batches)
        self._rows = recovered.rows
        self._failed_rows = recovered.failed_rows
        self._recovered_items = recovered.scored_items
        self._scored = recovered.scored_items > 0 or recovered.rows > 0
        self._probation = Probation(over=self._scored)
        # Only tasks that had trouble, and mini-batches whose losses are charged by now.
        self._attempts: dict[Task, Attempts] = {}
        self._poisonous: set[int] = set()
        # Failures to load a model since a worker last ran anywhere, and the nodes they were on.
        self._init_failures = 0
        self._init_failing: set[str] = set()
        self._retries = 0
        self._items_total = 0
        self._sealed = False
        self._provisioned = 0
        self._alarm: float | None = None
        self._cause: AttemptError | None = None
        self._finished: Literal["", "completed", "failed", "canceled"] = ""
        self._out: list[Command] = []

    # --- the door ---------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event and return what is to be done, in order."""
        if self._finished:
            return []
        out = self._out = []
        if not self._provisioned:
            self._provision(self._policy.instance_count)
        node = self._take_in(event, now)
        if not self._settled():
            self._feed(node, now)
        return out

    def _take_in(self, event: Event, now: float) -> Node | None:
        """Change state by an event; return the node that should be given work first."""
        if isinstance(event, Reported):
            return self._reported(event, now)
        if isinstance(event, NodeReady):
            return self._roster.join(event.node, event.slots)
        if isinstance(event, PlanGrew):
            self._backlog.grow(event.first, event.slices)
        elif isinstance(event, PlanSealed):
            self._seal(event)
        elif isinstance(event, NodeLost):
            self._node_lost(event)
        elif isinstance(event, WorkerFailed):
            self._worker_failed(event, now)
        elif isinstance(event, CancelRequested):
            self._finish("canceled")
        else:
            assert isinstance(event, AlarmRang), event
            self._alarm_rang(now)
        return None

    @property
    def tally(self) -> Tally:
        """Tell how far the job is."""
        seen = self._recovered_items + self._items.seen
        return Tally(
            sealed=self._sealed,
            items_total=self._items_total,
            items_done=min(seen, self._items_total) if self._sealed else seen,
            items_failed=self._failures,
            mini_batches_total=self._backlog.planned,
            mini_batches_done=self._backlog.resolved,
            rows=self._rows,
            failed_rows=self._failed_rows,
            retries=self._retries,
            nodes=len(self._roster),
            timeout_seconds=self._patience.seconds,
            timeout_known=not self._patience.learning,
            finished=self._finished,
        )

    # --- plan and nodes ---------------------------------------------------------------------

    def _seal(self, event: PlanSealed) -> None:
        planned = self._backlog.planned
        assert event.mini_batches == planned, f"{event} after {planned} mini-batches"
        self._sealed = True
        self._items_total = event.items
        wanted = self._nodes_wanted()
        # Nodes that are still on their way and would find nothing to do; none that is here.
        if len(self._roster) <= wanted < self._provisioned:
            self._provision(wanted)

    def _nodes_wanted(self) -> int:
        if not self._sealed:
            return self._policy.instance_count
        undone = self._backlog.planned - self._backlog.resolved
        return max(1, min(self._policy.instance_count, undone))

    def _provision(self, count: int) -> None:
        self._provisioned = count
        self._out.append(Provision(count))

    def _node_lost(self, event: NodeLost) -> None:
        node = self._roster.get(event.node)
        if node is not None:  # else it was lost on its way, and must be replaced all the same
            self._lose(self._roster.leave(node), event.cause)
            self._roster.unbench_if_none_is_left()
        wanted = self._nodes_wanted()
        if len(self._roster) < wanted:
            self._provision(wanted)

    def _alarm_rang(self, now: float) -> None:
        """Take back what was handed to nodes that have been silent for too long.

        A node that is gone is told of by `NodeLost`; this is for reports that were lost.
        """
        self._alarm = None
        for node in [node for node in self._roster if node.held and node.deadline <= now]:
            self._lose(self._roster.empty(node), "the node said nothing for too long")
            self._roster.note_room(node)
        waking = [node.deadline for node in self._roster if node.held]
        if waking:
            self._arm(min(waking))

    def _watch(self, node: Node, now: float) -> None:
        """Expect a word from a node in time; only the earliest alarm is set."""
        node.deadline = (
            now
            + self._patience.seconds
            + limits.INIT_TIMEOUT_SECONDS
            + limits.NODE_SILENCE_SECONDS_MAX
        )
        if self._alarm is None or node.deadline < self._alarm:
            self._arm(node.deadline)

    def _arm(self, at: float) -> None:
        self._alarm = at
        self._out.append(SetAlarm(at))

    def _worker_failed(self, event: WorkerFailed, now: float) -> None:
        node = self._roster.get(event.node)
        if node is None:
            return
        node.init_failures += 1
        self._init_failures += 1
        self._init_failing.add(node.name)
        if node.held:
            self._watch(node, now)
        allowed = 1 + self._policy.max_retries
        everywhere = all(node.name in self._init_failing for node in self._roster)
        if self._init_failures >= allowed and everywhere:
            self._finish("failed", "init_failed", event.error)
        elif node.init_failures >= allowed:
            # Others can load the model: this node is broken, its work goes to them.
            for task in reversed(self._roster.bench(node)):
                self._attempts.setdefault(task, Attempts()).recall()
                self._backlog.put_back(task)
            self._roster.unbench_if_none_is_left()

    # --- results ----------------------------------------------------------------------------

    def _reported(self, event: Reported, now: float) -> Node | None:
        node = self._roster.get(event.node)
        if node is None:
            return None
        record = Recording()
        for result in event.results:
            if node.held.get(result.task) != result.attempt:
                continue
            del node.held[result.task]
            self._roster.held -= 1
            if result.outcome == "lost":
                self._lost(result)
                continue
            node.init_failures = 0
            if self._init_failures:
                self._init_failures = 0
                self._init_failing.clear()
            if result.outcome != "scored":
                self._failed(result)
            elif self._accept(result, record):
                node.learn(result.seconds)
        if record.frames:
            assert event.part is not None, event
            self._out.append(record.command(event.part))
        if not node.held:
            node.solitary = False
        elif not self._finished:
            self._watch(node, now)
        self._roster.note_room(node)
        return node

    def _accept(self, result: TaskResult, record: Recording) -> bool:
        """Count a scored task; False when it is bisected to find which items are missing."""
        task = result.task
        self._learn(result.seconds)
        failed, unattributed = result.failed_items, result.unattributed
        if unattributed and is_lone(task):
            failed, unattributed = result.items, 0
        if unattributed and self._could_trip(failed, unattributed):
            self._split(task, halves(task))
            return False
        succeeded = record.add(result, failed, unattributed)
        if failed or unattributed:
            self._failed_mini_batches.add(task.mini_batch)
        self._items.see(result.items)
        if failed:
            self._items.fail(failed)
            self._cause = self._cause or result.error
        self._unnamed_failures += unattributed
        self._rows += result.rows
        self._failed_rows += result.failed_rows
        if self._attempts:
            self._attempts.pop(task, None)
        self._backlog.resolve(task)
        if succeeded and not self._scored:
            self._scored = True
            self._end_probation()
        return True

    def _learn(self, seconds: float) -> None:
        guessed = self._patience.learning
        before = self._patience.seconds
        self._patience.learn(seconds)
        if guessed and not self._patience.learning and self._patience.seconds < before:
            self._out.append(Retime(self._patience.seconds))

    def _could_trip(self, failed: tuple[int, ...], unattributed: int) -> bool:
        threshold = self._policy.error_threshold
        if threshold is None or threshold < 0:
            return False
        return self._failures + self._items.new_failures(failed) + unattributed > threshold

    @property
    def _failures(self) -> int:
        return self._items.failed + self._unnamed_failures

    # --- trouble ----------------------------------------------------------------------------

    def _failed(self, result: TaskResult) -> None:
        attempts = self._attempts.setdefault(result.task, Attempts())
        attempts.charge(result.outcome, result.seconds)
        error = result.error or AttemptError(
            "user", result.outcome, result.outcome, f"the attempt ended: {result.outcome}"
        )
        self._suspect(error)
        self._decide(result, attempts, error)

    def _lost(self, result: TaskResult) -> None:
        """Repeat what infrastructure ended, unless its mini-batch is poison for infrastructure."""
        task = result.task
        attempts = self._attempts.setdefault(task, Attempts())
        attempts.lose(result.seconds)
        cap = limits.INFRASTRUCTURE_LOSSES_IN_A_ROW_MAX
        if task.mini_batch in self._poisonous:
            cap = limits.POISON_LOSSES_IN_A_ROW_MAX
        if attempts.lost_in_a_row < cap:
            self._retries += 1
            self._backlog.put_back(task)
            return
        # It has had all attempts that it will get: it is bisected, or given up.
        self._poisonous.add(task.mini_batch)
        attempts.charged = max(2, 1 + self._policy.max_retries)
        error = result.error or AttemptError(
            "batchpoint", "lost", "WorkerLost", "its workers or nodes were lost again and again"
        )
        self._suspect(error)
        self._decide(result, attempts, error)

    def _suspect(self, error: AttemptError) -> None:
        if self._probation.failed(error):
            self._backlog.unpark()

    def _lose(self, tasks: list[Task], cause: str) -> None:
        """Put tasks whose node is gone back to the front, in order."""
        error = AttemptError("batchpoint", "lost", "NodeLost", cause)
        for task in reversed(tasks):
            attempts = self._attempts.get(task)
            number = 1 + (attempts.ended if attempts else 0)
            self._lost(TaskResult(task, number, "lost", 0.0, error=error))

    def _decide(self, result: TaskResult, attempts: Attempts, error: AttemptError) -> None:
        task = result.task
        decision = decide(
            task,
            result.outcome,
            charged=attempts.charged,
            whole=self._backlog.is_whole(task),
            max_retries=self._policy.max_retries,
            slice_rows=result.slice_rows,
            isolate_rows=self._policy.isolate_rows,
        )
        if decision is Decision.RETRY:
            self._retries += 1
            self._backlog.put_back(task)
        elif decision is Decision.BISECT:
            self._split(task, halves(task))
        elif decision is Decision.BISECT_ROWS:
            self._split(task, row_halves(task, result.slice_rows))
        else:
            self._give_up(result, attempts, error)

    def _split(self, task: Task, pieces: tuple[Task, Task]) -> None:
        self._attempts.pop(task, None)
        self._backlog.split(task, pieces, park=not self._probation.over)

    def _give_up(self, result: TaskResult, attempts: Attempts, error: AttemptError) -> None:
        task = result.task
        del self._attempts[task]
        self._failed_mini_batches.add(task.mini_batch)
        self._items.fail(result.items)
        if not result.items:
            self._unnamed_failures += 1
        if is_narrowed(task):
            self._failed_rows += max(1, task.row_stop - task.row_start)
        self._cause = self._cause or error
        self._backlog.resolve(task)
        self._probation.gave_up(task.mini_batch)
        self._out.append(Quarantine(task, result.items, error, attempts.history()))

    def _end_probation(self) -> None:
        self._probation.over = True
        self._backlog.unpark()

    # --- the end ----------------------------------------------------------------------------

    def _settled(self) -> bool:
        """Finish the job when it is decided; tell whether it is."""
        if self._finished:
            return True
        threshold = self._policy.error_threshold
        if threshold is not None and 0 <= threshold < self._failures:
            self._finish("failed", "error_threshold_exceeded", self._cause)
        elif self._too_many_mini_batches_failed():
            self._finish("failed", "mini_batch_threshold_exceeded", self._cause)
        elif self._sealed and self._backlog.resolved == self._backlog.planned:
            self._complete()
        elif self._probation.verdict_due and not self._roster.held:
            self._finish("failed", "systemic_failure", self._cause)
        return bool(self._finished)

    def _too_many_mini_batches_failed(self) -> bool:
        """Tell it as soon as it is certain: a share of all is known once the plan is sealed."""
        failed = len(self._failed_mini_batches)
        most, percent = self._policy.mini_batch_error_threshold, self._policy.allowed_failed_percent
        if most is not None and 0 <= most < failed:
            return True
        if percent is None or percent < 0 or not self._sealed:
            return False
        return failed * 100 > percent * self._backlog.planned

    def _complete(self) -> None:
        if not self._items_total:
            self._finish("failed", "no_input_items")
        elif not self._scored:
            self._finish("failed", "nothing_scored", self._cause)
        else:
            self._finish("completed")

    def _finish(
        self,
        outcome: Literal["completed", "failed", "canceled"],
        code: str = "",
        error: AttemptError | None = None,
    ) -> None:
        self._finished = outcome
        if outcome != "completed":
            self._out.append(Abort())
        self._out.append(Finish(outcome, code, error))

    # --- handing out ------------------------------------------------------------------------

    def _feed(self, node: Node | None, now: float) -> None:
        """Hand out work: to the node that just spoke, then to all with a free slot."""
        if self._probation.verdict_due:
            return
        backlog, hungry = self._backlog, self._roster.hungry
        if node is not None and backlog.waiting:
            self._fill(node, now)
        blocked = 0
        while hungry and blocked < len(hungry) and backlog.waiting:
            node = next(iter(hungry.values()))
            if self._fill(node, now):
                blocked = 0
            else:
                # A task that must be alone is next, and this node is not empty.
                hungry[node.name] = hungry.pop(node.name)
                blocked += 1

    def _fill(self, node: Node, now: float) -> bool:
        backlog, held = self._backlog, node.held
        room = self._roster.room(node, backlog.waiting)
        assignments: list[Assignment] = []
        while len(assignments) < room and not node.solitary:
            task = backlog.take()
            if task is None:
                break
            attempts = self._attempts.get(task) if self._attempts else None
            if self._must_be_alone(task, attempts):
                if held:
                    backlog.put_back(task)
                    break
                node.solitary = True
            attempt = attempts.ended + 1 if attempts else 1
            held[task] = attempt
            assignments.append(Assignment(task, attempt, self._patience.seconds))
        self._roster.held += len(assignments)
        self._roster.note_room(node)
        if assignments:
            self._watch(node, now)
            self._out.append(Assign(node.name, tuple(assignments)))
        return bool(assignments)

    def _must_be_alone(self, task: Task, attempts: Attempts | None) -> bool:
        if attempts and attempts.lost_in_a_row >= limits.SOLITARY_LOSSES_MIN:
            return True
        return bool(self._poisonous) and task.mini_batch in self._poisonous
