"""Bisecting: pieces make up the whole, and a resume cuts where an undisturbed run would."""

from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.isolation import halves, is_lone, is_narrowed, remaining, row_count, row_halves
from batchpoint.domain.minibatch import Task


def tree(task: Task, choose: st.DataObject, rows: int, leaves: list[Task]) -> None:
    """Bisect as far as chance wants to; `leaves` become what is recorded or not."""
    if not is_lone(task) and choose.draw(st.booleans()):
        for half in halves(task):
            tree(half, choose, rows, leaves)
    elif is_lone(task) and row_count(task, rows) > 1 and choose.draw(st.booleans()):
        for half in row_halves(task, rows):
            tree(half, choose, rows, leaves)
    else:
        leaves.append(task)


@given(st.integers(1, 40), st.integers(0, 9), st.data())
def test_what_remains_are_exactly_the_tasks_that_were_not_recorded(
    slices: int, rows: int, choose: st.DataObject
) -> None:
    leaves: list[Task] = []
    tree(Task(3, 0, slices), choose, rows, leaves)
    recorded = [leaf for leaf in leaves if choose.draw(st.booleans())]
    left = remaining(3, slices, recorded)
    lost = [leaf for leaf in leaves if leaf not in recorded]
    # Pieces of one parent of which nothing is recorded come back as the parent.
    assert all(any(contains(task, leaf) for task in left) for leaf in lost)
    assert not any(
        contains(task, leaf) or contains(leaf, task) for task in left for leaf in recorded
    )
    assert left == sorted(left)
    if not recorded:
        assert left == [Task(3, 0, slices)]


def contains(one: Task, other: Task) -> bool:
    def rows(task: Task) -> range:
        return range(task.row_start, task.row_stop if task.row_stop >= 0 else 1 << 40)

    return (
        one.start <= other.start
        and other.stop <= one.stop
        and rows(one).start <= rows(other).start
        and rows(other).stop <= rows(one).stop
    )


@given(st.integers(2, 1_000))
def test_halves_make_up_the_whole(slices: int) -> None:
    left, right = halves(Task(0, 5, 5 + slices))
    assert (left.start, left.stop, right.stop) == (5, right.start, 5 + slices)
    assert abs((left.stop - left.start) - (right.stop - right.start)) <= 1


@given(st.integers(2, 1_000))
def test_row_halves_make_up_the_whole_and_the_last_is_open(rows: int) -> None:
    left, right = row_halves(Task(0, 0, 1), rows)
    assert is_narrowed(left)
    assert is_narrowed(right)
    assert (left.row_start, left.row_stop, right.row_stop) == (0, right.row_start, -1)
    assert row_count(left, -1) + row_count(right, rows) == rows
    assert row_count(right, -1) == -1
