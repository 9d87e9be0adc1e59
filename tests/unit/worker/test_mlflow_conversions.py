"""Signatures that mlflow itself must enforce: dates, tensors, no column names, type hints."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchpoint_worker.mlflow_script import MlflowScorer
from batchpoint_worker.protocol import STATUS_BYTES, StatusPage
from batchpoint_worker.scorer import Request

pytestmark = pytest.mark.filterwarnings("ignore")

mlflow = pytest.importorskip("mlflow")


class Dates:
    def predict(self, frame):
        return frame["day"].dt.strftime("%d.%m.%Y") + " " + frame["n"].astype(str)


class Sums:
    def predict(self, rows):
        return np.asarray(rows).sum(axis=1)


def signature(*columns):
    from mlflow.models import ModelSignature
    from mlflow.types import Schema

    return ModelSignature(inputs=Schema(list(columns)))


def save(model, path: Path, inputs) -> Path:
    options = {"serialization_format": "cloudpickle", "pip_requirements": []}
    mlflow.sklearn.save_model(model, str(path), signature=inputs, **options)
    return path


@pytest.fixture
def status(tmp_path):
    path = tmp_path / "status"
    path.write_bytes(bytes(STATUS_BYTES))
    fd = os.open(path, os.O_RDWR)
    page = StatusPage(fd)
    yield page
    page.close()
    os.close(fd)


def scored(model: Path, status: StatusPage, **files: str | bytes):
    items = []
    for name, content in files.items():
        path = model.parent / name.replace("_", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        items.append({"path": str(path), "name": path.name, "item": len(items)})
    request = Request.from_header({"mode": "mlflow", "model_path": str(model), "render": "csv"})
    scorer = MlflowScorer()
    assert scorer.load(request).loader == "pyfunc"
    result = scorer.score({"id": 1, "items": items}, request, status)
    return list(csv.reader(io.StringIO(result.data.decode()))), result


def test_dates_are_converted_and_a_bad_one_fails_its_row(tmp_path, status):
    from mlflow.types import ColSpec

    inputs = signature(ColSpec("datetime", "day"), ColSpec("long", "n"))
    model = save(Dates(), tmp_path / "model", inputs)
    text = "n,day\n1,2026-11-22\n2,2026-02-30\n3,2024-02-29 10:00:00\n"
    lines, result = scored(model, status, a_csv=text, b_csv="n,day\n4,2000-01-01\n")
    assert lines == [
        ["a.csv", "0", "22.11.2026 1"],
        ["a.csv", "2", "29.02.2024 3"],
        ["b.csv", "0", "01.01.2000 4"],
    ]
    (failure,) = result.failures
    assert (failure.name, failure.row) == ("a.csv", 1)
    assert failure.error["message"] == (
        "a.csv, row 1: column 'day' must be a date and time and has '2026-02-30'"
    )
    assert failure.error["origin"] == "input"


def test_dates_in_json_and_parquet(tmp_path, status):
    from mlflow.types import ColSpec

    inputs = signature(ColSpec("datetime", "day"), ColSpec("long", "n"))
    model = save(Dates(), tmp_path / "model", inputs)
    stored = io.BytesIO()
    pd.DataFrame({"n": [3], "day": pd.to_datetime(["2001-02-03"])}).to_parquet(stored)
    records = '{"n": 1, "day": "2026-11-22"}\n{"n": 2, "day": "never"}\n'
    lines, result = scored(model, status, a_jsonl=records, b_parquet=stored.getvalue())
    assert lines == [["a.jsonl", "0", "22.11.2026 1"], ["b.parquet", "0", "03.02.2001 3"]]
    (failure,) = result.failures
    assert failure.error["message"] == (
        "a.jsonl, row 1: column 'day' must be a date and time and has \"never\""
    )


def test_a_lone_tensor_takes_all_columns_as_its_type(tmp_path, status):
    from mlflow.types import TensorSpec

    model = save(Sums(), tmp_path / "model", signature(TensorSpec(np.dtype("float64"), (-1, 2))))
    lines, result = scored(model, status, a_csv="p,q\n1,2\n3,x\n5,6\n", b_csv="p,q\n1,0.5\n")
    assert lines == [["a.csv", "0", "3.0"], ["a.csv", "2", "11.0"], ["b.csv", "0", "1.5"]]
    assert [(f.name, f.row) for f in result.failures] == [("a.csv", 1)]


def test_columns_without_names_go_by_position(tmp_path, status):
    from mlflow.types import ColSpec

    model = save(Sums(), tmp_path / "model", signature(ColSpec("double"), ColSpec("double")))
    lines, _ = scored(model, status, a_csv="p,q,r\n1.5,2.5,9\n", b_csv="q,p\n1.0,0.5\n")
    assert lines == [["a.csv", "0", "4.0"], ["b.csv", "0", "1.5"]]


def test_a_shape_that_does_not_fit_is_told_in_mlflows_words(tmp_path, status):
    from mlflow.types import TensorSpec

    model = save(Sums(), tmp_path / "model", signature(TensorSpec(np.dtype("float64"), (-1, 2))))
    lines, result = scored(model, status, a_csv="p,q,r\n1,2,3\n4,5,6\n", b_csv="p,q\n1,2\n")
    assert lines == [["b.csv", "0", "3.0"]]
    (failure,) = result.failures
    assert failure.row is None
    assert "DataFrame passed had 3 columns" in failure.error["message"]
    assert "1.0" not in failure.error["message"]
