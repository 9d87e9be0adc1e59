"""Whole jobs in Python environments of their own, and of models that only mlflow can load."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchpoint.domain.asset import Environment
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.node.environment import EnvironmentSettings
from batchpoint.node.interpreter_search import InterpreterSearch
from tests.integration.conftest import Place
from tests.integration.test_environment_build import make_wheel

SCRIPT = """
import sys
import tiny_model

def init():
    pass

def run(mini_batch):
    return ["%d.%d %s" % (sys.version_info[:2] + (tiny_model.VERSION,))] * len(mini_batch)
"""
# A pyfunc of one's own: `loader_module` of the model's code folder.
LOADER = """
import os

class Doubling:
    def predict(self, frame):
        if (frame.x == 13).any():
            raise ValueError("13 brings bad luck")
        if (frame.x == 666).any():
            os._exit(66)
        return frame.x * 2

def _load_pyfunc(path):
    return Doubling()
"""


def other_pythons() -> list[str]:
    """The minor versions of this machine that do not run the tests."""
    search = InterpreterSearch(EnvironmentSettings(), os.environ)
    found: list[str] = []
    for minor in range(8, 20):
        try:
            if minor != sys.version_info.minor:
                search.find(f"3.{minor}", "test")
                found.append(f"3.{minor}")
        except Invalid:
            continue
    return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site whose pip is told to use a wheel folder and nothing else."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "tiny-model", "1.0")
    make_wheel(wheels, "tiny-model", "2.0")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    return wheels


def write_data(folder: Path) -> Path:
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.txt").write_text("x")
    return folder


@pytest.mark.parametrize("which", [0, pytest.param(-1, marks=pytest.mark.slow)])
def test_a_job_runs_in_the_environment_of_its_deployment(
    place: Place, site: Path, tmp_path: Path, which: int
) -> None:
    assert site.is_dir()
    running = f"3.{sys.version_info.minor}"
    python = (other_pythons() or [running])[which]
    conda: dict[str, object] = {
        "dependencies": [f"python={python}", "pip", {"pip": ["tiny-model==1.0"]}]
    }
    place.deploy_script(tmp_path / "d", "abroad", SCRIPT, environment=Environment(conda_file=conda))
    data = write_data(tmp_path / "in")
    job = place.client.invoke("abroad", data).wait()
    expected = f"{python} 1.0"
    assert place.predictions(job).splitlines()[1:] == [f"{n}.txt,{expected}" for n in (0, 1)]
    log = b"".join(place.client.job(job.name).log()).decode()
    assert f"uses Python {python}" in log
    # There is no pyarrow in that environment, and yet:
    job = place.client.invoke("abroad", data, output_file_name="p.parquet").wait()
    table = pq.read_table(place.output(job) / "p.parquet")
    assert table.column("prediction").to_pylist() == [expected] * 2


def test_what_cannot_be_had_is_one_sentence_when_it_is_deployed(
    place: Place, site: Path, tmp_path: Path
) -> None:
    assert site.is_dir()
    cases = [
        (Environment(requirements=["tiny-model==3.0"]), "environment_unbuildable", "tiny-model"),
        (Environment(requirements=["no-such-thing"]), "environment_unbuildable", "no-such-thing"),
        (Environment(python_version="3.99"), "interpreter_not_found", "3.99"),
        (
            Environment(conda_file={"dependencies": ["python=3.11", "cudatoolkit=11"]}),
            "environment_unbuildable",
            "cudatoolkit",
        ),
    ]
    for environment, code, word in cases:
        with pytest.raises(BatchpointError) as raised:
            place.deploy_script(tmp_path / "d", "nowhere", SCRIPT, environment=environment)
        assert raised.value.code == code
        assert word in str(raised.value)
        assert "Traceback" not in str(raised.value)
    assert "nowhere" not in [endpoint.name for endpoint in place.client.endpoints.list()]


@pytest.mark.parametrize("crashing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_model_that_only_mlflow_can_load(place: Place, tmp_path: Path, crashing: bool) -> None:
    model = tmp_path / "model"
    (model / "code").mkdir(parents=True)
    (model / "code" / "doubling_of_jobs.py").write_text(LOADER)
    described = {
        "flavors": {"python_function": {"loader_module": "doubling_of_jobs", "code": "code"}},
        "signature": {"inputs": json.dumps([{"type": "long", "name": "x", "required": True}])},
        "mlflow_version": "2.9.0",
    }
    (model / "MLmodel").write_text(json.dumps(described))  # JSON is YAML
    place.client.deploy(model, "doubling", max_retries=0)
    data = tmp_path / "in"
    data.mkdir()
    tables = {"a.csv": [1, 2], "b.csv": [3, 13, 5], "c.csv": [7, 8, 9]}
    if crashing:
        tables["c.csv"].insert(2, 666)
    for name, values in tables.items():
        (data / name).write_text("x\n" + "".join(f"{value}\n" for value in values))
    handle = place.client.invoke("doubling", data)
    job = handle.wait()
    rows = list(csv.reader(io.StringIO(place.predictions(job))))
    assert rows == [
        ["_file", "_row", "prediction"],
        *(
            [name, str(row), str(value * 2)]
            for name, values in tables.items()
            for row, value in enumerate(values)
            if value not in (13, 666)
        ),
    ]
    failed = [("b.csv", 1), ("c.csv", 2)][: 1 + crashing]
    assert [(line["name"], line["row"]) for line in handle.failed_items()] == failed
    assert job.status.progress.items_failed == len(failed)
