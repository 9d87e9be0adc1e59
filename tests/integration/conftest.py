"""A whole batchpoint of the tests' own: a home, its client, and nothing left in the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from batchpoint import Client, JobHandle, wiring
from batchpoint.domain.job import Job
from batchpoint.formats.layout import JobFolder, job_folder
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings


@dataclass(frozen=True)
class Place:
    """A home with a client on it, and shortcuts to what jobs leave there."""

    home: Path
    client: Client
    link: SupervisorLink

    def output(self, job: JobHandle | Job) -> Path:
        """The folder in which a job publishes."""
        return self.home / "outputs" / job.name / "score"

    def predictions(self, job: JobHandle | Job, name: str = "predictions.csv") -> str:
        """The text of a job's predictions."""
        return (self.output(job) / name).read_text("utf-8")

    def folder(self, job: JobHandle | Job) -> JobFolder:
        """Where a job keeps its state."""
        return job_folder(self.home, job.name)

    def deploy_script(self, folder: Path, name: str, script: str, **settings: Any) -> None:
        """Deploy a scoring script, with a model that is one file."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.txt").write_text("a model")
        code = folder / "code"
        code.mkdir(exist_ok=True)
        (code / "score.py").write_text(script)
        self.client.deploy(
            folder / "model.txt", name, scoring_script=str(code / "score.py"), **settings
        )


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give the place that all tests of a session share; in the end no process of it is left."""
    home = tmp_path_factory.mktemp("batchpoint") / "home"
    link = SupervisorLink(home)
    with Client(app=wiring.embedded_app(Settings(home=home))) as client:
        yield Place(home, client, link)
    status = link.ask("status")
    if status is None:
        return
    supervisor = psutil.Process(status["pid"])
    family = [supervisor, *supervisor.children(recursive=True)]
    link.down()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
