"""Routes of jobs: list, show, wait, cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from batchpoint.api.job_watch import JobWatch
from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.domain import limits
from batchpoint.domain.job import TERMINAL_STATES, Job


def job_routes(services: Services) -> APIRouter:
    """Make the routes under /jobs."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])
    ledger = services.ledger
    watch = JobWatch(ledger.job_versions)

    @router.get("", summary="List jobs", responses=problems(404))
    def list_jobs(
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
        endpoint: Annotated[str | None, Query(description="Only of this endpoint.")] = None,
        deployment: Annotated[str | None, Query(description="Only of this deployment.")] = None,
    ) -> Page[Job]:
        """List jobs, newest first."""
        found = ledger.list_jobs(endpoint, deployment, limit=limit, after=after)
        return page(found, limit, lambda job: job.name)

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
