"""The scorer for models without code: loading, sources beside predictions, narrowing, order."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from batchpoint_worker import mlmodel
from batchpoint_worker.mlflow_script import MlflowScorer
from batchpoint_worker.protocol import STATUS_BYTES, StatusPage
from batchpoint_worker.scorer import Request, TaskFailed

SIGNATURE = [{"type": "long", "name": "x", "required": True}]

MODEL = """
class Halving:
    def predict(self, frame):
        if (frame.x == 13).any():
            raise ValueError("13 brings bad luck")
        return frame.x / 2
"""

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


def write_model(folder: Path, **changes) -> Path:
    """A model of a class that lies in the model's own code folder."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "halving_of_a_test.py").write_text(MODEL)
    (folder / "model.pkl").write_bytes(b"chalving_of_a_test\nHalving\n)\x81.")
    (folder / "MLmodel").write_text(json.dumps({**MLMODEL, **changes}))  # JSON is YAML
    return folder


@pytest.fixture
def model(tmp_path):
    before = list(sys.path)
    yield write_model(tmp_path / "model")
    sys.path[:] = before
    sys.modules.pop("halving_of_a_test", None)


@pytest.fixture
def status(tmp_path):
    path = tmp_path / "status"
    path.write_bytes(bytes(STATUS_BYTES))
    fd = os.open(path, os.O_RDWR)
    page = StatusPage(fd)
    yield page
    page.close()
    os.close(fd)


def request_for(model: Path, **more) -> Request:
    return Request.from_header({"mode": "mlflow", "model_path": str(model), **more})


@pytest.fixture
def scorer(model):
    scorer = MlflowScorer()
    assert scorer.load(request_for(model)).loader == "sklearn"
    return scorer


def items(*paths: Path) -> list[dict]:
    return [{"path": str(p), "name": p.name, "item": 100 + n} for n, p in enumerate(paths)]


def numbers(folder: Path, name: str, values) -> Path:
    path = folder / name
    frame = pd.DataFrame({"x": values})
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    elif name.endswith(".jsonl"):
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    return path


def lines(scored) -> list[list[str]]:
    return list(csv.reader(io.StringIO(scored.data.decode(), newline="")))


def test_predictions_carry_file_and_row(model, scorer, tmp_path, status):
    paths = [numbers(tmp_path, "a,b.csv", [1, 2]), numbers(tmp_path, "c.csv", [3])]
    scored = scorer.score({"id": 1, "items": items(*paths)}, request_for(model), status)
    assert scored.columns == [("_file", "string"), ("_row", "int"), ("prediction", "float")]
    assert scored.data == b'"a,b.csv",0,0.5\n"a,b.csv",1,1.0\nc.csv,0,1.5\n'
    assert (scored.rows, scored.encoding, scored.failures) == (3, "csv", [])


@pytest.mark.parametrize("render", ["jsonl", "arrow", "azure", "none"])
def test_the_other_renderings(render, model, scorer, tmp_path, status):
    paths = [numbers(tmp_path, "a.csv", [1, 2])]
    scored = scorer.score(
        {"id": 1, "items": items(*paths)}, request_for(model, render=render), status
    )
    assert (scored.rows, scored.encoding) == (2, render)
    if render == "jsonl":
        assert json.loads(scored.data.split(b"\n")[1]) == {
            "_file": "a.csv",
            "_row": 1,
            "prediction": 1.0,
        }
    elif render == "azure":
        assert scored.data == b"0,0.5,a.csv\n1,1.0,a.csv\n"
    elif render == "none":
        assert scored.data == b""
    else:
        import pyarrow as pa

        table = pa.ipc.open_stream(scored.data).read_all()
        assert table.to_pylist()[0] == {"_file": "a.csv", "_row": 0, "prediction": 0.5}


def test_formats_may_be_mixed_and_order_stays_that_of_the_items(model, scorer, tmp_path, status):
    paths = [
        numbers(tmp_path, "a.jsonl", [1, 2]),
        numbers(tmp_path, "b.csv", [3]),
        numbers(tmp_path, "c.parquet", [4, 13]),
        numbers(tmp_path, "d.jsonl", [5]),
        numbers(tmp_path, "e.csv", [6]),
    ]
    scored = scorer.score({"id": 1, "items": items(*paths)}, request_for(model), status)
    assert [line[:2] for line in lines(scored)] == [
        ["a.jsonl", "0"],
        ["a.jsonl", "1"],
        ["b.csv", "0"],
        ["c.parquet", "0"],
        ["d.jsonl", "0"],
        ["e.csv", "0"],
    ]
    (failure,) = scored.failures
    assert (failure.item, failure.name, failure.row) == (102, "c.parquet", 1)


