"""Whole jobs of scoring scripts: what user code finds around it, and the files it writes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain import limits
from batchpoint.domain.job import Job, JobState
from tests.integration.conftest import Place

SURROUNDINGS = """
import argparse
import json
import logging
import os
import sys

from scaling import factors

FIRST = {}

def seen():
    names = [
        "AZUREML_MODEL_DIR", "BATCHPOINT_MODEL_DIR", "AZUREML_BI_OUTPUT_PATH",
        "BATCHPOINT_OUTPUT_PATH", "AZUREML_RUN_ID", "BATCHPOINT_JOB", "COLOUR", "SHAPE",
        "OMP_NUM_THREADS", "OMP_WAIT_POLICY",
    ]
    return {name: os.environ.get(name) for name in names}

def init():
    parser = argparse.ArgumentParser()
    parser.add_argument("--logging_level", default="none")
    known, unknown = parser.parse_known_args()
    FIRST.update(seen(), known=known.logging_level, unknown=unknown, pid=os.getpid())
    logging.getLogger("scoring").debug("finest")
    logging.getLogger("scoring").info("finer")
    logging.getLogger("scoring").warning("coarse")
    print("printed in init")

def run(mini_batch):
    print("printed in run")
    model = os.environ["AZUREML_MODEL_DIR"]
    told = {
        "init": FIRST,
        "run": seen(),
        "model": sorted(os.listdir(model)),
        "weights": open(os.path.join(model, "weights", "w.txt")).read(),
        "paths": mini_batch,
        "working": os.getcwd(),
        "factor": factors.FACTOR,
    }
    return [json.dumps(told)] * len(mini_batch)

def shutdown():
    print("printed in shutdown")
"""

WRITER = """
import os

def out(name):
    return os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], name)

def init():
    with open(out("labels.bin"), "wb") as file:
        file.write(b"cat dog")

def run(mini_batch):
    for path in mini_batch:
        name = os.path.basename(path)
        with open(path) as file:
            text = file.read()
        with open(out("all.txt"), "a") as file:
            file.write(text + "\\n")
        header = not os.path.exists(out("table.csv"))
        with open(out("table.csv"), "a") as file:
            if header:
                file.write("name,text\\n")
            file.write(name + "," + text + "\\n")
        os.makedirs(out("single"), exist_ok=True)
        with open(out("single/" + name + ".bin"), "wb") as file:
            file.write(text.encode() * 2)
        if text == "clash":
            with open(out("same.bin"), "wb") as file:
                file.write(b"mine")
        if text == "raises":
            raise ValueError("no")
    return [os.path.basename(path) for path in mini_batch]
