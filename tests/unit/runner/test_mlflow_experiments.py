"""Experiments in MLflow's folder store: made once, and as MLflow itself reads them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from batchpoint.runner.mlflow_experiments import make_experiment
from tests.unit.resolved_jobs import NOON

mlflow = pytest.importorskip("mlflow")


@pytest.mark.parametrize("name", ["heart", "Default", "naïve: 'quotes' #1", "007"])
def test_mlflow_finds_the_experiment_and_logs_into_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = tmp_path / "my home" / "mlflow"
    for _ in range(2):
        make_experiment(store, name, NOON)
    client = mlflow.MlflowClient(tracking_uri=store.as_uri())
    [found] = [each for each in client.search_experiments() if each.name == name]
    run = client.create_run(found.experiment_id)
    client.log_metric(run.info.run_id, "m", 1.0)
    assert [each.info.run_id for each in client.search_runs([found.experiment_id])] == [
        run.info.run_id
    ]
    assert sorted(path.name for path in store.parent.iterdir()) == ["mlflow"]


def test_one_that_mlflow_made_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = tmp_path / "mlflow"
    client = mlflow.MlflowClient(tracking_uri=store.as_uri())
    made = client.create_experiment("heart")
    make_experiment(store, "heart", NOON)
    assert [e.experiment_id for e in client.search_experiments() if e.name == "heart"] == [made]


def test_many_at_once_make_one(tmp_path: Path) -> None:
    store = tmp_path / "mlflow"
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        make_experiment(store, "heart", NOON)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.glob("*/meta.yaml"))) == 1
