"""The ASGI app: routes, error handling and the description of the whole API."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from batchpoint.api.body_limit import BodyLimit
from batchpoint.api.problems import install
from batchpoint.api.route_groups import LateRoutes, RouteGroups
from batchpoint.api.services import Services

_DESCRIPTION = """\
Self-hosted batch endpoints for machine learning: deploy a model or a pipeline, invoke its endpoint
with pointers to data, get complete results.

Lists come in pages: pass `next_after` of one page as `after` to get the next. Errors are problem
documents (RFC 9457) with a stable `code`.
"""
_TAGS = [
    {"name": "endpoints", "description": "Stable names behind which deployments live."},
    {
        "name": "deployments",
        "description": "A model with everything needed to score with it, or a graph of steps.",
    },
    {
        "name": "jobs",
        "description": "Invocations, pipelines and their steps; their progress and results.",
    },
    {"name": "models", "description": "Registered models, immutable and versioned."},
    {"name": "environments", "description": "What user code runs in."},
    {"name": "data", "description": "Data that is pointed at by name and version."},
    {"name": "components", "description": "Steps of pipelines, and graphs of them."},
    {"name": "codes", "description": "Scoring code that deployments share."},
    {"name": "computes", "description": "Where nodes come from."},
    {"name": "datastores", "description": "Where data lies, and what opens it."},
    {"name": "uploads", "description": "Folders of models and code, named by their content."},
    {"name": "service", "description": "Is it there, and which version is it?"},
]


def create_app(services: Services) -> FastAPI:
    """Make the app. It is stateless: any number may serve one ledger.

    The embedded one lives for one command and makes only the routes that this needs.
    """
    app = FastAPI(
        title="batchpoint",
        version=services.version,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    app.add_middleware(BodyLimit)
    groups = RouteGroups(app, services)
    if services.embedded:
        app.add_middleware(LateRoutes, groups=groups)
    else:
        groups.add_all()
    install(app)
    app.openapi = lambda: _openapi(app, groups)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _openapi(app: FastAPI, groups: RouteGroups) -> dict[str, Any]:
    if app.openapi_schema is None:
        # Only who asks for the description pays for the code that makes it.
        from batchpoint.api.description import described  # noqa: PLC0415

        groups.add_all()
        app.openapi_schema = described(app, _TAGS)
    return app.openapi_schema
