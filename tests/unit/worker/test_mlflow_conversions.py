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


class Shapes:
    def predict(self, rows):
        ((name, array),) = rows.items() if isinstance(rows, dict) else (("", rows),)
        told = f"{name}{array.dtype}{array.shape[1:]}"
        return [f"{told} {row.ravel().tolist()}" for row in np.asarray(array)]


@pytest.mark.parametrize(
    ("shape", "name", "told"),
    [
        ((-1, 4), "", "float32(4,)"),
        ((-1, 2, 2), "", "float32(2, 2)"),
        ((-1, 2, 2, 1), "", "float32(2, 2, 1)"),
        ((-1, 2, -1), "", "float32(2, 2)"),
        ((-1, 2, 2), "pixels", "pixelsfloat32(2, 2)"),
    ],
)
def test_the_columns_of_a_row_are_reshaped_as_the_tensor_is(shape, name, told, tmp_path, status):
    from mlflow.types import TensorSpec

    asked = signature(TensorSpec(np.dtype("float32"), shape, name or None))
    model = save(Shapes(), tmp_path / "model", asked)
    wide = io.BytesIO()
    pd.DataFrame([[1.0, 2.0, 3.0, 4.5]], columns=list("abcd")).to_parquet(wide)
    text = "a,b,c,d\n1,2,3,4.5\n5,6,7,8\n"
    lines, result = scored(model, status, a_csv=text, b_parquet=wide.getvalue())
    assert lines == [
        ["a.csv", "0", f"{told} [1.0, 2.0, 3.0, 4.5]"],
        ["a.csv", "1", f"{told} [5.0, 6.0, 7.0, 8.0]"],
        ["b.parquet", "0", f"{told} [1.0, 2.0, 3.0, 4.5]"],
    ]
    assert result.failures == []
    loaded = mlflow.pyfunc.load_model(str(model))
    rows = np.array([[1, 2, 3, 4.5], [5, 6, 7, 8]], dtype="float32")
    rows = rows.reshape(2, *((2, 2) if -1 in shape[1:] else shape[1:]))
    wanted = loaded.predict({name: rows} if name else rows)
    assert [line[2] for line in lines[:2]] == wanted


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1,2\n3,4\n", ["3.0", "7.0"]),
        ("\ufeff1, 2\r\n3,4\r\n", ["3.0", "7.0"]),
        ("1,2", ["3.0"]),
        ("p,q\n1,2\n3,4\n", ["3.0", "7.0"]),
        ("0,1\n1,2\n3,4\n", ["3.0", "7.0"]),
        ("1,0\n1,2\n", ["1.0", "3.0"]),
        ("1e1,-2\n", ["8.0"]),
    ],
)
def test_tables_of_a_tensor_need_no_header(text, rows, tmp_path, status):
    from mlflow.types import TensorSpec

    model = save(Sums(), tmp_path / "model", signature(TensorSpec(np.dtype("float64"), (-1, 2))))
    lines, _ = scored(model, status, a_csv=text, b_csv="7,7\n", c_csv=text)
    one = [[str(n), row] for n, row in enumerate(rows)]
    assert [line[1:] for line in lines] == [*one, ["0", "14.0"], *one]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_slices_of_a_table_without_a_header_count_its_first_line(mark, tmp_path, status):
    """Slices are cut without knowing the model: the first line is left out as a header."""
    from mlflow.types import TensorSpec

    model = save(Sums(), tmp_path / "model", signature(TensorSpec(np.dtype("float64"), (-1, 2))))
    path = tmp_path / "big.csv"
    lines = [f"{mark}0,10\n", "1,10\n", "2,10\n", "3,x\n", "4,10\n"]
    path.write_text("".join(lines), encoding="utf-8", newline="")
    begins = np.cumsum([0, *(len(line.encode()) for line in lines)]).tolist()
    request = Request.from_header({"mode": "mlflow", "model_path": str(model), "render": "csv"})
    scorer = MlflowScorer()
    scorer.load(request)
    of = {"path": str(path), "name": "big.csv", "item": 0, "unit": "bytes"}
    first = {**of, "start": begins[1], "stop": begins[2], "row": 0}
    second = {**of, "start": begins[2], "stop": begins[5], "row": 1}
    result = scorer.score({"id": 1, "items": [first]}, request, status)
    assert result.data == b"big.csv,0,10.0\nbig.csv,1,11.0\n"
    assert result.slice_rows == 2
    result = scorer.score({"id": 2, "items": [second]}, request, status)
    assert result.data == b"big.csv,2,12.0\nbig.csv,4,14.0\n"
    assert [f.row for f in result.failures] == [3]
    result = scorer.score({"id": 3, "items": [second], "rows": [2, 3]}, request, status)
    assert (result.data, result.slice_rows) == (b"big.csv,4,14.0\n", 3)
    result = scorer.score({"id": 4, "items": [first, second]}, request, status)
    assert [row.split(",")[1] for row in result.data.decode().split()] == ["0", "1", "2", "4"]


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
