"""Assembling an output: what is in it, in which order, and what is refused."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue, TypeAdapter

from batchpoint.domain.errors import BatchpointError, Conflict, Invalid, Unavailable
from batchpoint.domain.minibatch import Task
from batchpoint.formats import receipt as receipts
from batchpoint.node.output_assembly import assemble
from batchpoint.node.output_request import AssembledOutput, AssembleRequest, Counts
from tests.unit.node.output_jobs import FILE_ROW_Y, OutputJob, folder_of, into, tree


def failed_lines(request: AssembleRequest) -> list[dict]:
    text = (folder_of(request) / "_failed_items.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("frames_per_part", [1, 3, 100])
def test_rows_come_in_input_order_under_one_header(tmp_path, backwards, frames_per_part):
    job = OutputJob(tmp_path, frames_per_part=frames_per_part)
    for item in range(10):
        job.add(b"".join(b"%d.csv,%d,%d\n" % (item, row, item * row) for row in range(item)))
    result = assemble(job.seal(backwards=backwards))
    expected = "_file,_row,y\n" + "".join(
        f"{item}.csv,{row},{item * row}\n" for item in range(10) for row in range(item)
    )
    assert tree(job.output) == {
        "predictions.csv": expected.encode(),
        "_failed_items.jsonl": b"",
    }
    assert (result.items, result.scored, result.failed, result.rows) == (10, 10, 0, 45)
    assert result.predictions == "predictions.csv"


@settings(max_examples=25)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=20), st.integers(1, 5))
def test_azure_output_is_the_plain_concatenation(tmp_path_factory, frames, frames_per_part):
    job = OutputJob(
        tmp_path_factory.mktemp("home"), frames_per_part=frames_per_part, output_format="azure"
    )
    for data in frames:
        job.add(data, encoding="azure", columns=())
    assemble(job.seal())
    assert (job.output / "predictions.csv").read_bytes() == b"".join(frames)


def test_jsonl_has_no_header(tmp_path):
    job = OutputJob(tmp_path, output_file_name="out.jsonl")
    job.add(b'{"y":1}\n', encoding="jsonl", columns=(("y", "int"),))
    job.add(b'{"y":2}\n', encoding="jsonl", columns=(("y", "int"),))
    assemble(job.seal())
    assert (job.output / "out.jsonl").read_bytes() == b'{"y":1}\n{"y":2}\n'


def test_frames_with_other_columns_are_rendered_anew(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"a,1\n", columns=(("_file", "string"), ("n", "int")))
    job.add(b'b,"x, y",2.5\n', columns=(("_file", "string"), ("t", "string"), ("n", "float")))
    job.add(b"", columns=(("_file", "string"), ("late", "bool")))  # a valid file without rows
    assemble(job.seal())
    assert (job.output / "predictions.csv").read_text() == (
        '_file,n,t,late\na,1.0,,\nb,2.5,"x, y",\n'
    )


def test_the_receipt_tells_what_came_out_of_what(tmp_path):
    job = OutputJob(tmp_path, environment_variables={"TOKEN": "hunter2"})
    job.add(b"0.csv,0,1\n")
    attempts = [{"outcome": "failed", "seconds": 0.5}]
    job.add(failures=[job.fail(1, attempts=attempts)], columns=(), encoding="none")
    request = job.seal()
    result = assemble(request)
    data = (job.output / "_receipt.json").read_bytes()
    assert b"hunter2" not in data
    receipt = receipts.decode(data)
    assert receipts.encode(receipt) == data
    assert receipt.items.model_dump() == {"planned": 2, "scored": 1, "failed": 1}
    assert receipt.job == job.name
    assert receipt.source["model"]["hash"] == "a" * 64
    assert receipt.source["code"]["hash"] == "b" * 64
    assert receipt.source["environment"]["hash"] == "c" * 64
    assert receipt.source["input"]["hash"] == "ab" * 32
    assert receipt.settings["environment_variables"] == ["TOKEN"]
    assert receipt.settings["max_retries"] == 3
    assert (receipt.rows, receipt.retries, receipt.mini_batches) == (1, 2, 2)
    assert receipt.timings == request.timings
    assert receipt.failures[0].name == "1.csv"
    assert [each.model_dump() for each in receipt.failures[0].attempts] == attempts
    for file in receipt.files:
        published = (job.output / file.path).read_bytes()
        assert file.size == len(published)
        assert file.sha256 == hashlib.sha256(published).hexdigest()
    assert result.files == tuple(receipt.files)
    assert {file.path for file in result.files} == {"predictions.csv", "_failed_items.jsonl"}


def test_failed_items_are_listed_in_input_order_without_what_varies(tmp_path):
    job = OutputJob(tmp_path)
    two = Task(0, 0, 2)
    job.add(b"0.csv,1,7\n", [job.fail(1, 5), job.fail(0, 3), job.fail(0, 2)], task=two, items=2)
    gone = job.fail(2, attempts=[{"outcome": "timed_out", "seconds": 61.2}], origin="input")
    job.add(failures=[gone], task=Task(1, 0, 1), columns=(), encoding="none", failed_rows=4)
    result = assemble(job.seal())
    lines = failed_lines(job.seal())
    assert [(line["name"], line["row"]) for line in lines] == [
        ("0.csv", 2),
        ("0.csv", 3),
        ("1.csv", 5),
        ("2.csv", None),
    ]
    assert set(lines[3]) == {"item", "name", "row", "origin", "type", "message", "traceback"}
    assert [line["origin"] for line in lines] == ["user", "user", "user", "input"]
    assert (result.items, result.scored, result.failed, result.failed_rows) == (3, 0, 3, 4)


def test_names_that_are_not_unicode_can_be_read_by_strict_readers(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n", [job.fail(0, 1, name="\udcff.csv")], files={"\udcfe.txt": b"x"})
    assemble(job.seal())
    for name in ("_failed_items.jsonl", "_receipt.json"):
        TypeAdapter(JsonValue).validate_json((job.output / name).read_bytes())
    assert failed_lines(job.seal())[0]["name"] == "\\udcff.csv"
    assert (job.output / "\\udcfe.txt").read_bytes() == b"x"
    assert assemble(job.seal()).items == 1


def test_missing_rows_count_as_failed_items_and_are_listed(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b",0,1\n,1,1\n,2,1\n", task=Task(0, 0, 5), items=5, unattributed=2)
    result = assemble(job.seal())
    assert (result.scored, result.failed, result.unattributed) == (3, 2, 2)
    (line,) = failed_lines(job.seal())
    assert line["name"] is None
    assert "2 rows fewer" in line["message"]
    assert "0.csv to 4.csv" in line["message"]


def test_pieces_of_a_mini_batch_are_joined(tmp_path):
    job = OutputJob(tmp_path, frames_per_part=2)
    job.add(b"1.csv,3,3\n", task=Task(0, 1, 2, 3, -1))
    job.add(b"0.csv,0,0\n", task=Task(0, 0, 1))
    job.add(b"1.csv,0,1\n1.csv,1,2\n", task=Task(0, 1, 2, 0, 2))
    job.add(
        failures=[job.fail(1, 2)],
        task=Task(0, 1, 2, 2, 3),
        columns=(),
        encoding="none",
        failed_rows=1,
    )
    result = assemble(job.seal())
    rows = (job.output / "predictions.csv").read_text().splitlines()[1:]
    assert rows == ["0.csv,0,0", "1.csv,0,1", "1.csv,1,2", "1.csv,3,3"]
    assert (result.items, result.scored, result.failed) == (2, 1, 1)


def test_counts_must_be_those_of_the_runner(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n", [job.fail(0, 1)], failed_rows=1)
    request = job.seal()
    assert assemble(replace(request, counted=Counts(1, 1, 1, 0))).rows == 1
    job = OutputJob(tmp_path / "other")
    job.add(b"0.csv,0,1\n")
    with pytest.raises(BatchpointError, match="runner counted") as caught:
        assemble(replace(job.seal(), counted=Counts(2, 0, 0, 0)))
    assert caught.value.code == "internal_error"
    assert not job.output.exists()
    assert list(job.output.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["predictions.csv", "_failed_items.jsonl", "_receipt.json"])
def test_an_existing_file_is_never_touched(tmp_path, name):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n")
    job.output.mkdir(parents=True)
    (job.output / name).write_bytes(b"mine")
    steps: list[str] = []
    with pytest.raises(Conflict, match=name.replace(".", r"\.")) as caught:
        assemble(job.seal(), steps.append)
    assert steps == []  # said before anything is written
    assert caught.value.code == "output_exists"
    assert [path.name for path in job.output.iterdir()] == [name]
    assert (job.output / name).read_bytes() == b"mine"
    assert list(job.output.parent.iterdir()) == [job.output]


def test_other_files_in_the_folder_stay(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n")
    job.output.mkdir(parents=True)
    (job.output / "notes.md").write_bytes(b"mine")
    assemble(job.seal())
    assert tree(job.output) == {
        "notes.md": b"mine",
        "predictions.csv": b"_file,_row,y\n0.csv,0,1\n",
        "_failed_items.jsonl": b"",
    }


def test_an_empty_folder_keeps_its_permissions(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n")
    job.output.mkdir(parents=True)
    job.output.chmod(0o750)
    assemble(job.seal())
    assert (job.output / "_receipt.json").exists()
    assert job.output.stat().st_mode & 0o777 == 0o750
    assert list(job.output.parent.iterdir()) == [job.output]


def test_a_link_to_a_folder_is_followed_and_kept(tmp_path):
    job = OutputJob(tmp_path / "home")
    job.add(b"0.csv,0,1\n")
    real = tmp_path / "elsewhere"
    real.mkdir()
    job.output.parent.mkdir(parents=True)
    job.output.symlink_to(real)
    assemble(job.seal())
    assert job.output.is_symlink()
    assert set(tree(real)) == {"predictions.csv", "_failed_items.jsonl"}


@pytest.mark.parametrize("name", ["../x.csv", "a/b.csv", "", "..", "_receipt.json", "/etc/x"])
def test_output_file_names_stay_in_the_folder(tmp_path, name):
    job = OutputJob(tmp_path, output_file_name=name)
    job.add(b"0.csv,0,1\n")
    with pytest.raises(Invalid, match="output_file_name"):
        assemble(job.seal())


def test_a_damaged_frame_is_never_published(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n")
    request = job.seal()
    (part,) = job.folder.parts.iterdir()
    data = bytearray(part.read_bytes())
    data[10] ^= 1
    part.write_bytes(data)
    with pytest.raises(Unavailable, match=r"\.part is damaged") as caught:
        assemble(request)
    assert caught.value.code == "storage_unavailable"
    assert list(job.output.parent.iterdir()) == []


def test_the_part_of_another_job_is_refused(tmp_path):
    job, other = OutputJob(tmp_path / "a"), OutputJob(tmp_path / "b")
    for each in (job, other):
        each.add(b"0.csv,0,1\n")
    other.name = "other-job"
    request = job.seal()
    other.seal()
    (mine,) = job.folder.parts.iterdir()
    (theirs,) = other.folder.parts.iterdir()
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(Unavailable, match="belongs to job 'other-job'"):
        assemble(request)


def test_a_published_output_is_found_again(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n", [job.fail(0, 1)])
    request = job.seal()
    first = assemble(request)
    before = {path: path.stat().st_mtime_ns for path in job.output.iterdir()}
    steps: list[str] = []
    assert assemble(request, steps.append) == first
    assert steps == []
    assert before == {path: path.stat().st_mtime_ns for path in job.output.iterdir()}


def test_the_output_of_an_earlier_job_of_the_same_name_is_not_taken_for_ours(tmp_path):
    old, new = OutputJob(tmp_path / "old"), OutputJob(tmp_path / "new")
    old.add(b"0.csv,0,1\n")
    new.add(b"0.csv,0,2\n")
    assemble(old.seal())
    with pytest.raises(Conflict):
        assemble(into(new.seal(), old.output))
    assert (old.output / "predictions.csv").read_bytes().endswith(b"0.csv,0,1\n")


def test_only_one_assembly_of_a_job_runs_at_a_time(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n")
    request = job.seal()
    seen: list[str] = []

    def step(name: str) -> None:
        if name == "rows":
            with pytest.raises(Unavailable, match="another process"):
                assemble(request)
            seen.append(name)

    assemble(request, step)
    assert seen == ["rows"]


def test_many_small_frames_out_of_order_across_parts(tmp_path):
    job = OutputJob(tmp_path, frames_per_part=50)
    count = 2_000
    for item in range(count):
        task = Task(item ^ 5, 0, 1)  # a few places off, as several workers leave them
        job.add(b"%d.csv,0,%d\n" % (item ^ 5, item ^ 5), task=task)
    assemble(job.seal())
    rows = (job.output / "predictions.csv").read_text().splitlines()[1:]
    assert rows == [f"{item}.csv,0,{item}" for item in range(count)]


def test_big_frames(tmp_path):
    job = OutputJob(tmp_path)
    blocks = [b"%d,0,1\n" % n * 300_000 for n in range(4)]
    for block in blocks:
        job.add(block)
    result = assemble(job.seal())
    data = (job.output / "predictions.csv").read_bytes()
    assert data == b"_file,_row,y\n" + b"".join(blocks)
    assert result.files[0].sha256 == hashlib.sha256(data).hexdigest()


def test_request_and_answer_travel_as_json(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n")
    request = replace(job.seal(), counted=Counts(1, 0, 0, 0))
    assert AssembleRequest.from_json(json.loads(json.dumps(request.to_json()))) == request
    assert AssembleRequest.from_json(
        json.loads(json.dumps(replace(request, counted=None).to_json()))
    ) == replace(request, counted=None)
    answer = assemble(request)
    assert AssembledOutput.from_json(json.loads(json.dumps(answer.to_json()))) == answer


def test_columns_of_the_header_are_quoted_where_needed(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,1\n", columns=(("_file", "string"), ('a "b", c', "int")))
    assemble(job.seal())
    first = (job.output / "predictions.csv").read_text().splitlines()[0]
    assert first == '_file,"a ""b"", c"'
    assert FILE_ROW_Y[0][0] == "_file"
