"""The ASGI app: routes, error handling and the description of the whole API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from batchpoint.api.asset_routes import compute_routes, environment_routes, model_routes
from batchpoint.api.endpoint_routes import deployment_routes, endpoint_routes
from batchpoint.api.invoke_routes import invoke_routes
from batchpoint.api.job_routes import job_routes
from batchpoint.api.problems import Problem, install
from batchpoint.api.services import Services, problems
from batchpoint.api.upload_routes import upload_routes

_DESCRIPTION = """\
Self-hosted batch endpoints for machine learning: deploy a model, invoke its endpoint with a pointer
to data, get a complete set of predictions.

Lists come in pages: pass `next_after` of one page as `after` to get the next. Errors are problem
documents (RFC 9457) with a stable `code`.
"""
_TAGS = [
    {"name": "endpoints", "description": "Stable names behind which deployments live."},
    {"name": "deployments", "description": "A model with everything needed to score with it."},
    {"name": "jobs", "description": "Invocations, their progress and their results."},
    {"name": "models", "description": "Registered models, immutable and versioned."},
    {"name": "environments", "description": "What user code runs in."},
    {"name": "computes", "description": "Where nodes come from."},
    {"name": "uploads", "description": "Folders of models and code, named by their content."},
    {"name": "service", "description": "Is it there, and which version is it?"},
]


class Health(BaseModel):
    """The service is able to answer: its ledger can be read."""

    status: str = "ok"


class Version(BaseModel):
    """Which batchpoint answers."""

    version: str


def create_app(services: Services) -> FastAPI:
    """Make the app. It is stateless: any number may serve one ledger."""
    app = FastAPI(
        title="batchpoint",
        version=services.version,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    install(app)
    for router in (
        _service_routes(services),
        invoke_routes(services),
        endpoint_routes(services),
        deployment_routes(services),
        job_routes(services),
        model_routes(services),
        environment_routes(services),
        compute_routes(services),
        upload_routes(services),
    ):
        app.include_router(router)
    app.openapi = lambda: _openapi(app)
    return app


def _service_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/healthz", summary="Check health", responses=problems())
    def get_health() -> Health:
        """Answer when the ledger can be read."""
        services.ledger.list_jobs(limit=1)
        return Health()

    @router.get("/version", summary="Show the version")
    def get_version() -> Version:
        """Tell which batchpoint this is."""
        return Version(version=services.version)

    return router


def _operation_id(route: APIRoute) -> str:
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Describe the API; validation errors are problem documents here, not FastAPI's own shape."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            tags=_TAGS,
            routes=app.routes,
        )
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        schemas: dict[str, Any] = schema.setdefault("components", {}).setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas[Problem.__name__] = Problem.model_json_schema()
        app.openapi_schema = schema
    return app.openapi_schema
