"""Manifest segments: slices and cuts are read back, and any damage is noticed."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.errors import Unavailable
from batchpoint.domain.minibatch import Slice, Task
from batchpoint.formats.manifest import (
    PlanTotals,
    read_segment,
    read_totals,
    segment_of,
    write_segment,
    write_totals,
)

# File names that are not UTF-8 come from the disk with lone surrogates in them.
names = st.text(st.characters(), max_size=8)
numbers = st.integers(-1, 2**60)
slices = st.builds(
    Slice,
    item=st.integers(0, 2**40),
    uri=names,
    name=names,
    size=numbers,
    etag=names,
    unit=st.sampled_from(["", "bytes", "row_groups"]),
    start=numbers,
    stop=numbers,
    row=numbers,
)
THREE = [Slice(i, f"file:///in/{i}.csv", f"{i}.csv", 10 * i, f"e{i}") for i in range(3)]


@st.composite
def segments(draw):
    rows = draw(st.lists(slices, min_size=1, max_size=12))
    inner = draw(st.sets(st.integers(1, len(rows) - 1))) if len(rows) > 1 else set()
    return rows, [0, *sorted(inner)], draw(st.integers(0, 2**40))


@given(segments())
def test_a_segment_gives_back_slices_and_mini_batches(tmp_path_factory, segment):
    rows, cuts, first = segment
    path = tmp_path_factory.mktemp("manifest") / "segment-000000.bpm"
    write_segment(path, rows, cuts, first)
    read = read_segment(path)
    assert read.slices() == rows
    assert len(read) == len(rows)
    assert (read.first, read.cuts, read.stop) == (first, tuple(cuts), first + len(cuts))
    assert list(read.items) == [each.item for each in rows]
    ends = [*cuts[1:], len(rows)]
    assert list(read.counts()) == [b - a for a, b in zip(cuts, ends, strict=True)]
    for index, (begin, end) in enumerate(zip(cuts, ends, strict=True)):
        for a, b in itertools.combinations(range(end - begin + 1), 2):
            assert read.slices_of(Task(first + index, a, b)) == rows[begin + a : begin + b]


def test_a_task_of_another_segment_is_refused(tmp_path):
    write_segment(tmp_path / "s", THREE, [0, 2], 7)
    segment = read_segment(tmp_path / "s")
    for task in (Task(6, 0, 1), Task(9, 0, 1), Task(8, 0, 2)):
        with pytest.raises(IndexError):
            segment.slices_of(task)


@pytest.mark.parametrize("cuts", [[], [1], [0, 0], [0, 3], [0, 2, 1]])
def test_empty_mini_batches_are_refused(tmp_path, cuts):
    with pytest.raises(ValueError, match="cuts"):
        write_segment(tmp_path / "s", THREE, cuts, 0)


def test_any_flipped_or_missing_byte_is_noticed(tmp_path):
    path = tmp_path / "s.bpm"
    write_segment(path, THREE, [0], 0)
    good = path.read_bytes()
    damaged = [good[:length] for length in range(len(good))]
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 1
        damaged.append(bytes(data))
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(Unavailable, match=r"s\.bpm is damaged") as caught:
            read_segment(path)
        assert caught.value.code == "storage_unavailable"


def test_totals_are_read_back_and_damage_is_noticed(tmp_path):
    path = tmp_path / "plan.json"
    totals = PlanTotals(segments=2, mini_batches=7, items=100, inputs_hash="ab" * 32)
    write_totals(path, totals)
    assert read_totals(path) == totals
    good = path.read_bytes()
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 1
        for bad in (bytes(data), good[:position]):
            path.write_bytes(bad)
            with pytest.raises(Unavailable, match=r"plan\.json is damaged"):
                read_totals(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(Unavailable, match=r"segment-000000\.bpm"):
        read_segment(tmp_path / "segment-000000.bpm")
    with pytest.raises(Unavailable, match=r"plan\.json"):
        read_totals(tmp_path / "plan.json")


def test_the_segment_of_a_mini_batch_is_found():
    firsts = [0, 4, 5]
    assert [segment_of(firsts, index) for index in (0, 3, 4, 5, 99)] == [0, 0, 1, 2, 2]


def test_no_temporary_file_is_left(tmp_path):
    write_segment(tmp_path / "s", THREE, [0], 0)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
