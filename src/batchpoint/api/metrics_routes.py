"""The route `/metrics`: what jobs, workers and requests do, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from batchpoint.api.request_metrics import RequestMetrics
from batchpoint.api.services import Services, problems
from batchpoint.ledger.ledger import Ledger, Totals

_DEPLOYMENT = ("endpoint", "deployment")


class JobMetrics(Collector):
    """Reads the ledger when it is asked: every server of one ledger tells the same."""

    def __init__(self, ledger: Ledger, version: str) -> None:
        """Read from a ledger; `version` is batchpoint's."""
        self._ledger = ledger
        self._version = version

    def describe(self) -> Iterable[Metric]:
        """Nothing is read before somebody asks."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Read the figures of this moment."""
        ended, still_open = self._ledger.ended_and_open()
        build = GaugeMetricFamily(
            "batchpoint_build_info", "Which batchpoint this is.", labels=("version",)
        )
        build.add_metric((self._version,), 1)
        yield build
        yield _ended(ended)
        yield _open(still_open)
        yield from _counters((*ended, *still_open))
        workers = GaugeMetricFamily(
            "batchpoint_workers", "Scoring workers that have loaded.", labels=_DEPLOYMENT
        )
        for key, ones in _by_deployment(still_open).items():
            workers.add_metric(key, sum(one.workers for one in ones))
        yield workers


def _ended(ended: Sequence[Totals]) -> Metric:
    family = CounterMetricFamily(
        "batchpoint_jobs_ended", "Jobs that have ended.", labels=(*_DEPLOYMENT, "state")
    )
    for one in ended:
        family.add_metric(one[:3], one.jobs)
    return family


def _open(still_open: Sequence[Totals]) -> Metric:
    family = GaugeMetricFamily(
        "batchpoint_jobs_open",
        "Jobs that have not ended.",
        labels=(*_DEPLOYMENT, "state"),
    )
    for one in still_open:
        family.add_metric(one[:3], one.jobs)
    return family


def _counters(all_jobs: Sequence[Totals]) -> Iterable[Metric]:
    """Sums over jobs, open ones included, so that a rate moves while a job runs."""
    items = CounterMetricFamily(
        "batchpoint_items", "Items (input files) done.", labels=(*_DEPLOYMENT, "result")
    )
    rows = CounterMetricFamily("batchpoint_rows", "Rows done.", labels=(*_DEPLOYMENT, "result"))
    retries = CounterMetricFamily(
        "batchpoint_retries", "Attempts at mini-batches after the first.", labels=_DEPLOYMENT
    )
    seconds = CounterMetricFamily(
        "batchpoint_job_seconds", "Time from start to end of ended jobs.", labels=_DEPLOYMENT
    )
    for key, ones in _by_deployment(all_jobs).items():
        failed, failed_rows = (sum(o.items_failed for o in ones), sum(o.rows_failed for o in ones))
        items.add_metric((*key, "scored"), max(0, sum(o.items for o in ones) - failed))
        items.add_metric((*key, "failed"), failed)
        rows.add_metric((*key, "scored"), max(0, sum(o.rows for o in ones) - failed_rows))
        rows.add_metric((*key, "failed"), failed_rows)
        retries.add_metric(key, sum(o.retries for o in ones))
        seconds.add_metric(key, sum(o.seconds for o in ones))
    return items, rows, retries, seconds


def _by_deployment(found: Iterable[Totals]) -> dict[tuple[str, str], list[Totals]]:
    grouped: dict[tuple[str, str], list[Totals]] = {}
    for one in found:
        grouped.setdefault((one.endpoint, one.deployment), []).append(one)
    return grouped


def add_metrics(app: FastAPI, services: Services) -> None:
    """Have a server measure itself and tell it at /metrics."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    app.include_router(metrics_routes(services, registry))
    app.add_middleware(RequestMetrics, registry=registry)


def metrics_routes(services: Services, registry: CollectorRegistry) -> APIRouter:
    """Make /metrics, which tells what is in a registry and in the ledger."""
    router = APIRouter(tags=["service"])
    registry.register(JobMetrics(services.ledger, services.version))

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={
            **problems(),
            200: {
                "description": "Metrics in Prometheus' text format.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
        },
    )
    def get_metrics() -> Response:
        """Tell counts of jobs, items, rows, retries, workers and requests, for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