def test_bad_items_and_bad_rows_leave_the_others_alone(model, scorer, tmp_path, status):
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("y\n1\n")
    paths = [numbers(tmp_path, "a.csv", [1, 13, 3]), wrong, numbers(tmp_path, "c.csv", [5])]
    scored = scorer.score({"id": 1, "items": items(*paths)}, request_for(model), status)
    assert [(f.item, f.row, f.error["origin"]) for f in scored.failures] == [
        (100, 1, "user"),
        (101, None, "input"),
    ]
    assert [line[:2] for line in lines(scored)] == [["a.csv", "0"], ["a.csv", "2"], ["c.csv", "0"]]
    assert "halving_of_a_test.py" in scored.failures[0].error["traceback"]


def test_what_fails_every_row_fails_the_task(model, scorer, tmp_path, status):
    paths = [numbers(tmp_path, "a.csv", [13, 13]), numbers(tmp_path, "b.csv", [13])]
    with pytest.raises(ValueError, match="bad luck"):
        scorer.score({"id": 1, "items": items(*paths)}, request_for(model), status)


def test_a_lone_item_tells_its_rows_before_it_is_predicted(model, scorer, tmp_path, status):
    path = numbers(tmp_path, "a.csv", [13, 13])
    with pytest.raises(ValueError, match="bad luck"):
        scorer.score({"id": 1, "items": items(path)}, request_for(model), status)
    assert status.get()[3] == 2


@pytest.mark.parametrize(
    ("bounds", "rows"), [([0, 2], [0, 1]), ([2, -1], [2, 3, 4]), ([1, 2], [1])]
)
def test_rows_narrow_a_lone_item(model, scorer, tmp_path, status, bounds, rows):
    path = numbers(tmp_path, "a.csv", range(5))
    task = {"id": 1, "items": items(path), "rows": bounds}
    scored = scorer.score(task, request_for(model), status)
    assert [int(line[1]) for line in lines(scored)] == rows
    assert scored.slice_rows == 5


def test_rows_narrow_a_slice_and_its_bad_rows(model, scorer, tmp_path, status):
    path = tmp_path / "a.csv"
    path.write_text("x\n0\n1\nbad\n3\n13\nworse\n")
    of = {**items(path)[0], "unit": "bytes", "start": 4, "stop": path.stat().st_size, "row": 1}
    task = {"id": 1, "items": [of], "rows": [1, 4]}
    scored = scorer.score(task, request_for(model), status)
    assert [f.row for f in scored.failures] == [2, 4]
    assert lines(scored) == [["a.csv", "3", "1.5"]]
    assert scored.slice_rows == 5
    lone = scorer.score({**task, "rows": [3, 4]}, request_for(model), status)
    assert [(f.row, f.error["message"]) for f in lone.failures] == [(4, "13 brings bad luck")]
    assert lone.rows == 0


def test_a_file_without_rows_is_scored(model, scorer, tmp_path, status):
    path = tmp_path / "a.csv"
    path.write_text("x\n")
    scored = scorer.score({"id": 1, "items": items(path)}, request_for(model), status)
    assert (scored.rows, scored.data, scored.failures, scored.slice_rows) == (0, b"", [], 0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "mlmodel_missing"),
        ("a: [", "mlmodel_invalid"),
        ("just text", "mlmodel_invalid"),
        ("flavors: {sklearn: {}}", "mlmodel_invalid"),
        (json.dumps({**MLMODEL, "signature": {"inputs": "{"}}), "mlmodel_invalid"),
    ],
)
def test_a_folder_that_is_no_model_says_why(tmp_path, text, code):
    if text is not None:
        (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(TaskFailed) as raised:
        MlflowScorer().load(request_for(tmp_path))
    assert raised.value.error["type"] == code
    assert "MLmodel" in raised.value.error["message"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"is_signature_from_type_hint": True}, "its signature comes from type hints"),
        ({"metadata": {"dependencies_schemas": {}}}, "its metadata asks for more"),
        ({"metadata": {"task": "x"}}, ""),
        ({"signature": {"inputs": None, "params": "[]"}}, "its signature has parameters"),
        (
            {"signature": {"inputs": json.dumps([{"type": "datetime", "name": "x"}])}},
            "its signature's column 'x' is of a type that mlflow converts",
        ),
        (
            {
                "signature": {
                    "inputs": json.dumps(
                        [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]
                    )
                }
            },
            "its signature has tensors",
        ),
    ],
)
def test_what_only_mlflow_knows_is_left_to_mlflow(tmp_path, changes, reason):
    file = mlmodel.read(str(write_model(tmp_path / "model", **changes)))
    assert file.heavy_because == reason


def test_variables_that_rule_mlflow_are_left_to_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    file = mlmodel.read(str(write_model(tmp_path / "model")))
    assert file.heavy_because == "MLFLOW_ALLOW_PICKLE_DESERIALIZATION is set"
