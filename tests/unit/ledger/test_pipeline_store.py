"""Steps of pipelines: made with their pipeline, written by whoever holds it, in no other list."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain.errors import Conflict, Unavailable
from batchpoint.domain.job import Job, JobState, JobStatus, Progress
from batchpoint.ledger.ledger import Ledger
from tests.unit.resolved_jobs import new_job
from tests.unit.resolved_pipelines import command_step, pipeline

NOW = 1_800_000_000.0
RUNNING = JobStatus(state=JobState.RUNNING)
DONE = JobStatus(state=JobState.COMPLETED, ended_at=None)


def made(ledger: Ledger, name: str = "p", **spec: Any) -> Job:
    children = [command_step(name, "a"), command_step(name, "b", ["a"])]
    return ledger.create_job(pipeline(name, children, **spec), None, None, children=children)


def held(ledger: Ledger, name: str = "p") -> int:
    epoch = ledger.acquire_lease(name, "me", NOW, 15)
    assert epoch is not None
    return epoch


def renew(ledger: Ledger, epoch: int, status: JobStatus = RUNNING, **changes: Any):
    more = {"children": {}, "results": {}, **changes}
    return ledger.renew_pipeline("p", epoch, NOW, 15, status=status, **more)


def names(jobs: list[Job]) -> list[str]:
    return [job.name for job in jobs]


def test_a_pipeline_and_its_steps_are_made_together(ledger: Ledger) -> None:
    made(ledger)
    assert names(ledger.child_jobs("p")) == ["p-a", "p-b"]
    second = ledger.child_jobs("p")[1].spec.step
    assert second is not None
    assert second.needs == ("a",)
    ledger.create_job(new_job("q-b"), None, None)
    children = [command_step("q", "a"), command_step("q", "b")]
    with pytest.raises(Conflict, match="'q-b'"):
        ledger.create_job(pipeline("q", children), None, None, children=children)
    assert ledger.child_jobs("q") == []
    with pytest.raises(Conflict, match="'p'"):
        made(ledger)


def test_steps_are_in_no_list_but_that_of_their_pipeline(ledger: Ledger) -> None:
    made(ledger, endpoint_name="heart", deployment_name="first")
    assert names(ledger.list_jobs()) == ["p"]
    assert names(ledger.list_jobs("heart", "first")) == ["p"]
    assert names(ledger.list_jobs(parent="p")) == ["p-a", "p-b"]
    assert names(ledger.list_jobs(parent="p", limit=1)) == ["p-a"]
    assert names(ledger.list_jobs(parent="p", after="p-a")) == ["p-b"]
    assert ledger.open_jobs(limit=9) == ["p"]
    assert ledger.adoptable_jobs(NOW, 9) == ["p"]
    assert ledger.count_open_jobs() == 1
    _, still_open = ledger.ended_and_open()
    assert [total.jobs for total in still_open] == [1]


def test_jobs_are_found_by_state_type_and_tags(ledger: Ledger) -> None:
    made(ledger, tags={"team": "red", "run": "1"})
    ledger.create_job(new_job("j-1"), None, None)
    assert names(ledger.list_jobs(job_type="pipeline")) == ["p"]
    assert names(ledger.list_jobs(job_type="score")) == ["j-1"]
    assert names(ledger.list_jobs(tags={"team": "red"})) == ["p"]
    assert names(ledger.list_jobs(tags={"team": None, "run": "1"})) == ["p"]
    assert ledger.list_jobs(tags={"team": "blue"}) == []
    assert ledger.list_jobs(tags={"team": None, "run": "2"}) == []
    assert names(ledger.list_jobs(states=[JobState.QUEUED])) == ["j-1", "p"]
    ledger.request_cancel("p")
    assert names(ledger.list_jobs(states={JobState.CANCEL_REQUESTED})) == ["p"]
    epoch = held(ledger)
    renew(ledger, epoch)  # a wish stays to be seen
    assert names(ledger.list_jobs(states={JobState.CANCEL_REQUESTED})) == ["p"]
    assert ledger.list_jobs(states={JobState.RUNNING}) == []
    ledger.finish("p", epoch, JobStatus(state=JobState.CANCELED))
    assert names(ledger.list_jobs(states={JobState.CANCELED, JobState.FAILED})) == ["p"]
    assert ledger.list_jobs(states=[]) == []


def test_whoever_holds_the_pipeline_writes_its_steps(ledger: Ledger) -> None:
    made(ledger)
    epoch = held(ledger)
    versions = ledger.job_versions(["p", "p-a", "p-b"])
    renewed = renew(ledger, epoch, children={"p-a": DONE, "p-b": RUNNING}, results={"k": "p-a"})
    assert renewed == (False, frozenset())
    assert [job.status.state.value for job in ledger.list_jobs(parent="p")] == [
        "Completed",
        "Running",
    ]
    assert ledger.job_versions(["p", "p-a", "p-b"]) == {
        name: version + 1 for name, version in versions.items()
    }
    assert ledger.earlier_result("k") == "p-a"
    assert ledger.earlier_result("other") is None
    assert names(ledger.list_jobs(parent="p", states=[JobState.RUNNING])) == ["p-b"]
    assert ledger.child_statuses(["p-b"]) == {"p-b": RUNNING}
    renew(ledger, epoch, results={"k": "p-b"})
    assert ledger.earlier_result("k") == "p-b"


def test_a_runner_that_lost_the_pipeline_writes_nothing(ledger: Ledger) -> None:
    made(ledger)
    old = held(ledger)
    ledger.acquire_lease("p", "other", NOW, 15, force=True)
    with pytest.raises(Unavailable) as caught:
        renew(ledger, old, children={"p-a": DONE}, results={"k": "p-a"})
    assert caught.value.code == "lease_lost"
    with pytest.raises(Unavailable):
        ledger.finish("p", old, DONE, children={"p-a": DONE})
    assert ledger.get_job("p-a").status == JobStatus()
    assert ledger.earlier_result("k") is None


def test_only_steps_of_the_pipeline_are_written(ledger: Ledger) -> None:
    made(ledger)
    ledger.create_job(new_job("j-1"), None, None)
    renew(ledger, held(ledger), children={"j-1": DONE})
    assert ledger.get_job("j-1").status == JobStatus()


def test_the_runner_hears_which_steps_are_to_be_stopped(ledger: Ledger) -> None:
    made(ledger)
    epoch = held(ledger)
    assert ledger.request_cancel("p-b").status.state is JobState.CANCEL_REQUESTED
    assert renew(ledger, epoch).canceled_children == {"p-b"}
    renewed = renew(ledger, epoch, children={"p-b": RUNNING})
    assert renewed.canceled_children == {"p-b"}
    assert not renewed.cancel_requested
    assert ledger.get_job("p-b").status.state is JobState.CANCEL_REQUESTED
    assert names(ledger.list_jobs(parent="p", states=[JobState.CANCEL_REQUESTED])) == ["p-b"]
    ended = JobStatus(state=JobState.CANCELED)
    assert renew(ledger, epoch, children={"p-b": ended}).canceled_children == frozenset()
    ledger.request_cancel("p")
    assert renew(ledger, epoch).cancel_requested


def test_a_pipeline_is_counted_once_when_it_ends(ledger: Ledger) -> None:
    made(ledger)
    epoch = held(ledger)
    last = JobStatus(state=JobState.COMPLETED, progress=Progress(steps_total=2, rows_done=7))
    ledger.finish("p", epoch, last, children={"p-a": DONE, "p-b": DONE})
    ended, still_open = ledger.ended_and_open()
    assert [(total.jobs, total.rows) for total in ended] == [(1, 7)]
    assert still_open == []
    assert {job.status.state for job in ledger.child_jobs("p")} == {JobState.COMPLETED}


def test_an_ended_step_is_no_longer_canceled(ledger: Ledger) -> None:
    made(ledger)
    renew(ledger, held(ledger), children={"p-a": DONE})
    assert ledger.request_cancel("p-a").status.state is JobState.COMPLETED


def test_a_ledger_from_before_pipelines_learns_states_types_and_tags(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old = Ledger(path)
    for number in range(1_203):
        job = new_job(f"j-{number}")
        if number == 1_200:
            job = job.model_copy(update={"spec": job.spec.model_copy(update={"tags": {"a": "b"}})})
        old.create_job(job, None, None)
    epoch = old.acquire_lease("j-0", "me", NOW, 15)
    assert epoch is not None
    old.finish("j-0", epoch, JobStatus(state=JobState.FAILED))
    old.request_cancel("j-1")
    old.close()
    _to_the_version_before(path)
    with sqlite3.connect(path) as plain:  # specifications of before had no type
        (text,) = plain.execute("SELECT spec FROM jobs WHERE name = 'j-2'").fetchone()
        spec = {key: value for key, value in json.loads(text).items() if key != "type"}
        plain.execute("UPDATE jobs SET spec = ? WHERE name = 'j-2'", (json.dumps(spec),))
    plain.close()
    ledger = Ledger(path)
    assert names(ledger.list_jobs(states=[JobState.FAILED])) == ["j-0"]
    assert names(ledger.list_jobs(states=[JobState.CANCEL_REQUESTED])) == ["j-1"]
    assert len(ledger.list_jobs(states=[JobState.QUEUED], limit=9_999)) == 1_201
    assert names(ledger.list_jobs(tags={"a": "b"})) == ["j-1200"]
    assert len(ledger.list_jobs(job_type="score", limit=9_999)) == 1_203
    assert ledger.get_job("j-2").scoring.compute == "local"
    assert len(ledger.adoptable_jobs(NOW, 9_999)) == 1_202
    made(ledger)
    assert names(ledger.child_jobs("p")) == ["p-a", "p-b"]
    ledger.close()


def _to_the_version_before(path: Path) -> None:
    with sqlite3.connect(path) as plain:
        for statement in (
            "DROP INDEX jobs_of_parent",
            "DROP INDEX jobs_open_in",
            "DROP INDEX jobs_to_cancel",
            "ALTER TABLE jobs DROP COLUMN parent",
            "ALTER TABLE jobs DROP COLUMN type",
            "ALTER TABLE jobs DROP COLUMN state",
            "DROP TABLE job_tags",
            "DROP TABLE step_results",
            "CREATE INDEX jobs_open ON jobs (sequence, lease_until) WHERE terminal = 0",
            "UPDATE schema_version SET version = 4",
        ):
            plain.execute(statement)
    plain.close()
