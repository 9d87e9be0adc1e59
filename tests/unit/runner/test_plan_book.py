"""The plan book finds every mini-batch again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.minibatch import MiniBatch
from batchpoint.runner.plan_book import PlanBook


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), max_size=6))
def test_every_mini_batch_is_found(segments: list[list[int]]) -> None:
    book = PlanBook()
    expected: list[MiniBatch] = []
    for number, sizes in enumerate(segments):
        cuts = [sum(sizes[:i]) for i in range(len(sizes))]
        for start, size in zip(cuts, sizes, strict=True):
            expected.append(MiniBatch(len(expected), number, start, start + size))
        first = len(expected) - len(sizes)
        assert book.grow(first, cuts, sum(sizes), sum(sizes)) == tuple(sizes)
    assert [book.mini_batch(i) for i in range(len(expected))] == expected
    assert (book.segments, book.mini_batches) == (len(segments), len(expected))
