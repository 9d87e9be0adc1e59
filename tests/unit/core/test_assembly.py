"""Order of the output: complete, each place once, whatever the order of the records."""

import itertools
import random
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.assembly import RecordedFrames, order, union, widened
from batchpoint.core.messages import Record
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.minibatch import Task


def recorded(*tasks: Task, parts: int = 1) -> RecordedFrames:
    """One record per task, spread over parts; a frame's ordinal is the number of its task."""
    frames = RecordedFrames()
    for number, task in enumerate(tasks):
        frames.add(Record(f"part-{number % parts}", ((number, task),), 1, 0, ()))
    return frames


def ordered(slices: list[int], *tasks: Task) -> list[int]:
    return list(order(recorded(*tasks), slices).frame)


@st.composite
def plans(draw):
    """Slices per mini-batch and tasks that cover them exactly, in order."""
    slices = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    tasks: list[Task] = []
    for index, count in enumerate(slices):
        inner = draw(st.sets(st.integers(1, count - 1))) if count > 1 else set()
        cuts = [0, *sorted(inner), count]
        for start, stop in itertools.pairwise(cuts):
            rows = [0]
            if stop == start + 1:
                rows += sorted(draw(st.sets(st.integers(1, 50), max_size=3)))
            tasks += [
                Task(index, start, stop, a, b) for a, b in zip(rows, [*rows[1:], -1], strict=True)
            ]
    return slices, tasks


@given(plans(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_any_order_of_records_gives_input_order(plan, chance, parts):
    slices, tasks = plan
    shuffled = list(tasks)
    chance.shuffle(shuffled)
    frames = recorded(*shuffled, parts=parts)
    result = order(frames, slices)
    assert [shuffled[ordinal] for ordinal in result.frame] == tasks
    for part, ordinal in zip(result.part, result.frame, strict=True):
        assert result.parts[part] == f"part-{ordinal % parts}"


@given(plans(), st.data())
def test_any_missing_result_is_refused(plan, data):
    slices, tasks = plan
    gone = data.draw(st.integers(0, len(tasks) - 1))
    with pytest.raises(BatchpointError, match="incomplete") as caught:
        ordered(slices, *tasks[:gone], *tasks[gone + 1 :])
    assert caught.value.code == "internal_error"


@given(plans(), st.data())
def test_of_two_results_for_one_task_the_first_counts(plan, data):
    slices, tasks = plan
    twice = data.draw(st.integers(0, len(tasks) - 1))
    assert ordered(slices, *tasks, tasks[twice]) == list(range(len(tasks)))


@pytest.mark.parametrize(
    ("slices", "tasks"),
    [
        ([4], [Task(0, 0, 4), Task(0, 2, 4)]),  # a piece beside the whole
        ([4], [Task(0, 0, 3), Task(0, 2, 4)]),  # overlap
        ([4], [Task(0, 0, 5)]),  # more than there is
        ([4], [Task(0, 0, 4), Task(1, 0, 1)]),  # not in the plan
        ([1], [Task(-1, 0, 1), Task(0, 0, 1)]),
        ([1], [Task(0, 0, 1, 0, 5)]),  # rows from 5 on are missing
        ([1], [Task(0, 0, 1, 0, 5), Task(0, 0, 1, 4, -1)]),
        ([1], [Task(0, 0, 1, 0, 0), Task(0, 0, 1, 0, -1)]),  # no rows at all
        ([2], [Task(0, 0, 2, 0, 5), Task(0, 0, 2, 5, -1)]),  # rows of two slices
        ([2], [Task(0, 0, 0), Task(0, 0, 2)]),
    ],
)
def test_results_that_do_not_join_are_refused(slices, tasks):
    with pytest.raises(BatchpointError, match="incomplete"):
        ordered(slices, *tasks)


def test_a_job_without_mini_batches_has_no_frames():
    assert list(order(RecordedFrames(), []).frame) == []


def test_hundreds_of_thousands_of_frames_are_cheap():
    count = 300_000
    indices = list(range(count))
    random.Random(7).shuffle(indices)
    frames = RecordedFrames()
    for at in range(0, count, 1000):
        tasks = tuple((n, Task(m, 0, 1)) for n, m in enumerate(indices[at : at + 1000]))
        frames.add(Record(f"part-{at}", tasks, 1000, 0, ()))
    before = time.process_time()
    result = order(frames, bytes([1]) * count)
    seconds = time.process_time() - before
    assert seconds < 5
    found = [
        indices[int(result.parts[part][5:]) + frame]
        for part, frame in zip(result.part, result.frame, strict=True)
    ]
    assert found == list(range(count))


def test_memory_for_frames_is_bounded():
    count = 50_000
    tracemalloc.start()
    try:
        frames = RecordedFrames()
        for index in range(count):
            frames.add(Record("part", ((index, Task(index, 0, 1)),), 1, 0, ()))
        order(frames, bytes([1]) * count)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150 * count  # 150 MB for a million


TYPES = ["int", "float", "bool", "string", "json", "null"]


@given(st.sampled_from(TYPES), st.sampled_from(TYPES), st.sampled_from(TYPES))
def test_widening_does_not_depend_on_order(a, b, c):
    assert widened(a, b) == widened(b, a)
    assert widened(widened(a, b), c) == widened(a, widened(b, c))
    assert widened(a, a) == a


def test_widening_follows_the_ruling():
    assert widened("int", "float") == "float"
    assert widened("float", "string") == "string"
    assert widened("bool", "int") == "string"
    assert widened("json", "string") == "string"
    assert widened("null", "bool") == "bool"


def test_columns_unite_in_first_seen_order_with_ours_first():
    assert union(
        [
            [("b", "int"), ("a", "bool")],
            [],
            [("_file", "string"), ("a", "int"), ("c", "json")],
            [("_file", "string"), ("_row", "int"), ("b", "float")],
        ]
    ) == (
        ("_file", "string"),
        ("_row", "int"),
        ("b", "float"),
        ("a", "string"),
        ("c", "json"),
    )
    assert union([]) == ()
