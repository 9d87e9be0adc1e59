"""Groups of routes, made when the first request needs them: a short command pays for no others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from batchpoint.api.asset_routes import (
    code_routes,
    component_routes,
    data_routes,
    environment_routes,
    model_routes,
)
from batchpoint.api.compute_routes import compute_routes
from batchpoint.api.datastore_routes import datastore_routes
from batchpoint.api.endpoint_routes import deployment_routes, endpoint_routes
from batchpoint.api.invoke_routes import invoke_routes
from batchpoint.api.job_file_routes import job_file_routes
from batchpoint.api.job_routes import job_routes
from batchpoint.api.service_routes import service_routes
from batchpoint.api.services import Services
from batchpoint.api.upload_routes import upload_routes


class _Group(NamedTuple):
    """Some routes: those whose path begins with `root` and whose third part is `below`.

    `below` "" is for paths of one or two parts and "*" for any; the first group that fits counts.
    """

    root: str
    below: str
    make: Callable[[Services], APIRouter]


_GROUPS = (
    _Group("endpoints", "jobs", invoke_routes),
    _Group("endpoints", "deployments", deployment_routes),
    _Group("endpoints", "*", endpoint_routes),
    _Group("jobs", "", job_routes),
    _Group("jobs", "cancel", job_routes),
    _Group("jobs", "*", job_file_routes),
    _Group("models", "*", model_routes),
    _Group("environments", "*", environment_routes),
    _Group("data", "*", data_routes),
    _Group("codes", "*", code_routes),
    _Group("components", "*", component_routes),
    _Group("computes", "*", compute_routes),
    _Group("datastores", "*", datastore_routes),
    _Group("uploads", "*", upload_routes),
    _Group("healthz", "*", service_routes),
    _Group("version", "*", service_routes),
)
_ALL = tuple(dict.fromkeys(group.make for group in _GROUPS))


class RouteGroups:
    """Adds groups of routes to an app, each of them once."""

    def __init__(self, app: FastAPI, services: Services) -> None:
        """Nothing is added yet."""
        self._app = app
        self._services = services
        self._added: set[Callable[[Services], APIRouter]] = set()
        self._adding = threading.Lock()

    def add_all(self) -> None:
        """Add whatever is missing."""
        for make in _ALL:
            self._add(make)

    def add_for(self, path: str) -> None:
        """Add the routes that may serve a path."""
        root, _, rest = path.lstrip("/").partition("/")
        below = rest.partition("/")[2].partition("/")[0]
        for group in _GROUPS:
            if group.root == root and group.below in (below, "*"):
                self._add(group.make)
                return

    def _add(self, make: Callable[[Services], APIRouter]) -> None:
        with self._adding:
            if make not in self._added:
                self._app.include_router(make(self._services))
                self._added.add(make)


class LateRoutes:
    """Middleware that adds the routes of a request before it is served."""

    def __init__(self, app: ASGIApp, groups: RouteGroups) -> None:
        """Wrap an ASGI app."""
        self._app = app
        self._groups = groups

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            self._groups.add_for(scope["path"])
        await self._app(scope, receive, send)
