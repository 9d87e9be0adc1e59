"""Tasks as workers are told them: local paths, rows, and slice files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.messages import Assignment
from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.minibatch import MiniBatch, Slice, Task
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.manifest import write_segment
from batchpoint.node.staging import Staging, root_name, slice_file, staged_names
from batchpoint.node.ticket import Ticket


def slices(count: int) -> list[Slice]:
    return [Slice(i, f"/data/f{i}", f"f{i}", 1, "e") for i in range(count)]


def staging(tmp_path: Path, *, script: bool) -> Staging:
    folder = JobFolder(tmp_path / "job")
    folder.make()
    write_segment(folder.segment(0), slices(10), [0, 4], 0)
    return Staging(folder, tmp_path / "scratch", script=script)


def ticket(*parts: Slice, task: Task | None = None) -> Ticket:
    given = Assignment(task or Task(0, 0, len(parts)), 1, 60.0)
    return Ticket(7, MiniBatch(0, 0, 0, len(parts)), given, list(parts))


def test_a_task_covers_the_slices_of_its_mini_batch(tmp_path: Path) -> None:
    place = staging(tmp_path, script=True)
    second = MiniBatch(1, 0, 4, 10)
    found = place.slices(second, Assignment(Task(1, 2, 4), 1, 60.0))
    assert [one.item for one in found] == [6, 7]
    with pytest.raises(IndexError):
        place.slices(second, Assignment(Task(1, 2, 7), 1, 60.0))
    with pytest.raises(Unavailable, match="segment-000003"):
        place.slices(MiniBatch(9, 3, 0, 1), Assignment(Task(9, 0, 1), 1, 60.0))


def test_what_the_worker_is_told(tmp_path: Path) -> None:
    place = staging(tmp_path, script=False)
    one = ticket(
        Slice(3, "/data/big.csv", "big.csv", 99, "e", "bytes", 5, 50, 2),
        task=Task(0, 0, 1, 4, -1),
    )
    assert place.at_hand(one)
    assert one.order() == {
        "id": 7,
        "items": [
            {
                "path": "/data/big.csv",
                "name": "big.csv",
                "item": 3,
                "unit": "bytes",
                "start": 5,
                "stop": 50,
                "row": 2,
                "size": 99,
            }
        ],
        "rows": [4, -1],
        "harvest": "",
    }
    whole = ticket(*slices(2))
    place.at_hand(whole)
    assert whole.order()["rows"] is None
    assert whole.order()["items"][1] == {"path": "/data/f1", "name": "f1", "item": 1}
    assert whole.items == (0, 1)


def test_a_script_gets_a_slice_as_a_file_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(b'\xef\xbb\xbf"h\n1",h2\r\n1,2\r\n3,4\r\n')
    place = staging(tmp_path, script=True)
    one = ticket(Slice(0, f"file://{source}", "a.csv", 30, "e", "bytes", 18, 23, 1))
    assert not place.at_hand(one)
    place.make(one)
    [path] = one.paths
    assert Path(path).name == "a-000000000018.csv"
    assert Path(path).read_bytes() == b'\xef\xbb\xbf"h\n1",h2\r\n3,4\r\n'
    assert one.order()["items"] == [{"path": path, "name": "a.csv", "item": 0}]
    one.forget_staged()
    assert not list((tmp_path / "scratch").iterdir())


def test_json_lines_have_no_header(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b'{"a":1}\n{"a":2}\n')
    place = staging(tmp_path, script=True)
    one = ticket(Slice(0, str(source), "a.jsonl", 16, "e", "bytes", 8, 16, 1))
    place.make(one)
    assert Path(one.paths[0]).read_bytes() == b'{"a":2}\n'


def test_a_file_that_shrank_or_went_is_unreadable(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    place = staging(tmp_path, script=True)
    one = ticket(Slice(0, str(source), "a.csv", 30, "e", "bytes", 2, 23, 1))
    with pytest.raises(Invalid, match=r"a\.csv is gone"):
        place.make(one)
    source.write_text("h\n1\n")
    with pytest.raises(Invalid, match="shorter"):
        place.make(one)


def named(*names: str, unit: str = "") -> list[Slice]:
    return [Slice(i, f"s3://b/{n}", n, 9, "e", unit, 4, 8) for i, n in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "made"),
    [
        (["a/x.csv", "b/x.csv"], ["a/x.csv", "b/x.csv"]),
        (["A.csv", "a.csv"], ["A.csv", "_1/a.csv"]),
        (["a", "a/b"], ["a", "_1/b"]),
        (["a/b", "a"], ["a/b", "_1/a"]),
        (["../../etc/passwd", "/abs"], ["passwd", "abs"]),
        (["_1/x", "_1/X", "x//y"], ["_1/x", "_1_/X", "y"]),
        (["x" * 300 + ".csv"], ["item-0.csv"]),
        (["a/.."], ["item-0"]),
    ],
)
def test_names_of_staged_files_are_safe_and_different(names: list[str], made: list[str]) -> None:
    assert staged_names(named(*names), folders=True) == made


@given(st.lists(st.text("aA./_1", min_size=1, max_size=6), max_size=8))
def test_whatever_items_are_called_their_files_can_be_made(names: list[str]) -> None:
    folder = Path("/staged")
    made = [folder / name for name in staged_names(named(*names), folders=True)]
    assert len({str(path).casefold() for path in made}) == len(names)
    assert all(folder in path.parents and ".." not in path.parts for path in made)
    assert not any(one in other.parents for one in made for other in made)


def test_a_slice_of_a_file_with_a_long_name_can_be_made(tmp_path: Path) -> None:
    name = "x" * 246 + ".csv"
    (tmp_path / name).write_bytes(b"h\n1\n2\n")
    one = Slice(3, str(tmp_path / name), name, 6, "e", "bytes", 4, 6)
    for folders in (False, True):
        [made] = staged_names([one], folders=folders)
        assert slice_file(one, tmp_path / made).read_bytes() == b"h\n2\n"
        (tmp_path / made).unlink()


def test_a_slice_of_what_cannot_be_opened_is_unreadable(tmp_path: Path) -> None:
    # Not "no room": that would be waited for. A folder cannot be opened by root either.
    one = Slice(0, str(tmp_path), "x.csv", 6, "e", "bytes", 4, 6)
    with pytest.raises(Invalid, match="cannot be read") as caught:
        slice_file(one, tmp_path / "part")
    assert caught.value.code == "input_unreadable"


def test_slices_of_files_with_one_name_do_not_replace_each_other() -> None:
    made = staged_names(named("a/x.csv", "b/x.csv", unit="bytes"))
    assert made == ["x-000000000004.csv", "_1/x-000000000004.csv"]


@pytest.mark.parametrize(
    ("uri", "name", "root"),
    [
        ("azureml://datastores/d/paths/in/a/x.csv", "a/x.csv", "in"),
        ("s3://bucket/x.csv", "x.csv", "bucket"),
        ("https://host/a%20b.csv", "a b.csv", "input"),
    ],
)
def test_the_folder_of_staged_files_is_called_as_that_of_the_input(
    uri: str, name: str, root: str
) -> None:
    assert root_name(Slice(0, uri, name, 1, "e")) == root
