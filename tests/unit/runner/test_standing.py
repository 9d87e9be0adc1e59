"""The standing of a job: only states of the lifecycle, and true numbers in the end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.lifecycle import JOB_TRANSITIONS
from batchpoint.domain.job import TERMINAL_STATES, JobState, JobStatus, Progress
from batchpoint.node.output_request import AssembledOutput
from batchpoint.runner.standing import Standing
from tests.unit.resolved_jobs import NOON, new_job

OPEN = sorted(set(JobState) - TERMINAL_STATES)
OUTPUT = AssembledOutput("/out", "predictions.csv", 10, 9, 1, 18, 2, 0, ())


@given(st.sampled_from(OPEN), st.booleans(), st.sampled_from(sorted(TERMINAL_STATES)))
def test_every_way_of_a_runner_is_in_the_lifecycle(
    found: JobState, cancel: bool, end: JobState
) -> None:
    standing = Standing(new_job().scoring, JobStatus(state=found))
    seen = [found]

    def look() -> None:
        if standing.status.state != seen[-1]:
            seen.append(standing.status.state)

    standing.begin(NOON)
    look()
    if cancel or end == JobState.CANCELED:
        standing.cancel_requested()
        look()
    if end == JobState.COMPLETED:
        standing.writing()
        standing.published(OUTPUT)
    last = standing.ended(end, None, NOON)
    assert last.state == end
    assert standing.status.state not in TERMINAL_STATES  # that is for whoever commits it
    for now, then in pairwise(seen):
        assert then in JOB_TRANSITIONS[now]


def test_the_last_numbers_are_those_of_the_output() -> None:
    shown = Progress(items_done=12, rows_done=40, items_total=12, eta_seconds=3.0)
    standing = Standing(new_job().scoring, JobStatus(state=JobState.RUNNING, progress=shown))
    standing.begin(NOON)
    standing.writing()
    standing.published(OUTPUT)
    last = standing.ended(JobState.COMPLETED, None, NOON).progress
    assert (last.items_total, last.items_done, last.items_failed) == (10, 10, 1)
    assert (last.rows_done, last.rows_failed) == (18, 2)
    assert (last.phase, last.eta_seconds) == ("done", None)


@pytest.mark.parametrize("phase", ["scoring", "writing"])
def test_it_is_remembered_that_an_earlier_runner_may_have_published(phase: str) -> None:
    progress = Progress.model_validate({"phase": phase})
    standing = Standing(new_job().scoring, JobStatus(progress=progress))
    assert standing.was_writing == (phase == "writing")
