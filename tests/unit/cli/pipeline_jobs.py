"""Pipeline jobs and jobs of steps, as a server tells of them."""

from __future__ import annotations

from datetime import timedelta

from batchpoint.domain.component import Scalar
from batchpoint.domain.job import TERMINAL_STATES, ErrorInfo, Job, JobState, JobStatus, Progress
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import (
    CommandSpec,
    OutputOf,
    PipelineSpec,
    ResolvedEnvironment,
    StepInput,
    StepOutput,
    StepPlace,
)
from tests.unit.resolved_jobs import NOON

ENVIRONMENT = ResolvedEnvironment(name="e", version="1", hash="h", python="/python")
MISTAKE = ErrorInfo(
    origin="user",
    code="command_failed",
    message="ValueError: bad (the command exited with code 1)",
    type="ValueError",
    line="train.py:7",
    log="logs/user/std_log.txt",
)


def step_job(
    name: str,
    needs: tuple[str, ...] = (),
    state: JobState = JobState.COMPLETED,
    *,
    parent: str = "heart-1",
    ended_after_seconds: float = 12,
    **status: object,
) -> Job:
    """Make the job of a step that runs a command."""
    place = StepPlace(
        parent=parent,
        name=name,
        component="azureml:c:1",
        needs=needs,
        inputs={
            "rate": StepInput(type="number", value=0.5),
            "data": StepInput(type="uri_folder", output=OutputOf(step="prep", output="y")),
            "raw": StepInput(type="uri_folder", data=JobInput(type="uri_folder", uri="file:///d")),
        },
        outputs={"model": StepOutput(type="custom_model", uri=f"file:///out/{name}")},
        identity="i",
    )
    spec = CommandSpec(
        environment=ENVIRONMENT,
        compute="cpu-cluster",
        idle_seconds=1,
        step=place,
        command="run --rate ${{inputs.rate}} ${{inputs.data}} ${{inputs.raw}} ${{outputs.model}}",
        code=None,
    )
    started = None if state is JobState.QUEUED else NOON
    ended = NOON + timedelta(seconds=ended_after_seconds) if state in TERMINAL_STATES else None
    told = {"state": state, "started_at": started, "ended_at": ended, **status}
    return Job(
        name=f"{parent}-{name.replace('/', '-')}",
        spec=spec,
        status=JobStatus.model_validate(told),
        created_at=NOON,
    )


def pipeline_job(
    steps: list[Job],
    state: JobState = JobState.COMPLETED,
    *,
    inputs: dict[str, Scalar | JobInput] | None = None,
    outputs: dict[str, OutputOf] | None = None,
    endpoint: str | None = None,
    error: ErrorInfo | None = None,
) -> Job:
    """Make the job of a pipeline with such steps."""
    done = sum(step.status.state is JobState.COMPLETED for step in steps)
    failed = sum(step.status.state is JobState.FAILED for step in steps)
    progress = Progress(phase="steps", steps_total=len(steps), steps_done=done, steps_failed=failed)
    ended = NOON + timedelta(seconds=30) if state in TERMINAL_STATES else None
    return Job(
        name="heart-1",
        spec=PipelineSpec(
            endpoint_name=endpoint,
            deployment_name=endpoint and "blue",
            component="azureml:graph:1",
            inputs=inputs or {},
            outputs=outputs or {},
            steps={s.spec.step.name: s.name for s in steps if s.spec.step is not None},
        ),
        status=JobStatus(
            state=state, progress=progress, started_at=NOON, ended_at=ended, error=error
        ),
        created_at=NOON,
    )
