"""Pipelines with a parallel step, from the SDK to the rows: graphs, kills, cancels and stores."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchpoint import JobHandle, wiring
from batchpoint.control.job_files import JobFiles
from batchpoint.domain.component import ParallelComponent
from batchpoint.domain.datastore import DatastoreAccess, StorageAccess
from batchpoint.domain.errors import Invalid, NotFound
from batchpoint.domain.job import Job, JobState
from batchpoint.domain.pipeline import PipelineJob
from batchpoint.formats.layout import job_folder
from batchpoint.settings import Settings
from batchpoint.storage.locate import path_of
from batchpoint.storage.object_locations import open_store
from tests.integration.conftest import Place
from tests.servers.store_servers import MotoS3

SCRIPT = """
import argparse, csv, os, time
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("factor", "side", "table", "gate"):
    parser.add_argument("--" + name)
args = parser.parse_args()
factor = int(args.factor)

def init():
    global offset
    offset = int(Path(args.table).read_text())

def run(mini_batch):
    done = []
    for path in mini_batch:
        while args.gate and not os.path.exists(args.gate) and Path(path).stem == "030":
            time.sleep(0.02)
        with open(path, newline="") as file:
            total = sum(int(row["x"]) for row in csv.DictReader(file))
        Path(args.side, Path(path).stem).write_text(str(total))
        done.append(total * factor + offset)
    return done
