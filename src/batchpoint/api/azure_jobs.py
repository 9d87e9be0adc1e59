"""Jobs in the shape in which Azure ML's scoring URIs tell of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from batchpoint.domain.component import DataType, Scalar
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import PipelineSpec, ScoreSpec, StepPlace
from batchpoint.domain.references import WORKSPACE_ID
from batchpoint.domain.results import NamedOutput

_TYPE = "Microsoft.MachineLearningServices/workspaces/batchEndpoints/jobs"
_TYPES: dict[DataType, str] = {
    "uri_file": "UriFile",
    "uri_folder": "UriFolder",
    "mltable": "MLTable",
    "custom_model": "CustomModel",
    "mlflow_model": "MLFlowModel",
}
_PROVISIONING = {
    JobState.COMPLETED: "Succeeded",
    JobState.FAILED: "Failed",
    JobState.CANCELED: "Canceled",
}


class AzureInvocation(BaseModel):
    """A body of Azure's shape, its property names in any case; the guide has every form."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "properties": {"properties": {"type": "object", "title": "Properties"}},
            "required": ["properties"],
        },
    )


class AzureJob(BaseModel):
    """A job as Azure tells of it; the last part of `id` is its name."""

    id: str
    name: str
    type: str = _TYPE
    # Beside `properties.status`, because scripts read either.
    status: str
    properties: dict[str, JsonValue]
    systemData: dict[str, JsonValue]  # noqa: N815  # the wire's name


class AzureJobs(BaseModel):
    """Some of a list of jobs; `nextLink` is where the rest is, null at the end."""

    value: list[AzureJob]
    nextLink: str | None = Field(default=None)  # noqa: N815  # the wire's name


def azure_job(job: Job, page: str, outputs: Sequence[NamedOutput] = ()) -> AzureJob:
    """Tell of a job.

    Args:
        job: the job.
        page: the address at which people find it.
        outputs: its named outputs, of pipelines and their steps.
    """
    endpoint = job.spec.endpoint_name
    return AzureJob(
        id=f"{WORKSPACE_ID}/batchEndpoints/{endpoint}/jobs/{job.name}",
        name=job.name,
        status=job.status.state,
        properties=_properties(job, page, outputs),
        systemData={
            "createdAt": _moment(job.created_at),
            "lastModifiedAt": _moment(job.status.ended_at or job.created_at),
        },
    )


def _properties(job: Job, page: str, outputs: Sequence[NamedOutput]) -> dict[str, JsonValue]:
    spec, status = job.spec, job.status
    told: dict[str, JsonValue] = {
        "name": job.name,
        "description": spec.description,
        "tags": dict(spec.tags),
        "properties": {"experimentName": spec.experiment_name} if spec.experiment_name else {},
        "deploymentName": spec.deployment_name,
        "status": status.state,
        "provisioningState": _PROVISIONING.get(status.state, "InProgress"),
        "interactionEndpoints": {"Studio": {"endpoint": page}},
    }
    if status.state in TERMINAL_STATES and status.error is not None:
        told["error"] = {"code": status.error.code, "message": status.error.message}
    if isinstance(spec, ScoreSpec):
        return told | _scoring(spec, job)
    is_pipeline = isinstance(spec, PipelineSpec)
    told["jobType"] = "Pipeline" if is_pipeline else "Command"
    told["displayName"] = spec.display_name
    told["inputData"] = _named_inputs(spec.inputs) if is_pipeline else _step_inputs(spec.step)
    told["outputData"] = {
        each.name: {"jobOutputType": _TYPES[each.type], "uri": each.uri} for each in outputs
    }
    told["output"] = None
    return told


def _scoring(spec: ScoreSpec, job: Job) -> dict[str, JsonValue]:
    """Tell what a job has besides that scores."""
    settings = spec.settings
    folder = spec.output.uri.rstrip("/")
    retries: dict[str, JsonValue] = {"maxRetries": settings.max_retries}
    if settings.timeout_seconds is not None:
        retries["timeout"] = f"PT{settings.timeout_seconds}S"
    completed = job.status.state == JobState.COMPLETED
    return {
        "inputData": {"input": _data(spec.input), **_named_inputs(settings.parameters)},
        "outputData": {"score": _output(spec, folder)},
        "compute": {"instanceCount": settings.instance_count},
        "retrySettings": retries,
        "errorThreshold": -1 if settings.error_threshold is None else settings.error_threshold,
        "miniBatchSize": settings.mini_batch_size,
        "maxConcurrencyPerInstance": settings.max_concurrency_per_instance,
        "loggingLevel": settings.logging_level.capitalize(),
        "outputFileName": settings.output_file_name,
        "output": {"path": folder} if completed else None,
    }


def _named_inputs(inputs: Mapping[str, Scalar | JobInput]) -> dict[str, JsonValue]:
    """Tell inputs by name; literals are text on Azure's wire."""
    return {
        name: _data(value)
        if isinstance(value, JobInput)
        else {"jobInputType": "Literal", "value": str(value)}
        for name, value in inputs.items()
    }


def _step_inputs(step: StepPlace | None) -> dict[str, JsonValue]:
    """Tell the inputs of a step; what another one writes is known by that one."""
    given: dict[str, Scalar | JobInput] = {}
    for name, source in (step.inputs if step is not None else {}).items():
        value = source.data if source.data is not None else source.value
        if value is not None:
            given[name] = value
    return _named_inputs(given)


def _data(source: JobInput) -> dict[str, JsonValue]:
    data: dict[str, JsonValue] = {"jobInputType": _TYPES[source.type]}
    if source.uri is not None:
        data["uri"] = source.uri
    else:
        data["uris"] = list(source.uris)
    return data


def _output(spec: ScoreSpec, folder: str) -> dict[str, JsonValue]:
    settings = spec.settings
    if settings.output_action == "summary_only":
        return {"jobOutputType": "UriFolder", "uri": folder}
    return {"jobOutputType": "UriFile", "uri": f"{folder}/{settings.output_file_name}"}


def _moment(when: datetime) -> str:
    return when.isoformat()
