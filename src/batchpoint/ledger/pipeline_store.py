"""Pipelines in the ledger: their steps are jobs that whoever holds the pipeline writes to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, false, select, true

from batchpoint.domain.job import Job, JobStatus
from batchpoint.ledger.database import Database
from batchpoint.ledger.job_rows import job_from, lease_lost, shown_state, store_children
from batchpoint.ledger.schema import jobs, step_results


class PipelineRenewed(NamedTuple):
    """What the holder of a pipeline learns when it renews its lease.

    `canceled_children` are those of its steps that somebody wants stopped and that have not ended.
    """

    cancel_requested: bool
    canceled_children: frozenset[str]


class PipelineStore(Database):
    """What pipelines need besides what every job does."""

    def child_jobs(self, parent: str) -> list[Job]:
        """Return all steps of a pipeline, in the order of its graph; [] for any other job."""
        with self.reading() as connection:
            rows = connection.execute(
                select(jobs).where(jobs.c.parent == parent).order_by(jobs.c.sequence)
            ).mappings()
            return [job_from(row) for row in rows]

    def child_statuses(self, names: Collection[str]) -> dict[str, JobStatus]:
        """Return the statuses of some jobs as whoever runs them has stored them; cheap."""
        with self.reading() as connection:
            rows = connection.execute(
                select(jobs.c.name, jobs.c.status).where(jobs.c.name.in_(names))
            )
            return {row.name: JobStatus.model_validate_json(row.status) for row in rows}

    def renew_pipeline(
        self,
        parent: str,
        epoch: int,
        now: float,
        lease_seconds: float,
        *,
        status: JobStatus,
        children: Mapping[str, JobStatus],
        results: Mapping[str, str],
    ) -> PipelineRenewed:
        """Extend the lease and store the statuses of the pipeline and of some steps, or nothing.

        `results` maps keys of computations to the step's job that has done them now.
        Raises: Unavailable (`lease_lost`) when another has taken the pipeline or it has ended.
        """
        with self.writing() as connection:
            wish = connection.execute(
                jobs.update()
                .where(jobs.c.name == parent, jobs.c.epoch == epoch, jobs.c.terminal == false())
                .values(
                    lease_until=now + lease_seconds,
                    status=status.model_dump_json(),
                    state=shown_state(status),
                    version=jobs.c.version + 1,
                )
                .returning(jobs.c.cancel_requested)
            ).scalar()
            if wish is None:
                raise lease_lost(parent, epoch)
            store_children(connection, parent, children)
            _store_results(connection, results)
            canceled = connection.execute(
                select(jobs.c.name).where(
                    jobs.c.parent == parent,
                    jobs.c.terminal == false(),
                    jobs.c.cancel_requested == true(),
                )
            ).scalars()
            return PipelineRenewed(wish, frozenset(canceled))

    def earlier_result(self, key: str) -> str | None:
        """Return the name of the job that did a computation last, or None."""
        with self.reading() as connection:
            return connection.execute(
                select(step_results.c.job).where(step_results.c.key == key)
            ).scalar()


def _store_results(connection: Connection, results: Mapping[str, str]) -> None:
    if results:
        connection.execute(step_results.delete().where(step_results.c.key.in_(results)))
        connection.execute(
            step_results.insert(), [{"key": key, "job": job} for key, job in results.items()]
        )
