"""Cutting: nothing is lost or reordered, sizes are kept, and paging makes no difference."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.planning import IMAGES, Cutter, Segment, slice_bytes
from batchpoint.domain import limits
from batchpoint.domain.minibatch import Slice
from batchpoint_worker import image_reading

KIB = 1024
MIB = 1024 * KIB


def listing(sizes: Sequence[int]) -> list[Slice]:
    return [Slice(n, f"file:///{n}", f"{n}", size, "") for n, size in enumerate(sizes)]


def cut(cutter: Cutter, slices: Sequence[Slice]) -> list[Segment]:
    return cutter.extend(slices) + cutter.close()


def batches(segments: Sequence[Segment]) -> list[tuple[Slice, ...]]:
    return [
        segment.slices[start:stop]
        for segment in segments
        for start, stop in zip(segment.cuts, (*segment.cuts[1:], len(segment.slices)), strict=True)
    ]


sizes = st.lists(st.sampled_from([0, 1, KIB, 100 * KIB, 300 * KIB, 3 << 20, 9 << 20]), max_size=60)


@given(sizes, st.integers(1, 20), st.booleans(), st.integers(1, 16))
def test_mini_batches_in_order_are_the_listing(
    sizes: list[int], size: int, coalesce: bool, workers: int
) -> None:
    slices = listing(sizes)
    segments = cut(Cutter(size, coalesce=coalesce, workers=workers), slices)
    assert [piece for batch in batches(segments) for piece in batch] == slices
    assert all(batches(segments))
    index = 0
    for segment in segments:
        assert segment.first_mini_batch == index
        assert segment.cuts[0] == 0
        index += len(segment.cuts)


@given(st.integers(0, 10_000), st.sampled_from([1, 7, 10, 4_096, 5_000]))
def test_scripts_get_exactly_mini_batch_size(count: int, size: int) -> None:
    segments = cut(Cutter(size, coalesce=False, workers=2), listing([1] * count))
    lengths = [len(batch) for batch in batches(segments)]
    assert lengths[:-1] == [size] * (len(lengths) - 1)
    assert sum(lengths) == count
    assert all(len(segment.slices) <= max(size, limits.SEGMENT_SLICES_MAX) for segment in segments)


@given(sizes, st.integers(1, 20), st.integers(1, 16))
def test_coalesced_mini_batches_are_bounded(sizes: list[int], size: int, workers: int) -> None:
    for batch in batches(cut(Cutter(size, coalesce=True, workers=workers), listing(sizes))):
        assert len(batch) == 1 or sum(map(slice_bytes, batch)) <= limits.COALESCE_BYTES_MAX


def test_small_files_are_glued_and_big_ones_are_not() -> None:
    small = batches(cut(Cutter(10, coalesce=True, workers=2), listing([5 * KIB] * 2_000)))
    assert 10 <= len(small) <= 16
    big = batches(cut(Cutter(10, coalesce=True, workers=2), listing([9 << 20] * 20)))
    assert [len(batch) for batch in big] == [1] * 20
    medium = batches(cut(Cutter(10, coalesce=True, workers=8), listing([100 * KIB] * 16)))
    assert len(medium) > 4, "workers must not go idle for the sake of the minimum"


@given(st.integers(1, 32), st.integers(20, 2_000))
def test_mini_batches_shrink_towards_the_end(workers: int, files: int) -> None:
    cutter = Cutter(1, coalesce=True, workers=workers)
    taken = [sum(map(slice_bytes, each)) for each in batches(cut(cutter, listing([MIB] * files)))]
    left = files * MIB
    for size in taken:
        share = min(max(left // (2 * workers), MIB), limits.COALESCE_BYTES_MAX)
        assert share - MIB < size <= share + MIB, (size, left)
        left -= size


def test_the_minimum_holds_for_small_files() -> None:
    asked = batches(cut(Cutter(1_000, coalesce=True, workers=2), listing([2 * KIB] * 3_000)))
    assert [len(batch) for batch in asked] == [1_000] * 3


@given(
    st.lists(st.tuples(st.sampled_from(["a.PNG", "a.csv"]), st.sampled_from([10, 9 << 20]))),
    st.integers(1, 12),
)
def test_images_keep_to_mini_batch_size_and_among_themselves(
    files: list[tuple[str, int]], size: int
) -> None:
    slices = [Slice(n, f"file:///{n}", name, size, "") for n, (name, size) in enumerate(files)]
    cutter = Cutter(size, coalesce=True, workers=2)
    kept = batches(cut(cutter, slices))
    assert [piece for batch in kept for piece in batch] == slices
    for batch, after in pairwise([*kept, ()]):
        names = {piece.name for piece in batch}
        assert len(names) == 1
        if names == {"a.PNG"}:
            full = len(batch) == size
            assert full or not after or (len(batch) < size and after[0].name == "a.csv")


def test_the_endings_of_images_are_those_that_the_worker_reads() -> None:
    assert set(IMAGES) == set(image_reading.ENDINGS)


def test_a_mini_batch_never_spans_segments() -> None:
    for coalesce in (False, True):
        segments = cut(Cutter(10, coalesce=coalesce, workers=4), listing([10] * 30_000))
        assert len(segments) > 1
        assert all(len(segment.slices) <= limits.SEGMENT_SLICES_MAX for segment in segments)


@given(st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_paging_makes_no_difference(pages: list[int], coalesce: bool) -> None:
    slices = listing([(n * 7_919) % (600 * KIB) for n in range(sum(pages))])
    paged = Cutter(5, coalesce=coalesce, workers=2)
    segments: list[Segment] = []
    begin = 0
    for page in pages:
        segments += paged.extend(slices[begin : begin + page])
        begin += page
    segments += paged.close()
    assert segments == cut(Cutter(5, coalesce=coalesce, workers=2), slices)


def test_bytes_of_a_slice() -> None:
    assert slice_bytes(Slice(0, "u", "n", 100, "", "bytes", 10, 30)) == 20
    assert slice_bytes(Slice(0, "u", "n", 100, "", "row_groups", 1, 2)) == 100


def test_packed_files_count_for_the_text_they_would_be():
    assert slice_bytes(Slice(0, "u", "a/n.csv", 100, "")) == 100
    assert slice_bytes(Slice(0, "u", "a/n.Parquet", 100, "")) == 400
    assert slice_bytes(Slice(0, "u", "a/n.csv.gz", 100, "")) == 400


@given(sizes, st.sampled_from([1, KIB, 200 * KIB, 4 << 20]), st.booleans())
def test_mini_batches_of_so_many_bytes(sizes: list[int], most: int, coalesce: bool) -> None:
    cutter = Cutter(1, coalesce=coalesce, workers=2, mini_batch_bytes=most)
    found = batches(cut(cutter, listing(sizes)))
    assert [piece for batch in found for piece in batch] == listing(sizes)
    for batch, following in pairwise(found):
        together = sum(piece.size for piece in batch)
        assert together <= most or len(batch) == 1
        # None is smaller than it has to be.
        assert together + following[0].size > most or together == most


def test_files_without_bytes_fill_mini_batches_up_to_a_segment() -> None:
    cutter = Cutter(1, coalesce=False, workers=1, mini_batch_bytes=10)
    found = batches(cut(cutter, listing([0] * (limits.SEGMENT_SLICES_MAX + 1))))
    assert [len(batch) for batch in found] == [limits.SEGMENT_SLICES_MAX, 1]
