"""Counting items, and reading progress back: order does not matter."""

from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.accounting import ItemCount, recover
from batchpoint.core.messages import Record, Recovered
from batchpoint.domain.minibatch import Task

item_lists = st.lists(
    st.one_of(
        st.lists(st.integers(0, 60), max_size=6).map(lambda items: tuple(sorted(set(items)))),
        st.tuples(st.integers(0, 50), st.integers(0, 9)).map(lambda r: tuple(range(r[0], sum(r)))),
    ),
    max_size=12,
)


@given(item_lists, item_lists)
def test_items_count_once(seen: list[tuple[int, ...]], failed: list[tuple[int, ...]]) -> None:
    count = ItemCount()
    gone: set[int] = set()
    for items in failed:
        assert count.new_failures(items) == len(set(items) - gone)
        count.fail(items)
        gone |= set(items)
    for items in seen:
        count.see(items)
    everything = gone.union(*seen)
    assert (count.failed, count.seen) == (len(gone), len(everything))


records = st.lists(
    st.builds(
        Record,
        part=st.just("part"),
        frames=st.just(()),
        rows=st.integers(0, 9),
        failed_rows=st.integers(0, 9),
        failed_items=st.lists(st.integers(0, 9), max_size=3).map(tuple),
        unattributed=st.integers(0, 3),
        scored_items=st.integers(0, 3),
    ),
    max_size=9,
)


@given(records, st.randoms())
def test_progress_does_not_depend_on_the_order_of_records(kept: list[Record], chance) -> None:
    tasks = [Task(n, 0, 3) for n in range(len(kept))]
    kept = [
        Record(r.part, ((0, t),), r.rows, r.failed_rows, r.failed_items, r.unattributed,
               r.scored_items)
        for r, t in zip(kept, tasks, strict=True)
    ]  # fmt: skip
    shuffled = kept.copy()
    chance.shuffle(shuffled)
    assert recover(kept) == recover(shuffled)
    assert recover(kept).rows == sum(record.rows for record in kept)
    assert list(recover(kept).heads) == [3] * len(kept)


def test_pieces_are_kept_apart_from_heads() -> None:
    tasks = (Task(2, 0, 2), Task(2, 2, 4), Task(0, 0, 1, 0, 5))
    recovered = recover([Record("p", tuple(enumerate(tasks)), 1, 0, ())])
    assert list(recovered.heads) == [0, 0, 2]
    assert recovered.pieces == {2: [tasks[1]], 0: [tasks[2]]}
    assert recover([]) == Recovered()
