"""Routes of datastores; no answer ever holds credentials."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from batchpoint.api.endpoint_routes import Patch, named
from batchpoint.api.json_bodies import JsonRoute
from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.domain.datastore import Datastore

_SkipValidation = Annotated[
    bool, Query(description="Register it as it is, without testing whether it can be reached.")
]
_Force = Annotated[bool, Query(description="Delete it although data assets or jobs need it.")]


def datastore_routes(services: Services) -> APIRouter:
    """Make the routes under /datastores."""
    router = APIRouter(prefix="/datastores", tags=["datastores"], route_class=JsonRoute)
    datastores = services.datastores

    @router.get("", summary="List datastores", responses=problems())
    def list_datastores(limit: Limit = LIMIT_DEFAULT, after: After = None) -> Page[Datastore]:
        """List datastores by name; the two built-in ones are always there."""
        return page(datastores.list(limit, after), limit, lambda d: d.name)

    @router.put(
        "/{name}",
        summary="Create or update a datastore",
        responses={**problems(), 201: {"description": "Created.", "model": Datastore}},
    )
    def put_datastore(
        name: str,
        body: Datastore,
        response: Response,
        *,
        skip_validation: _SkipValidation = False,
    ) -> Datastore:
        """Register a datastore, after testing it; without `credentials` an update keeps its own.

        `is_default: true` makes it the default.
        """
        named(body.name, name)
        stored, new = datastores.put(body, skip_validation=skip_validation)
        response.status_code = 201 if new else 200
        return stored

    @router.get("/{name}", summary="Show a datastore", responses=problems(404))
    def get_datastore(name: str) -> Datastore:
        """Show a datastore with what its last test found."""
        return datastores.get(name)

    @router.patch("/{name}", summary="Change a datastore", responses=problems(404))
    def patch_datastore(
        name: str,
        patch: Patch,
        *,
        skip_validation: _SkipValidation = False,
    ) -> Datastore:
        """Change some fields, e.g. `{"is_default": true}` or other `credentials`."""
        named(str(patch.get("name", name)), name)
        return datastores.update(name, patch, skip_validation=skip_validation)

    @router.delete(
        "/{name}", summary="Delete a datastore", status_code=204, responses=problems(404, 409)
    )
    def delete_datastore(name: str, force: _Force = False) -> None:  # noqa: FBT002
        """Forget a datastore and its credentials; the data in it stays.

        Refused while a data asset or an open job needs it, unless forced.
        """
        datastores.delete(name, force=force)

    @router.post("/{name}/test", summary="Test a datastore", responses=problems(404))
    def test_datastore(name: str) -> Datastore:
        """Test again whether it can be read and written, and keeps conditional writes."""
        return datastores.test(name)

    return router
