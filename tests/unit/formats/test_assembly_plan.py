"""The assembly plan: what is written is read back, and damage is noticed."""

import time
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.errors import Unavailable
from batchpoint.formats.assembly_plan import AssemblyPlan, read_plan, write_plan

ordinals = st.integers(0, 2**32 - 1)


@given(st.integers(1, 5), st.data())
def test_a_plan_is_read_back(tmp_path_factory, parts, data):
    frames = data.draw(st.lists(st.tuples(st.integers(0, parts - 1), ordinals), max_size=20))
    path = tmp_path_factory.mktemp("job") / "assembly.plan"
    names = tuple(f"part-{n}" for n in range(parts))
    plan = AssemblyPlan("job-1", names, [part for part, _ in frames], [f for _, f in frames])
    write_plan(path, plan)
    read = read_plan(path)
    assert (read.job, read.parts) == ("job-1", names)
    assert list(zip(read.part, read.frame, strict=True)) == frames


def test_any_flipped_or_missing_byte_is_noticed(tmp_path):
    path = tmp_path / "assembly.plan"
    write_plan(path, AssemblyPlan("j", ("a", "b"), [0, 1, 0], [0, 0, 1]))
    good = path.read_bytes()
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 1
        for bad in (bytes(data), good[:position]):
            path.write_bytes(bad)
            with pytest.raises(Unavailable, match=r"assembly\.plan is damaged"):
                read_plan(path)


def test_a_part_that_is_not_listed_is_noticed(tmp_path):
    path = tmp_path / "assembly.plan"
    write_plan(path, AssemblyPlan("j", ("a",), [1], [0]))
    with pytest.raises(Unavailable, match="does not list"):
        read_plan(path)


def test_a_million_frames_are_cheap(tmp_path):
    path = tmp_path / "assembly.plan"
    count = 1_000_000
    part = array("I", (n // 500 for n in range(count)))
    frame = array("I", (n % 500 for n in range(count)))
    names = tuple(f"000001-node-0-{n:06d}.part" for n in range(count // 500))
    began = time.process_time()
    write_plan(path, AssemblyPlan("j", names, part, frame))
    read = read_plan(path)
    assert time.process_time() - began < 5
    assert list(read.frame[-3:]) == [497, 498, 499]
    assert path.stat().st_size < 1_000_000
