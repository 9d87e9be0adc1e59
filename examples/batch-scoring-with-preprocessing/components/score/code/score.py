"""Predicts for prepared tables with a model in MLflow's format, a table for each table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--model_path", type=Path, required=True)
    parser.add_argument("--score_mode", choices=["append", "replace"], default="append")
    parser.add_argument("--scores_path", type=Path, required=True)
    return parser.parse_args(line)


def scored(table: pd.DataFrame, model: Any, mode: str) -> pd.DataFrame:
    """Predict for each row, and put that behind the columns or in their place."""
    # Columns of whole numbers are numbers to the model, too: it was trained on floats.
    prediction = model.predict(table.astype(float))
    return table.assign(prediction=prediction) if mode == "append" else pd.DataFrame(
        {"prediction": prediction}
    )  # fmt: skip


def main(line: list[str] | None = None) -> None:
    given = arguments(line)
    files = sorted(given.data_path.rglob("*.csv"))
    if not files:
        raise SystemExit(f"{given.data_path} has no CSV file")
    model = mlflow.pyfunc.load_model(str(given.model_path))
    for file in files:
        target = given.scores_path / file.relative_to(given.data_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        table = scored(pd.read_csv(file), model, given.score_mode)
        table.to_csv(target, index=False)
        ill = table["prediction"].eq(1).sum()
        print(f"{file.name}: {ill} of {len(table)} patients are ill")


if __name__ == "__main__":
    main()
