"""A job whose runners end again and again is given up, with all steps that had not ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import JobState, JobStatus
from batchpoint.ledger.ledger import Ledger
from batchpoint.runner.giving_up import give_up
from tests.unit.resolved_jobs import NOON, new_job
from tests.unit.resolved_pipelines import command_step, pipeline


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def held(ledger: Ledger, name: str) -> int:
    epoch = ledger.acquire_lease(name, "me", 1.0, 15, force=True)
    assert epoch is not None
    return epoch


def test_steps_that_had_not_ended_are_closed_with_their_pipeline(ledger: Ledger) -> None:
    children = [command_step("p", "a"), command_step("p", "b"), command_step("p", "c", ["b"])]
    ledger.create_job(pipeline("p", children), None, None, None, children)
    epoch = held(ledger, "p")
    running, done = JobStatus(state=JobState.RUNNING), JobStatus(state=JobState.COMPLETED)
    ledger.renew_pipeline(
        "p", epoch, 1.0, 15, status=running, children={"p-a": done, "p-b": running}, results={}
    )
    give_up(ledger, ledger.get_job("p"), epoch, "(last exit status 1)", NOON)
    whole = ledger.get_job("p").status
    assert (whole.state, whole.ended_at) == (JobState.FAILED, NOON)
    assert whole.error is not None
    assert whole.error.code == "runner_failed"
    assert "(last exit status 1)" in whole.error.message
    steps = {job.name: job.status for job in ledger.child_jobs("p")}
    assert steps["p-a"] == done
    for name in ("p-b", "p-c"):
        assert steps[name].state is JobState.CANCELED
        error = steps[name].error
        assert error is not None
        assert error.code == "step_not_run"


def test_a_job_without_steps_just_fails(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    give_up(ledger, ledger.get_job("j-1"), held(ledger, "j-1"), "(x)", NOON)
    assert ledger.get_job("j-1").status.state is JobState.FAILED


def test_a_job_that_another_has_taken_is_left_alone(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    old = held(ledger, "j-1")
    held(ledger, "j-1")
    with pytest.raises(Unavailable):
        give_up(ledger, ledger.get_job("j-1"), old, "(x)", NOON)
    assert ledger.get_job("j-1").status.state is JobState.QUEUED
