"""Pipelines as an invoke would make them: a job for the graph, and one for each of its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchpoint.domain.component import Scalar
from batchpoint.domain.job import Job, JobStatus
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import (
    CommandSpec,
    OutputOf,
    PipelineSpec,
    ResolvedEnvironment,
    ScoreSpec,
    StepInput,
    StepOutput,
    StepPlace,
)
from tests.unit.resolved_jobs import NOON, new_job

ENVIRONMENT = ResolvedEnvironment(name="e", version="1", hash="c" * 64, python="/usr/bin/python3")


def command_step(
    parent: str,
    name: str,
    needs: Sequence[str] = (),
    *,
    outputs_below: Path = Path("/outputs"),
    command: str = "true",
    data: Mapping[str, str] | None = None,
    literals: Mapping[str, Scalar] | None = None,
    outputs: Sequence[str] = ("made",),
    environment: ResolvedEnvironment = ENVIRONMENT,
    **spec: Any,
) -> Job:
    """A step that reads the output `made` of every step it needs, and `data` by URI."""
    job = f"{parent}-{name}"
    inputs = {
        need: StepInput(type="uri_folder", output=OutputOf(step=need, output="made"))
        for need in needs
    }
    for each, uri in (data or {}).items():
        inputs[each] = StepInput(type="uri_folder", data=JobInput(type="uri_folder", uri=uri))
    for each, value in (literals or {}).items():
        inputs[each] = StepInput(type="string", value=value)
    place = StepPlace(
        parent=parent,
        name=name,
        component=f"{name}:1",
        needs=tuple(needs),
        inputs=inputs,
        outputs={
            each: StepOutput(type="uri_folder", uri=(outputs_below / job / each).as_uri())
            for each in outputs
        },
        identity=f"{name}/{command}",
    )
    place_update = {key: spec.pop(key) for key in ("is_deterministic", "identity") if key in spec}
    return Job(
        name=job,
        spec=CommandSpec(
            step=place.model_copy(update=place_update),
            command=command,
            code=None,
            environment=environment,
            compute="local",
            idle_seconds=10,
            **spec,
        ),
        status=JobStatus(),
        created_at=NOON,
    )


def score_step(parent: str, name: str, needs: Sequence[str] = ()) -> Job:
    """A step that scores what the steps before it have made."""
    job = f"{parent}-{name}"
    place = command_step(parent, name, needs).spec.step
    spec = new_job(job).spec
    assert isinstance(spec, ScoreSpec)
    update = {"step": place, "endpoint_name": None, "deployment_name": None}
    return Job(name=job, spec=spec.model_copy(update=update), status=JobStatus(), created_at=NOON)


def pipeline(
    name: str,
    children: Sequence[Job],
    *,
    outputs: Mapping[str, tuple[str, str]] | None = None,
    **spec: Any,
) -> Job:
    """The pipeline of these steps; `outputs` are bound to (step, output)."""
    steps = {child.spec.step.name: child.name for child in children if child.spec.step}
    return Job(
        name=name,
        spec=PipelineSpec(
            component="p:1",
            steps=steps,
            outputs={
                each: OutputOf(step=step, output=output)
                for each, (step, output) in (outputs or {}).items()
            },
            **spec,
        ),
        status=JobStatus(),
        created_at=NOON,
    )
