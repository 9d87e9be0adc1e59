"""Literal parameters reach scripts and models without code, typed, and never another job's."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import Job, JobState
from tests.integration.conftest import Place

SCRIPT = """
import argparse, json, os, sys

def init():
    global known, started
    parser = argparse.ArgumentParser()
    parser.add_argument("--beams", type=int)
    parser.add_argument("--shift", type=float)
    parser.add_argument("--mode")
    known, _ = parser.parse_known_args()
    started = os.getpid()

def run(mini_batch):
    told = {
        "arguments": sys.argv[1:],
        "parsed": [known.beams, known.shift, known.mode],
        "variable": json.loads(os.environ["BATCHPOINT_PARAMETERS"]),
        "pid": started,
    }
    return [json.dumps(told)] * len(mini_batch)
"""


def told(place: Place, job: Job) -> dict[str, Any]:
    assert job.status.state == JobState.COMPLETED, job.status.error
    [row] = csv.DictReader(io.StringIO(place.predictions(job)))
    return json.loads(row["prediction"])


def test_a_script_finds_them_as_arguments_and_in_a_variable(place: Place, tmp_path: Path) -> None:
    defaults = {"beams": 4, "shift": -0.5, "loud": True}
    place.deploy_script(tmp_path / "scored", "parameters", SCRIPT, parameters=defaults)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")

    def run(**parameters: Any) -> dict[str, Any]:
        handle = place.client.invoke("parameters", tmp_path / "in", parameters=parameters)
        return told(place, handle.wait())

    first = run()
    assert first["variable"] == defaults
    assert first["parsed"] == [4, -0.5, None]
    assert first["arguments"] == ["--beams", "4", "--loud", "true", "--shift=-0.5"]
    again = run(beams="4")  # text, as on Azure's wire: the same parameters, the same worker
    assert again == first
    other = run(beams=5, mode="-x 'quoted' \u00fc")
    assert other["variable"] == {**defaults, "beams": 5, "mode": "-x 'quoted' \u00fc"}
    assert other["parsed"] == [5, -0.5, "-x 'quoted' \u00fc"]
    assert other["pid"] != first["pid"], "a worker that has read its arguments keeps them"
    assert run() | {"pid": 0} == first | {"pid": 0}
    with pytest.raises(Invalid, match="expected a whole number"):
        run(beams="many")
    with pytest.raises(Invalid, match="not the name of a parameter"):
        run(**{"--x": 1})


MODEL = """
import mlflow.pyfunc

class Scaled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        kinds = "/".join(type(params[name]).__name__ for name in sorted(params))
        scaled = model_input["x"] * params["factor"]
        return [f"{value:g} {params['unit']} {params['times']} {kinds}" for value in scaled]

mlflow.models.set_model(Scaled())
"""
SAVING = """
import sys
import mlflow, pandas
from mlflow.models import infer_signature

signature = infer_signature(
    pandas.DataFrame({"x": [1.5]}), ["1 m"], params={"factor": 2.0, "unit": "m", "times": 1}
)
mlflow.pyfunc.save_model(
    "model", python_model="scaled.py", signature=signature, pip_requirements=["mlflow"]
)
"""


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real MLflow model whose signature has params, saved by a process of its own."""
    folder = tmp_path_factory.mktemp("scaled")
    (folder / "scaled.py").write_text(MODEL)
    subprocess.run([sys.executable, "-c", SAVING], cwd=folder, check=True, capture_output=True)
    return folder / "model"


def test_a_model_without_code_gets_them_as_params(
    place: Place, scaled: Path, tmp_path: Path
) -> None:
    place.client.deploy(scaled, "scaled", parameters={"factor": 3})
    pd.DataFrame({"x": [1.5, 2.5]}).to_csv(tmp_path / "a.csv", index=False)

    def run(**parameters: Any) -> list[str]:
        job = place.client.invoke("scaled", tmp_path / "a.csv", parameters=parameters).wait()
        assert job.status.state == JobState.COMPLETED, job.status.error
        return [row["prediction"] for row in csv.DictReader(io.StringIO(place.predictions(job)))]

    assert run() == ["4.5 m 1 float/int/str", "7.5 m 1 float/int/str"]
    changed = run(factor="10.0", unit="km", times="7")
    assert changed == ["15 km 7 float/int/str", "25 km 7 float/int/str"]
    for wrong, said in (
        ({"factors": 1}, "the model has no parameter 'factors'"),
        ({"factor": "x"}, 'expected a number, got "x"'),
        ({"times": 1.5}, "expected a whole number"),
    ):
        with pytest.raises(Invalid, match=said):
            run(**wrong)
    with pytest.raises(Invalid, match="the model has no parameter 'size'"):
        place.client.deploy(scaled, "scaled", deployment="wrong", parameters={"size": 1})
