"""Whole jobs of models without code: formats, coalescing, splitting, and failing to the row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from batchpoint.domain import limits
from batchpoint.domain.job import Job, JobState
from tests.integration.conftest import Place

# Lies in the model's own code folder; loaded as a scikit-learn model, without mlflow.
MODEL = """
import os

class Halving:
    def predict(self, frame):
        if "REMEMBER" in os.environ:
            with open(os.environ["REMEMBER"], "a") as calls:
                calls.write("%d\\n" % len(frame))
        if (frame.x == 13).any():
            raise ValueError("13 brings bad luck")
        if (frame.x == 666).any():
            os._exit(66)
        return frame.x / 2
"""
SIGNATURE = [
    {"type": "long", "name": "x", "required": True},
    {"type": "string", "name": "note", "required": False},
]
MLMODEL = {
    "flavors": {
        "python_function": {
            "loader_module": "mlflow.sklearn",
            "model_path": "model.pkl",
            "code": "code",
        },
        "sklearn": {"pickled_model": "model.pkl", "serialization_format": "pickle"},
    },
    "signature": {"inputs": json.dumps(SIGNATURE), "outputs": None, "params": None},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halving") / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "halving_of_jobs.py").write_text(MODEL)
    (folder / "model.pkl").write_bytes(b"chalving_of_jobs\nHalving\n)\x81.")
    (folder / "MLmodel").write_text(json.dumps(MLMODEL))  # JSON is YAML
    return folder


@pytest.fixture(scope="module", autouse=True)
def endpoint(place: Place, model: Path) -> None:
    place.client.deploy(model, "halving", max_concurrency_per_instance=2, max_retries=0)
    place.client.deploy(
        model,
        "halving",
        deployment="each",
        set_default=False,
        coalesce_files=False,
        mini_batch_size=1,
    )


def run(place: Place, folder: Path, **more: Any) -> Job:
    return place.client.invoke("halving", folder, **more).wait(check=False)


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))[1:]


def column(name: str, values: list[Any]) -> bytes:
    return f"{name}\n".encode() + "".join(f"{value}\n" for value in values).encode()


def failed(place: Place, job: Job) -> list[tuple[Any, ...]]:
    lines = place.client.job(job.name).failed_items()
    return [(line["name"], line["row"], line["type"]) for line in lines]


def receipt(place: Place, job: Job) -> dict[str, Any]:
    return json.loads((place.output(job) / "_receipt.json").read_text())


def test_every_input_format_is_read_by_its_ending(place: Place, tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1, 2], "note": ['a,"b"\nc', None]})
    table.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    table.to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress((tmp_path / "c.jsonl").read_bytes()))
    (tmp_path / "e").mkdir()
    table.to_parquet(tmp_path / "e" / "f.parquet")
    (tmp_path / "g.txt").write_text("not a table")
    job = run(place, tmp_path)
    assert job.status.state == JobState.COMPLETED
    names = ["a.csv", "b.csv.gz", "c.jsonl", "d.jsonl.gz", "e/f.parquet"]
    assert rows(place.predictions(job)) == [
        [name, row, value] for name in names for row, value in (("0", "0.5"), ("1", "1.0"))
    ]
    [line] = place.client.job(job.name).failed_items()
    assert (line["name"], line["row"]) == ("g.txt", None)
    assert "g.txt is in no format that can be scored without code" in line["message"]
    counts = receipt(place, job)
    assert counts["items"] == {"planned": 6, "scored": 5, "failed": 1}
    assert (counts["rows"], job.status.progress.items_failed) == (10, 1)


def test_the_same_rows_as_json_lines_parquet_and_azure(
    place: Place, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "in" / "below").mkdir(parents=True)
    (tmp_path / "in" / "a.csv").write_bytes(column("x", [1, 2]))
    (tmp_path / "in" / "below" / "b c.csv").write_bytes(column("x", [3]))
    named = [("a.csv", 0, 0.5), ("a.csv", 1, 1.0), ("below/b c.csv", 0, 1.5)]
    expected = [dict(zip(("_file", "_row", "prediction"), row, strict=True)) for row in named]
    job = run(place, tmp_path / "in", output_file_name="p.jsonl")
    lines = place.predictions(job, "p.jsonl").splitlines()
    assert [json.loads(line) for line in lines] == expected
    job = run(place, tmp_path / "in", output_file_name="p.parquet")
    assert pq.read_table(place.output(job) / "p.parquet").to_pylist() == expected
    place.client.deploy(
        model, "halving", deployment="azure", set_default=False, output_format="azure"
    )
    job = run(place, tmp_path / "in", deployment="azure")
    assert place.predictions(job) == "0,0.5,a.csv\n1,1.0,a.csv\n0,1.5,b c.csv\n"


def test_files_without_rows_are_scored(place: Place, tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_bytes(column("x", []))
    (tmp_path / "1.jsonl").write_bytes(b"")
    for name, text in (("p.csv", "_file,_row\n"), ("p.jsonl", ""), ("p.parquet", None)):
        job = run(place, tmp_path, output_file_name=name)
        assert job.status.state == JobState.COMPLETED
        assert receipt(place, job)["items"] == {"planned": 2, "scored": 2, "failed": 0}
        if text is None:
            found = pq.read_table(place.output(job) / name)
            assert (found.column_names, found.num_rows) == (["_file", "_row"], 0)
        else:
            assert place.predictions(job, name) == text
    (tmp_path / "2.csv").write_bytes(column("x", [3]))
    job = run(place, tmp_path)
    assert place.predictions(job) == "_file,_row,prediction\n2.csv,0,1.5\n"
    # Of a model that gets each file alone, some mini-batches have no rows.
    job = run(place, tmp_path, output_file_name="p.parquet", deployment="each")
    assert pq.read_table(place.output(job) / "p.parquet").to_pylist() == [
        {"_file": "2.csv", "_row": 0, "prediction": 1.5}
    ]


def test_files_are_predicted_together_unless_told_otherwise(
    place: Place, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(6):
        (tmp_path / "in" / f"{number}.csv").write_bytes(column("x", list(range(number + 1))))
    results = []
    for name, coalesce in (("together", True), ("alone", False)):
        calls = tmp_path / name
        place.client.deploy(
            model,
            "halving",
            deployment=name,
            set_default=False,
            coalesce_files=coalesce,
            mini_batch_size=3,
            environment_variables={"REMEMBER": str(calls)},
        )
        results.append(place.predictions(run(place, tmp_path / "in", deployment=name)))
        sizes = sorted(map(int, calls.read_text().split()))
        assert sizes == ([21] if coalesce else [1, 2, 3, 4, 5, 6])
    assert results[0] == results[1]


def test_a_file_that_does_not_fit_fails_alone(place: Place, tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_bytes(column("x", [2, 4]))
    (tmp_path / "1.csv").write_bytes(column("y", [2, 4]))
    (tmp_path / "2.csv").write_bytes(column("x", [6, "six", 8]))
    (tmp_path / "3.csv").write_bytes(b"")
    (tmp_path / "4.csv").write_bytes(column("x", []))
    (tmp_path / "5.csv.gz").write_bytes(gzip.compress(column("x", [1]))[:-4])
    job = run(place, tmp_path)
    assert rows(place.predictions(job)) == [
        ["0.csv", "0", "1.0"],
        ["0.csv", "1", "2.0"],
        ["2.csv", "0", "3.0"],
        ["2.csv", "2", "4.0"],
    ]
    lines = {line["name"]: line for line in place.client.job(job.name).failed_items()}
    assert sorted(lines) == ["1.csv", "2.csv", "3.csv", "5.csv.gz"]
    assert "1.csv lacks the column 'x'" in lines["1.csv"]["message"]
    assert lines["2.csv"]["row"] == 1
    assert "'x'" in lines["2.csv"]["message"]
    assert "six" in lines["2.csv"]["message"]
    assert "ends too early" in lines["5.csv.gz"]["message"]
    assert all(line["origin"] == "input" for line in lines.values())
    counts = receipt(place, job)
    assert counts["items"] == {"planned": 6, "scored": 2, "failed": 4}
    assert job.status.progress.items_failed == 4


def test_rows_that_raise_or_crash_stand_alone(place: Place, tmp_path: Path) -> None:
    good = list(range(100, 140))
    tables = {name: list(good) for name in ("a.csv", "b.csv", "c.csv", "d.csv")}
    tables["b.csv"][17] = tables["b.csv"][23] = 13
    tables["c.csv"][5] = 666
    for name, values in tables.items():
        (tmp_path / name).write_bytes(column("x", values))
    job = run(place, tmp_path)
    assert job.status.state == JobState.COMPLETED
    assert rows(place.predictions(job)) == [
        [name, str(row), str(value / 2)]
        for name, values in tables.items()
        for row, value in enumerate(values)
        if value not in (13, 666)
    ]
    found = failed(place, job)
    assert [entry[:2] for entry in found] == [("b.csv", 17), ("b.csv", 23), ("c.csv", 5)]
    assert found[0][2] == "ValueError"
    line = next(iter(place.client.job(job.name).failed_items()))
    assert "13 brings bad luck" in line["message"]
    assert "halving_of_jobs.py" in line["traceback"]
    assert job.status.progress.items_failed == 2
    assert job.status.progress.rows_failed == 3
    counts = receipt(place, job)
    assert counts["items"] == {"planned": 4, "scored": 2, "failed": 2}
    assert (counts["rows"], counts["failed_rows"]) == (157, 3)
    assert run(place, tmp_path, error_threshold=1).status.state == JobState.FAILED
    assert run(place, tmp_path, error_threshold=2).status.state == JobState.COMPLETED


def big_table() -> pd.DataFrame:
    """A table of more than SPLIT_BYTES_MIN as CSV, with line ends and quotes within fields."""
    chance = random.Random(7)
    notes = ['plain, "quoted"\nand\r\nbroken ' + "x" * chance.randint(0, 60) for _ in range(1000)]
    count = limits.SPLIT_BYTES_MIN // 50
    return pd.DataFrame(
        {"x": [1000 + n for n in range(count)], "note": [notes[n % 1000] for n in range(count)]}
    )


def test_one_big_file_is_split_and_gives_the_rows_of_a_whole_one(
    place: Place, model: Path, tmp_path: Path
) -> None:
    place.client.deploy(
        model,
        "halving",
        deployment="whole",
        set_default=False,
        split_files=False,
        max_concurrency_per_instance=2,
    )
    table = big_table()
    table.to_csv(tmp_path / "big.csv", index=False)
    table.to_json(tmp_path / "big.jsonl", orient="records", lines=True)
    keyed = table.assign(note=[f"{n}{note}" for n, note in enumerate(table.note)])
    keyed.to_parquet(tmp_path / "big.parquet", row_group_size=20_000, compression=None)
    for name in ("big.csv", "big.jsonl", "big.parquet"):
        assert (tmp_path / name).stat().st_size > limits.SPLIT_BYTES_MIN
        split = run(place, tmp_path / name)
        assert split.status.state == JobState.COMPLETED, split.status.error
        assert split.status.progress.mini_batches_done > 2
        assert (split.status.progress.items_total, split.status.progress.items_done) == (1, 1)
        assert split.status.progress.rows_done == len(table)
        whole = run(place, tmp_path / name, deployment="whole")
        assert whole.status.progress.mini_batches_done == 1
        text = place.predictions(split)
        assert text == place.predictions(whole)
        sources = receipt(place, split)["source"], receipt(place, whole)["source"]
        assert sources[0]["input"] == sources[1]["input"]
    lines = rows(text)
    assert lines[0] == ["big.parquet", "0", "500.0"]
    assert lines[-1] == ["big.parquet", str(len(table) - 1), str((999 + len(table)) / 2)]


def test_bad_rows_of_a_split_file_keep_their_numbers(place: Place, tmp_path: Path) -> None:
    table = big_table()
    bad = [3, len(table) // 2, len(table) - 2]
    table.loc[bad, "x"] = [13, 666, 13]
    table.to_csv(tmp_path / "big.csv", index=False)
    job = run(place, tmp_path)
    assert [entry[:2] for entry in failed(place, job)] == [("big.csv", row) for row in bad]
    assert job.status.progress.items_failed == 1
    assert receipt(place, job)["items"] == {"planned": 1, "scored": 0, "failed": 1}
    numbers = [int(row[1]) for row in rows(place.predictions(job))]
    assert numbers == [row for row in range(len(table)) if row not in bad]
