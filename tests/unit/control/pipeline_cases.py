"""Components and a pipeline for tests of the control plane: two steps, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from batchpoint.domain.component import Component
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.endpoint import BatchEndpoint
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.job import Invocation, Job, JobState, JobStatus, PublishedOutput
from batchpoint.domain.pipeline import PipelineDeployment, PipelineJob
from tests.unit.control_plane import ControlPlane

_COMPONENTS: TypeAdapter[Component] = TypeAdapter(Component)
_DEPLOYMENTS: TypeAdapter[Deployment] = TypeAdapter(Deployment)


def component(document: dict[str, Any]) -> Component:
    return _COMPONENTS.validate_python(document)


def deployment(document: dict[str, Any]) -> Deployment:
    return _DEPLOYMENTS.validate_python(document)


def prepare(code: Path | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "name": "prepare",
        "command": "cp ${{inputs.data}}/* ${{outputs.clean}}; echo ${{inputs.rate}}",
        "code": None if code is None else str(code),
        "inputs": {
            "data": {"type": "uri_folder"},
            "rate": {"type": "number", "default": 0.5, "max": 1},
        },
        "outputs": {"clean": {"type": "uri_folder"}},
        **fields,
    }


def train(**fields: Any) -> dict[str, Any]:
    return {
        "name": "train",
        "command": "cat ${{inputs.data}}/a.csv > ${{outputs.model}}/weights",
        "inputs": {"data": {"type": "uri_folder"}},
        "outputs": {"model": {"type": "custom_model"}},
        **fields,
    }


def pipeline(**fields: Any) -> dict[str, Any]:
    return {
        "name": "train-on-data",
        "inputs": {"raw": {"type": "uri_folder"}, "rate": {"type": "number"}},
        "outputs": {"model": {"type": "custom_model"}},
        "jobs": {
            "prepare": {
                "component": prepare(),
                "inputs": {
                    "data": "${{parent.inputs.raw}}",
                    "rate": "${{parent.inputs.rate}}",
                },
            },
            "train": {
                "component": train(),
                "inputs": {"data": "${{parent.jobs.prepare.outputs.clean}}"},
                "outputs": {"model": "${{parent.outputs.model}}"},
            },
        },
        **fields,
    }


def deployed(plane: ControlPlane, endpoint: str = "heart", **fields: Any) -> PipelineDeployment:
    """Deploy the pipeline, or what `fields` say, as the default of an endpoint."""
    plane.registry.put_endpoint(BatchEndpoint(name=endpoint))
    document = {"name": "graph", "endpoint_name": endpoint, "component": pipeline(), **fields}
    made, _ = plane.registry.put_deployment(
        deployment(document), lambda line: None, set_default=True
    )
    assert isinstance(made, PipelineDeployment)
    return made


def invoked(plane: ControlPlane, body: dict[str, Any], endpoint: str = "heart") -> Job:
    return plane.invocations.invoke(endpoint, Invocation.model_validate(body))


def created(plane: ControlPlane, body: dict[str, Any]) -> Job:
    return plane.invocations.create_job(PipelineJob.model_validate(body))


def ended(
    plane: ControlPlane,
    job: Job,
    state: JobState = JobState.COMPLETED,
    **outputs: PublishedOutput,
) -> None:
    """Record the end of a job as its runner does."""
    epoch = plane.ledger.acquire_lease(job.name, "test", 1.0, 60.0)
    assert epoch is not None
    plane.ledger.finish(job.name, epoch, JobStatus(state=state, outputs=outputs))


def told(error: BatchpointError) -> dict[str, str]:
    """What an error says: the code of each finding by its field."""
    return {found.where: found.code for found in error.findings}
