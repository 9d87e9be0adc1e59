"""Counts requests by route, method and status, for `/metrics`; only servers pay for it."""

from __future__ import annotations

from time import perf_counter

from prometheus_client import CollectorRegistry, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_UNKNOWN = "(no route)"


class RequestMetrics:
    """ASGI middleware that measures how long requests take.

    A route is told by its pattern (`/jobs/{job}`), so that names make no series of their own.
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        """Wrap an ASGI app."""
        self._app = app
        self._seconds = Histogram(
            "batchpoint_http_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("method", "route", "status"),
            buckets=_SECONDS,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        status = "500"  # what the client sees of an error that nothing else answered

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", _UNKNOWN)
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._seconds.labels(method, route, status).observe(perf_counter() - began)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
