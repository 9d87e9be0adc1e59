"""Parts: what is written is read back, and any damage is noticed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.errors import Unavailable
from batchpoint.domain.minibatch import Task
from batchpoint.formats import parts
from batchpoint.formats.frame_table import FrameFiles, Schema
from batchpoint.formats.parts import PartReader, PartWriter

tasks = st.builds(
    Task,
    mini_batch=st.integers(0, 2**40),
    start=st.integers(0, 2**20),
    stop=st.integers(0, 2**20),
    row_start=st.integers(0, 2**40),
    row_stop=st.integers(-1, 2**40),
)
schemas = st.builds(
    Schema,
    encoding=st.sampled_from(["csv", "jsonl", "none"]),
    columns=st.lists(
        st.tuples(st.text(max_size=5), st.sampled_from(["int", "float", "string"])), max_size=3
    ).map(tuple),
)
harvests = st.none() | st.builds(
    FrameFiles,
    folder=st.text(max_size=5),
    files=st.lists(st.tuples(st.text(max_size=5), st.integers(0, 2**50)), min_size=1).map(tuple),
)
frames = st.fixed_dictionaries(
    {
        "task": tasks,
        "rows_bytes": st.binary(max_size=40),
        "failures": st.binary(max_size=20),
        "rows": st.integers(0, 2**40),
        "failed_rows": st.integers(0, 2**40),
        "schema": schemas,
        "items": st.integers(0, 2**20),
        "unattributed": st.integers(0, 300),
        "files": harvests,
    }
)


def write(path: Path, frames: list[dict]) -> Path:
    writer = PartWriter(path, job="job-1", epoch=3, node="node-0")
    for number, frame in enumerate(frames):
        schema = frame["schema"]
        given = {name: value for name, value in frame.items() if name != "schema"}
        ordinal = writer.add(**given, columns=schema.columns, encoding=schema.encoding)
        assert ordinal == number
    return writer.seal()


ONE = {
    "task": Task(0, 0, 1),
    "rows_bytes": b"a.csv,0,1\n",
    "failures": b'{"item":0}\n',
    "rows": 1,
    "failed_rows": 1,
    "schema": Schema("csv", (("_file", "string"), ("_row", "int"), ("y", "int"))),
    "items": 1,
    "unattributed": 0,
    "files": FrameFiles("000001-node-0-0", (("a/b.txt", 3),)),
}


@given(st.lists(frames, min_size=1, max_size=8))
def test_a_part_gives_back_what_was_added(tmp_path_factory, frames):
    path = write(tmp_path_factory.mktemp("parts") / "x.part", frames)
    with PartReader(path) as reader:
        assert (reader.job, reader.epoch, reader.node) == ("job-1", 3, "node-0")
        assert len(reader.frames) == len(frames)
        for ordinal, (info, frame) in enumerate(zip(reader.frames, frames, strict=True)):
            assert info.task == frame["task"]
            assert info.schema == frame["schema"]
            assert info.files == frame["files"]
            assert (info.rows, info.failed_rows) == (frame["rows"], frame["failed_rows"])
            assert (info.items, info.unattributed) == (frame["items"], frame["unattributed"])
            assert reader.read(ordinal) == (frame["rows_bytes"], frame["failures"])
        whole = b"".join(frame["rows_bytes"] + frame["failures"] for frame in frames)
        assert reader.read_run(0, len(frames)) == whole


def read_everything(path: Path) -> None:
    with PartReader(path) as reader:
        for ordinal in range(len(reader.frames)):
            reader.read(ordinal)


def test_any_flipped_byte_is_noticed(tmp_path):
    path = write(tmp_path / "x.part", [ONE, {**ONE, "rows_bytes": b"b.csv,0,2\n"}])
    good = path.read_bytes()
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 0x41
        path.write_bytes(data)
        with pytest.raises(Unavailable, match=r"x\.part is damaged") as caught:
            read_everything(path)
        assert caught.value.code == "storage_unavailable", position


def test_any_cut_and_any_addition_is_noticed(tmp_path):
    path = write(tmp_path / "x.part", [ONE])
    good = path.read_bytes()
    for damaged in [*(good[:length] for length in range(len(good))), good + b"\0"]:
        path.write_bytes(damaged)
        with pytest.raises(Unavailable, match=r"x\.part is damaged"):
            read_everything(path)


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(Unavailable, match=r"gone\.part"):
        PartReader(tmp_path / "gone.part")


def test_nothing_is_there_before_sealing_and_no_temporary_file_after(tmp_path):
    writer = PartWriter(tmp_path / "x.part", job="j", epoch=1, node="n")
    with pytest.raises(ValueError, match="no frames"):
        writer.seal()
    writer.add(
        Task(0, 0, 1), b"1\n", b"", rows=1, failed_rows=0, columns=[], encoding="csv", items=1
    )
    assert not (tmp_path / "x.part").exists()
    assert writer.size == 10
    assert writer.frames == 1
    writer.seal()
    assert [path.name for path in tmp_path.iterdir()] == ["x.part"]
    writer.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["x.part"]


def test_a_discarded_part_leaves_nothing(tmp_path):
    writer = PartWriter(tmp_path / "x.part", job="j", epoch=1, node="n")
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_frames_larger_than_the_buffer_are_kept(tmp_path):
    rows = [bytes([number]) * 700_000 for number in range(5)]
    path = write(tmp_path / "x.part", [{**ONE, "rows_bytes": data} for data in rows])
    with PartReader(path) as reader:
        assert [reader.read(n)[0] for n in range(5)] == rows


def test_a_part_of_another_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(parts, "VERSION", 2)
        path = write(tmp_path / "x.part", [ONE])
    with pytest.raises(Unavailable, match="version 2"):
        PartReader(path)
