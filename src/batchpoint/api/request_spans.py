"""Takes up the trace of a caller, and makes a span of each request where traces are sent."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchpoint.tracing import Tracing, context_of, current_traceparent, read_traceparent

_SERVER_ERROR = 500


class RequestSpans:
    """ASGI middleware: jobs started by a request belong to the trace that its caller is in."""

    def __init__(self, app: ASGIApp, tracing: Tracing | None = None) -> None:
        """Wrap an ASGI app; without tracing, callers' traces are only handed on to their jobs."""
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, self._closing(receive), send)
            return
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        traceparent = read_traceparent(given.decode("latin-1"))
        if self._tracing is not None:
            await self._traced(self._tracing, traceparent, scope, receive, send)
            return
        token = current_traceparent.set(traceparent)
        try:
            await self._app(scope, receive, send)
        finally:
            current_traceparent.reset(token)

    def _closing(self, receive: Receive) -> Receive:
        """Send what is left when the server ends."""

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self._tracing is not None:
                await run_in_threadpool(self._tracing.close)
            return message

        return receiving

    async def _traced(
        self, tracing: Tracing, traceparent: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        from opentelemetry.trace import SpanKind, StatusCode

        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        span = tracing.tracer.start_span(
            scope["method"], context_of(traceparent), SpanKind.SERVER, attributes
        )
        about = span.get_span_context()
        mine = f"00-{about.trace_id:032x}-{about.span_id:016x}-{int(about.trace_flags):02x}"

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= _SERVER_ERROR:
                    span.set_status(StatusCode.ERROR)
            await send(message)

        token = current_traceparent.set(mine)
        try:
            await self._app(scope, receive, sending)
        finally:
            current_traceparent.reset(token)
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
            span.end()
