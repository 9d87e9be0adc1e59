"""Routes under an endpoint's scoring URI: start a job there, look at it, cancel it, list them."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Discriminator, Tag

from batchpoint.api.azure_bodies import is_azure_body, read_invocation
from batchpoint.api.azure_jobs import AzureInvocation, AzureJob, AzureJobs, azure_job
from batchpoint.api.json_bodies import JsonRoute
from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.domain.errors import BatchpointError, NotFound
from batchpoint.domain.job import Invocation, Job
from batchpoint.domain.references import InputKind, kind_by_name

IdempotencyKey = Annotated[
    str | None, Header(description="The same key and body again give the job they gave before.")
]
RepeatabilityId = Annotated[
    str | None, Header(alias="repeatability-request-id", description="As Idempotency-Key.")
]
_SdkRepeatabilityId = Annotated[
    str | None,
    Header(
        alias="repeatability_request-id",
        description="As Idempotency-Key, in the spelling of Azure's SDK.",
    ),
]
_Deployment = Annotated[
    str | None, Header(description="The deployment to use, unless the body names one.")
]
_ApiVersion = Annotated[
    str | None, Query(alias="api-version", description="Any: the answer has Azure's shape.")
]


def _shape(body: object) -> str:
    """Tell by which model a body is read; a tag in brackets is no part of a field's name."""
    return "(azure)" if isinstance(body, AzureInvocation) or is_azure_body(body) else "(ours)"


_Body = Annotated[
    Annotated[Invocation, Tag("(ours)")] | Annotated[AzureInvocation, Tag("(azure)")],
    Discriminator(_shape),
]


def invoke_routes(services: Services) -> APIRouter:
    """Make the routes under /endpoints/{endpoint}/jobs."""
    router = APIRouter(prefix="/endpoints/{endpoint}/jobs", tags=["jobs"], route_class=JsonRoute)

    def kind_of(uri: str) -> InputKind:
        return services.invocations.kind_of(uri, kind_by_name(uri))

    @router.post(
        "",
        summary="Invoke an endpoint",
        name="invoke_endpoint",
        status_code=201,
        responses=problems(404, 409, 507),
    )
    def invoke(
        endpoint: str,
        body: _Body,
        request: Request,
        response: Response,
        idempotency_key: IdempotencyKey = None,
        repeatability_request_id: RepeatabilityId = None,
        repeatability_request_id_of_sdk: _SdkRepeatabilityId = None,
        azureml_model_deployment: _Deployment = None,
    ) -> Job | AzureJob:
        """Start a job: score all the data the body points at, or run a pipeline with its inputs.

        Everything that can be wrong with the request is said now, and the job runs by itself.
        A body of Azure's shape gets an answer of Azure's shape.
        """
        key = idempotency_key or repeatability_request_id or repeatability_request_id_of_sdk
        if isinstance(body, AzureInvocation):
            read = read_invocation(body.model_extra or {}, kind_of)
            asked = _named(read.invocation, azureml_model_deployment)
            try:
                job = services.invocations.invoke(endpoint, asked, key)
            except BatchpointError as error:
                raise read.in_its_words(error) from error
            response.headers["Location"] = f"/endpoints/{endpoint}/jobs/{job.name}"
            return _as_azure(services, request, job)
        asked = _named(body, azureml_model_deployment)
        job = services.invocations.invoke(endpoint, asked, key)
        response.headers["Location"] = f"/jobs/{job.name}"
        return job

    _add_listing(router, services)
    _add_job_routes(router, services)
    return router


def _add_listing(router: APIRouter, services: Services) -> None:
    @router.get("", summary="List jobs of an endpoint", responses=problems(404))
    def list_endpoint_jobs(
        endpoint: str,
        request: Request,
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
        deployment: Annotated[str | None, Query(description="Only of this deployment.")] = None,
        api_version: _ApiVersion = None,
    ) -> Page[Job] | AzureJobs:
        """List the jobs of an endpoint, newest first; with `api-version`, in Azure's shape."""
        services.registry.get_endpoint(endpoint)
        jobs = services.ledger.list_jobs(endpoint, deployment, limit=limit, after=after)
        some = page(jobs, limit, lambda job: job.name)
        if api_version is None:
            return some
        link: str | None = None
        if some.next_after is not None:
            query = {"api-version": api_version, "limit": limit, "after": some.next_after}
            if deployment is not None:
                query["deployment"] = deployment
            link = f"{_base(services, request)}/endpoints/{endpoint}/jobs?{urlencode(query)}"
        jobs_told = [_as_azure(services, request, job) for job in some.value]
        return AzureJobs(value=jobs_told, nextLink=link)


def _add_job_routes(router: APIRouter, services: Services) -> None:

    @router.get(
        "/{job}", summary="Show a job of an endpoint in Azure's shape", responses=problems(404)
    )
    def get_endpoint_job(endpoint: str, job: str, request: Request) -> AzureJob:
        """Show a job of an endpoint in the shape in which Azure's scoring URIs tell of it."""
        return _as_azure(services, request, _found(services, endpoint, job))

    @router.post(
        "/{job}/cancel",
        summary="Cancel a job of an endpoint",
        responses=problems(404),
    )
    def cancel_endpoint_job(endpoint: str, job: str, request: Request) -> AzureJob:
        """Ask for a job to be stopped; one that has ended stays as it is."""
        asked = services.invocations.cancel(_found(services, endpoint, job).name)
        return _as_azure(services, request, asked)


def _named(asked: Invocation, deployment: str | None) -> Invocation:
    """Return what is asked for, of the deployment that a header names unless the body does."""
    if asked.deployment_name is not None or not deployment:
        return asked
    return asked.model_copy(update={"deployment_name": deployment})


def _base(services: Services, request: Request) -> str:
    return (services.public_url or str(request.base_url)).rstrip("/")


def _as_azure(services: Services, request: Request, job: Job) -> AzureJob:
    outputs = [] if job.spec.type == "score" else services.job_outputs.list(job)
    return azure_job(job, f"{_base(services, request)}/jobs/{job.name}", outputs)


def _found(services: Services, endpoint: str, job: str) -> Job:
    """Give a job of an endpoint, and none of another one's."""
    known = services.ledger.get_job(job)
    if known.spec.endpoint_name != endpoint:
        raise NotFound(
            f"endpoint {endpoint!r} has no job named {job!r}; a GET of its scoring URI lists "
            "those it has",
            code="job_not_found",
        )
    return known
