"""The real app over a real ledger, spoken to in process."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from batchpoint.client.embedded_transport import EmbeddedTransport
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.job import Invocation, Job, JobState, JobStatus
from batchpoint.domain.job_pointers import JobInput
from batchpoint.storage.locate import path_of
from tests.unit.control_plane import ControlPlane, data_folder, mlflow_model


@pytest.fixture
def http(plane: ControlPlane) -> Iterator[httpx.Client]:
    transport = EmbeddedTransport(plane.app)
    with httpx.Client(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
def deployed(plane: ControlPlane, tmp_path: Path) -> ControlPlane:
    """An endpoint `heart` with the default deployment `first`, and data to score."""
    model = {"path": str(mlflow_model(tmp_path / "model")), "type": "mlflow_model"}
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    plane.registry.put_deployment(
        ModelDeployment.model_validate({"name": "first", "endpoint_name": "heart", "model": model}),
        lambda line: None,
        set_default=True,
    )
    data_folder(tmp_path / "data")
    return plane


@pytest.fixture
def job(deployed: ControlPlane, tmp_path: Path) -> Job:
    """A job that is queued."""
    source = JobInput(type="uri_folder", uri=str(tmp_path / "data"))
    return deployed.invocations.invoke("heart", Invocation(input=source))


@pytest.fixture
def completed(plane: ControlPlane, job: Job) -> Job:
    """A job that has ended, with its results and logs where they belong."""
    output = path_of(job.scoring.output.uri)
    (output / "files").mkdir(parents=True)
    rows = "".join(f"a.csv,{row},{row / 2}\n" for row in range(500))
    (output / "predictions.csv").write_text(f"_file,_row,prediction\n{rows}")
    (output / "files" / "x y%.txt").write_text("made by the script")
    failed = [{"name": f"b-{item}.csv", "message": "no"} for item in range(3)]
    (output / "_failed_items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in failed))
    logs = plane.home / "jobs" / job.name / "logs"
    (logs / "user").mkdir(parents=True)
    (logs / "job.log").write_text("one\ntwo\n")
    (logs / "user" / "node-0.txt").write_text("print\n")
    (plane.home / "jobs" / job.name / "secret").write_text("not a log")
    finish(plane, job, JobState.COMPLETED)
    return plane.ledger.get_job(job.name)


def finish(plane: ControlPlane, job: Job, state: JobState) -> None:
    epoch = plane.ledger.acquire_lease(job.name, "me", 0.0, 15)
    assert epoch is not None
    status = JobStatus(state=state, output_uri=job.scoring.output.uri)
    plane.ledger.finish(job.name, epoch, status)
