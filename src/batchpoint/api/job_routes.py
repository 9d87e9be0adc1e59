"""Routes of jobs: make one of a pipeline, list, show, wait, cancel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from batchpoint.api.invoke_routes import IdempotencyKey, RepeatabilityId
from batchpoint.api.job_watch import JobWatch
from batchpoint.api.json_bodies import JsonRoute
from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.domain import limits
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState
from batchpoint.domain.pipeline import PipelineJob

_TAGS_MAX = 20


_States = Annotated[
    list[JobState] | None, Query(description="Only in this state, or in one of several.")
]
_Tags = Annotated[
    list[str] | None,
    Query(
        max_length=_TAGS_MAX,
        description="Only with this tag: `key`, or `key=value`; several: with all of them.",
    ),
]
_Type = Annotated[
    Literal["score", "command", "pipeline"] | None, Query(description="Only of this type.")
]


def job_routes(services: Services) -> APIRouter:
    """Make the routes under /jobs."""
    router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JsonRoute)
    ledger = services.ledger
    watch = JobWatch(ledger.job_versions)

    _add_listing(router, services)
    _add_creation(router, services)

    @router.get("/{job}", summary="Show a job, or wait for it to change", responses=problems(404))
    async def get_job(
        job: str,
        wait_seconds: Annotated[
            float,
            Query(
                ge=0,
                le=limits.LONG_POLL_SECONDS_MAX,
                description="Answer at the latest after so long; 0: at once.",
            ),
        ] = 0,
        after_version: Annotated[
            int, Query(ge=-1, description="Wait until `version` is greater than this.")
        ] = -1,
    ) -> Job:
        """Show a job; with `wait_seconds` and `after_version`, as soon as it has changed.

        A job that has ended is shown at once.
        """
        found = await run_in_threadpool(ledger.get_job, job)
        if (
            wait_seconds
            and found.version <= after_version
            and found.status.state not in TERMINAL_STATES
        ):
            # Whoever waits wants it to go on: its supervisor may have died since it was invoked.
            await run_in_threadpool(services.invocations.wake)
            if await watch.changed(job, after_version, wait_seconds):
                found = await run_in_threadpool(ledger.get_job, job)
        return found

    @router.post("/{job}/cancel", summary="Cancel a job", responses=problems(404))
    def cancel_job(job: str) -> Job:
        """Ask for a job to be stopped; one that has ended stays as it is."""
        return services.invocations.cancel(job)

    return router


def _add_listing(router: APIRouter, services: Services) -> None:
    ledger = services.ledger

    @router.get("", summary="List jobs", responses=problems(404))
    def list_jobs(
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
        endpoint: Annotated[str | None, Query(description="Only of this endpoint.")] = None,
        deployment: Annotated[str | None, Query(description="Only of this deployment.")] = None,
        parent: Annotated[
            str | None,
            Query(description="The steps of this pipeline job, in the order of its graph."),
        ] = None,
        status: _States = None,
        tag: _Tags = None,
        type: _Type = None,  # noqa: A002  # the field's word
    ) -> Page[Job]:
        """List jobs, newest first; steps of pipelines are listed with their `parent` only."""
        if parent is not None:
            ledger.get_job(parent)
        tags = _tags(tag or ())
        if tags is None:
            return Page(value=[])
        found = ledger.list_jobs(
            endpoint,
            deployment,
            parent=parent,
            states=status,
            tags=tags,
            job_type=type,
            limit=limit,
            after=after,
        )
        return page(found, limit, lambda job: job.name)


def _add_creation(router: APIRouter, services: Services) -> None:
    @router.post(
        "",
        summary="Run a pipeline once",
        name="create_job",
        status_code=201,
        responses=problems(404, 409, 507),
    )
    def create_job(
        body: PipelineJob,
        response: Response,
        idempotency_key: IdempotencyKey = None,
        repeatability_request_id: RepeatabilityId = None,
    ) -> Job:
        """Start a pipeline job without an endpoint, and answer at once.

        Its whole graph is checked now, every finding is told in `errors`; environments that are
        new are built before the answer comes.
        """
        key = idempotency_key or repeatability_request_id
        job = services.invocations.create_job(body, key, services.log)
        response.headers["Location"] = f"/jobs/{job.name}"
        return job


def _tags(given: Iterable[str]) -> dict[str, str | None] | None:
    """Read `key` and `key=value`; None: no job can have all of that."""
    found: dict[str, str | None] = {}
    for text in given:
        key, mark, value = text.partition("=")
        known = found.get(key)
        if mark and known is not None and known != value:
            return None
        found[key] = value if mark else known
    return found
