"""Whole jobs of scoring scripts: what may come back, and what becomes of it in each output."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchpoint.domain.errors import Conflict, Invalid
from batchpoint.domain.job import Job, JobState
from tests.integration.conftest import Place

# The first file of a mini-batch names the function that makes what `run` returns for it.
SCRIPT = r"""
import os

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

def init():
    pass

def names(batch):
    return [os.path.basename(path) for path in batch]

def columns(batch):
    count = len(batch)
    return {
        "text": ['says "hi", you\n%d' % n for n in range(count)],
        "whole": list(range(count)),
        "real": [n + 0.1 for n in range(count)],
        "yes": [n == 0 for n in range(count)],
    }

def single(batch):
    return pd.DataFrame({"x": np.full(len(batch), 0.1, dtype="float32")})

def holes(batch):
    return pd.DataFrame({"a": [None] * len(batch), "b": [float("nan")] * len(batch)})

def generated(batch):
    for name in names(batch):
        yield {"of": name}

def azure_frame(batch):
    words = ["a b.png", "c.png", 'q"x.png', None]
    reals = [0.5, float(np.float32(0.1)), 1e-9, float("nan")]
    return pd.DataFrame({"file": words, "n": [1, 2, 3, 4], "x": reals})

WAYS = {
    "list": names,
    "tuple": lambda batch: tuple(names(batch)),
    "numbers": lambda batch: [n + 0.5 for n in range(len(batch))],
    "array": lambda batch: np.arange(len(batch)),
    "matrix": lambda batch: np.arange(2 * len(batch)).reshape(-1, 2) / 2,
    "series": lambda batch: pd.Series(names(batch)),
    "frame": lambda batch: pd.DataFrame(columns(batch)),
    "polars": lambda batch: pl.DataFrame(columns(batch)),
    "arrow": lambda batch: pa.table(columns(batch)),
    "generator": generated,
    "single": single,
    "holes": holes,
    "nothing": lambda batch: None,
    "text": lambda batch: "abc",
    "object": lambda batch: object(),
    "reserved": lambda batch: pd.DataFrame({"_file": names(batch)}),
    "more": lambda batch: names(batch) + ["surplus"],
    "fewer": lambda batch: names(batch)[:-1],
    "azure frame": azure_frame,
    "azure list": lambda batch: [1, 2.5, "a b", {"k": 1}, ["x"], None, True, 'q"'],
    "one": lambda batch: pd.DataFrame({"n": [1], "a": [True]}),
    "two": lambda batch: pd.DataFrame({"b": ["x,y"], "n": [1.5]}),
    "three": lambda batch: pd.DataFrame({"n": ["many"], "a": [2]}),
}

def run(mini_batch):
    with open(mini_batch[0]) as file:
        return WAYS[file.read()](mini_batch)
