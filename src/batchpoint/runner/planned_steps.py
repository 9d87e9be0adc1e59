"""Steps of a pipeline as its book takes them, and as its log tells of their ends."""

from __future__ import annotations

from batchpoint.core import steps as s
from batchpoint.domain import limits
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState, JobStatus
from batchpoint.domain.job_spec import CommandSpec, NodeSpec
from batchpoint.node.worker_launch import cores

_STEPS_AT_ONCE_MIN = 2


def planned(child: Job) -> s.PlannedStep:
    """Return what the book has to know of a step."""
    spec = child.spec
    assert isinstance(spec, NodeSpec)
    assert spec.step is not None
    return s.PlannedStep(
        needs=spec.step.needs,
        compute=spec.compute,
        capacity=_capacity(spec),
        # What scores has retries of its own, for each mini-batch.
        max_retries=spec.max_retries if isinstance(spec, CommandSpec) else 0,
    )


def _capacity(spec: NodeSpec) -> int:
    """How many steps may run at once on a compute.

    `local` has no number of its own until somebody sets one; this machine has its cores.
    """
    if spec.max_instances < limits.INSTANCES_MAX:
        return spec.max_instances
    return max(_STEPS_AT_ONCE_MIN, cores())


def recorded_of(child: Job) -> s.RecordedStep:
    """Return what earlier runners have recorded of a step."""
    status = child.status
    attempts = status.attempts
    if not isinstance(child.spec, CommandSpec):
        attempts = 0
    elif status.state not in (*TERMINAL_STATES, JobState.PREPARING):
        # The last one ended with its runner, and counts for nothing.
        attempts = max(0, attempts - 1)
    return s.RecordedStep(status.state, attempts, status.error)


def end_of(step: str, status: JobStatus) -> str:
    """Say for the log of the pipeline how a step ended."""
    if status.reused_from is not None:
        return f"step {step} took over the outputs of {status.reused_from}"
    seconds = ""
    if status.started_at is not None and status.ended_at is not None:
        seconds = f" after {(status.ended_at - status.started_at).total_seconds():.1f} s"
    because = f": {status.error.message[:500]}" if status.error else ""
    return f"step {step}: {status.state.value}{seconds}{because}"
