"""Which states a job and a task may go through; a final state has no way out."""

from __future__ import annotations

from enum import StrEnum

from batchpoint.domain.errors import Conflict
from batchpoint.domain.job import JobState

JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # RUNNING and COMPLETED: a step of a pipeline is taken up by the pipeline's runner, which needs
    # no time to prepare, and may take over what an earlier step has computed.
    JobState.QUEUED: frozenset(
        {
            JobState.PREPARING,
            JobState.RUNNING,
            JobState.COMPLETED,
            JobState.CANCEL_REQUESTED,
            JobState.CANCELED,
            JobState.FAILED,
        }
    ),
    JobState.PREPARING: frozenset(
        {JobState.RUNNING, JobState.CANCEL_REQUESTED, JobState.CANCELED, JobState.FAILED}
    ),
    # Back to PREPARING: another runner adopts the job and goes on from what was recorded.
    # COMPLETED: commands and pipelines have published all by then.
    JobState.RUNNING: frozenset(
        {
            JobState.PREPARING,
            JobState.FINALIZING,
            JobState.COMPLETED,
            JobState.CANCEL_REQUESTED,
            JobState.CANCELED,
            JobState.FAILED,
        }
    ),
    JobState.FINALIZING: frozenset(
        {JobState.PREPARING, JobState.COMPLETED, JobState.CANCEL_REQUESTED, JobState.FAILED}
    ),
    # COMPLETED: the output stood complete at its URI before the request was seen.
    JobState.CANCEL_REQUESTED: frozenset({JobState.CANCELED, JobState.COMPLETED, JobState.FAILED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
}


def advance(state: JobState, to: JobState) -> JobState:
    """Return `to` when a job in `state` may go there.

    Raises:
        Conflict: the transition is not in `JOB_TRANSITIONS`.
    """
    allowed = JOB_TRANSITIONS[state]
    if to not in allowed:
        ways = ", ".join(sorted(allowed)) or "nowhere, it has ended"
        raise Conflict(f"a job that is {state} cannot become {to}; from here it goes to: {ways}")
    return to


class TaskState(StrEnum):
    """States of a task (a mini-batch, or a piece of one), as seen from outside `Dispatch`."""

    WAITING = "Waiting"
    HELD = "Held"
    SCORED = "Scored"
    BISECTED = "Bisected"
    QUARANTINED = "Quarantined"


TASK_TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.WAITING: frozenset({TaskState.HELD}),
    TaskState.HELD: frozenset(
        {TaskState.WAITING, TaskState.SCORED, TaskState.BISECTED, TaskState.QUARANTINED}
    ),
    TaskState.SCORED: frozenset(),
    TaskState.BISECTED: frozenset(),
    TaskState.QUARANTINED: frozenset(),
}
