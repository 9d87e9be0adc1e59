"""`StepBook` by example; what holds for every pipeline is shown by the simulation."""

import time

import pytest

from batchpoint.core.steps import (
    CancelRequested,
    CloseStep,
    Command,
    Finish,
    GraphPlan,
    Opened,
    PlannedStep,
    RecordedStep,
    StartStep,
    StepBook,
    StepCancelRequested,
    StepEnded,
    StopStep,
)
from batchpoint.domain.job import ErrorInfo, JobState
from batchpoint.domain.limits import STEP_LOSSES_IN_A_ROW_MAX, STEPS_IN_ALL_MAX

DONE, FAILED, CANCELED = JobState.COMPLETED, JobState.FAILED, JobState.CANCELED
CAUSE = ErrorInfo(origin="user", code="command_failed", message="exit code 3", log="std_log.txt")


def plan(*, go_on: bool = True, capacity: int = 9, retries: int = 0, **needs: str) -> GraphPlan:
    """Steps by keyword, each with the letters of those that it needs."""
    steps = {
        name: PlannedStep(tuple(of), capacity=capacity, max_retries=retries)
        for name, of in needs.items()
    }
    return GraphPlan(steps, go_on)


def opened(graph: GraphPlan, **recorded: RecordedStep) -> tuple[StepBook, list[Command]]:
    book = StepBook(graph, recorded)
    return book, book.handle(Opened())


def told(commands: list[Command]) -> list[str]:
    """Commands in short: `start a1`, `stop a`, `a Failed step_failed`, `Completed`."""
    short: list[str] = []
    for command in commands:
        error = getattr(command, "error", None)
        code = f" {error.code}" if error else ""
        if isinstance(command, StartStep):
            short.append(f"start {command.step}{command.attempt}")
        elif isinstance(command, StopStep):
            short.append(f"stop {command.step}")
        elif isinstance(command, CloseStep):
            short.append(f"{command.step} {command.state.value}{code}")
        else:
            short.append(command.state.value + code)
    return short


def test_steps_start_when_all_they_need_has_completed() -> None:
    book, first = opened(plan(a="", b="", c="ab", d="c"))
    assert told(first) == ["start a1", "start b1"]
    assert told(book.handle(StepEnded("b", "completed"))) == ["b Completed"]
    assert told(book.handle(StepEnded("a", "reused"))) == ["a Completed", "start c1"]
    assert told(book.handle(StepEnded("c", "completed"))) == ["c Completed", "start d1"]
    assert told(book.handle(StepEnded("d", "completed"))) == ["d Completed", "Completed"]
    assert book.handle(CancelRequested()) == []


def test_the_longest_chain_goes_first_and_of_equals_the_first_in_the_file() -> None:
    book, first = opened(plan(capacity=1, a="", b="", c="b", d="", e="c"))
    assert told(first) == ["start b1"]
    assert told(book.handle(StepEnded("b", "completed")))[1:] == ["start c1"]
    assert told(book.handle(StepEnded("c", "completed")))[1:] == ["start a1"]
    assert told(book.handle(StepEnded("a", "completed")))[1:] == ["start d1"]


def test_each_compute_has_its_own_capacity_and_the_least_said_counts() -> None:
    steps = {f"a{n}": PlannedStep(compute="cpu", capacity=n) for n in (2, 3, 4)}
    steps |= {f"b{n}": PlannedStep(compute="gpu", capacity=0) for n in (1, 2)}
    _, first = opened(GraphPlan(steps))
    assert told(first) == ["start a21", "start a31", "start b11"]


def test_a_failed_attempt_is_repeated_as_often_as_was_said() -> None:
    book, _ = opened(plan(retries=1, a=""))
    assert told(book.handle(StepEnded("a", "timed_out", CAUSE))) == ["start a2"]
    last = book.handle(StepEnded("a", "failed", CAUSE))
    assert told(last) == ["a Failed command_failed", "Failed step_failed"]
    assert isinstance(last[1], Finish)
    assert last[1].error == CAUSE.model_copy(
        update={"code": "step_failed", "message": "step 'a': exit code 3"}
    )


def test_a_lost_attempt_is_not_charged_until_the_step_is_poison() -> None:
    book, _ = opened(plan(a=""))
    for _ in range(STEP_LOSSES_IN_A_ROW_MAX - 1):
        assert told(book.handle(StepEnded("a", "lost"))) == ["start a1"]
    assert told(book.handle(StepEnded("a", "lost"))) == ["a Failed node_lost", "Failed step_failed"]


def test_only_what_needs_a_failed_step_is_given_up() -> None:
    book, _ = opened(plan(a="", b="", c="a", d="c", e="b"))
    commands = book.handle(StepEnded("a", "failed", CAUSE))
    assert told(commands) == [
        "a Failed command_failed",
        "c Canceled step_not_run",
        "d Canceled step_not_run",
    ]
    closed = commands[2]
    assert isinstance(closed, CloseStep)
    assert closed.error is not None
    assert "'a', which failed" in closed.error.message
    assert told(book.handle(StepEnded("b", "completed")))[1:] == ["start e1"]
    assert told(book.handle(StepEnded("e", "completed")))[1:] == ["Failed step_failed"]


