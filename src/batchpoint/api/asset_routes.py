"""Routes of models, environments and computes."""

from __future__ import annotations

from fastapi import APIRouter, Response

from batchpoint.api.endpoint_routes import Patch, named
from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.control.assets import Assets
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.compute import Compute


def model_routes(services: Services) -> APIRouter:
    """Make the routes under /models."""
    router = APIRouter(prefix="/models", tags=["models"])
    assets = services.assets

    @router.get("", summary="List models", responses=problems())
    def list_models(limit: Limit = LIMIT_DEFAULT, after: After = None) -> Page[Model]:
        """List the newest version of each model by name."""
        return page(assets.list_models(limit, after), limit, lambda m: m.name)

    @router.post("", summary="Register a model", status_code=201, responses=problems(404, 409, 507))
    def add_model(body: Model) -> Model:
        """Register a model as the next version of its name (or as the version it gives).

        `path` is an upload: `upload:HASH/NAME`.
        """
        return assets.register_model(body)

    @router.get("/{name}", summary="Show a model", responses=problems(404))
    def get_model(name: str) -> Model:
        """Show the newest version of a model."""
        return assets.get_model(name)

    @router.delete("/{name}", summary="Delete a model", status_code=204, responses=problems(404))
    def delete_model(name: str) -> None:
        """Delete all versions of a model; deployments that use it go on."""
        assets.delete("model", name, None)

    _model_versions(router, assets)
    return router


def _model_versions(router: APIRouter, assets: Assets) -> None:
    @router.get("/{name}/versions", summary="List versions of a model", responses=problems(404))
    def list_versions(name: str, limit: Limit = LIMIT_DEFAULT, after: After = None) -> Page[Model]:
        """List the versions of a model, newest first."""
        found = assets.list_model_versions(name, limit, after)
        return page(found, limit, lambda m: m.version)

    @router.put(
        "/{name}/versions/{version}",
        summary="Register a version of a model",
        responses=problems(404, 409, 507),
    )
    def put_version(name: str, version: str, body: Model) -> Model:
        """Register this very version; with other content than before it is refused.

        The same content changes description, tags and properties.
        """
        named(body.name or name, name)
        named(body.version or version, version, "version")
        return assets.register_model(body.model_copy(update={"name": name, "version": version}))

    @router.get(
        "/{name}/versions/{version}", summary="Show a version of a model", responses=problems(404)
    )
    def get_version(name: str, version: str) -> Model:
        """Show one version of a model."""
        return assets.get_model(name, version)

    @router.delete(
        "/{name}/versions/{version}",
        summary="Delete a version of a model",
        status_code=204,
        responses=problems(404),
    )
    def delete_version(name: str, version: str) -> None:
        """Delete one version of a model; deployments that use it go on."""
        assets.delete("model", name, version)


def environment_routes(services: Services) -> APIRouter:
    """Make the routes under /environments."""
    router = APIRouter(prefix="/environments", tags=["environments"])
    assets = services.assets

    @router.get("", summary="List environments", responses=problems())
    def list_environments(limit: Limit = LIMIT_DEFAULT, after: After = None) -> Page[Environment]:
        """List the newest version of each environment by name."""
        return page(assets.list_environments(limit, after), limit, lambda e: e.name)

    @router.post("", summary="Register an environment", status_code=201, responses=problems(409))
    def add_environment(body: Environment) -> Environment:
        """Register an environment as the next version of its name (or as the version it gives).

        It is built when a deployment first uses it.
        """
        return assets.register_environment(body)

    @router.get("/{name}", summary="Show an environment", responses=problems(404))
    def get_environment(name: str) -> Environment:
        """Show the newest version of an environment."""
        return assets.get_environment(name)

    @router.delete(
        "/{name}", summary="Delete an environment", status_code=204, responses=problems(404)
    )
    def delete_environment(name: str) -> None:
        """Delete all versions of an environment; deployments that use it go on."""
        assets.delete("environment", name, None)

    _environment_versions(router, assets)
    return router


def _environment_versions(router: APIRouter, assets: Assets) -> None:
    @router.get(
        "/{name}/versions", summary="List versions of an environment", responses=problems(404)
    )
    def list_versions(
        name: str, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[Environment]:
        """List the versions of an environment, newest first."""
        found = assets.list_environment_versions(name, limit, after)
        return page(found, limit, lambda e: e.version)

    @router.put(
        "/{name}/versions/{version}",
        summary="Register a version of an environment",
        responses=problems(409),
    )
    def put_version(name: str, version: str, body: Environment) -> Environment:
        """Register this very version; with other content than before it is refused."""
        named(body.name or name, name)
        named(body.version or version, version, "version")
        return assets.register_environment(
            body.model_copy(update={"name": name, "version": version})
        )

    @router.get(
        "/{name}/versions/{version}",
        summary="Show a version of an environment",
        responses=problems(404),
    )
    def get_version(name: str, version: str) -> Environment:
        """Show one version of an environment."""
        return assets.get_environment(name, version)

    @router.delete(
        "/{name}/versions/{version}",
        summary="Delete a version of an environment",
        status_code=204,
        responses=problems(404),
    )
    def delete_version(name: str, version: str) -> None:
        """Delete one version of an environment; deployments that use it go on."""
        assets.delete("environment", name, version)


def compute_routes(services: Services) -> APIRouter:
    """Make the routes under /computes."""
    router = APIRouter(prefix="/computes", tags=["computes"])
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
        return registry.update_compute(name, {**patch, "name": name})

    @router.delete(
        "/{name}", summary="Delete a compute", status_code=204, responses=problems(404, 409)
    )
    def delete_compute(name: str) -> None:
        """Delete a compute that no deployment uses; `local` only goes back to what it was."""
        registry.delete_compute(name)

    return router
