"""Records survive packing, and what people see never goes backwards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.messages import Record
from batchpoint.domain.job import Progress
from batchpoint.domain.minibatch import Task
from batchpoint.node.wire import Heartbeat
from batchpoint.runner.progress import Display, pack, unpack

tasks = st.builds(Task, *[st.integers(0, 2**40) for _ in range(4)], st.integers(-1, 2**40))
records = st.builds(
    Record,
    part=st.text("abc-0123", min_size=1),
    frames=st.lists(st.tuples(st.integers(0, 10**6), tasks), max_size=5).map(tuple),
    rows=st.integers(0, 10**12),
    failed_rows=st.integers(0, 10**6),
    failed_items=st.lists(st.integers(0, 10**9), max_size=4).map(tuple),
)


@given(st.lists(st.lists(records, max_size=4), max_size=4))
def test_unpack_undoes_pack(checkpoints: list[list[Record]]) -> None:
    packed = [pack(each) for each in checkpoints]
    assert list(unpack(packed)) == [record for each in checkpoints for record in each]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 100),
            st.integers(0, 50),
            st.sampled_from(["environment", "model", "scoring", "waiting"]),
            st.booleans(),
        ),
        min_size=1,
    )
)
def test_nothing_goes_backwards(steps: list[tuple[int, int, str, bool]]) -> None:
    display = Display(Progress())
    before = Progress()
    for at, (decided, beating, phase, lost) in enumerate(steps):
        display.heard(Heartbeat("n", phase, 1, beating, beating))  # type: ignore[arg-type]
        if lost:
            display.lost("n")
        shown = display.show(
            Progress(listed=True, items_total=100, items_done=decided, rows_done=decided), at
        )
        assert shown.rows_done >= before.rows_done
        assert before.items_done <= shown.items_done <= shown.items_total
        assert shown.eta_seconds is None or shown.eta_seconds >= 0
        before = shown


def test_a_runner_that_goes_on_takes_nothing_back() -> None:
    before = Progress(
        phase="scoring",
        listed=True,
        items_total=100,
        items_done=40,
        items_failed=2,
        rows_done=80,
        mini_batches_total=10,
        mini_batches_done=4,
        retries=3,
    )
    shown = Display(before).show(Progress(retries=1), 0.0)
    assert shown == before.model_copy(update={"retries": 4, "rows_per_second": 0.0})


def test_rate_and_remaining_time_follow_the_work_of_this_runner() -> None:
    display = Display(Progress(rows_done=1000, items_done=10))
    display.heard(Heartbeat("n", "scoring", 2, 0, 0))
    first = Progress(listed=True, items_total=100, items_done=10, rows_done=1000)
    display.show(first, now=50.0)
    shown = display.show(first.model_copy(update={"items_done": 40, "rows_done": 4000}), now=60.0)
    assert shown.phase == "scoring"
    assert shown.workers == 2
    assert shown.rows_per_second == 300.0
    assert shown.eta_seconds == 20.0


def test_what_is_reported_is_not_counted_twice() -> None:
    display = Display(Progress())
    display.heard(Heartbeat("n", "scoring", 1, rows=3, items=3))
    display.reported("n")
    shown = display.show(Progress(listed=True, items_total=7, items_done=6, rows_done=6), now=1.0)
    assert (shown.rows_done, shown.items_done) == (6, 6)