def test_the_first_failure_ends_all_when_that_is_wanted() -> None:
    book, _ = opened(plan(go_on=False, capacity=2, a="", b="", c=""))
    assert told(book.handle(StepEnded("a", "failed", CAUSE))) == [
        "a Failed command_failed",
        "stop b",
        "c Canceled step_not_run",
    ]
    end = told(book.handle(StepEnded("b", "stopped")))
    assert end == ["b Canceled step_not_run", "Failed step_failed"]


def test_the_cancel_of_a_pipeline_stops_what_runs() -> None:
    book, _ = opened(plan(a="", b="", c="a"))
    assert told(book.handle(CancelRequested())) == ["stop a", "stop b", "c Canceled step_not_run"]
    assert told(book.handle(CancelRequested())) == []
    assert told(book.handle(StepEnded("a", "stopped"))) == ["a Canceled"]
    assert told(book.handle(StepEnded("b", "failed", CAUSE))) == ["b Canceled", "Canceled"]


def test_a_pipeline_that_completes_in_spite_of_its_cancel_has_completed() -> None:
    book, _ = opened(plan(a=""))
    assert told(book.handle(CancelRequested())) == ["stop a"]
    assert told(book.handle(StepEnded("a", "completed"))) == ["a Completed", "Completed"]


def test_one_step_may_be_canceled_and_the_others_go_on() -> None:
    book, _ = opened(plan(capacity=2, a="", b="", c="a", d=""))
    assert told(book.handle(StepCancelRequested("a"))) == ["stop a"]
    assert told(book.handle(StepCancelRequested("a"))) == []
    assert told(book.handle(StepCancelRequested("d"))) == ["d Canceled"]
    assert told(book.handle(StepEnded("a", "stopped"))) == ["a Canceled", "c Canceled step_not_run"]
    end = book.handle(StepEnded("b", "completed"))
    assert told(end) == ["b Completed", "Failed step_canceled"]
    assert isinstance(end[1], Finish)
    assert end[1].error is not None
    assert end[1].error.message == "step 'd': the step was canceled"


def test_a_success_that_was_told_wins_over_a_stop() -> None:
    book, _ = opened(plan(a="", b="a"))
    book.handle(StepCancelRequested("a"))
    assert told(book.handle(StepEnded("a", "completed"))) == ["a Completed", "start b1"]


def test_a_resumed_pipeline_repeats_nothing_that_has_ended() -> None:
    book, first = opened(
        plan(retries=2, a="", b="a", c="a", d="b"),
        a=RecordedStep(DONE),
        b=RecordedStep(JobState.RUNNING, 1),
        c=RecordedStep(FAILED, 3, CAUSE),
    )
    assert told(first) == ["start b2"]
    assert told(book.handle(StepEnded("b", "completed"))) == ["b Completed", "start d1"]
    end = book.handle(StepEnded("d", "completed"))
    assert told(end)[1:] == ["Failed step_failed"]
    assert isinstance(end[1], Finish)
    assert end[1].error is not None
    assert end[1].error.message == "step 'c': exit code 3"


@pytest.mark.parametrize(
    ("recorded", "end"),
    [
        ({"a": RecordedStep(DONE), "b": RecordedStep(DONE)}, ["Completed"]),
        ({"a": RecordedStep(FAILED)}, ["b Canceled step_not_run", "Failed step_failed"]),
        ({"a": RecordedStep(CANCELED)}, ["b Canceled step_not_run", "Failed step_canceled"]),
        (
            {"a": RecordedStep(JobState.CANCEL_REQUESTED)},
            ["a Canceled", "b Canceled step_not_run", "Failed step_canceled"],
        ),
    ],
)
def test_what_was_recorded_last_has_its_consequences_after_a_crash(
    recorded: dict[str, RecordedStep], end: list[str]
) -> None:
    assert told(opened(plan(a="", b="a"), **recorded)[1]) == end


def test_a_cancel_that_was_recorded_starts_nothing() -> None:
    book = StepBook(plan(a="", b="a"), {"a": RecordedStep(JobState.RUNNING)})
    commands = told(book.handle(Opened(cancel_requested=True)))
    assert commands == ["a Canceled step_not_run", "b Canceled step_not_run", "Canceled"]


@pytest.mark.parametrize("graph", [plan(a="b", b="a"), plan(a="a"), plan(a="x")])
def test_a_plan_that_cannot_run_is_an_error_of_the_caller(graph: GraphPlan) -> None:
    with pytest.raises(AssertionError):
        StepBook(graph)


def test_a_step_that_is_needed_twice_by_one_is_one_need() -> None:
    book, _ = opened(GraphPlan({"a": PlannedStep(), "b": PlannedStep(("a", "a"))}))
    assert told(book.handle(StepEnded("a", "completed"))) == ["a Completed", "start b1"]


def test_thousands_of_steps_with_many_needs_are_quick() -> None:
    count, width = STEPS_IN_ALL_MAX, 50
    steps = {
        f"s{at}": PlannedStep(
            tuple(f"s{each}" for each in range(max(0, at - at % width - width), at - at % width)),
            capacity=width,
        )
        for at in range(count)
    }
    began = time.perf_counter()
    book, commands = opened(GraphPlan(steps))
    ended = 0
    while commands and not isinstance(commands[-1], Finish):
        starts = [command.step for command in commands if isinstance(command, StartStep)]
        commands = []
        for step in starts:
            commands += book.handle(StepEnded(step, "completed"))
            ended += 1
    assert ended == count
    assert told(commands)[-1] == "Completed"
    assert time.perf_counter() - began < 10
