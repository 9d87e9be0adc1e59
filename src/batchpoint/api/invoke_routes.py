"""Routes under an endpoint's scoring URI: start a job there, and list its jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.domain.job import Invocation, Job

_Key = Annotated[
    str | None, Header(description="The same key and body again give the job they gave before.")
]


def invoke_routes(services: Services) -> APIRouter:
    """Make the routes under /endpoints/{endpoint}/jobs."""
    router = APIRouter(prefix="/endpoints/{endpoint}/jobs", tags=["jobs"])

    @router.post(
        "",
        summary="Invoke an endpoint",
        status_code=201,
        responses=problems(404, 409, 507),
    )
    def invoke(
        endpoint: str,
        body: Invocation,
        response: Response,
        idempotency_key: _Key = None,
        repeatability_request_id: Annotated[
            str | None,
            Header(alias="repeatability-request-id", description="As Idempotency-Key."),
        ] = None,
        repeatability_request_id_of_sdk: Annotated[
            str | None,
            Header(
                alias="repeatability_request-id",
                description="As Idempotency-Key, in the spelling of Azure's SDK.",
            ),
        ] = None,
        azureml_model_deployment: Annotated[
            str | None, Header(description="The deployment to use, unless the body names one.")
        ] = None,
    ) -> Job:
        """Start a job that scores all the data the body points at, and answer at once.

        Everything that can be wrong with the request is said now; the job then runs by itself.
        """
        if body.deployment_name is None and azureml_model_deployment:
            body = body.model_copy(update={"deployment_name": azureml_model_deployment})
        key = idempotency_key or repeatability_request_id or repeatability_request_id_of_sdk
        job = services.invocations.invoke(endpoint, body, key)
        response.headers["Location"] = f"/jobs/{job.name}"
        return job

    @router.get("", summary="List jobs of an endpoint", responses=problems(404))
    def list_endpoint_jobs(
        endpoint: str,
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
        deployment: Annotated[str | None, Query(description="Only of this deployment.")] = None,
    ) -> Page[Job]:
        """List the jobs of an endpoint, newest first."""
        services.registry.get_endpoint(endpoint)
        found = services.ledger.list_jobs(endpoint, deployment, limit=limit, after=after)
        return page(found, limit, lambda job: job.name)

    return router
