"""Tidying: what goes, what stays, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batchpoint.domain.errors import NotFound
from batchpoint.domain.job import Job, JobState
from batchpoint.formats.layout import job_folder
from batchpoint.runner.tidying import tidy_all
from tests.unit.resolved_jobs import new_job

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def lay_out(home: Path, name: str) -> None:
    folder = job_folder(home, name)
    folder.make()
    (folder.work / "scratch").write_text("x")
    (folder.parts / "000001-local-1-000001.part").write_text("x")
    (folder.parts / "000001-local-1-000002.part.tmp").write_text("x")
    folder.assembly_plan.write_text("x")
    folder.job_log.write_text("x")


def left(home: Path, name: str) -> set[str]:
    root = job_folder(home, name).root
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("state", "age_days", "kept"),
    [
        (JobState.COMPLETED, 0, {"logs/job.log"}),
        (
            JobState.FAILED,
            6,
            {"logs/job.log", "assembly.plan", "parts/000001-local-1-000001.part"},
        ),
        (JobState.CANCELED, 8, {"logs/job.log"}),
    ],
)
def test_what_an_ended_job_leaves(
    tmp_path: Path, state: JobState, age_days: int, kept: set[str]
) -> None:
    lay_out(tmp_path, "one")
    job = new_job("one")
    status = job.status.model_copy(
        update={"state": state, "ended_at": NOW - timedelta(days=age_days)}
    )
    ended = job.model_copy(update={"status": status})
    tidy_all(tmp_path, lambda _: ended, NOW)
    assert left(tmp_path, "one") == kept


def test_running_and_unknown_jobs_are_left_alone(tmp_path: Path) -> None:
    lay_out(tmp_path, "running")
    lay_out(tmp_path, "unknown")
    before = left(tmp_path, "running"), left(tmp_path, "unknown")

    def get_job(name: str) -> Job:
        if name == "unknown":
            raise NotFound("there is no such job", code="job_not_found")
        return new_job(name)

    tidy_all(tmp_path, get_job, NOW)
    assert (left(tmp_path, "running"), left(tmp_path, "unknown")) == before


def test_a_home_without_jobs_is_fine(tmp_path: Path) -> None:
    tidy_all(tmp_path, new_job, NOW)