"""
ITEMS = 40


def until(look: Callable[[], object]) -> None:
    """Look again and again until there is something to see."""
    give_up = time.monotonic() + 60
    while not look():
        assert time.monotonic() < give_up
        time.sleep(0.02)


class Scoring:
    """A folder with data and code, and the pipeline that goes through it."""

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "gate"
        self.data = folder / "data"
        self.data.mkdir()
        for number in range(ITEMS):
            rows = "".join(f"{number + row}\n" for row in range(3))
            (self.data / f"{number:03}.csv").write_text(f"x\n{rows}")
        self.table = folder / "offset.txt"
        self.table.write_text("1000")
        self.code = folder / "code"
        self.code.mkdir()
        (self.code / "score.py").write_text(SCRIPT)

    def component(self, **fields: Any) -> dict[str, Any]:
        return {
            "type": "parallel",
            "inputs": {
                "data": {"type": "uri_folder"},
                "table": {"type": "uri_file"},
                "factor": {"type": "integer", "default": 2},
                "gate": {"type": "string", "optional": True},
            },
            "outputs": {"rows": {"type": "uri_file"}, "side": {"type": "uri_folder"}},
            "input_data": "${{inputs.data}}",
            "max_concurrency_per_instance": 2,
            "task": {
                "code": str(self.code),
                "entry_script": "score.py",
                "program_arguments": (
                    "--factor ${{inputs.factor}} --side ${{outputs.side}} --error_threshold 0 "
                    "--table ${{inputs.table}} $[[--gate ${{inputs.gate}}]]"
                ),
                "append_row_to": "${{outputs.rows}}",
            },
            **fields,
        }

    def pipeline(self, data: str = "", table: str = "", **fields: Any) -> PipelineJob:
        """A command that copies the data, the parallel step, and a command that adds rows up."""
        inputs = {
            "data": "${{parent.jobs.copy.outputs.made}}",
            "table": {"type": "uri_file", "path": table or str(self.table), "mode": "download"},
            **fields.pop("inputs", {}),
        }
        count = "tail -n +2 ${{inputs.rows}} | wc -l > ${{outputs.count}}"
        body: dict[str, Any] = {
            "jobs": {
                "copy": {
                    "component": {
                        "type": "command",
                        "command": "cp ${{inputs.raw}}/*.csv ${{outputs.made}}/",
                        "inputs": {"raw": {"type": "uri_folder"}},
                        "outputs": {"made": {"type": "uri_folder"}},
                    },
                    "inputs": {"raw": {"type": "uri_folder", "path": data or str(self.data)}},
                },
                "score": {
                    "component": self.component(**fields.pop("component", {})),
                    "inputs": inputs,
                    "outputs": {
                        "rows": "${{parent.outputs.rows}}",
                        "side": "${{parent.outputs.side}}",
                    },
                    **fields.pop("step", {}),
                },
                "count": {
                    "component": {
                        "type": "command",
                        "command": count,
                        "inputs": {"rows": {"type": "uri_file"}},
                        "outputs": {"count": {"type": "uri_file"}},
                    },
                    "inputs": {"rows": "${{parent.jobs.score.outputs.rows}}"},
                    "outputs": {"count": "${{parent.outputs.count}}"},
                },
            },
            "outputs": {
                "rows": {"type": "uri_file"},
                "side": {"type": "uri_folder"},
                "count": {"type": "uri_file"},
            },
        }
        body["outputs"] |= fields.pop("outputs", {})
        return PipelineJob.model_validate(body | fields)


@pytest.fixture
def scoring(tmp_path: Path) -> Scoring:
    return Scoring(tmp_path)


def rows_in(text: str) -> list[tuple[str, int]]:
    return [(row["_file"], int(row["prediction"])) for row in csv.DictReader(text.splitlines())]


def sums(factor: int = 2) -> list[tuple[str, int]]:
    return [(f"{number:03}.csv", factor * (3 * number + 3) + 1000) for number in range(ITEMS)]


def output(job: JobHandle, name: str) -> Path:
    return path_of(job.status.outputs[name].uri)


def child(place: Place, job: JobHandle) -> Job:
    return place.client.jobs.get(f"{job.name}-score")


def check_whole(job: JobHandle, factor: int = 2) -> None:
    assert job.status.state is JobState.COMPLETED, job.status.error
    assert rows_in(output(job, "rows").read_text()) == sums(factor)
    assert output(job, "count").read_text().strip() == str(ITEMS)
    sides = {path.name: int(path.read_text()) for path in output(job, "side").iterdir()}
    assert sides == {f"{number:03}": 3 * number + 3 for number in range(ITEMS)}


def test_rows_go_from_step_to_step(place: Place, scoring: Scoring) -> None:
    job = place.client.jobs.create(
        scoring.pipeline(inputs={"factor": 5}, step={"mini_batch_size": 7, "display_name": "five"})
    )
    job.wait(timeout_seconds=60)
    check_whole(job, 5)
    scored = child(place, job)
    assert scored.status.progress.mini_batches_done == 6
    assert scored.status.progress.items_done == ITEMS
    assert set(scored.status.outputs) == {"rows", "side"}
    assert scored.scoring.settings.error_threshold == 0
    # Taken over whole when nothing has changed.
    again = place.client.jobs.create(
        scoring.pipeline(inputs={"factor": 5}, step={"mini_batch_size": 7, "display_name": "five"})
    )
    again.wait(timeout_seconds=60)
    check_whole(again, 5)
    taken = child(place, again)
    assert taken.status.reused_from == scored.name
    with pytest.raises(NotFound, match=scored.name):
        b"".join(JobFiles(place.home, lambda _: StorageAccess()).failed_items(taken))


def test_a_registered_component_is_used_by_name(place: Place, scoring: Scoring) -> None:
    fields = scoring.component(name="adding", version="1", mini_batch_size="100kb")
    place.client.components.create_or_update(ParallelComponent.model_validate(fields))
    body = scoring.pipeline().model_dump(mode="json")
    body["jobs"]["score"]["component"] = "azureml:adding:1"
    job = place.client.jobs.create(PipelineJob.model_validate(body))
    job.wait(timeout_seconds=60)
    check_whole(job)
    assert child(place, job).status.progress.mini_batches_done == 1


def test_a_runner_that_is_killed_while_a_step_scores_is_gone_on_from(
    place: Place, scoring: Scoring
) -> None:
    inputs = {"gate": str(scoring.gate)}
    job = place.client.jobs.create(scoring.pipeline(inputs=inputs))
    for attempt, done in ((1, 10), (2, 20)):

        def far(attempt: int = attempt, done: int = done) -> bool:
            status = child(place, job).status
            return status.attempts == attempt and status.progress.mini_batches_done >= done

        until(far)
        os.kill(_runner(place, job), signal.SIGKILL)
    until(lambda: child(place, job).status.attempts == 3)
    scoring.gate.touch()
    job.wait(timeout_seconds=60)
    check_whole(job)


def _runner(place: Place, job: JobHandle) -> int:
    found: list[int] = []

    def look() -> bool:
        told = place.link.ask("status") or {"jobs": []}
        found.extend(each["pid"] for each in told["jobs"] if each["job"] == job.name)
        return bool(found)

    until(look)
    return found[0]


def test_a_step_that_is_canceled_is_canceled_alone(place: Place, scoring: Scoring) -> None:
    job = place.client.jobs.create(scoring.pipeline(inputs={"gate": str(scoring.gate)}))
    until(lambda: child(place, job).status.progress.mini_batches_done > 0)
    place.client.jobs.cancel(f"{job.name}-score")
    job.wait(check=False, timeout_seconds=60)
    assert job.status.state is JobState.FAILED
    states = {each.name.rpartition("-")[2]: each.status.state for each in job.children()}
    assert states == {
        "copy": JobState.COMPLETED,
        "score": JobState.CANCELED,
        "count": JobState.CANCELED,
    }
    assert not (place.home / "outputs" / job.name / "rows").exists()


def test_a_pipeline_that_is_canceled_stops_its_scoring(place: Place, scoring: Scoring) -> None:
    job = place.client.jobs.create(scoring.pipeline(inputs={"gate": str(scoring.gate)}))
    until(lambda: child(place, job).status.progress.mini_batches_done > 0)
    job.cancel()
    job.wait(check=False, timeout_seconds=60)
    assert job.status.state is JobState.CANCELED
    assert child(place, job).status.state is JobState.CANCELED


def test_a_threshold_that_is_passed_fails_step_and_pipeline(place: Place, scoring: Scoring) -> None:
    (scoring.data / "017.csv").write_text("x\nnot a number\n")
    job = place.client.jobs.create(
        scoring.pipeline(component={"retry_settings": {"max_retries": 0}})
    )
    job.wait(check=False, timeout_seconds=60)
    assert job.status.state is JobState.FAILED
    assert job.status.error is not None
    assert job.status.error.code == "step_failed"
    scored = child(place, job)
    assert scored.status.error is not None
    assert scored.status.error.code == "error_threshold_exceeded"
    assert "017.csv" in scored.status.error.message
    assert job_folder(place.home, scored.name).parts.exists()


MODEL = """
class Halving:
    def predict(self, frame):
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
    "signature": {
        "inputs": json.dumps([{"type": "long", "name": "x", "required": True}]),
        "outputs": None,
        "params": None,
    },
}


