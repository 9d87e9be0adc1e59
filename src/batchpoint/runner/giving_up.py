"""Giving up a job whose runners end again and again: it fails, and with it what it consists of."""

from __future__ import annotations

from datetime import datetime

from batchpoint.domain.job import TERMINAL_STATES, ErrorInfo, Job, JobState, JobStatus
from batchpoint.domain.job_spec import PipelineSpec
from batchpoint.ledger.ledger import Ledger


def give_up(ledger: Ledger, job: Job, epoch: int, seen: str, now: datetime) -> None:
    """End a job, and the steps of it that have not ended; `seen` is what is known of its runners.

    Blocking. Raises: Unavailable (`lease_lost`) when another has taken the job.
    """
    failed = ErrorInfo(
        origin="batchpoint",
        code="runner_failed",
        message=f"the job's runner ended again and again without getting further {seen}",
    )
    not_run = ErrorInfo(
        origin="batchpoint",
        code="step_not_run",
        message="the runner of the pipeline ended again and again before this step had ended",
    )
    steps = ledger.child_jobs(job.name) if isinstance(job.spec, PipelineSpec) else []
    ledger.finish(
        job.name,
        epoch,
        _ended(job.status, JobState.FAILED, failed, now),
        children={
            step.name: _ended(step.status, JobState.CANCELED, not_run, now)
            for step in steps
            if step.status.state not in TERMINAL_STATES
        },
    )


def _ended(status: JobStatus, state: JobState, error: ErrorInfo, now: datetime) -> JobStatus:
    return status.model_copy(update={"state": state, "error": error, "ended_at": now})
