"""Makes the example's data, trains its model, and writes what the predictions have to be.

    data/heart-01.csv …       patients without a diagnosis, a few hundred per file
    model/                    a scikit-learn pipeline with XGBoost, saved in MLflow's format
    model-v2/                 the same with more trees, for a second deployment
    expected/predictions.csv  what MLflow itself predicts for data/ with model/, row for row
    expected/predictions-v2.csv  … and with model-v2/

The numbers are invented (from a seed, so that every run makes the same ones), in the 13 columns of
the well-known heart disease data of the UCI repository. Nothing here knows of batchpoint: this is
what anybody does who trains a model and saves it with MLflow.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 20
TRAINING_ROWS = 1_500
FILES = 10
ROWS_PER_FILE = 300
TREES, TREES_V2 = 60, 200

NUMBERS = ["age", "trestbps", "chol", "thalach", "oldpeak", "ca"]
FLAGS = ["sex", "fbs", "exang"]
KINDS = ["cp", "restecg"]
ORDERED = ["slope", "thal"]
THAL = ["normal", "fixed", "reversible"]


def patients(rows: int, chance: np.random.Generator) -> pd.DataFrame:
    """Invent patients; a few cholesterol and vessel counts are missing, as in life."""
    age = chance.integers(29, 78, rows)
    frame = pd.DataFrame(
        {
            "age": age,
            "sex": chance.integers(0, 2, rows),
            "cp": chance.choice([1, 2, 3, 4], rows, p=[0.08, 0.17, 0.28, 0.47]),
            "trestbps": (chance.normal(110, 15, rows) + 0.4 * age).round().astype(int),
            "chol": (chance.normal(190, 45, rows) + age).round(),
            "fbs": (chance.random(rows) < 0.15).astype(int),
            "restecg": chance.choice([0, 1, 2], rows, p=[0.5, 0.02, 0.48]),
            "thalach": (chance.normal(205, 18, rows) - age).round().astype(int),
            "exang": (chance.random(rows) < 0.33).astype(int),
            "oldpeak": np.abs(chance.normal(0, 1.5, rows)).round(1),
            "slope": chance.choice([1, 2, 3], rows, p=[0.47, 0.46, 0.07]),
            "ca": chance.choice([0.0, 1.0, 2.0, 3.0], rows, p=[0.58, 0.22, 0.13, 0.07]),
            "thal": chance.choice(THAL, rows, p=[0.55, 0.06, 0.39]),
        }
    )
    for column, share in (("chol", 0.02), ("ca", 0.02)):
        frame.loc[chance.random(rows) < share, column] = np.nan
    return frame


def diagnosis(frame: pd.DataFrame, chance: np.random.Generator) -> pd.Series:
    """Decide who is ill: likelier with age, chest pain, narrow vessels and a low heart rate."""
    score = (
        0.04 * (frame["age"] - 54)
        + 0.7 * frame["sex"]
        + 0.8 * (frame["cp"] == 4)
        + 0.9 * frame["ca"].fillna(0)
        + 0.5 * frame["oldpeak"]
        + 1.1 * (frame["thal"] == "reversible")
        + 0.6 * frame["exang"]
        - 0.02 * (frame["thalach"] - 150)
        - 2.2
    )
    ill = score + chance.logistic(0, 0.6, len(frame)) > 0
    return pd.Series(ill.astype(int), name="target")


def trained_pipeline(frame: pd.DataFrame, target: pd.Series, trees: int) -> object:
    """Fit preprocessing and classifier as one scikit-learn pipeline."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
    from xgboost import XGBClassifier

    numbers = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    kinds = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    ordered = OrdinalEncoder().set_params(categories=[[1, 2, 3], THAL])
    preprocessing = ColumnTransformer(
        [
            ("numbers", numbers, NUMBERS),
            ("kinds", kinds, KINDS),
            ("ordered", ordered, ORDERED),
            ("flags", "passthrough", FLAGS),
        ]
    )
    classifier = XGBClassifier(n_estimators=trees, max_depth=3, n_jobs=1, random_state=SEED)
    return Pipeline([("preprocess", preprocessing), ("classify", classifier)]).fit(frame, target)


def pinned(*names: str) -> str:
    """Pin the first of these distributions that is installed."""
    for name in names:
        try:
            return f"{name}=={importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    raise SystemExit(f"{names[0]} is not installed: run `make setup` first")


def save_model(pipeline: object, frame: pd.DataFrame, folder: Path) -> None:
    """Save in MLflow's format, with a signature and pinned requirements."""
    from mlflow.models import infer_signature
    from mlflow.sklearn import save_model as save_with_mlflow

    # Two pieces of advice that do not concern us: the whole columns have no gaps, and we unpickle
    # nothing but the model made here.
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)
    save_with_mlflow(
        pipeline,
        folder,
        serialization_format="cloudpickle",
        signature=infer_signature(frame, np.array([0, 1])),
        pip_requirements=[
            pinned("mlflow"),
            pinned("cloudpickle"),
            pinned("numpy"),
            pinned("pandas"),
            pinned("scikit-learn"),
            pinned("xgboost", "xgboost-cpu"),
        ],
    )


def write_expected(data: Path, model: Path, path: Path) -> None:
    """Let MLflow predict file by file: this is what a batch job has to reproduce."""
    from mlflow.pyfunc import load_model

    loaded = load_model(str(model))
    schema = loaded.metadata.get_input_schema()
    assert schema is not None
    types = {column.name: column.type.to_pandas() for column in schema.inputs}
    parts: list[pd.DataFrame] = []
    for file in sorted(data.glob("*.csv")):
        frame = pd.read_csv(file, dtype=types)
        part = pd.DataFrame({"prediction": loaded.predict(frame)})
        part.insert(0, "_file", file.name)
        part.insert(1, "_row", range(len(part)))
        parts.append(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(parts).to_csv(path, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    here = Path(__file__).resolve().parent
    parser.add_argument("--folder", type=Path, default=here, help="where to write (default: here)")
    folder: Path = parser.parse_args().folder

    for name in ("data", "model", "model-v2", "expected"):
        shutil.rmtree(folder / name, ignore_errors=True)
    chance = np.random.default_rng(SEED)
    training = patients(TRAINING_ROWS, chance)
    target = diagnosis(training, chance)

    data = folder / "data"
    data.mkdir(parents=True)
    for number in range(1, FILES + 1):
        rows = ROWS_PER_FILE + 10 * (number % 3)
        patients(rows, chance).to_csv(data / f"heart-{number:02}.csv", index=False)
    # model/ with its predictions comes last: where they are, everything is.
    for suffix, trees in (("-v2", TREES_V2), ("", TREES)):
        model = folder / f"model{suffix}"
        save_model(trained_pipeline(training, target, trees), training, model)
        write_expected(data, model, folder / "expected" / f"predictions{suffix}.csv")
    print(f"{FILES} files in {data}, models in {folder / 'model'} and {folder / 'model-v2'}")


if __name__ == "__main__":
    main()
