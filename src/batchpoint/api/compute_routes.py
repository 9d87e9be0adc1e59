"""Routes of computes."""

from __future__ import annotations

from fastapi import APIRouter, Response

from batchpoint.api.endpoint_routes import Patch, fixed, named
from batchpoint.api.json_bodies import JsonRoute
from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.domain.compute import Compute


def compute_routes(services: Services) -> APIRouter:
    """Make the routes under /computes."""
    router = APIRouter(prefix="/computes", tags=["computes"], route_class=JsonRoute)
    registry = services.registry

    @router.get("", summary="List computes", responses=problems())
    def list_computes(limit: Limit = LIMIT_DEFAULT, after: After = None) -> Page[Compute]:
        """List computes by name; `local`, this machine, is always one of them."""
        return page(registry.list_computes(limit, after), limit, lambda c: c.name)

    @router.put(
        "/{name}",
        summary="Create or update a compute",
        responses={**problems(), 201: {"description": "Created.", "model": Compute}},
    )
    def put_compute(name: str, body: Compute, response: Response) -> Compute:
        """Create a compute or replace what it says; jobs that run keep what they were given."""
        named(body.name, name)
        stored, new = registry.put_compute(body)
        response.status_code = 201 if new else 200
        return stored

    @router.get("/{name}", summary="Show a compute", responses=problems(404))
    def get_compute(name: str) -> Compute:
        """Show a compute."""
        return registry.get_compute(name)

    @router.patch("/{name}", summary="Change a compute", responses=problems(404))
    def patch_compute(name: str, patch: Patch) -> Compute:
        """Change some fields of a compute."""
        return registry.update_compute(name, fixed(patch, name=name))

    @router.delete(
        "/{name}", summary="Delete a compute", status_code=204, responses=problems(404, 409)
    )
    def delete_compute(name: str) -> None:
        """Delete a compute that no deployment uses; `local` only goes back to what it was."""
        registry.delete_compute(name)

    return router
