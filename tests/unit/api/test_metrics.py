"""What a server tells Prometheus, read back with Prometheus' own parser."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from batchpoint.api.app import create_app
from batchpoint.api.metrics_routes import add_metrics
from batchpoint.client.embedded_transport import EmbeddedTransport
from batchpoint.domain.job import Job, JobState, JobStatus, Progress
from tests.unit.control_plane import ControlPlane

Labels = tuple[tuple[str, str], ...]
HEART = (("deployment", "first"), ("endpoint", "heart"))


@pytest.fixture
def measured(plane: ControlPlane) -> Iterator[httpx.Client]:
    """The app as a server has it."""
    app = create_app(plane.services)
    add_metrics(app, plane.services)
    with httpx.Client(transport=EmbeddedTransport(lambda: app), base_url="http://test") as client:
        yield client


def samples(client: httpx.Client) -> dict[tuple[str, Labels], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_a_job_is_counted_from_its_start_to_its_end(
    deployed: ControlPlane, job: Job, measured: httpx.Client
) -> None:
    told = samples(measured)
    queued = (*HEART, ("state", "Queued"))
    assert told["batchpoint_jobs_open", queued] == 1
    assert told["batchpoint_build_info", (("version", "1.2.3"),)] == 1
    epoch = deployed.ledger.acquire_lease(job.name, "me", 0.0, 15)
    assert epoch is not None
    done = Progress(items_done=10, items_failed=2, rows_done=95, rows_failed=5, retries=4)
    deployed.ledger.finish(job.name, epoch, JobStatus(state=JobState.COMPLETED, progress=done))
    told = samples(measured)
    assert ("batchpoint_jobs_open", queued) not in told
    assert told["batchpoint_jobs_ended_total", (*HEART, ("state", "Completed"))] == 1
    assert told["batchpoint_items_total", (*HEART, ("result", "scored"))] == 8
    assert told["batchpoint_items_total", (*HEART, ("result", "failed"))] == 2
    assert told["batchpoint_rows_total", (*HEART, ("result", "scored"))] == 95
    assert told["batchpoint_rows_total", (*HEART, ("result", "failed"))] == 5
    assert told["batchpoint_retries_total", HEART] == 4


def test_requests_are_told_by_route_and_not_by_name(measured: httpx.Client) -> None:
    for name in ("ghost-1", "ghost-2"):
        assert measured.get(f"/jobs/{name}").status_code == 404
    assert measured.request("BREW", "/no/such/route").status_code == 404
    told = samples(measured)
    missing = (("method", "GET"), ("route", "/jobs/{job}"), ("status", "404"))
    assert told["batchpoint_http_request_seconds_count", missing] == 2
    unknown = (("method", "OTHER"), ("route", "(no route)"), ("status", "404"))
    assert told["batchpoint_http_request_seconds_count", unknown] == 1
