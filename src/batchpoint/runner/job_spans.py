"""One span for a job and one for each of its phases, sent when a runner has ended the job."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from batchpoint.clock import Clock
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState, JobStatus
from batchpoint.tracing import context_of

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


class JobSpans:
    """Watches the status of a job and makes its spans at the end."""

    def __init__(self, tracer: Tracer, job: Job, clock: Clock) -> None:
        """Watch a job; its queueing ends now."""
        self._tracer = tracer
        self._job = job
        self._clock = clock
        self._phases: list[tuple[str, datetime]] = [("queued", job.created_at)]

    def saw(self, status: JobStatus) -> None:
        """Take note of what the job does; when it has ended, make the spans."""
        now = self._clock.now()
        phase = status.progress.phase
        if phase not in ("done", self._phases[-1][0]):
            self._phases.append((phase, now))
        if status.state in TERMINAL_STATES:
            self._make(status, status.ended_at or now)

    def _make(self, status: JobStatus, ended: datetime) -> None:
        from opentelemetry.trace import StatusCode, set_span_in_context

        spec, done = self._job.spec, status.progress
        root = self._tracer.start_span(
            "job",
            context_of(spec.traceparent),
            start_time=_nanoseconds(self._job.created_at),
            attributes={
                "batchpoint.job": self._job.name,
                "batchpoint.endpoint": spec.endpoint_name or "",
                "batchpoint.deployment": spec.deployment_name or "",
                "batchpoint.steps": done.steps_total,
                "batchpoint.state": status.state.value,
                "batchpoint.items": done.items_done,
                "batchpoint.items_failed": done.items_failed,
                "batchpoint.rows": done.rows_done,
                "batchpoint.retries": done.retries,
                "batchpoint.runners": status.attempts,
            },
        )
        if status.state == JobState.FAILED and status.error is not None:
            root.set_attribute("error.type", status.error.code)
            root.set_status(StatusCode.ERROR, status.error.message)
        inside = set_span_in_context(root)
        stops = [begun for _, begun in self._phases[1:]] + [ended]
        for (phase, begun), stop in zip(self._phases, stops, strict=True):
            span = self._tracer.start_span(phase, inside, start_time=_nanoseconds(begun))
            span.end(_nanoseconds(max(begun, stop)))
        root.end(_nanoseconds(ended))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)
