"""No-code scoring gives, row for row, what mlflow gives: flavours, types, formats, coalescing."""

import csv
import gzip
import io
import json
import math
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
pytest.importorskip("xgboost")

COLUMNS = ["age", "dose", "share", "kind", "smoker", "visits"]
WORDS = ["fixed", "normal", "reversible", 'says "hi, you"']


def patients(rows: int, seed: int) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": chance.integers(20, 90, rows),
            "dose": chance.random(rows) * 10,
            "share": chance.random(rows).astype("float32"),
            "kind": chance.choice(np.array(WORDS, dtype=object), rows),
            "smoker": chance.random(rows) < 0.5,
            "visits": chance.integers(0, 5, rows).astype("int32"),
        }
    )


def schema():
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    types = ["long", "double", "float", "string", "boolean", "integer"]
    pairs = zip(types, COLUMNS, strict=True)
    return ModelSignature(inputs=Schema([ColSpec(type_, name) for type_, name in pairs]))


def prepared():
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    return ColumnTransformer(
        [
            ("numbers", SimpleImputer(), ["age", "dose", "share", "visits"]),
            ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["kind"]),
            ("flags", "passthrough", ["smoker"]),
        ]
    )


def pipeline(last):
    from sklearn.pipeline import Pipeline

    frame = patients(400, 1)
    labels = (frame.dose + frame.age / 20 > 8).astype(int)
    return Pipeline([("prepared", prepared()), ("last", last)]).fit(frame, labels)


def save_pipeline(path: str) -> None:
    from xgboost import XGBClassifier

    model = pipeline(XGBClassifier(n_estimators=5, max_depth=3))
    options = {"serialization_format": "cloudpickle", "pip_requirements": []}
    mlflow.sklearn.save_model(model, path, signature=schema(), **options)


def save_probabilities(path: str) -> None:
    from sklearn.linear_model import LogisticRegression

    mlflow.sklearn.save_model(
        pipeline(LogisticRegression(max_iter=1000)),
        path,
        signature=schema(),
        serialization_format="pickle",
        pyfunc_predict_fn="predict_proba",
        pip_requirements=[],
    )


def save_skops(path: str) -> None:
    from sklearn.linear_model import LinearRegression

    mlflow.sklearn.save_model(
        pipeline(LinearRegression()),
        path,
        signature=schema(),
        serialization_format="skops",
        skops_trusted_types=["numpy.dtype"],
        pip_requirements=[],
    )


def save_labels(path: str) -> None:
    from sklearn.tree import DecisionTreeClassifier

    frame = patients(400, 1)
    model = pipeline(DecisionTreeClassifier(max_depth=3, random_state=0))
    model.fit(frame, np.where(frame.dose > 5, 'high, "very"', "low"))
    mlflow.sklearn.save_model(
        model,
        path,
        signature=schema(),
        serialization_format="cloudpickle",
        pip_requirements=[],
    )


def numbers_only():
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    # In another order than the files have, and without three of their columns.
    columns: list = [
        ColSpec("double", "dose"),
        ColSpec("long", "age"),
        ColSpec("integer", "visits"),
    ]
    return ModelSignature(inputs=Schema(columns))


def boosted(kind):
    frame = patients(400, 1)[["dose", "age", "visits"]]
    return kind.fit(frame, (frame.dose > 5).astype(int))


def save_xgboost_classifier(path: str) -> None:
    from xgboost import XGBClassifier

    model = boosted(XGBClassifier(n_estimators=4, max_depth=2))
    mlflow.xgboost.save_model(model, path, signature=numbers_only(), pip_requirements=[])


def save_xgboost_regressor(path: str) -> None:
    from xgboost import XGBRegressor

    model = boosted(XGBRegressor(n_estimators=4, max_depth=2))
    mlflow.xgboost.save_model(model, path, signature=numbers_only(), pip_requirements=[])


def save_booster(path: str) -> None:
    from xgboost import XGBRegressor

    model = boosted(XGBRegressor(n_estimators=4, max_depth=2)).get_booster()
    mlflow.xgboost.save_model(model, path, signature=numbers_only(), pip_requirements=[])


class Seen:
    """Says of each row what it was given: types and values, exactly."""

    def fit(self, frame, labels=None):
        return self

    def predict(self, frame):
        types = ",".join(f"{name}:{kind}" for name, kind in frame.dtypes.items())
        return [f"{types} {list(map(repr, row))}" for row in frame.itertuples(index=False)]