"""

TABLE = [
    {"text": f'says "hi", you\n{n}', "whole": n, "real": n + 0.1, "yes": n == 0} for n in range(3)
]
ROWS: dict[str, list[dict[str, Any]]] = {
    "list": [{"prediction": f"{n}.txt"} for n in range(3)],
    "tuple": [{"prediction": f"{n}.txt"} for n in range(3)],
    "numbers": [{"prediction": n + 0.5} for n in range(3)],
    "array": [{"prediction": n} for n in range(3)],
    "matrix": [{"prediction_0": n + 0.0, "prediction_1": n + 0.5} for n in range(3)],
    "series": [{"prediction": f"{n}.txt"} for n in range(3)],
    "frame": TABLE,
    "polars": TABLE,
    "arrow": TABLE,
    "generator": [{"prediction": {"of": f"{n}.txt"}} for n in range(3)],
    "single": [{"x": 0.1} for _ in range(3)],
    "holes": [{"a": None, "b": None} for _ in range(3)],
}


@pytest.fixture(scope="module", autouse=True)
def endpoint(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    place.deploy_script(tmp_path_factory.mktemp("ways"), "ways", SCRIPT, max_retries=0)


def run(place: Place, folder: Path, *ways: str, **more: Any) -> Job:
    """Score a file for each way."""
    folder.mkdir(exist_ok=True)
    for number, way in enumerate(ways):
        (folder / f"{number}.txt").write_text(way)
    return place.client.invoke("ways", folder, **more).wait(check=False)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def as_csv(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("way", list(ROWS))
def test_each_kind_of_rows_comes_back_in_each_format(
    place: Place, tmp_path: Path, way: str
) -> None:
    expected = [{"_file": f"{n}.txt", **row} for n, row in enumerate(ROWS[way])]
    job = run(place, tmp_path / "in", way, way, way)
    assert table(place.predictions(job)) == [
        {name: as_csv(value) for name, value in row.items()} for row in expected
    ]
    job = run(place, tmp_path / "in", way, way, way, output_file_name="p.jsonl")
    assert [json.loads(line) for line in place.predictions(job, "p.jsonl").splitlines()] == expected
    job = run(place, tmp_path / "in", way, way, way, output_file_name="p.parquet")
    rows = pq.read_table(place.output(job) / "p.parquet").to_pylist()
    if way == "generator":
        rows = [{**row, "prediction": json.loads(row["prediction"])} for row in rows]
    if way == "single":
        rows = [{**row, "x": round(row["x"], 7)} for row in rows]
    assert rows == expected
    assert job.status.progress.rows_done == job.status.progress.items_done == 3


@pytest.mark.parametrize(
    ("way", "code", "words"),
    [
        ("nothing", "unsupported_return", "run() returned None (is a `return` missing?)"),
        ("text", "unsupported_return", "run() returned a str (wrap it in a list)"),
        ("object", "unsupported_return", "run() returned an object; it must return a list,"),
        ("reserved", "output_columns_reserved", "a column named '_file'"),
    ],
)
def test_what_cannot_be_rows_fails_the_job_and_says_what_came(
    place: Place, tmp_path: Path, way: str, code: str, words: str
) -> None:
    job = run(place, tmp_path / "in", way)
    assert job.status.state == JobState.FAILED
    assert job.status.error is not None
    assert job.status.error.origin == "user"
    assert words in job.status.error.message
    assert code in (job.status.error.code, job.status.error.type)
    assert not place.output(job).exists()


def test_more_rows_than_files_are_kept_with_one_warning(place: Place, tmp_path: Path) -> None:
    names = ["0.txt", "1.txt", "surplus", "2.txt", "3.txt", "surplus", "4.txt", "surplus"]
    for _ in range(2):  # the second job has the same worker
        job = run(place, tmp_path / "in", *["more"] * 5, mini_batch_size=2)
        assert job.status.state == JobState.COMPLETED
        rows = table(place.predictions(job))
        assert rows == [{"_file": "", "prediction": name} for name in names]
        [warning] = job.status.warnings
        assert "more rows than it was given files" in warning
        assert job.status.progress.items_failed == 0


def test_rows_that_are_missing_are_failed_items_without_a_name(
    place: Place, tmp_path: Path
) -> None:
    job = run(place, tmp_path / "in", *["fewer"] * 3)
    assert job.status.state == JobState.COMPLETED
    names = ["0.txt", "1.txt"]
    assert table(place.predictions(job)) == [{"_file": "", "prediction": name} for name in names]
    assert job.status.progress.items_failed == 1
    [line] = place.client.job(job.name).failed_items()
    assert (line["name"], line["row"], line["type"]) == (None, None, "missing_rows")


def test_mini_batches_with_different_columns_are_united(place: Place, tmp_path: Path) -> None:
    ways, united = ("one", "two", "three"), ["_file", "n", "a", "b"]
    job = run(place, tmp_path / "in", *ways, mini_batch_size=1)
    assert place.predictions(job) == (
        '_file,n,a,b\n0.txt,1,true,\n1.txt,1.5,,"x,y"\n2.txt,many,2,\n'
    )
    job = run(place, tmp_path / "in", *ways, mini_batch_size=1, output_file_name="p.jsonl")
    lines = [json.loads(line) for line in place.predictions(job, "p.jsonl").splitlines()]
    assert [list(line) for line in lines] == [united] * 3
    assert [line["n"] for line in lines] == ["1", "1.5", "many"]
    assert [line["a"] for line in lines] == ["true", None, "2"]
    job = run(place, tmp_path / "in", *ways, mini_batch_size=1, output_file_name="p.parquet")
    found = pq.read_table(place.output(job) / "p.parquet")
    assert found.column_names == united
    assert found.to_pylist()[1] == {"_file": "1.txt", "n": "1.5", "a": None, "b": "x,y"}


def test_azure_files_are_byte_for_byte_those_of_azure(place: Place, tmp_path: Path) -> None:
    place.deploy_script(
        tmp_path / "d", "azure", SCRIPT, output_format="azure", output_file_name="all.txt"
    )
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "0.txt").write_text("azure frame")
    (folder / "1.txt").write_text("azure list")
    job = place.client.invoke("azure", folder, mini_batch_size=1).wait()
    assert (place.output(job) / "all.txt").read_bytes() == (
        b'"a b.png" 1 0.5\nc.png 2 0.10000000149011612\n"q""x.png" 3 1e-09\n 4 \n'
        b"1\n2.5\na b\n{'k': 1}\n['x']\nNone\nTrue\nq\"\n"
    )


@pytest.mark.parametrize(
    ("script", "where", "words"),
    [
        ("def init():\n    pass\n\ndef run(batch)\n    return batch\n", "score.py:4", "syntax"),
        ("def init():\n    pass\n", "score.py:1", "no run(mini_batch) is defined"),
        ("def run(batch):\n    return batch\n", "score.py:1", "no init() is defined"),
        ("def init():\n    pass\ndef run():\n    pass\n", "score.py:3", "one argument"),
    ],
)
def test_a_script_that_cannot_work_is_found_when_it_is_deployed(
    place: Place, tmp_path: Path, script: str, where: str, words: str
) -> None:
    with pytest.raises(Invalid, match=where) as raised:
        place.deploy_script(tmp_path, "broken", script)
    assert words in str(raised.value)
    assert "broken" not in [endpoint.name for endpoint in place.client.endpoints.list()]


def test_results_never_replace_anything(place: Place, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    (tmp_path / "in").mkdir()
    with pytest.raises(Conflict, match="already exists"):
        place.client.invoke("ways", tmp_path / "in", output=tmp_path / "out")
