"""Files of scripts: joined in input order, clashes and escapes refused."""

import pytest

from batchpoint.domain.errors import JobFailed, Unavailable
from batchpoint.domain.minibatch import Task
from batchpoint.formats import layout
from batchpoint.formats.parts import FrameFiles
from batchpoint.node.output_assembly import assemble
from tests.unit.node.output_jobs import OutputJob, tree


def summary(home, *harvests, **settings) -> OutputJob:
    job = OutputJob(home, output_action="summary_only", **settings)
    for files in harvests:
        job.add(columns=(), encoding="none", rows_count=1, files=files)
    return job


def published(job: OutputJob, *, backwards: bool = False) -> dict[str, bytes]:
    assemble(job.seal(backwards=backwards))
    files = tree(job.output)
    assert files.pop("_failed_items.jsonl") == b""
    return files


def test_summary_only_publishes_what_scripts_wrote_and_no_predictions(tmp_path):
    job = summary(tmp_path, {"a.png": b"\x89A", "deep/er/b.npy": b"B"}, None, {"c.png": b"C"})
    result = assemble(job.seal())
    files = {"a.png": b"\x89A", "deep/er/b.npy": b"B", "c.png": b"C"}
    assert tree(job.output) == files | {"_failed_items.jsonl": b""}
    assert (result.predictions, result.rows, result.items) == ("", 3, 3)
    assert [file.path for file in result.files] == ["_failed_items.jsonl", *sorted(files)]


@pytest.mark.parametrize("backwards", [False, True])
def test_text_files_are_joined_in_input_order(tmp_path, backwards):
    job = summary(tmp_path, {"n.txt": b"one\n"}, {"n.txt": b"two"}, {"n.txt": b"three\n"})
    assert published(job, backwards=backwards) == {"n.txt": b"one\ntwo\nthree\n"}


@pytest.mark.parametrize("name", ["x.txt", "x.csv", "x.tsv", "x.jsonl", "x.log", "X.LOG"])
def test_which_names_are_joined(tmp_path, name):
    job = summary(tmp_path, {name: b"1\n"}, {name: b"2\n"})
    assert published(job) == {name: b"1\n2\n"}


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_a_header_that_all_share_is_kept_once(tmp_path, name):
    job = summary(tmp_path, {name: b"h\n1\n"}, {name: b"h\n2"}, {name: b"h"}, {name: b"h\n3\n"})
    assert published(job) == {name: b"h\n1\n2\n3\n"}


def test_a_first_line_that_differs_is_data(tmp_path):
    job = summary(tmp_path, {"t.csv": b"h\n1\n"}, {"t.csv": b"2\n"}, {"t.txt": b"h\n"}, {})
    assert published(job) == {"t.csv": b"h\n1\n2\n", "t.txt": b"h\n"}


def test_repeated_lines_of_plain_text_are_all_kept(tmp_path):
    job = summary(tmp_path, {"t.txt": b"ok\n"}, {"t.txt": b"ok\n"}, {"t.log": b""}, {"t.log": b""})
    assert published(job) == {"t.txt": b"ok\nok\n", "t.log": b""}


def test_large_files_are_joined_whole(tmp_path):
    blocks = [b"h\n" + bytes([65 + n]) * 9_000_000 + b"\n" for n in range(2)]
    job = summary(tmp_path, {"t.csv": blocks[0]}, {"t.csv": blocks[1]})
    assert published(job) == {"t.csv": blocks[0] + blocks[1][2:]}


def test_two_mini_batches_writing_one_binary_file_are_both_named(tmp_path):
    job = summary(tmp_path, {"model.npy": b"A"}, None, {"model.npy": b"B"})
    with pytest.raises(JobFailed, match=r"0\.csv.*2\.csv.*model\.npy") as caught:
        assemble(job.seal())
    assert caught.value.code == "output_files_clash"
    assert not job.output.exists()


def test_a_file_and_a_folder_of_one_name_clash(tmp_path):
    job = summary(tmp_path, {"a": b"A"}, {"a/b": b"B"})
    with pytest.raises(JobFailed, match=r"1\.csv") as caught:
        assemble(job.seal())
    assert caught.value.code == "output_files_clash"


@pytest.mark.parametrize("name", ["predictions.csv", "_receipt.json", "_failed_items.jsonl"])
def test_names_of_ours_are_refused_under_append_row(tmp_path, name):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n", files={name: b"mine"})
    with pytest.raises(JobFailed, match=name.replace(".", r"\.")) as caught:
        assemble(job.seal())
    assert caught.value.code == "output_files_clash"


def test_predictions_csv_is_the_scripts_own_name_under_summary_only(tmp_path):
    job = summary(tmp_path, {"predictions.csv": b"h\n1\n"}, {"predictions.csv": b"h\n2\n"})
    assert published(job) == {"predictions.csv": b"h\n1\n2\n"}


def test_files_are_published_beside_predictions_too(tmp_path):
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n", files={"seen.txt": b"0\n"})
    assert set(published(job)) == {"predictions.csv", "seen.txt"}


@pytest.mark.parametrize("name", ["../out.txt", "/etc/cron.d/x", "a/../../b", "", ".."])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    job = summary(tmp_path)
    job.add(columns=(), encoding="none", rows_count=1)
    job._frames[0]["files"] = FrameFiles("000001-node-0-0", ((name, 1),))
    with pytest.raises(JobFailed, match="leaves its output folder"):
        assemble(job.seal())


def test_a_link_put_in_place_of_a_file_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"hunter2")
    job = summary(tmp_path / "home", {"x.txt": b"hunter2"})
    request = job.seal()
    (path,) = job.folder.files.rglob("x.txt")
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(Unavailable):
        assemble(request)
    assert not job.output.exists()


def test_a_file_that_has_changed_since_is_refused(tmp_path):
    job = summary(tmp_path, {"x.txt": b"one"})
    request = job.seal()
    (path,) = job.folder.files.rglob("x.txt")
    path.write_bytes(b"other")
    with pytest.raises(Unavailable, match="size"):
        assemble(request)


def test_files_of_init_are_published_once(tmp_path):
    job = summary(tmp_path, {"own.txt": b"run\n"})
    for node in ("node-0", "node-1", "node-2"):
        folder = job.folder.files / layout.init_harvest_name(1, node)
        (folder / "deep").mkdir(parents=True)
        (folder / "labels.json").write_bytes(b"{}")
        (folder / "deep" / "more.txt").write_bytes(b"init\n")
    assert published(job) == {
        "own.txt": b"run\n",
        "labels.json": b"{}",
        "deep/more.txt": b"init\n",
    }


def test_pieces_of_a_mini_batch_are_joined_in_their_order(tmp_path):
    job = summary(tmp_path)
    for start in (1, 0, 2):
        job.add(
            columns=(),
            encoding="none",
            rows_count=1,
            task=Task(0, start, start + 1),
            files={"n.txt": b"%d\n" % start},
        )
    assert published(job) == {"n.txt": b"0\n1\n2\n"}
