"""Trains a classifier with XGBoost, saves it in MLflow's format, and says how good it is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from mlflow.xgboost import autolog, save_model
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier

SEED = 7


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--target_column", required=True)
    parser.add_argument("--eval_size", type=float, default=0.3)
    parser.add_argument("--registered_model_name")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--evaluation_results", type=Path, required=True)
    return parser.parse_args(line)


def patients(folder: Path, target: str) -> pd.DataFrame:
    """Read all tables, in the order of their names."""
    files = sorted(folder.rglob("*.csv"))
    if not files:
        raise SystemExit(f"{folder} has no CSV file")
    table = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    if target not in table:
        raise SystemExit(f"{folder} has no column {target!r}; there are: {[*table]}")
    return table.astype(float)


def evaluated(model: XGBClassifier, table: Any, truth: Any) -> dict[str, float]:
    """Measure a model on patients that it has not seen."""
    likely = model.predict_proba(table)[:, 1]
    return {
        "patients": float(len(table)),
        "accuracy": round(float(accuracy_score(truth, likely > 0.5)), 4),
        "f1": round(float(f1_score(truth, likely > 0.5)), 4),
        "auc": round(float(roc_auc_score(truth, likely)), 4),
    }


def main(line: list[str] | None = None) -> None:
    given = arguments(line)
    table = patients(given.data_path, given.target_column)
    truth = table.pop(given.target_column).astype(int)
    seen, unseen, seen_truth, unseen_truth = train_test_split(
        table, truth, test_size=given.eval_size, random_state=SEED, stratify=truth
    )
    # The model is an output of this step; into MLflow's registry it goes only when that is asked.
    autolog(
        log_models=given.registered_model_name is not None,
        registered_model_name=given.registered_model_name,
    )
    with mlflow.start_run():
        model = XGBClassifier(n_estimators=60, max_depth=3, n_jobs=1, random_state=SEED)
        model.fit(seen, seen_truth, eval_set=[(unseen, unseen_truth)], verbose=False)
        metrics = evaluated(model, unseen, unseen_truth)
        mlflow.log_metrics(metrics)
    print(f"Trained on {len(seen)} patients; on {len(unseen)} others: {metrics}")

    signature = infer_signature(seen, model.predict(seen))
    save_model(model, given.model, signature=signature)
    given.evaluation_results.mkdir(parents=True, exist_ok=True)
    described = json.dumps(metrics, indent=2, sort_keys=True) + "\n"
    (given.evaluation_results / "metrics.json").write_text(described, encoding="utf-8")
    importance = pd.Series(model.feature_importances_, index=table.columns, name="importance")
    ranking = importance.sort_values(ascending=False, kind="stable")
    ranking.to_csv(given.evaluation_results / "importance.csv", index_label="column")


if __name__ == "__main__":
    main()
