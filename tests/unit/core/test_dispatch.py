"""`Dispatch` by example: each test is one ruling of docs/semantics.md."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import pytest

from batchpoint.core.dispatch import Dispatch
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
    Outcome,
    PlanGrew,
    PlanSealed,
    Policy,
    Provision,
    Quarantine,
    Record,
    Recovered,
    Reported,
    Retime,
    SetAlarm,
    TaskResult,
    WorkerFailed,
)
from batchpoint.domain import limits
from batchpoint.domain.minibatch import Task

ERROR = AttemptError("user", "ValueError:score.py:3", "ValueError", "bad value")
OTHER = AttemptError("user", "KeyError:score.py:9", "KeyError", "'x'")


def policy(
    nodes: int = 1,
    *,
    retries: int = 0,
    timeout: float | None = None,
    threshold: int | None = None,
    rows: bool = False,
) -> Policy:
    return Policy(nodes, retries, timeout, threshold, rows)


class Bench:
    """A `Dispatch` with what its nodes hold, on a hand-moved clock."""

    def __init__(self, policy: Policy, recovered: Recovered | None = None) -> None:
        self.dispatch = Dispatch(policy, recovered)
        self.now = 0.0
        self.held: dict[str, list[Assignment]] = {}
        self.said: list[Command] = []

    def tell(self, *events: Event) -> list[Command]:
        commands: list[Command] = []
        for event in events:
            commands += self.dispatch.handle(event, self.now)
        for command in commands:
            if isinstance(command, Assign):
                self.held.setdefault(command.node, []).extend(command.assignments)
        self.said += commands
        return commands

    def plan(self, slices: Sequence[int]) -> None:
        self.tell(PlanGrew(0, tuple(slices)), PlanSealed(len(slices), sum(slices)))

    def ends(
        self,
        node: str,
        outcome: Outcome = "scored",
        *,
        rows: int | None = None,
        unattributed: int = 0,
        failed_items: tuple[int, ...] = (),
        slice_rows: int = -1,
        error: AttemptError = ERROR,
    ) -> list[Command]:
        """Let the oldest task of a node end."""
        task, attempt, _ = self.held[node].pop(0)
        items = tuple(range(100 * task.mini_batch + task.start, 100 * task.mini_batch + task.stop))
        good = outcome == "scored"
        result = TaskResult(
            task,
            attempt,
            outcome,
            1.0,
            frame=0 if good else -1,
            rows=(len(items) if rows is None else rows) if good else 0,
            items=items,
            failed_items=failed_items,
            unattributed=unattributed,
            slice_rows=slice_rows,
            error=None if good else error,
        )
        return self.tell(Reported(node, "part" if good else None, (result,)))

    def tasks(self, node: str = "a") -> list[Task]:
        return [assignment.task for assignment in self.held.get(node, [])]


C = TypeVar("C", bound=Command)


def of(kind: type[C], commands: Iterable[Command]) -> list[C]:
    return [command for command in commands if isinstance(command, kind)]


def started(slices: Sequence[int], rules: Policy, slots: int = 1) -> Bench:
    """A job that is planned, on one node called "a"."""
    bench = Bench(rules)
    bench.plan(slices)
    bench.tell(NodeReady("a", slots))
    return bench


def test_nodes_are_asked_for_at_once_and_only_as_many_as_there_is_work() -> None:
    bench = Bench(policy(5))
    assert bench.tell(PlanGrew(0, (1, 1))) == [Provision(5)]
    assert bench.tell(PlanSealed(2, 2)) == [Provision(2)]


def test_a_job_completes_when_all_is_scored() -> None:
    bench = started((2, 2), policy())
    bench.ends("a")
    commands = bench.ends("a")
    assert of(Record, commands)[0].scored_items == 2
    assert commands[-1] == Finish("completed")
    assert bench.dispatch.tally.items_done == 4
    assert bench.tell(CancelRequested(), NodeLost("a", "late")) == []


def test_an_empty_listing_fails() -> None:
    bench = Bench(policy())
    assert of(Finish, bench.tell(PlanSealed(0, 0))) == [Finish("failed", "no_input_items")]


def test_a_whole_mini_batch_gets_its_retries_and_then_its_pieces_one_attempt_each() -> None:
    bench = started((4, 1), policy(retries=2))
    bench.held["a"].reverse()
    bench.ends("a")  # something is scored: no probation
    for _ in range(3):
        assert bench.tasks() == [Task(0, 0, 4)]
        bench.ends("a", "failed")
    assert bench.tasks() == [Task(0, 0, 2), Task(0, 2, 4)]
    bench.ends("a")
    bench.ends("a", "crashed")
    assert bench.tasks() == [Task(0, 2, 3), Task(0, 3, 4)]
    bench.ends("a")
    bench.ends("a", "failed")
    assert bench.held["a"][0].attempt == 2, "a lone item is confirmed"
    commands = bench.ends("a", "failed")
    (verdict,) = of(Quarantine, commands)
    assert (verdict.task, verdict.items) == (Task(0, 3, 4), (3,))
    assert verdict.history.outcomes == ("failed", "failed")
    assert commands[-1] == Finish("completed")
    assert bench.dispatch.tally.items_failed == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_lone_mini_batch_is_tried_exactly_one_plus_max_retries_times(retries: int) -> None:
    bench = started((1,), policy(retries=retries))
    for _ in range(retries):
        assert not of(Quarantine, bench.ends("a", "failed"))
    assert of(Quarantine, bench.ends("a", "failed"))


def test_rows_of_a_lone_slice_that_crashes_are_told_apart() -> None:
    bench = started((1,), policy(rows=True))
    bench.ends("a", "crashed", slice_rows=3)
    assert bench.tasks() == [Task(0, 0, 1, 0, 1), Task(0, 0, 1, 1, -1)]
    bench.ends("a")
    bench.ends("a", "crashed", slice_rows=3)
    assert bench.tasks() == [Task(0, 0, 1, 1, 2), Task(0, 0, 1, 2, -1)]
    bench.ends("a")
    bench.ends("a", "timed_out", slice_rows=3)
    commands = bench.ends("a", "timed_out", slice_rows=3)
    assert of(Quarantine, commands)[0].task == Task(0, 0, 1, 2, -1)
    assert commands[-1] == Finish("completed")
    assert bench.dispatch.tally.items_failed == 1


def test_rows_are_not_told_apart_for_scripts_nor_for_exceptions() -> None:
    script = started((1,), policy())
    assert of(Quarantine, script.ends("a", "crashed", slice_rows=9))
    table = started((1,), policy(rows=True))
    assert of(Quarantine, table.ends("a", "failed", slice_rows=9))


@pytest.mark.parametrize(("threshold", "fails"), [(0, 1), (1, 2), (-1, None), (None, None)])
def test_the_threshold_is_exact(threshold: int | None, fails: int | None) -> None:
    bench = started((1,) * 5, policy(threshold=threshold), slots=5)
    bench.ends("a")
    for failed in (1, 2, 3):
        commands = bench.ends("a", "failed")
        if failed == fails:
            assert commands[-2:] == [Abort(), Finish("failed", "error_threshold_exceeded", ERROR)]
            return
        assert not of(Finish, commands)
    assert fails is None


def test_an_item_counts_once_however_many_of_its_slices_fail() -> None:
    bench = started((2, 2), policy(threshold=1), slots=2)
    bench.ends("a", failed_items=(0,))
    bench.ends("a", failed_items=(0,))
    assert bench.dispatch.tally.items_failed == 1
    assert bench.dispatch.tally.finished == "completed"


def test_a_shortfall_is_kept_and_counted_while_no_threshold_could_trip() -> None:
    bench = started((4,), policy(threshold=2))
    commands = bench.ends("a", rows=2, unattributed=2)
    assert of(Record, commands)[0].unattributed == 2
    assert bench.dispatch.tally.items_failed == 2
    assert commands[-1] == Finish("completed")


def test_a_shortfall_that_could_trip_the_threshold_is_bisected() -> None:
    bench = started((2,), policy(threshold=0))
    assert not of(Record, bench.ends("a", rows=1, unattributed=1))
    assert bench.tasks() == [Task(0, 0, 1), Task(0, 1, 2)]
    bench.ends("a", rows=1)
    (record,) = of(Record, bench.ends("a", rows=0, unattributed=1))
    assert (record.failed_items, record.unattributed) == ((1,), 0)
    assert bench.dispatch.tally.finished == "failed"


def test_nothing_scored_fails_whatever_the_threshold() -> None:
    bench = started((1,), policy(threshold=-1))
    assert bench.ends("a", "failed")[-1] == Finish("failed", "nothing_scored", ERROR)


def test_a_file_without_rows_is_scored() -> None:
    assert started((1,), policy()).ends("a", rows=0)[-1] == Finish("completed")


def test_a_systemic_failure_ends_the_job_without_bisecting_everything() -> None:
    bench = started((100,) * 50, policy())
    attempts = 0
    while not of(Finish, bench.said):
        attempts += 1
        bench.ends("a", "failed")
    assert bench.said[-1] == Finish("failed", "systemic_failure", ERROR)
    assert attempts < 50


def test_one_success_or_a_second_kind_of_failure_is_not_systemic() -> None:
    for last in ("scored", "failed"):
        bench = started((1,) * 10, policy(), slots=4)
        for _ in range(3):
            bench.ends("a", "failed")
        assert not of(Finish, bench.ends("a", last, error=OTHER))
        while bench.tasks():
            bench.ends("a", "failed")
        assert of(Finish, bench.said)[-1].code in ("", "nothing_scored")


def test_work_in_hand_may_still_prove_a_job_sound() -> None:
    bench = started((1,) * 10, policy(nodes=2), slots=1)
    bench.tell(NodeReady("b", 1))
    while len(of(Quarantine, bench.said)) < 3:
        bench.ends("a", "failed")
    assert not of(Finish, bench.said)
    bench.ends("b")
    while bench.tasks("a") or bench.tasks("b"):
        bench.ends("a" if bench.tasks("a") else "b")
    assert bench.said[-1] == Finish("completed")


def test_a_lost_node_is_nobody_s_fault_and_its_tasks_go_first_in_order() -> None:
    bench = started((2,) * 9, policy(nodes=2))
    before = bench.tasks()
    commands = bench.tell(NodeLost("a", "gone"))
    assert Provision(2) in commands
    bench.held.clear()
    bench.tell(NodeReady("b", 1))
    assert bench.tasks("b")[: len(before)] == before
    assert {assignment.attempt for assignment in bench.held["b"][: len(before)]} == {2}


def test_late_doubled_and_foreign_results_change_nothing() -> None:
    bench = started((1, 1), policy())
    task, attempt, _ = bench.held["a"][0]
    result = TaskResult(task, attempt, "scored", 1.0, 0, 1, items=(0,))
    assert bench.tell(Reported("stranger", "part", (result,))) == []
    bench.tell(Reported("a", "part", (result,)))
    assert bench.tell(Reported("a", "part", (result,))) == []
    assert bench.tell(Reported("a", "part", (result._replace(attempt=9),))) == []
    assert bench.dispatch.tally.rows == 1


def test_losses_are_never_charged_before_ten_in_a_row_and_then_bisected() -> None:
    bench = started((2,), policy(retries=0))
    for _ in range(limits.INFRASTRUCTURE_LOSSES_IN_A_ROW_MAX - 1):
        bench.ends("a", "lost")
        assert bench.tasks() == [Task(0, 0, 2)]
    bench.ends("a", "lost")
    assert bench.tasks() == [Task(0, 0, 1)]
    for _ in range(limits.POISON_LOSSES_IN_A_ROW_MAX):
        assert not of(Quarantine, bench.said)
        bench.ends("a", "lost")
    assert of(Quarantine, bench.said)[0].task == Task(0, 0, 1)
    assert bench.ends("a")[-1] == Finish("completed")


def test_what_is_lost_again_and_again_is_handed_out_alone() -> None:
    bench = started((1,) * 8, policy())
    for _ in range(limits.SOLITARY_LOSSES_MIN):
        assert len(bench.tasks()) > 1
        bench.tell(NodeLost("a", "gone"))
        bench.held.clear()
        bench.tell(NodeReady("a", 1))
    assert bench.tasks() == [Task(0, 0, 1)]


def test_init_that_fails_everywhere_fails_the_job() -> None:
    bench = started((1,), policy(retries=1))
    failed = WorkerFailed("a", ERROR)
    assert not of(Finish, bench.tell(failed))
    assert bench.tell(failed)[-1] == Finish("failed", "init_failed", ERROR)


def test_a_node_that_is_lost_before_it_was_ready_is_replaced() -> None:
    bench = started((1,), policy())
    bench.tell(NodeLost("a", "gone"))
    said = bench.tell(NodeLost("replacement", "died while it loaded"))
    assert said == [Provision(1)]


def test_a_node_on_which_init_fails_is_benched_and_gets_a_chance_when_it_is_the_last() -> None:
    bench = started((1,) * 4, policy(nodes=2, retries=0))
    bench.tell(NodeReady("b", 1))
    first = bench.tasks("a")[0]
    bench.tell(WorkerFailed("a", ERROR))
    bench.held.pop("a")
    assert not of(Finish, bench.said)
    bench.ends("b")
    assert bench.tasks("b")[0] == first, "its work goes to the others"
    assert not bench.tasks("a")
    bench.tell(NodeLost("b", "gone"))
    assert bench.tasks("a")[0] == first, "nobody else is left"


def test_silence_beyond_all_bounds_takes_the_work_back() -> None:
    bench = started((1,), policy(timeout=30))
    (alarm,) = of(SetAlarm, bench.said)
    bench.now = alarm.at
    bench.held.clear()
    assert of(Assign, bench.tell(AlarmRang()))[0].assignments == (Assignment(Task(0, 0, 1), 2, 30),)


def test_the_timeout_adapts_unless_it_is_given() -> None:
    bench = started((1,) * 50, policy())
    for _ in range(limits.TIMEOUT_SAMPLES_MIN):
        assert bench.held["a"][-1].timeout_seconds == limits.TIMEOUT_UNKNOWN_SECONDS
        bench.ends("a")
    assert of(Retime, bench.said) == [Retime(limits.TIMEOUT_FLOOR_SECONDS)]
    assert bench.dispatch.tally.timeout_seconds == limits.TIMEOUT_FLOOR_SECONDS
    fixed = started((1,), policy(timeout=7))
    assert fixed.held["a"][0].timeout_seconds == 7


def test_prefetch_follows_how_long_tasks_take_and_nobody_hoards_the_tail() -> None:
    bench = started((1,) * 5_000, policy(nodes=2))
    bench.held["a"] = bench.held["a"][:1]
    task, attempt, _ = bench.held["a"][0]
    quick = TaskResult(task, attempt, "scored", 0.0001, 0, 1, items=(0,))
    bench.tell(Reported("a", "part", (quick,)))
    assert len(bench.tasks()) > limits.PREFETCH_PER_SLOT_MAX - 8
    few = started((1,) * 8, policy(nodes=4))
    assert len(few.tasks()) <= 2


def test_cancel_stops_everything() -> None:
    bench = started((1,), policy())
    assert bench.tell(CancelRequested()) == [Abort(), Finish("canceled")]


def test_a_resumed_job_does_what_is_left_cut_as_before() -> None:
    recovered = Recovered(rows=3, scored_items=3, pieces={1: [Task(1, 2, 4)]})
    recovered.heads.extend((2, 1))
    bench = Bench(policy(), recovered)
    bench.plan((2, 4, 1))
    bench.tell(NodeReady("a", 1))
    assert bench.tasks() == [Task(1, 1, 2), Task(2, 0, 1)]
    bench.ends("a")
    assert bench.ends("a")[-1] == Finish("completed")
    assert bench.dispatch.tally.mini_batches_done == 3


def test_a_resumed_job_that_was_done_completes_at_once() -> None:
    recovered = Recovered(scored_items=1)
    recovered.heads.append(1)
    bench = Bench(policy(), recovered)
    bench.plan((1,))
    assert bench.said[-1] == Finish("completed")


# --- thresholds on mini-batches -----------------------------------------------------------------


def by_mini_batch(most: int | None = None, percent: int | None = None) -> Bench:
    given = policy()
    return Bench(
        Policy(
            given.instance_count,
            given.max_retries,
            given.timeout_seconds,
            given.error_threshold,
            given.isolate_rows,
            mini_batch_error_threshold=most,
            allowed_failed_percent=percent,
        )
    )


def finished(bench: Bench) -> Finish | None:
    return bench.said[-1] if bench.said and isinstance(bench.said[-1], Finish) else None


def test_more_failed_mini_batches_than_allowed_end_the_job_at_once() -> None:
    bench = by_mini_batch(most=1)
    bench.plan([3] * 10)
    bench.tell(NodeReady("a", 1))
    bench.ends("a", failed_items=(0, 1))  # two items of one mini-batch
    bench.ends("a")
    assert finished(bench) is None
    bench.ends("a", rows=2, unattributed=1)
    assert finished(bench) == Finish("failed", "mini_batch_threshold_exceeded", None)


@pytest.mark.parametrize(("most", "ends"), [(1, "completed"), (0, "failed")])
def test_a_mini_batch_that_raises_fails_once_however_it_is_bisected(most: int, ends: str) -> None:
    bench = by_mini_batch(most=most)
    bench.plan([2, 2, 2])
    bench.tell(NodeReady("a", 1))
    while (found := finished(bench)) is None:
        bench.ends("a", "failed" if bench.tasks()[0].mini_batch == 1 else "scored")
    assert found.outcome == ends


@pytest.mark.parametrize(("percent", "ends"), [(10, "completed"), (9, "failed"), (-1, "completed")])
def test_a_share_of_all_mini_batches(percent: int, ends: str) -> None:
    bench = by_mini_batch(percent=percent)
    bench.plan([1] * 10)
    bench.tell(NodeReady("a", 1))
    for number in range(10):
        if finished(bench) is None:
            bench.ends("a", failed_items=(300,) if number == 3 else ())
    found = finished(bench)
    assert found is not None
    assert found.outcome == ends


def test_a_share_is_judged_when_it_is_known_of_what() -> None:
    bench = by_mini_batch(percent=50)
    bench.tell(PlanGrew(0, (1, 1)), NodeReady("a", 1))
    bench.ends("a", failed_items=(0,))
    bench.ends("a", failed_items=(100,))
    assert finished(bench) is None
    bench.tell(PlanGrew(2, (1,)))
    bench.tell(PlanSealed(3, 3))
    assert finished(bench) == Finish("failed", "mini_batch_threshold_exceeded", None)


def test_failed_mini_batches_are_remembered() -> None:
    recorded = Recovered(failed_mini_batches={0, 1})
    recorded.scored_items = 3
    bench = Bench(
        Policy(1, 0, None, None, isolate_rows=False, mini_batch_error_threshold=1), recorded
    )
    bench.tell(NodeReady("a", 1))
    assert finished(bench) == Finish("failed", "mini_batch_threshold_exceeded", None)