def model_step(scoring: Scoring, kind: str) -> PipelineJob:
    model = scoring.data.parent / "model"
    (model / "code").mkdir(parents=True)
    (model / "code" / "halving_of_steps.py").write_text(MODEL)
    (model / "model.pkl").write_bytes(b"chalving_of_steps\nHalving\n)\x81.")
    (model / "MLmodel").write_text(json.dumps(MLMODEL))  # JSON is YAML
    component = {
        "type": "parallel",
        "inputs": {"data": {"type": "uri_folder"}},
        "outputs": {"rows": {"type": "uri_folder"}},
        "input_data": "${{inputs.data}}",
        "mini_batch_size": "100 b",
        "task": {
            "type": "model",
            "model": {"path": str(model), "type": kind},
            "append_row_to": "${{outputs.rows}}",
        },
    }
    data = {"type": "uri_folder", "path": str(scoring.data)}
    return PipelineJob.model_validate(
        {
            "jobs": {
                "score": {
                    "component": component,
                    "inputs": {"data": data},
                    "outputs": {"rows": "${{parent.outputs.rows}}"},
                }
            },
            "outputs": {"rows": {"type": "uri_folder"}},
        }
    )


def test_a_model_as_it_is_is_a_step(place: Place, scoring: Scoring) -> None:
    job = place.client.jobs.create(model_step(scoring, "mlflow_model"))
    job.wait(timeout_seconds=60)
    assert job.status.state is JobState.COMPLETED, job.status.error
    folder = output(job, "rows")
    assert [path.name for path in folder.iterdir()] == ["predictions.csv"]
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    assert [(row["_file"], row["_row"], float(row["prediction"])) for row in rows] == [
        (f"{number:03}.csv", str(row), (number + row) / 2)
        for number in range(ITEMS)
        for row in range(3)
    ]
    assert child(place, job).status.progress.mini_batches_done > 1