def save_seen(path: str) -> None:
    mlflow.sklearn.save_model(
        Seen(), path, signature=schema(), serialization_format="cloudpickle", pip_requirements=[]
    )


def save_seen_without_signature(path: str) -> None:
    mlflow.sklearn.save_model(Seen(), path, serialization_format="cloudpickle", pip_requirements=[])


def save_python_model(path: str) -> None:
    class Several(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return pd.DataFrame(
                {
                    "double": model_input["dose"] * 2,
                    "single": model_input["share"],
                    "word": model_input["kind"],
                    "flag": model_input["smoker"],
                    "older": model_input["age"] + 1,
                }
            )

    options = {"signature": schema(), "pip_requirements": []}
    mlflow.pyfunc.save_model(path, python_model=Several(), **options)


SAVED = {
    "sklearn": (save_pipeline, "sklearn"),
    "predict_proba": (save_probabilities, "sklearn"),
    "skops": (save_skops, "sklearn"),
    "labels": (save_labels, "sklearn"),
    "seen": (save_seen, "sklearn"),
    "no signature": (save_seen_without_signature, "sklearn"),
    "XGBClassifier": (save_xgboost_classifier, "xgboost"),
    "XGBRegressor": (save_xgboost_regressor, "xgboost"),
    "Booster": (save_booster, "xgboost"),
    "PythonModel": (save_python_model, "pyfunc"),
}

# A product of matrices adds up in another order when more rows are multiplied at once.
MATRIX_PRODUCTS = {"predict_proba", "skops"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folder of a saved model, made when it is first asked for."""
    home = tmp_path_factory.mktemp("models")

    def model(name: str) -> str:
        path = home / name.replace(" ", "-")
        if not path.exists():
            SAVED[name][0](str(path))
        return str(path)

    return model


@pytest.fixture
def status(tmp_path):
    path = tmp_path / "status"
    path.write_bytes(bytes(STATUS_BYTES))
    fd = os.open(path, os.O_RDWR)
    page = StatusPage(fd)
    yield page
    page.close()
    os.close(fd)


def items_of(paths: list[Path]) -> list[dict]:
    return [{"path": str(p), "name": p.name, "item": n} for n, p in enumerate(paths)]


def scored(model: str, paths: list[Path], status: StatusPage, render: str = "csv"):
    request = Request.from_header({"mode": "mlflow", "model_path": model, "render": render})
    scorer = MlflowScorer()
    info = scorer.load(request)
    return info, scorer.score({"id": 1, "items": items_of(paths)}, request, status)


def cell(value) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if type(value) in (bool, np.bool_):
        return "true" if value else "false"
    if type(value) is np.float32:
        return str(value)
    return str(value.item() if isinstance(value, np.generic) else value)


def read_as_mlflow_server(path: Path, inputs) -> pd.DataFrame:
    """What mlflow's scoring server makes of a CSV, and pandas of a Parquet file."""
    if path.suffix in (".parquet", ".pqt"):
        return pd.read_parquet(path)
    if inputs is None:
        return pd.read_csv(path)
    types = dict(zip(inputs.input_names(), inputs.pandas_types(), strict=True))
    return pd.read_csv(path, dtype=types)


def expected(model: str, paths: list[Path]) -> list[list[str]]:
    """Each file alone through mlflow: name, row and predictions as text."""
    loaded = mlflow.pyfunc.load_model(model)
    lines = []
    for path in paths:
        output = loaded.predict(read_as_mlflow_server(path, loaded.metadata.get_input_schema()))
        if isinstance(output, pd.DataFrame):
            rows = [tuple(output[c].iloc[i] for c in output) for i in range(len(output))]
        else:
            rows = [tuple(row) if isinstance(row, np.ndarray) else (row,) for row in output]
        lines += [[path.name, str(n), *map(cell, row)] for n, row in enumerate(rows)]
    return lines


def lines_of(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def write_files(folder: Path, rows=(7, 1, 40), missing: bool = True) -> list[Path]:
    paths = []
    for number, count in enumerate(rows):
        frame = patients(count, 100 + number)
        if missing:
            frame.loc[frame.index % 5 == 3, ["dose", "share", "kind"]] = None
        path = folder / f"part {number}.csv"
        frame.to_csv(path, index=False, lineterminator=("\n", "\r\n")[number % 2])
        paths.append(path)
    return paths


@pytest.mark.parametrize("name", SAVED)
def test_csv_files_as_mlflow_predicts_each_of_them(name, models, tmp_path, status):
    paths = write_files(tmp_path, missing=name in ("sklearn", "labels", "seen", "no signature"))
    info, result = scored(models(name), paths, status)
    assert info.loader == SAVED[name][1]
    assert result.failures == []
    found, wanted = lines_of(result.data), expected(models(name), paths)
    assert result.rows == 48
    if name in MATRIX_PRODUCTS:
        assert [line[:2] for line in found] == [line[:2] for line in wanted]
        numbers = np.array([line[2:] for line in found], dtype=float)
        np.testing.assert_allclose(numbers, np.array([w[2:] for w in wanted], dtype=float), 1e-12)
    else:
        assert found == wanted


@pytest.mark.parametrize("name", ["seen", "XGBRegressor", "PythonModel"])
def test_parquet_files_as_mlflow_predicts_each_of_them(name, models, tmp_path, status):
    paths = []
    for number, count in enumerate((7, 1, 40)):
        path = tmp_path / f"part{number}.{('parquet', 'pqt')[number % 2]}"
        patients(count, 50 + number).to_parquet(path, index=False)
        paths.append(path)
    info, result = scored(models(name), paths, status)
    assert info.loader == SAVED[name][1]
    assert result.failures == []
    assert lines_of(result.data) == expected(models(name), paths)


def test_parquet_types_that_need_mlflow_are_converted_by_mlflow(models, tmp_path, status):
    narrow = patients(6, 3).astype({"age": "int16", "dose": "float32", "visits": "uint8"})
    path = tmp_path / "narrow.parquet"
    narrow.to_parquet(path, index=False)
    _, result = scored(models("seen"), [path], status)
    assert result.failures == []
    assert lines_of(result.data) == expected(models("seen"), [path])


def test_json_lines_give_what_csv_gives(models, tmp_path, status):
    paths = write_files(tmp_path)
    others = []
    for number, path in enumerate(paths):
        frame = pd.read_csv(path)
        records = json.loads(str(frame.to_json(orient="records", double_precision=15)))
        text = "\n".join(map(json.dumps, records)) + "\n"
        other = tmp_path / f"{path.stem}.{('jsonl', 'ndjson', 'jsonl.gz')[number]}"
        other.write_bytes(gzip.compress(text.encode()) if number == 2 else text.encode())
        others.append(other)
    _, from_csv = scored(models("sklearn"), paths, status)
    _, from_json = scored(models("sklearn"), others, status)
    assert from_json.failures == []
    predictions = [line[1:] for line in lines_of(from_json.data)]
    assert predictions == [line[1:] for line in lines_of(from_csv.data)]


def test_gzip_and_byte_order_mark_and_extra_columns_change_nothing(models, tmp_path, status):
    path = write_files(tmp_path, rows=(9,))[0]
    plain = scored(models("seen"), [path], status)[1]
    frame = pd.read_csv(path)[COLUMNS[::-1]]
    frame.insert(2, "target", "x")
    other = tmp_path / "other.csv.gz"
    text = b"\xef\xbb\xbf" + frame.to_csv(index=False).encode()
    other.write_bytes(gzip.compress(text))
    again = scored(models("seen"), [other], status)[1]
    assert [line[2] for line in lines_of(again.data)] == [line[2] for line in lines_of(plain.data)]


def test_azure_lines_are_row_prediction_and_base_name(models, tmp_path, status):
    path = write_files(tmp_path, rows=(3,))[0]
    result = scored(models("predict_proba"), [path], status, render="azure")[1]
    lines = lines_of(result.data)
    wanted = expected(models("predict_proba"), [path])
    assert lines == [[row, first, second, name] for name, row, first, second in wanted]
    assert result.encoding == "azure"


def test_light_loading_leaves_mlflow_alone(models, tmp_path):
    """In a fresh process: no mlflow, and no thread that would make a fork unsafe."""
    import subprocess
    import sys

    program = """
import os, sys
from batchpoint_worker.mlflow_script import MlflowScorer
from batchpoint_worker.scorer import Request
for path in sys.argv[1:]:
    request = Request.from_header({"mode": "mlflow", "model_path": path, "threads": 1})
    print(MlflowScorer().load(request).loader)
print(sorted(name for name in sys.modules if name.split(".")[0] == "mlflow"))
print(len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1)
"""
    paths = [models("sklearn"), models("XGBClassifier")]
    source = Path(__file__).parents[3] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", program, *paths],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=120,
    )
    assert done.stdout.split("\n")[:4] == ["sklearn", "xgboost", "[]", "1"]
