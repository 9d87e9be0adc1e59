"""The same predictions as score.py, for one mini-batch of prepared tables after the other."""

import argparse
from pathlib import Path

import mlflow
import pandas as pd
from score import scored


def init():
    """Load the model, once per worker."""
    global model, mode
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_path", required=True)
    parser.add_argument("--score_mode", choices=["append", "replace"], default="append")
    given, _ = parser.parse_known_args()
    mode = given.score_mode
    model = mlflow.pyfunc.load_model(given.model_path)


def run(mini_batch):
    """Predict for the patients of some files; rows say which file they are of."""
    parts = []
    for path in mini_batch:
        table = scored(pd.read_csv(path), model, mode)
        table.insert(0, "file", Path(path).name)
        parts.append(table)
    return pd.concat(parts)
