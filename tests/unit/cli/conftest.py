"""The real command line over the real app, in process; only nobody runs the jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batchpoint import wiring
from batchpoint.cli.main import run
from batchpoint.domain.job import Job, JobState, JobStatus, Progress
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.storage.locate import path_of
from tests.unit.control_plane import ControlPlane, data_folder, mlflow_model


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ended]


@pytest.fixture
def cli(
    plane: ControlPlane,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Cli:
    """Run a command line as if typed in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BATCHPOINT_HOME", str(plane.home))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("BATCHPOINT_URL", raising=False)
    monkeypatch.delenv("BATCHPOINT_DEBUG", raising=False)
    monkeypatch.setattr(SupervisorLink, "ensure", lambda link: plane.wakes.append(str(link.home)))
    app = plane.app()
    monkeypatch.setattr(wiring, "embedded_app", lambda *_: app)

    def typed(*arguments: str) -> Ended:
        capsys.readouterr()
        code = run(arguments)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return typed


@pytest.fixture
def deployed(cli: Cli, tmp_path: Path) -> Cli:
    """An endpoint `heart` with a default deployment, and data to score."""
    mlflow_model(tmp_path / "model")
    data_folder(tmp_path / "data")
    ended = cli("deploy", "./model", "--name", "heart")
    assert ended.code == 0, ended.err
    return cli


def end_job(plane: ControlPlane, name: str, state: JobState, **status: object) -> Job:
    """Let a job end as its runner would, with results when it completed."""
    job = plane.ledger.get_job(name)
    epoch = plane.ledger.acquire_lease(name, "me", 0.0, 15)
    assert epoch is not None
    if state == JobState.COMPLETED:
        output = path_of(job.scoring.output.uri)
        output.mkdir(parents=True)
        (output / "predictions.csv").write_text("_file,_row,prediction\na.csv,0,0.5\nb.csv,0,1\n")
        failed = [
            {"name": "c.csv", "row": 3, "type": "ValueError", "message": "bad"},
            {"name": "d.csv", "row": None, "type": "ValueError", "message": "worse"},
        ]
        if status.get("progress"):
            lines = "".join(json.dumps(item) + "\n" for item in failed)
            (output / "_failed_items.jsonl").write_text(lines)
    logs = plane.home / "jobs" / name / "logs"
    (logs / "user").mkdir(parents=True, exist_ok=True)
    (logs / "job.log").write_text("job began\n")
    (logs / "user" / "local-0.txt").write_text("printed\n")
    ended = JobStatus.model_validate(
        {
            "state": state,
            "output_uri": job.scoring.output.uri,
            "started_at": job.created_at,
            "ended_at": job.created_at,
            "progress": Progress(phase="done", listed=True, items_total=2, items_done=2),
            **status,
        }
    )
    plane.ledger.finish(name, epoch, ended)
    return plane.ledger.get_job(name)
