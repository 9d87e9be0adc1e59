"""Jobs in the shape in which Azure ML's scoring URIs tell of them."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from batchpoint.domain.job import TERMINAL_STATES, Job, JobState
from batchpoint.domain.references import WORKSPACE_ID

_TYPE = "Microsoft.MachineLearningServices/workspaces/batchEndpoints/jobs"
_INPUT_TYPES = {"uri_file": "UriFile", "uri_folder": "UriFolder"}
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


def azure_job(job: Job, page: str) -> AzureJob:
    """Tell of a job; `page` is the address at which people find it."""
    endpoint = job.spec.endpoint_name
    return AzureJob(
        id=f"{WORKSPACE_ID}/batchEndpoints/{endpoint}/jobs/{job.name}",
        name=job.name,
        status=job.status.state,
        properties=_properties(job, page),
        systemData={
            "createdAt": _moment(job.created_at),
            "lastModifiedAt": _moment(job.status.ended_at or job.created_at),
        },
    )


def _properties(job: Job, page: str) -> dict[str, JsonValue]:
    spec, status = job.scoring, job.status
    settings = spec.settings
    folder = spec.output.uri.rstrip("/")
    retries: dict[str, JsonValue] = {"maxRetries": settings.max_retries}
    if settings.timeout_seconds is not None:
        retries["timeout"] = f"PT{settings.timeout_seconds}S"
    told: dict[str, JsonValue] = {
        "inputData": _inputs(job),
        "outputData": {"score": _output(job, folder)},
        "compute": {"instanceCount": settings.instance_count},
        "retrySettings": retries,
        "errorThreshold": -1 if settings.error_threshold is None else settings.error_threshold,
        "miniBatchSize": settings.mini_batch_size,
        "maxConcurrencyPerInstance": settings.max_concurrency_per_instance,
        "loggingLevel": settings.logging_level.capitalize(),
        "outputFileName": settings.output_file_name,
        "name": job.name,
        "description": spec.description,
        "tags": dict(spec.tags),
        "properties": {"experimentName": spec.experiment_name} if spec.experiment_name else {},
        "deploymentName": spec.deployment_name,
        "status": status.state,
        "provisioningState": _PROVISIONING.get(status.state, "InProgress"),
        "interactionEndpoints": {"Studio": {"endpoint": page}},
        "output": {"path": folder} if status.state == JobState.COMPLETED else None,
    }
    if status.state in TERMINAL_STATES and status.error is not None:
        told["error"] = {"code": status.error.code, "message": status.error.message}
    return told


def _inputs(job: Job) -> dict[str, JsonValue]:
    source = job.scoring.input
    data: dict[str, JsonValue] = {"jobInputType": _INPUT_TYPES[source.type]}
    if source.uri is not None:
        data["uri"] = source.uri
    else:
        data["uris"] = list(source.uris)
    told: dict[str, JsonValue] = {"input": data}
    for name, value in job.scoring.settings.parameters.items():
        told[name] = {"jobInputType": "Literal", "value": str(value)}
    return told


def _output(job: Job, folder: str) -> dict[str, JsonValue]:
    settings = job.scoring.settings
    if settings.output_action == "summary_only":
        return {"jobOutputType": "UriFolder", "uri": folder}
    return {"jobOutputType": "UriFile", "uri": f"{folder}/{settings.output_file_name}"}


def _moment(when: datetime) -> str:
    return when.isoformat()
