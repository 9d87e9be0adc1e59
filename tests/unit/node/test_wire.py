"""Messages between runner and agent survive the way through bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.messages import Assignment, AttemptError, TaskResult
from batchpoint.domain import limits
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.minibatch import MiniBatch, Slice, Task
from batchpoint.node import wire

naturals = st.integers(0, 2**40)
tasks = st.builds(Task, naturals, naturals, naturals, naturals, st.integers(-1, 2**40))
errors = st.builds(
    AttemptError,
    st.sampled_from(["user", "environment", "input", "storage", "batchpoint"]),
    st.text(),
    st.text(),
    st.text(),
    st.text(),
    st.text(),
    st.integers(-1, 100),
)
ordinals = st.lists(naturals, max_size=8).map(tuple) | st.builds(
    lambda first, count: tuple(range(first, first + count)), naturals, st.integers(0, 50)
)
results = st.builds(
    TaskResult,
    tasks,
    st.integers(1, 9),
    st.sampled_from(["scored", "failed", "crashed", "timed_out", "lost"]),
    st.integers(0, 10**9).map(lambda n: n / 1e6),
    st.integers(-1, 100),
    naturals,
    naturals,
    ordinals,
    ordinals,
    naturals,
    st.integers(-1, 100),
    st.none() | errors,
)


def through(message: wire.Message, piece: int) -> list[wire.Message]:
    """Send a message in pieces of so many bytes."""
    data = wire.encode(message)
    buffer = wire.MessageBuffer()
    return [
        found for at in range(0, len(data), piece) for found in buffer.feed(data[at : at + piece])
    ]


@given(st.lists(results, max_size=5), st.integers(1, 50))
def test_results_come_back_as_they_were(told: list[TaskResult], piece: int) -> None:
    [message] = through({"op": "reported", "results": wire.results_to_json(told)}, piece)
    assert wire.results_from_json(message["results"]) == tuple(told)


@given(st.lists(st.tuples(st.builds(MiniBatch, *[naturals] * 4), tasks), max_size=5))
def test_work_comes_back_as_it_was(pairs: list[tuple[MiniBatch, Task]]) -> None:
    work = [
        (batch, Assignment(task._replace(mini_batch=batch.number), 2, 1.5)) for batch, task in pairs
    ]
    [message] = through({"op": "assign", "work": wire.work_to_json(work)}, 7)
    assert wire.work_from_json(message["work"]) == work


def test_slices_come_back_with_names_that_are_no_unicode() -> None:
    slices = [Slice(1, "/a/\udcff", "\udcff", 3, "e", "bytes", 1, 2, 3)]
    [message] = through({"op": "index", "slices": wire.slices_to_json(slices)}, 5)
    assert wire.slices_from_json(message["slices"]) == slices


@given(st.lists(st.integers(0, 10), max_size=6), st.integers(1, 64))
def test_messages_are_cut_where_they_end(numbers: list[int], piece: int) -> None:
    data = b"".join(wire.encode({"op": "n", "number": number}) for number in numbers)
    buffer = wire.MessageBuffer()
    found = [m for at in range(0, len(data), piece) for m in buffer.feed(data[at : at + piece])]
    assert [message["number"] for message in found] == numbers


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xffGET / HTTP/1.1", b"\2\0\0\0[]", b"\2\0\0\0{}", b"\2\0\0\0{x"]
)
def test_something_else_on_the_socket_is_refused(data: bytes) -> None:
    with pytest.raises(Unavailable, match=r"is no node agent|is not JSON"):
        wire.MessageBuffer().feed(data)
    assert limits.PROTOCOL_HEADER_BYTES_MAX < 0xFFFFFFFF


def test_a_long_run_of_items_is_short_on_the_wire() -> None:
    result = TaskResult(Task(0, 0, 9), 1, "scored", 0.1, items=tuple(range(1_000_000)))
    assert len(wire.encode({"op": "reported", "results": wire.results_to_json([result])})) < 200
