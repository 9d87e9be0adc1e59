"""Routes of endpoints and their deployments."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response

from batchpoint.api.json_bodies import JsonRoute
from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.api.union_bodies import AnyDeployment, DeploymentPage
from batchpoint.domain.endpoint import BatchEndpoint
from batchpoint.domain.errors import Invalid

Patch = Annotated[
    dict[str, Any],
    Body(description="A JSON merge patch (RFC 7396): fields to change; null resets a field."),
]
Force = Annotated[bool, Query(description="Delete it although it is in use.")]


def named(body_name: str, path_name: str, where: str = "name") -> None:
    """Refuse a body that names another thing than the path. Raises: Invalid (`field_invalid`)."""
    if body_name != path_name:
        raise Invalid(
            f"the body says {body_name!r} and the path {path_name!r}; make them the same",
            code="field_invalid",
            where=where,
        )


def fixed(patch: dict[str, Any], **names: str) -> dict[str, Any]:
    """Return a patch with the names of its path; refuse one that would change them.

    Raises: Invalid (`field_invalid`).
    """
    for field, name in names.items():
        if patch.get(field, name) != name:
            raise Invalid("never changes; leave it out", code="field_invalid", where=field)
    return {**patch, **names}


def endpoint_routes(services: Services) -> APIRouter:
    """Make the routes under /endpoints."""
    router = APIRouter(prefix="/endpoints", tags=["endpoints"], route_class=JsonRoute)
    registry = services.registry

    def shown(request: Request, endpoint: BatchEndpoint) -> BatchEndpoint:
        """Add the address that only the API knows."""
        if services.embedded:
            return endpoint
        base = (services.public_url or str(request.base_url)).rstrip("/")
        return endpoint.model_copy(update={"scoring_uri": f"{base}/endpoints/{endpoint.name}/jobs"})

    @router.get("", summary="List endpoints", responses=problems())
    def list_endpoints(
        request: Request, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[BatchEndpoint]:
        """List endpoints by name."""
        found = registry.list_endpoints(limit, after)
        return page([shown(request, e) for e in found], limit, lambda e: e.name)

    @router.put(
        "/{endpoint}",
        summary="Create or update an endpoint",
        responses={**problems(404), 201: {"description": "Created.", "model": BatchEndpoint}},
    )
    def put_endpoint(
        endpoint: str, body: BatchEndpoint, request: Request, response: Response
    ) -> BatchEndpoint:
        """Create an endpoint, or replace what it says; without `defaults` the default stays."""
        named(body.name, endpoint)
        stored, new = registry.put_endpoint(body)
        response.status_code = 201 if new else 200
        return shown(request, stored)

    @router.get("/{endpoint}", summary="Show an endpoint", responses=problems(404))
    def get_endpoint(endpoint: str, request: Request) -> BatchEndpoint:
        """Show an endpoint with its default deployment and scoring URI."""
        return shown(request, registry.get_endpoint(endpoint))

    @router.patch("/{endpoint}", summary="Change an endpoint", responses=problems(404))
    def patch_endpoint(endpoint: str, patch: Patch, request: Request) -> BatchEndpoint:
        """Change some fields, e.g. `{"defaults": {"deployment_name": "b"}}`; takes effect at once.

        Jobs that run keep the deployment they were started with.
        """
        return shown(request, registry.update_endpoint(endpoint, fixed(patch, name=endpoint)))

    @router.delete(
        "/{endpoint}",
        summary="Delete an endpoint",
        status_code=204,
        responses=problems(404, 409),
    )
    def delete_endpoint(endpoint: str, force: Force = False) -> None:  # noqa: FBT002
        """Delete an endpoint and its deployments; refused while its jobs run, unless forced."""
        registry.delete_endpoint(endpoint, force=force)

    return router


def deployment_routes(services: Services) -> APIRouter:
    """Make the routes under /endpoints/{endpoint}/deployments."""
    router = APIRouter(
        prefix="/endpoints/{endpoint}/deployments", tags=["deployments"], route_class=JsonRoute
    )
    registry = services.registry

    @router.get(
        "",
        summary="List deployments",
        responses=problems(404),
    )
    def list_deployments(
        endpoint: str, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> DeploymentPage:
        """List the deployments of an endpoint by name."""
        found = registry.list_deployments(endpoint, limit, after)
        some = page(found, limit, lambda d: d.name)
        return DeploymentPage(value=list(some.value), next_after=some.next_after)

    @router.put(
        "/{deployment}",
        summary="Create or update a deployment",
        responses={
            **problems(404, 409),
            201: {"description": "Created.", "model": AnyDeployment},
        },
    )
    def put_deployment(
        endpoint: str,
        deployment: str,
        body: AnyDeployment,
        response: Response,
        *,
        set_default: Annotated[
            bool, Query(description="Make it the endpoint's default as well.")
        ] = False,
    ) -> AnyDeployment:
        """Check model, script, settings and environment, build the environment, and record all.

        Of a pipeline, those of each of its steps. Takes as long as the environments take to build;
        the answer comes when jobs can be started.
        """
        named(body.name, deployment)
        named(body.endpoint_name, endpoint, "endpoint_name")
        stored, new = registry.put_deployment(body, services.log, set_default=set_default)
        response.status_code = 201 if new else 200
        return stored

    @router.get(
        "/{deployment}",
        summary="Show a deployment",
        responses=problems(404),
    )
    def get_deployment(endpoint: str, deployment: str) -> AnyDeployment:
        """Show a deployment with the server's defaults filled in."""
        return registry.get_deployment(endpoint, deployment)

    _deployment_changes(router, services)
    return router


def _deployment_changes(router: APIRouter, services: Services) -> None:
    registry = services.registry

    @router.patch(
        "/{deployment}",
        summary="Change a deployment",
        responses=problems(404, 409),
    )
    def patch_deployment(endpoint: str, deployment: str, patch: Patch) -> AnyDeployment:
        """Change some fields; everything is checked as when it was created."""
        changes = fixed(patch, name=deployment, endpoint_name=endpoint)
        return registry.update_deployment(endpoint, deployment, changes, services.log)

    @router.delete(
        "/{deployment}",
        summary="Delete a deployment",
        status_code=204,
        responses=problems(404, 409),
    )
    def delete_deployment(endpoint: str, deployment: str, force: Force = False) -> None:  # noqa: FBT002
        """Delete a deployment; the default or one whose jobs run is refused, unless forced."""
        registry.delete_deployment(endpoint, deployment, force=force)
