"""`job repro`: a failed mini-batch is scored again under the job's own circumstances."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from batchpoint import Client, JobHandle, wiring
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from tests.integration.user_files import BATCHPOINT

SCRIPT = """
import argparse
import os
import sys

def init():
    global scale
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=int, default=1)
    scale = parser.parse_known_args()[0].scale
    print("model in", sorted(os.listdir(os.environ["AZUREML_MODEL_DIR"])), file=sys.stderr)

def run(mini_batch):
    rows = []
    for path in mini_batch:
        if "bad" in path:
            raise ValueError("cannot read " + os.path.basename(path))
        rows.append(len(open(path).read()) * scale)
    return rows
"""

HALVING = """
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
    "signature": {"inputs": json.dumps([{"type": "long", "name": "x", "required": True}])},
}

Repro = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def repro(tmp_path: Path) -> Repro:
    """Run `batchpoint job repro` on the home in `tmp_path`."""

    def run(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "BATCHPOINT_HOME": str(tmp_path / "home")}
        environ.pop("BATCHPOINT_URL", None)
        return subprocess.run(
            [BATCHPOINT, "job", "repro", *arguments],
            env=environ,
            input=typed,
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def job(tmp_path: Path) -> JobHandle:
    """A job of two mini-batches of which the second holds a file that fails."""
    for folder in ("code", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "code" / "score.py").write_text(SCRIPT)
    (tmp_path / "weights.txt").write_text("w")
    for name in ("1.txt", "2.txt", "3.txt", "bad.txt"):
        (tmp_path / "data" / name).write_text("x" * 3)
    home = tmp_path / "home"
    with Client(app=wiring.embedded_app(Settings(home=home))) as client:
        script = str(tmp_path / "code" / "score.py")
        client.deploy(tmp_path / "weights.txt", "scaled", scoring_script=script)
        handle = client.invoke(
            "scaled",
            tmp_path / "data",
            mini_batch_size=2,
            parameters={"scale": 7},
        )
        handle.wait(check=False)
    SupervisorLink(home).down()
    return handle


def test_the_first_failure_is_scored_again(job: JobHandle, repro: Repro) -> None:
    ran = repro(job.name)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert f"mini-batch 1 of job {job.name}: 2 files, the first is 3.txt" in ran.stderr
    assert "model in ['weights.txt']" in ran.stderr
    assert "ValueError: cannot read bad.txt" in ran.stderr
    assert "in run" in ran.stderr
    assert "batchpoint_worker" not in ran.stderr  # only the user's own frames


def test_any_item_is_scored_with_the_parameters_of_the_job(job: JobHandle, repro: Repro) -> None:
    ran = repro(job.name, "--item", "0")
    assert (ran.returncode, ran.stdout) == (0, "_file,prediction\n1.txt,21\n2.txt,21\n"), ran.stderr
    ran = repro(job.name, "--item", "3.txt", "--alone")
    assert (ran.returncode, ran.stdout) == (0, "_file,prediction\n3.txt,21\n"), ran.stderr


def test_a_debugger_opens_where_it_fails(job: JobHandle, repro: Repro) -> None:
    ran = repro(job.name, "--debugger", typed="p 'path is ' + path[-7:]\nq\n")
    assert ran.returncode == 1
    assert "path is bad.txt" in ran.stdout


def test_what_cannot_be_scored_again_is_said(job: JobHandle, repro: Repro, tmp_path: Path) -> None:
    ran = repro(job.name, "--item", "99")
    assert ran.returncode == 2
    assert "error[input_not_found]" in ran.stderr
    (tmp_path / "data" / "1.txt").write_text("changed since")
    ran = repro(job.name, "--item", "0")
    assert ran.returncode == 2
    assert "error[input_changed]" in ran.stderr


def test_rows_of_a_model_without_code_fail_again(tmp_path: Path, repro: Repro) -> None:
    home, model, data = tmp_path / "home", tmp_path / "model", tmp_path / "rows"
    (model / "code").mkdir(parents=True)
    (model / "code" / "halving_again.py").write_text(HALVING)
    (model / "model.pkl").write_bytes(b"chalving_again\nHalving\n)\x81.")
    (model / "MLmodel").write_text(json.dumps(MLMODEL))  # JSON is YAML
    data.mkdir()
    (data / "rows.csv").write_text("x\n4\n13\n6\n")
    with Client(app=wiring.embedded_app(Settings(home=home))) as client:
        client.deploy(model, "halving")
        handle = client.invoke("halving", data)
        handle.wait(check=False)
    SupervisorLink(home).down()
    ran = repro(handle.name)
    assert ran.returncode == 1
    assert ran.stdout == "_file,_row,prediction\nrows.csv,0,2.0\nrows.csv,2,3.0\n"
    assert "rows.csv row 1 failed:" in ran.stderr
    assert "ValueError: 13 brings bad luck" in ran.stderr
