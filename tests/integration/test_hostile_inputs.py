"""Inputs that are broken, odd or moving: each is counted as failed or scored right, never wrong."""

from __future__ import annotations

import csv
import gzip
import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from batchpoint.domain.job import Job, JobState
from tests.integration.conftest import Place

pytestmark = pytest.mark.filterwarnings("ignore")  # of mlflow, when it saves the model

READS = """
import os, time

def init():
    pass

def run(mini_batch):
    rows = []
    for path in mini_batch:
        with open(path, "rb") as file:
            data = file.read()
        if data == b"wait":
            while not os.path.exists(path + ".go"):
                time.sleep(0.01)
        rows.append(len(data))
    return rows
"""


@pytest.fixture(scope="module", autouse=True)
def reader(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("reads")
    settings = {"mini_batch_size": 1, "max_concurrency_per_instance": 2, "max_retries": 1}
    place.deploy_script(folder, "reads", READS, **settings)


def failed(place: Place, job: Job) -> dict[str, str]:
    lines = (place.output(job) / "_failed_items.jsonl").read_text().splitlines()
    return {line["name"]: line["type"] for line in map(json.loads, lines)}


def rows(place: Place, job: Job) -> list[list[str]]:
    with (place.output(job) / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def test_odd_names_are_kept_and_what_cannot_be_read_fails_alone(
    place: Place, tmp_path: Path
) -> None:
    names = ["new\nline", "per%20cent", "caf\u00e9", "cafe\u0301", 'quo"te', " spaced,out ", "-rf"]
    for name in names:
        (tmp_path / name).write_text(name)
    with open(os.fsencode(tmp_path) + b"/latin\xe9", "w") as file:  # noqa: PTH123 - no text
        file.write("latin")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "pipe")
    job = place.client.invoke("reads", tmp_path).wait(check=False, timeout_seconds=60)
    assert job.status.state == JobState.COMPLETED, job.status.error
    assert failed(place, job) == {"dangling": "FileNotFoundError", "loop": "OSError"}
    assert {row[0]: int(row[1]) for row in rows(place, job)} == {
        **{name: len(name.encode()) for name in names},
        "latin\\udce9": 5,
    }
    assert "folder/pipe" in place.folder(job).job_log.read_text()


@pytest.mark.parametrize(("threshold", "state"), [(2, "Completed"), (1, "Failed")])
def test_files_that_change_while_they_are_scored_fail_and_count_to_the_unit(
    place: Place, tmp_path: Path, threshold: int, state: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(6):
        (data / f"{number}.txt").write_text("wait" if number < 2 else "good")
    job = place.client.invoke("reads", data, error_threshold=threshold)
    give_up = time.monotonic() + 30
    while not job.status.progress.listed or job.status.progress.phase != "scoring":
        assert time.monotonic() < give_up
        time.sleep(0.01)
    for number in range(2):
        (data / f"{number}.txt").write_text("another content")
        (data / f"{number}.txt.go").touch()  # listed already, so it is no item
    (data / "5.txt").unlink()
    ended = job.wait(check=False, timeout_seconds=60)
    assert ended.status.state == state, ended.status.error
    if state == "Completed":
        lost = failed(place, ended)
        assert lost == {"0.txt": "input_changed", "1.txt": "input_changed"}
        assert [row[0] for row in rows(place, ended)] == [f"{n}.txt" for n in range(2, 6)]
    else:
        assert ended.status.error is not None
        assert ended.status.error.code == "error_threshold_exceeded"


@pytest.fixture(scope="module")
def line_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small model of two numbers."""
    mlflow = pytest.importorskip("mlflow")
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    linear = pytest.importorskip("sklearn.linear_model")
    frame = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0)})
    model = linear.LinearRegression().fit(frame, frame.a + frame.b)
    path = tmp_path_factory.mktemp("line") / "model"
    signature = mlflow.models.infer_signature(frame, model.predict(frame))
    mlflow.sklearn.save_model(model, str(path), signature=signature)
    return path


@pytest.mark.parametrize("mini_batch_size", [1, 50])
def test_broken_tables_fail_alone_without_code(
    place: Place, tmp_path: Path, line_model: Path, mini_batch_size: int
) -> None:
    good = "a,b\n1,2\n3,4\n"
    packed = gzip.compress(("a,b\n" + "1,2\n" * 5000).encode())
    whole = {
        "bom.csv": b"\xef\xbb\xbf" + good.encode(),
        "cr.csv": good.replace("\n", "\r").encode(),
        "crlf.csv": good.replace("\n", "\r\n").encode(),
        "good.csv": good.encode(),
        "no-end.csv": good.rstrip("\n").encode(),
        "new\nline.csv": good.encode(),
        "percent%41.csv": good.encode(),
    }
    broken = {
        "binary.csv": bytes(range(128, 256)) * 20,
        "empty.csv": b"",
        "empty.parquet": b"",
        "lacks.csv": b"a\n1\n",
        "no-gzip.csv.gz": good.encode(),
        "open-quote.csv": b'a,b\n1,2\n"3,4\n5,6\n',
        "short.csv.gz": packed[: len(packed) // 2],
        "short.parquet": b"PAR1" + bytes(500),
        "unknown.xyz": b"?",
        "wide.csv": good.encode("utf-16"),
    }
    for name, data in {**whole, **broken, "packed.csv.gz": packed}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "nul.csv").write_bytes(b"a,b\n1,2\n\x003,4\n5,6\n")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3,4,5\n7,8\n")
    if mini_batch_size == 1:
        place.client.deploy(line_model, "line-model", max_retries=0)
    job = place.client.invoke("line-model", tmp_path, mini_batch_size=mini_batch_size)
    ended = job.wait(check=False, timeout_seconds=120)
    assert ended.status.state == JobState.COMPLETED, ended.status.error
    assert set(failed(place, ended)) == {*broken, "nul.csv", "ragged.csv"}
    found = rows(place, ended)
    assert Counter(row[0] for row in found) == {
        **dict.fromkeys(whole, 2),
        "packed.csv.gz": 5000,
        "nul.csv": 2,
        "ragged.csv": 2,
    }
    for row in found:
        expected = {"0": 3.0, "1": 7.0, "2": 11.0 if row[0] == "nul.csv" else 15.0}
        if row[0] != "packed.csv.gz":
            assert float(row[2]) == pytest.approx(expected[row[1]])


@pytest.mark.slow
def test_a_line_of_200_megabytes_fails_alone(
    place: Place, tmp_path: Path, line_model: Path
) -> None:
    (tmp_path / "good.csv").write_text("a,b\n1,2\n")
    with (tmp_path / "line.csv").open("wb") as file:
        file.write(b"a,b\n1,")
        for _ in range(200):
            file.write(b"9" * 1_000_000)
    place.client.deploy(line_model, "long-lines", max_retries=0)
    job = place.client.invoke("long-lines", tmp_path).wait(check=False, timeout_seconds=250)
    assert job.status.state == JobState.COMPLETED, job.status.error
    assert set(failed(place, job)) == {"line.csv"}
    assert [row[0] for row in rows(place, job)] == ["good.csv"]


@pytest.mark.slow
def test_a_hundred_thousand_tiny_files_are_all_scored(place: Place, tmp_path: Path) -> None:
    for number in range(100_000):
        (tmp_path / f"{number:06d}").touch()
    job = place.client.invoke("reads", tmp_path, mini_batch_size=100)
    ended = job.wait(check=False, timeout_seconds=250)
    assert ended.status.state == JobState.COMPLETED, ended.status.error
    assert rows(place, ended) == [[f"{number:06d}", "0"] for number in range(100_000)]
