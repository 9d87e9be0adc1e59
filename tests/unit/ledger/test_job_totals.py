"""Sums over jobs: each job is counted once, while it runs and for ever after."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from batchpoint.domain.job import JobState, JobStatus, Progress
from batchpoint.ledger.ledger import Ledger, Totals
from tests.unit.resolved_jobs import new_job

NOW = 1_800_000_000.0
START = datetime(2026, 1, 1, tzinfo=UTC)


def status(state: JobState, items: int, *, seconds: float | None = None) -> JobStatus:
    return JobStatus(
        state=state,
        progress=Progress(
            items_done=items, items_failed=1, rows_done=10 * items, rows_failed=2, retries=3
        ),
        started_at=START,
        ended_at=None if seconds is None else START + timedelta(seconds=seconds),
    )


def end(ledger: Ledger, name: str, last: JobStatus) -> None:
    epoch = ledger.acquire_lease(name, "me", NOW, 15)
    assert epoch is not None
    ledger.finish(name, epoch, last)


def test_a_job_moves_from_the_open_ones_to_the_ended_ones(ledger: Ledger) -> None:
    for name in ("j-1", "j-2", "j-3"):
        ledger.create_job(new_job(name), None, None)
    ended, still_open = ledger.ended_and_open()
    assert ended == []
    assert [(one.state, one.jobs) for one in still_open] == [("Queued", 3)]
    end(ledger, "j-1", status(JobState.COMPLETED, 5, seconds=2.0))
    end(ledger, "j-2", status(JobState.COMPLETED, 7, seconds=4.0))
    ended, still_open = ledger.ended_and_open()
    job = ledger.get_job("j-1")
    assert ended == [
        Totals(
            job.spec.endpoint_name or "",
            job.spec.deployment_name or "",
            "Completed",
            jobs=2,
            items=12,
            items_failed=2,
            rows=124,
            rows_failed=4,
            retries=6,
            seconds=6.0,
        )
    ]
    assert [(one.state, one.jobs) for one in still_open] == [("Queued", 1)]
    end(ledger, "j-3", status(JobState.FAILED, 1, seconds=1.0))
    ended, still_open = ledger.ended_and_open()
    assert {one.state: one.jobs for one in ended} == {"Completed": 2, "Failed": 1}
    assert still_open == []


def test_a_ledger_of_the_first_version_gets_its_sums(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    first = Ledger(path)
    first.create_job(new_job("j-1"), None, None)
    first.close()
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TABLE job_totals")
        raw.execute("UPDATE schema_version SET version = 2")
    raw.close()
    again = Ledger(path)
    end(again, "j-1", status(JobState.CANCELED, 0, seconds=1.0))
    assert [one.jobs for one in again.ended_and_open()[0]] == [1]
    again.close()
