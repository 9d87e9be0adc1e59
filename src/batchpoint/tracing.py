"""Traces by OpenTelemetry (extra `otel`): a span for each request and each job, under its caller's.

Nothing of OpenTelemetry is imported unless its own variables ask for it: set
`OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) to send traces there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_EXPORT_SECONDS_MAX = 5
# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)

current_traceparent: ContextVar[str | None] = ContextVar("current_traceparent", default=None)
"""The W3C trace context of the request that is being served, if its caller or we made one."""


def read_traceparent(text: str | None) -> str | None:
    """Return a `traceparent` header that is one; another is as good as none (W3C 3.2)."""
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


class Tracing:
    """Sends the spans of one process until it is closed."""

    def __init__(self, service: str | None) -> None:
        """Set up the SDK as its own variables say; `service` names what they do not.

        Raises: ImportError without the extra `otel`.
        """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = Resource.create({} if service is None else {"service.name": service})
        self._provider: TracerProvider = TracerProvider(resource=named, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(timeout=_EXPORT_SECONDS_MAX)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))

    @property
    def tracer(self) -> Tracer:
        """What makes spans."""
        return self._provider.get_tracer("batchpoint")

    def close(self) -> None:
        """Send what was not sent yet; a collector that does not answer is given up on."""
        self._provider.shutdown()


def tracing_from(environ: Mapping[str, str], service: str) -> Tracing | None:
    """Start tracing when the environment asks for it; None when it does not.

    Args:
        environ: where `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_SDK_DISABLED` are looked up.
        service: `service.name` of the spans unless OTEL_SERVICE_NAME says another.
    """
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        return Tracing(None if named else service)
    except ImportError:
        logging.getLogger("batchpoint.tracing").warning(
            "traces are asked for and cannot be made: install batchpoint[otel], or unset "
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        )
        return None


def context_of(traceparent: str | None) -> Context:
    """Return the context under which a span goes on with the trace of a caller."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {} if traceparent is None else {"traceparent": traceparent}
    return TraceContextTextMapPropagator().extract(carrier)
