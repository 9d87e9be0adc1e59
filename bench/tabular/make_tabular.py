"""Makes the tables of W1 and the model that scores them: always the same, from seeds.

python make_tabular.py model|W1a|W1b|W1c|W1d|one FOLDER
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

FILES, ROWS_PER_FILE = 200, 10_000
SMALL_FILES, ROWS_PER_SMALL_FILE = 2_000, 50
TRAINING_ROWS = 20_000

NUMBERS = ["age", "trestbps", "chol", "thalach", "oldpeak"]
KINDS = ["sex", "cp", "fbs", "restecg", "exang", "slope", "ca"]
WORDS = ["thal"]
_PACKAGES = ("mlflow", "scikit-learn", "pandas", "numpy", "cloudpickle")


def patients(rows: int, seed: int) -> pd.DataFrame:
    """Invent `rows` patients."""
    chance = np.random.default_rng(seed)
    thal = np.array(["fixed", "normal", "reversible"], dtype=object)
    return pd.DataFrame(
        {
            "age": chance.integers(29, 78, rows),
            "sex": chance.integers(0, 2, rows),
            "cp": chance.integers(1, 5, rows),
            "trestbps": chance.integers(94, 201, rows),
            "chol": chance.integers(126, 565, rows),
            "fbs": chance.integers(0, 2, rows),
            "restecg": chance.integers(0, 3, rows),
            "thalach": chance.integers(71, 203, rows),
            "exang": chance.integers(0, 2, rows),
            "oldpeak": np.round(chance.gamma(1.2, 0.9, rows), 1),
            "slope": chance.integers(1, 4, rows),
            "ca": chance.integers(0, 4, rows),
            "thal": chance.choice(thal, rows),
        }
    )


def _trained(frame: pd.DataFrame) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
    from xgboost import XGBClassifier

    noise = np.random.default_rng(2).normal(0, 1, len(frame))
    score = (
        (frame["age"] - 54) / 10
        + frame["cp"] * 0.5
        + (frame["thal"] == "reversible") * 1.5
        + frame["ca"] * 0.8
        + frame["oldpeak"] * 0.6
        - (frame["thalach"] - 150) / 25
        - 2.5
        + noise
    )
    numbers = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    kinds = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    words = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer(
        [("numbers", numbers, NUMBERS), ("kinds", kinds, KINDS), ("words", words, WORDS)]
    )
    trees = XGBClassifier(n_estimators=100, max_depth=4, learning_rate=0.1, eval_metric="logloss")
    return Pipeline([("columns", columns), ("trees", trees)]).fit(frame, (score > 0).astype(int))


def make_model(folder: Path) -> None:
    """Train and save in MLflow's format."""
    from mlflow.models import infer_signature
    from mlflow.sklearn import save_model

    # Advice that does not concern us: no column has gaps, and only this model is unpickled.
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    frame = patients(TRAINING_ROWS, seed=1)
    pipeline = _trained(frame)
    save_model(
        pipeline,
        str(folder),
        signature=infer_signature(frame, pipeline.predict(frame.head(100))),
        serialization_format="cloudpickle",
        pip_requirements=[_pinned(name) for name in _PACKAGES] + [_pinned_xgboost()],
    )


def _pinned(name: str) -> str:
    return f"{name}=={importlib.metadata.version(name)}"


def _pinned_xgboost() -> str:
    try:
        return _pinned("xgboost-cpu")
    except importlib.metadata.PackageNotFoundError:
        return _pinned("xgboost")


def make_many_csv(folder: Path) -> None:
    """W1a: 200 CSV files of 10,000 rows."""
    for number in range(FILES):
        _write_csv(patients(ROWS_PER_FILE, 100 + number), folder / f"f{number:04d}.csv")


def make_one_csv(folder: Path) -> None:
    """W1b: the rows of W1a in one file of 2,000,000 rows."""
    frames = (patients(ROWS_PER_FILE, 100 + number) for number in range(FILES))
    _write_csv(pd.concat(frames), folder / "all.csv")


def make_small_csv(folder: Path) -> None:
    """W1c: 2,000 CSV files of 50 rows."""
    for number in range(SMALL_FILES):
        _write_csv(patients(ROWS_PER_SMALL_FILE, 5000 + number), folder / f"f{number:04d}.csv")


def make_parquet(folder: Path) -> None:
    """W1d: W1a in Parquet."""
    for number in range(FILES):
        table = pa.Table.from_pandas(patients(ROWS_PER_FILE, 100 + number), preserve_index=False)
        pyarrow.parquet.write_table(table, folder / f"f{number:04d}.parquet")


def make_tiny_csv(folder: Path) -> None:
    """One file of 50 rows."""
    _write_csv(patients(ROWS_PER_SMALL_FILE, 5000), folder / "f0000.csv")


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    options = pyarrow.csv.WriteOptions(quoting_style="none")
    pyarrow.csv.write_csv(table, path, options)


MAKERS = {
    "model": make_model,
    "W1a": make_many_csv,
    "W1b": make_one_csv,
    "W1c": make_small_csv,
    "W1d": make_parquet,
    "one": make_tiny_csv,
}

if __name__ == "__main__":
    MAKERS[sys.argv[1]](Path(sys.argv[2]))
