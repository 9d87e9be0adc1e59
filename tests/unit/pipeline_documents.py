"""A small pipeline as callers send it, and its end as a runner would record it."""

from __future__ import annotations

from typing import Any

from batchpoint.domain.component import DataType
from batchpoint.domain.job import Job, JobState, JobStatus, PublishedOutput
from batchpoint.domain.job_spec import PipelineSpec
from batchpoint.storage.locate import path_of
from tests.unit.control_plane import ControlPlane

COPY: dict[str, Any] = {
    "name": "copy",
    "inputs": {"data": {"type": "uri_folder"}, "rate": {"type": "number", "default": 0.5}},
    "outputs": {"copied": {"type": "uri_folder"}, "report": {"type": "uri_file"}},
    "command": "./copy ${{inputs.data}} ${{inputs.rate}} ${{outputs.copied}} ${{outputs.report}}",
}


def graph(component: object = "azureml:copy:1") -> dict[str, Any]:
    """Two steps, one after the other."""
    return {
        "name": "graph",
        "inputs": {"data": {"type": "uri_folder"}, "rate": {"type": "number", "default": 0.1}},
        "outputs": {"scores": {"type": "uri_folder"}, "report": {"type": "uri_file"}},
        "jobs": {
            "one": {
                "component": component,
                "inputs": {"data": "${{parent.inputs.data}}", "rate": "${{parent.inputs.rate}}"},
                "outputs": {"report": "${{parent.outputs.report}}"},
            },
            "two": {
                "component": component,
                "inputs": {"data": "${{parent.jobs.one.outputs.copied}}"},
                "outputs": {"copied": "${{parent.outputs.scores}}"},
            },
        },
    }


def step_of(plane: ControlPlane, job: Job, step: str) -> Job:
    """Return the job of a step."""
    assert isinstance(job.spec, PipelineSpec)
    return plane.ledger.get_job(job.spec.steps[step])


def completed_step(step: Job, files: dict[str, bytes]) -> JobStatus:
    """Write the outputs of a step (`OUTPUT/PATH`, or `OUTPUT` for a file); return its status."""
    assert step.spec.step is not None
    for path, content in files.items():
        name, _, below = path.partition("/")
        place = path_of(step.spec.step.outputs[name].uri)
        place = place / below if below else place
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    outputs = {
        name: PublishedOutput(type=output.type, uri=output.uri)
        for name, output in step.spec.step.outputs.items()
    }
    return JobStatus(state=JobState.COMPLETED, outputs=outputs)


def published(kind: DataType, uri: str, **more: Any) -> PublishedOutput:
    """An output that is complete."""
    return PublishedOutput(type=kind, uri=uri, **more)
