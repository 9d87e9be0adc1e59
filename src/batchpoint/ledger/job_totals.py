"""What all jobs together have done, counted when each ends: figures that cost the same for ever."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, false, select

from batchpoint.domain.job import JobStatus
from batchpoint.ledger.database import Database
from batchpoint.ledger.schema import job_totals, jobs

_COUNTED = ("jobs", "items", "items_failed", "rows", "rows_failed", "retries", "seconds")


class Totals(NamedTuple):
    """Jobs of one deployment in one state, and what they did.

    `items` and `rows` include those that failed; `seconds` are from start to end (of open jobs 0).
    `workers` are loaded scoring workers, now.
    """

    endpoint: str
    deployment: str
    state: str
    jobs: int = 0
    items: int = 0
    items_failed: int = 0
    rows: int = 0
    rows_failed: int = 0
    retries: int = 0
    seconds: float = 0.0
    workers: int = 0


class JobTotals(Database):
    """Sums over jobs; a pipeline counts as one job, its steps are in its own figures."""

    def ended_and_open(self) -> tuple[list[Totals], list[Totals]]:
        """Return the sums of all jobs that ever ended, and those of the open ones, at one moment.

        A job is in one of the two; its figures only grow.
        """
        with self.reading() as connection:
            ended = [
                Totals(**row)
                for row in connection.execute(
                    select(job_totals).order_by(*job_totals.primary_key)
                ).mappings()
            ]
            found = connection.execute(
                select(jobs.c.endpoint, jobs.c.deployment, jobs.c.status)
                .where(jobs.c.terminal == false(), jobs.c.parent.is_(None))
                .order_by(jobs.c.endpoint, jobs.c.deployment)
            ).all()
        sums: dict[tuple[str, str, str], Totals] = {}
        for endpoint, deployment, text in found:
            one = _of(endpoint, deployment, JobStatus.model_validate_json(text))
            key = one[:3]
            sums[key] = _sum(sums[key], one) if key in sums else one
        return ended, list(sums.values())


def add_ended(connection: Connection, job: str, status: JobStatus) -> None:
    """Count a job that ends in this transaction."""
    endpoint, deployment = connection.execute(
        select(jobs.c.endpoint, jobs.c.deployment).where(jobs.c.name == job)
    ).one()
    counted = _of(endpoint, deployment, status)
    grown = connection.execute(
        job_totals.update()
        .where(
            job_totals.c.endpoint == endpoint,
            job_totals.c.deployment == deployment,
            job_totals.c.state == status.state.value,
        )
        .values({name: job_totals.c[name] + getattr(counted, name) for name in _COUNTED})
    )
    if not grown.rowcount:
        row = counted._asdict()
        del row["workers"]
        connection.execute(job_totals.insert().values(row))


def _of(endpoint: str, deployment: str, status: JobStatus) -> Totals:
    done = status.progress
    seconds = 0.0
    if status.started_at is not None and status.ended_at is not None:
        seconds = max(0.0, (status.ended_at - status.started_at).total_seconds())
    return Totals(
        endpoint=endpoint,
        deployment=deployment,
        state=status.state.value,
        jobs=1,
        items=done.items_done,
        items_failed=done.items_failed,
        rows=done.rows_done + done.rows_failed,
        rows_failed=done.rows_failed,
        retries=done.retries,
        seconds=seconds,
        workers=done.workers,
    )


def _sum(one: Totals, other: Totals) -> Totals:
    return Totals(
        *one[:3],
        jobs=one.jobs + other.jobs,
        items=one.items + other.items,
        items_failed=one.items_failed + other.items_failed,
        rows=one.rows + other.rows,
        rows_failed=one.rows_failed + other.rows_failed,
        retries=one.retries + other.retries,
        seconds=one.seconds + other.seconds,
        workers=one.workers + other.workers,
    )