"""


def write(folder: Path, *texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text)
    return folder


def told(place: Place, job: Job) -> list[dict[str, Any]]:
    lines = place.predictions(job, "p.jsonl").splitlines()
    return [json.loads(json.loads(line)["prediction"]) for line in lines]


def user_log(place: Place, job: Job) -> str:
    handle = place.client.job(job.name)
    names = [file.path for file in handle.logs() if file.path.startswith("user/")]
    assert names
    return "".join(b"".join(handle.log(name)).decode() for name in names)


@pytest.fixture(scope="module")
def surroundings(place: Place, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("surroundings")
    (folder / "weights").mkdir()
    (folder / "weights" / "w.txt").write_text("heavy")
    code = folder / "code"
    (code / "scaling").mkdir(parents=True)
    (code / "scaling" / "factors.py").write_text("FACTOR = 7\n")
    (code / "entry").mkdir()
    (code / "entry" / "score.py").write_text(SURROUNDINGS)
    place.client.deploy(
        folder / "weights",
        "surroundings",
        code=code,
        scoring_script="entry/score.py",
        environment_variables={"COLOUR": "red", "SHAPE": "round"},
        output_file_name="p.jsonl",
    )
    place.client.deploy(
        folder / "weights",
        "surroundings",
        deployment="talkative",
        set_default=False,
        code=code,
        scoring_script="entry/score.py",
        logging_level="debug",
        output_file_name="p.jsonl",
    )
    return "surroundings"


def test_what_a_script_finds_around_it(place: Place, surroundings: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", "a", "b")
    job = place.client.invoke(surroundings, folder).wait()
    [one, other] = told(place, job)
    assert one == other
    assert one["model"] == ["weights"]
    assert one["weights"] == "heavy"
    assert one["factor"] == 7
    assert one["paths"] == [str(folder / "0.txt"), str(folder / "1.txt")]
    assert one["working"] not in (str(Path.cwd()), str(place.home))
    around = one["run"]
    assert around["AZUREML_MODEL_DIR"] == around["BATCHPOINT_MODEL_DIR"]
    assert around["AZUREML_BI_OUTPUT_PATH"] == around["BATCHPOINT_OUTPUT_PATH"]
    assert around["AZUREML_RUN_ID"] == around["BATCHPOINT_JOB"] == job.name
    assert (around["COLOUR"], around["SHAPE"]) == ("red", "round")
    assert int(around["OMP_NUM_THREADS"]) >= 1
    assert around["OMP_WAIT_POLICY"] == "PASSIVE"
    assert (one["init"]["known"], one["init"]["unknown"]) == ("none", [])
    log = user_log(place, job)
    assert "printed in init" in log
    assert "printed in run" in log
    assert "coarse" in log
    assert "finer" in log
    assert "finest" not in log


def test_variables_of_a_job_come_to_fresh_workers(
    place: Place, surroundings: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "in", "a")
    first = place.client.invoke(surroundings, folder).wait()
    second = place.client.invoke(surroundings, folder).wait()
    own = place.client.invoke(surroundings, folder, environment_variables={"SHAPE": "square"})
    third = own.wait()
    after = place.client.invoke(surroundings, folder).wait()
    [one], [two], [three], [four] = (told(place, job) for job in (first, second, third, after))
    assert one["init"]["pid"] == two["init"]["pid"]
    assert two["run"]["AZUREML_RUN_ID"] == second.name
    assert three["init"]["pid"] != two["init"]["pid"]
    for when in ("init", "run"):
        assert (three[when]["COLOUR"], three[when]["SHAPE"]) == ("red", "square")
        assert (four[when]["COLOUR"], four[when]["SHAPE"]) == ("red", "round")
    receipt = json.loads((place.output(third) / "_receipt.json").read_text())
    assert receipt["settings"]["environment_variables"] == ["COLOUR", "SHAPE"]
    assert "square" not in json.dumps(receipt)


def test_the_logging_level_is_the_deployments(
    place: Place, surroundings: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "in", "a")
    job = place.client.invoke(surroundings, folder, deployment="talkative").wait()
    assert "finest" in user_log(place, job)


@pytest.fixture(scope="module")
def writer(place: Place, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("writer")
    many: dict[str, Any] = {"max_concurrency_per_instance": 2, "max_retries": 0}
    place.deploy_script(folder / "a", "writer", WRITER, output_action="summary_only", **many)
    place.deploy_script(folder / "b", "writer-too", WRITER, mini_batch_size=2, **many)
    return "writer"


TEXTS = [f"text {number}" for number in range(9)]
JOINED = "".join(f"{text}\n" for text in TEXTS)
TABLE = "name,text\n" + "".join(f"{n}.txt,{text}\n" for n, text in enumerate(TEXTS))


def published(place: Place, job: Job) -> dict[str, bytes]:
    root = place.output(job)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def check_files(place: Place, job: Job, own: set[str]) -> None:
    files = published(place, job)
    singles = {f"single/{number}.txt.bin" for number in range(9)}
    ours = {"_receipt.json", "_failed_items.jsonl"} | own
    assert set(files) == {"labels.bin", "all.txt", "table.csv"} | singles | ours
    assert files["labels.bin"] == b"cat dog"
    assert files["all.txt"].decode() == JOINED
    assert files["table.csv"].decode() == TABLE
    assert files["single/3.txt.bin"] == b"text 3text 3"
    receipt = json.loads(files["_receipt.json"])
    assert {entry["path"] for entry in receipt["files"]} == set(files) - {"_receipt.json"}
    assert receipt["rows"] == 9
    assert job.status.progress.rows_done == 9


def test_summary_only_publishes_what_the_script_wrote(
    place: Place, writer: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "in", *TEXTS)
    for size in (2, 3):  # the second job has the same workers, whose init() ran for the first
        job = place.client.invoke(writer, folder, mini_batch_size=size).wait()
        check_files(place, job, set())


def test_files_lie_beside_the_predictions(place: Place, writer: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", *TEXTS)
    job = place.client.invoke(f"{writer}-too", folder).wait()
    check_files(place, job, {"predictions.csv"})
    assert place.predictions(job).splitlines()[1:] == [f"{n}.txt,{n}.txt" for n in range(9)]


def test_an_attempt_that_failed_leaves_no_file(place: Place, writer: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", "one", "raises", "three")
    job = place.client.invoke(f"{writer}-too", folder, mini_batch_size=3).wait()
    files = published(place, job)
    assert files["all.txt"] == b"one\nthree\n"
    assert "single/1.txt.bin" not in files
    assert job.status.progress.items_failed == 1


def test_one_binary_file_of_two_mini_batches_is_an_error_that_names_both(
    place: Place, writer: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "in", "clash", "fine", "clash")
    job = place.client.invoke(writer, folder, mini_batch_size=1).wait(check=False)
    assert job.status.state == JobState.FAILED
    assert job.status.error is not None
    assert job.status.error.code == "output_files_clash"
    assert "(0.txt) and mini-batch 2 (2.txt) both wrote same.bin" in job.status.error.message
    assert not place.output(job).exists()


SLICES = """
import os

import pandas as pd

def init():
    pass

def run(mini_batch):
    tables = [pd.read_csv(path) for path in mini_batch]
    return pd.DataFrame({
        "name": [os.path.basename(path) for path in mini_batch],
        "columns": ["|".join(table.columns) for table in tables],
        "rows": [len(table) for table in tables],
        "first": [table.number.iloc[0] for table in tables],
        "total": [table.number.sum() for table in tables],
        "broken": [table.text.str.contains("\\n").all() for table in tables],
    })
"""


def test_a_script_that_asks_for_it_gets_slices_with_a_header(place: Place, tmp_path: Path) -> None:
    place.deploy_script(
        tmp_path / "d", "slices", SLICES, split_files=True, max_concurrency_per_instance=2
    )
    count = limits.SPLIT_BYTES_MIN // 12
    lines = "".join(f'{number},"a\n{number % 97}"\n' for number in range(count))
    (tmp_path / "big.csv").write_text("number,text\n" + lines, newline="")
    whole = place.client.invoke("slices", tmp_path / "big.csv", mini_batch_size=2).wait()
    told = list(csv.DictReader(io.StringIO(place.predictions(whole))))
    assert len(told) > 2
    assert {row["_file"] for row in told} == {"big.csv"}
    assert all(row["name"].startswith("big") and row["name"].endswith(".csv") for row in told)
    assert {row["columns"] for row in told} == {"number|text"}
    assert {row["broken"] for row in told} == {"true"}
    firsts = [int(row["first"]) for row in told]
    assert firsts == sorted(firsts)
    assert sum(int(row["rows"]) for row in told) == count
    assert sum(int(row["total"]) for row in told) == count * (count - 1) // 2
    progress = whole.status.progress
    assert (progress.items_total, progress.items_done, progress.items_failed) == (1, 1, 0)
