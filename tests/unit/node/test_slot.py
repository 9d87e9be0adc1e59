"""How many tasks a worker gets ahead of time."""

from hypothesis import given
from hypothesis import strategies as st

from batchpoint.node.slot import BURST_MAX, Slot, wanted


def test_a_worker_nobody_knows_yet_gets_two() -> None:
    assert wanted(0, None, 1000, 2) == 2
    assert wanted(2, None, 1000, 2) == 0


def test_fast_tasks_come_in_bursts() -> None:
    assert wanted(0, 0.0, 10_000, 2) == 2 * BURST_MAX
    assert wanted(BURST_MAX, 0.0, 10_000, 2) == BURST_MAX
    assert wanted(BURST_MAX + 1, 0.0, 10_000, 2) == 0, "half of it is still there"


def test_a_slow_task_runs_alone() -> None:
    assert wanted(0, 5.0, 1000, 2) == 1
    assert wanted(1, 5.0, 1000, 2) == 0


def test_tasks_of_middle_length_have_one_behind_them() -> None:
    assert wanted(1, 0.1, 1000, 2) == 1
    assert wanted(2, 0.1, 1000, 2) == 0


def test_the_last_tasks_are_shared() -> None:
    assert wanted(0, 0.0, 10, 4) == 3
    assert wanted(0, 0.0, 1, 4) == 1


@given(
    st.integers(0, 200),
    st.none() | st.floats(0, 100),
    st.integers(0, 1000),
    st.integers(1, 64),
)
def test_never_more_than_there_is_and_never_idle_beside_work(
    queued: int, mean: float | None, waiting: int, slots: int
) -> None:
    many = wanted(queued, mean, waiting, slots)
    assert 0 <= many <= waiting
    assert queued + many <= max(queued, 2 * BURST_MAX)
    if queued == 0 and waiting:
        assert many >= 1


def test_the_mean_follows_what_is_measured() -> None:
    slot = Slot(0)
    slot.learn(1.0, 10)
    assert slot.mean_seconds == 0.1
    for _ in range(50):
        slot.learn(2.0, 1)
    assert slot.mean_seconds is not None
    assert 1.9 < slot.mean_seconds <= 2.0
