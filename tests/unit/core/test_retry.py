"""What follows a failed attempt, and how long one may take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.messages import AttemptError, Outcome
from batchpoint.core.retry import Attempts, Decision, Patience, Probation, decide
from batchpoint.domain import limits
from batchpoint.domain.minibatch import Task

FAILURES: tuple[Outcome, ...] = ("failed", "crashed", "timed_out")


@given(
    st.integers(1, 50), st.integers(0, 5), st.booleans(), st.sampled_from(FAILURES), st.booleans()
)
def test_every_task_comes_to_an_end(
    slices: int, retries: int, whole: bool, outcome: Outcome, rows: bool
) -> None:
    decision, charged = Decision.RETRY, 0
    while decision is Decision.RETRY:
        charged += 1
        decision = decide(
            Task(0, 0, slices),
            outcome,
            charged=charged,
            whole=whole,
            max_retries=retries,
            slice_rows=9,
            isolate_rows=rows,
        )
    if slices > 1:
        assert decision is Decision.BISECT
        assert charged == (1 + retries if whole else 1)
    elif rows and outcome != "failed":
        assert decision is Decision.BISECT_ROWS
        assert charged == (1 + retries if whole else 1)
    else:
        assert decision is Decision.GIVE_UP
        assert charged == (1 + retries if whole else 2)


@pytest.mark.parametrize(("slice_rows", "expected"), [(1, False), (-1, False), (2, True)])
def test_rows_are_told_apart_when_there_are_several(slice_rows: int, expected: bool) -> None:
    decision = decide(
        Task(0, 0, 1),
        "crashed",
        charged=1,
        whole=True,
        max_retries=0,
        slice_rows=slice_rows,
        isolate_rows=True,
    )
    assert (decision is Decision.BISECT_ROWS) is expected


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_the_adaptive_timeout_is_bounded_and_generous(seconds: list[float]) -> None:
    patience = Patience(None)
    for taken in seconds:
        patience.learn(taken)
    if len(seconds) < limits.TIMEOUT_SAMPLES_MIN:
        assert patience.learning
        assert patience.seconds == limits.TIMEOUT_UNKNOWN_SECONDS
        return
    assert not patience.learning
    told = limits.TIMEOUT_FACTOR * max(seconds)
    assert patience.seconds == min(
        max(limits.TIMEOUT_FLOOR_SECONDS, told), limits.TIMEOUT_SECONDS_MAX
    )


def test_a_fixed_timeout_is_obeyed() -> None:
    patience = Patience(3.0)
    for _ in range(20):
        patience.learn(1_000.0)
    assert patience.seconds == 3.0
    assert not patience.learning


def test_losses_are_counted_in_a_row() -> None:
    attempts = Attempts()
    attempts.lose(1.0)
    attempts.recall()
    attempts.lose(1.0)
    assert (attempts.lost_in_a_row, attempts.charged, attempts.ended) == (2, 0, 3)
    attempts.charge("failed", 2.0)
    assert (attempts.lost_in_a_row, attempts.charged) == (0, 1)
    assert attempts.history().outcomes == ("lost", "lost", "lost", "failed")


def test_many_rows_of_one_mini_batch_are_a_verdict_too() -> None:
    probation = Probation(over=False)
    assert not probation.failed(AttemptError("user", "kind", "T", "m"))
    for _ in range(limits.SYSTEMIC_VERDICTS_MAX):
        assert not probation.verdict_due
        probation.gave_up(0)
    assert probation.verdict_due
    assert probation.failed(AttemptError("user", "other", "T", "m"))
    assert not probation.verdict_due