def test_the_name_of_the_file_decides_the_format_of_the_rows(
    place: Place, scoring: Scoring, tmp_path: Path
) -> None:
    rows = tmp_path / "made" / "rows.parquet"
    body = scoring.pipeline(outputs={"rows": {"type": "uri_file", "uri": rows.as_uri()}})
    job = place.client.jobs.create(body)
    job.wait(timeout_seconds=60)
    table = pq.read_table(rows).to_pydict()
    assert list(zip(table["_file"], table["prediction"], strict=True)) == sums()
    assert [path.name for path in rows.parent.iterdir()] == [rows.name]


def test_a_step_is_scored_again_with_its_inputs_and_folders_of_its_own(
    place: Place, scoring: Scoring
) -> None:
    job = place.client.jobs.create(scoring.pipeline())
    job.wait(timeout_seconds=60)
    before = sorted(output(job, "side").iterdir())
    with wiring.reproduction(
        Settings(home=place.home), child(place, job), "5", alone=False, debugger=False
    ) as prepared:
        assert prepared.names == ["005.csv"]
        ended = subprocess.run(
            prepared.command,
            env=prepared.environment,
            cwd=prepared.folder,
            check=True,
            capture_output=True,
            text=True,
        )
    assert rows_in(ended.stdout) == sums()[5:6]
    assert sorted(output(job, "side").iterdir()) == before
    assert not job_folder(place.home, f"{job.name}-score").work.exists()


def test_only_models_in_mlflow_format_run_as_they_are(place: Place, scoring: Scoring) -> None:
    with pytest.raises(Invalid) as refused:
        place.client.jobs.create(model_step(scoring, "custom_model"))
    assert refused.value.code == "model_invalid"
    assert [finding.where for finding in refused.value.findings] == [
        "jobs.score.component.task.model"
    ]


def test_everything_in_an_object_store(place: Place, scoring: Scoring, moto_s3: MotoS3) -> None:
    datastore, credentials = moto_s3.datastore("paralake")
    place.client.datastores.create_or_update(
        datastore.model_copy(update={"credentials": credentials})
    )
    lake = "azureml://datastores/paralake/paths"
    store = open_store(DatastoreAccess(datastore=datastore, credentials=credentials))
    for path in scoring.data.iterdir():
        assert store.put(f"in/data/{path.name}", path.read_bytes())
    assert store.put("in/offset.txt", scoring.table.read_bytes())
    job = place.client.jobs.create(
        scoring.pipeline(
            f"{lake}/in/data",
            f"{lake}/in/offset.txt",
            outputs={
                "rows": {"type": "uri_file", "uri": f"{lake}/out/rows.csv"},
                "side": {"type": "uri_folder", "uri": f"{lake}/out/side"},
            },
        )
    )
    job.wait(timeout_seconds=120)
    assert job.status.state is JobState.COMPLETED, job.status.error
    assert job.status.outputs["rows"].uri == f"{lake}/out/rows.csv"
    rows = b"".join(store.stream("out/rows.csv")).decode()
    assert rows_in(rows) == sums()
    names = {found.path for page in store.list("out/") for found in page}
    assert names - {"out/side/_receipt.json", "out/rows.csv"} == {
        f"out/side/{number:03}" for number in range(ITEMS)
    }
    assert output(job, "count").read_text().strip() == str(ITEMS)
