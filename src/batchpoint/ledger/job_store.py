"""Jobs in the ledger: made once, leased to one runner at a time, written only by its holder."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, false, func, select, true
from sqlalchemy.exc import IntegrityError

from batchpoint.domain.errors import Conflict
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState, JobStatus
from batchpoint.ledger.database import Database
from batchpoint.ledger.delivery_store import Notice, add_notice, release_notice, with_deliveries
from batchpoint.ledger.job_rows import (
    insert_jobs,
    job_from,
    lease_is_free,
    lease_lost,
    no_such_job,
    open_roots,
    shown_state,
    store_children,
    with_tags,
)
from batchpoint.ledger.job_totals import add_ended
from batchpoint.ledger.schema import checkpoints, jobs

CHECKPOINTS_PER_READ = 64
_NONE: Mapping[str, JobStatus] = {}


class Renewed(NamedTuple):
    """What the holder of a lease learns when it renews it."""

    cancel_requested: bool


class JobStore(Database):
    """The jobs. Times are seconds since 1970 in UTC and come in as arguments.

    Every write to a job that runs carries the `epoch` its writer got with the lease; once somebody
    else has taken the lease, such a write changes nothing and raises Unavailable (`lease_lost`).
    """

    def create_job(
        self,
        job: Job,
        idempotency_key: str | None,
        body_hash: str | None,
        notice: Notice | None = None,
        children: Sequence[Job] = (),
    ) -> Job:
        """Record a new job; with a key already used on this endpoint, return the job it made.

        `notice` becomes due in the transaction in which the job ends. `children` are the steps of a
        pipeline (`spec.step`), in the order of its graph; all are recorded, or nothing.
        Raises: Conflict (`idempotency_conflict`: the key came with another body; `conflict`: there
        is a job of this name).
        """
        endpoint = job.spec.endpoint_name or ""
        try:
            with self.writing() as connection:
                known = _job_of_key(connection, endpoint, idempotency_key, body_hash)
                if known is not None:
                    return known
                insert_jobs(
                    connection,
                    [job, *children],
                    idempotency_key=idempotency_key,
                    body_hash=body_hash,
                )
                if notice is not None:
                    add_notice(connection, job.name, notice)
                return with_deliveries(connection, [job])[0]
        except IntegrityError as error:
            taken = next(iter(self.job_versions([job.name])), None) or next(
                iter(self.job_versions([child.name for child in children])), job.name
            )
            raise Conflict(
                f"there is already a job named {taken!r}; choose another name or leave it out",
                where="job_name",
            ) from error

    def job_of_key(
        self, endpoint: str, idempotency_key: str | None, body_hash: str | None
    ) -> Job | None:
        """Return the job that a key made on an endpoint, if it made one.

        Raises: Conflict (`idempotency_conflict`) when the key came with another body.
        """
        with self.reading() as connection:
            return _job_of_key(connection, endpoint, idempotency_key, body_hash)

    def get_job(self, name: str) -> Job:
        """Return a job. Raises: NotFound (`job_not_found`)."""
        with self.reading() as connection:
            row = connection.execute(select(jobs).where(jobs.c.name == name)).mappings().first()
            if row is None:
                raise no_such_job(name)
            return with_deliveries(connection, [job_from(row)])[0]

    def job_version(self, name: str) -> int:
        """Return the number that grows with each change of a job's status; cheap.

        Raises: NotFound (`job_not_found`).
        """
        with self.reading() as connection:
            version = connection.execute(select(jobs.c.version).where(jobs.c.name == name)).scalar()
        if version is None:
            raise no_such_job(name)
        return version

    def job_versions(self, names: Collection[str]) -> dict[str, int]:
        """Return `job_version` of those of the jobs that exist."""
        with self.reading() as connection:
            return {
                row.name: row.version
                for row in connection.execute(
                    select(jobs.c.name, jobs.c.version).where(jobs.c.name.in_(names))
                )
            }

    def list_jobs(
        self,
        endpoint: str | None = None,
        deployment: str | None = None,
        *,
        parent: str | None = None,
        states: Collection[JobState] | None = None,
        tags: Mapping[str, str | None] | None = None,
        job_type: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Job]:
        """Return up to `limit` jobs, newest first, beginning after the job named `after`.

        Steps are listed with their `parent` only, in the order of its graph. `states` are those
        that people see, `tags` are all to be there (None: with any value).
        Raises: NotFound (`job_not_found`) when there is no job `after`.
        """
        equal = (
            (jobs.c.endpoint, endpoint),
            (jobs.c.deployment, deployment),
            (jobs.c.type, job_type),
        )
        conditions = [column == wanted for column, wanted in equal if wanted is not None]
        if parent is not None or not (endpoint or tags):
            conditions.append(jobs.c.parent == parent)
        elif not endpoint:  # with an endpoint there are no steps; with tags, these lead to the jobs
            conditions.append(func.coalesce(jobs.c.parent, "") == "")
        if states is not None:
            conditions.append(jobs.c.state.in_([state.value for state in states]))
        chosen, place = with_tags(tags or {})
        with self.reading() as connection:
            if after is not None:
                sequence = connection.execute(
                    select(jobs.c.sequence).where(jobs.c.name == after)
                ).scalar()
                if sequence is None:
                    raise no_such_job(after)
                conditions.append(place < sequence if parent is None else place > sequence)
            rows = (
                connection.execute(
                    select(jobs)
                    .select_from(chosen)
                    .where(*conditions)
                    .order_by(place.desc() if parent is None else place)
                    .limit(limit)
                )
                .mappings()
                .all()
            )
            return with_deliveries(connection, [job_from(row) for row in rows])

    def open_jobs(
        self, endpoint: str | None = None, deployment: str | None = None, *, limit: int
    ) -> list[str]:
        """Return the names of up to `limit` jobs that have not ended, oldest first; no steps."""
        conditions = open_roots()
        if endpoint is not None:
            conditions.append(jobs.c.endpoint == endpoint)
        if deployment is not None:
            conditions.append(jobs.c.deployment == deployment)
        return self._names(conditions, limit)

    def adoptable_jobs(self, now: float, limit: int) -> list[str]:
        """Return the names of up to `limit` jobs that nobody holds and that have not ended.

        Steps are run by whoever holds their pipeline.
        """
        return self._names([*open_roots(), lease_is_free(now)], limit)

    def acquire_lease(
        self, job: str, owner: str, now: float, lease_seconds: float, *, force: bool = False
    ) -> int | None:
        """Take the right to write to a job until `now + lease_seconds`; return its new epoch.

        None: the job has ended, or somebody holds it (unless `force`). Writers with an older epoch
        are shut out from this moment. Raises: NotFound (`job_not_found`).
        """
        free = true() if force else lease_is_free(now)
        with self.writing() as connection:
            epoch = connection.execute(
                jobs.update()
                .where(jobs.c.name == job, jobs.c.terminal == false(), free)
                .values(epoch=jobs.c.epoch + 1, lease_owner=owner, lease_until=now + lease_seconds)
                .returning(jobs.c.epoch)
            ).scalar()
            if epoch is None and not _exists(connection, job):
                raise no_such_job(job)
        return epoch

    def renew(
        self,
        job: str,
        epoch: int,
        now: float,
        lease_seconds: float,
        *,
        status: JobStatus,
        records: bytes | None = None,
    ) -> Renewed:
        """Extend the lease, store the status and append `records` as a checkpoint, all or nothing.

        Raises: Unavailable (`lease_lost`) when another has taken the job or it has ended.
        """
        with self.writing() as connection:
            row = connection.execute(
                jobs.update()
                .where(jobs.c.name == job, jobs.c.epoch == epoch, jobs.c.terminal == false())
                .values(
                    lease_until=now + lease_seconds,
                    status=status.model_dump_json(),
                    state=shown_state(status),
                    version=jobs.c.version + 1,
                    checkpoints=jobs.c.checkpoints + (records is not None),
                )
                .returning(jobs.c.cancel_requested, jobs.c.checkpoints)
            ).first()
            if row is None:
                raise lease_lost(job, epoch)
            if records is not None:
                connection.execute(
                    checkpoints.insert().values(
                        job=job, seq=row.checkpoints - 1, epoch=epoch, body=records
                    )
                )
        return Renewed(row.cancel_requested)

    def checkpoints(self, job: str) -> Iterator[bytes]:
        """Yield the checkpoints of a job in the order in which they were appended."""
        seq = -1
        while True:
            with self.reading() as connection:
                rows: Sequence[tuple[int, bytes]] = [
                    (row.seq, row.body)
                    for row in connection.execute(
                        select(checkpoints.c.seq, checkpoints.c.body)
                        .where(checkpoints.c.job == job, checkpoints.c.seq > seq)
                        .order_by(checkpoints.c.seq)
                        .limit(CHECKPOINTS_PER_READ)
                    )
                ]
            if not rows:
                return
            for seq, body in rows:  # noqa: B007  # the last one is where the next read begins
                yield body

    def finish(
        self, job: str, epoch: int, status: JobStatus, *, children: Mapping[str, JobStatus] = _NONE
    ) -> None:
        """Store the last status of a job, whose state is terminal, and give the lease back.

        With it, or not at all, the last statuses of steps of a pipeline are stored (`children`).
        Raises: Unavailable (`lease_lost`) when another has taken the job or it has ended.
        """
        assert status.state in TERMINAL_STATES, status.state
        with self.writing() as connection:
            row = connection.execute(
                jobs.update()
                .where(jobs.c.name == job, jobs.c.epoch == epoch, jobs.c.terminal == false())
                .values(
                    status=status.model_dump_json(),
                    state=status.state.value,
                    terminal=True,
                    version=jobs.c.version + 1,
                    lease_owner=None,
                    lease_until=None,
                )
                .returning(jobs.c.parent)
            ).first()
            if row is None:
                raise lease_lost(job, epoch)
            store_children(connection, job, children)
            if row.parent is None:  # a step is counted with its pipeline
                add_ended(connection, job, status)
            release_notice(connection, job, status.ended_at.timestamp() if status.ended_at else 0.0)

    def release(self, job: str, epoch: int) -> None:
        """Give a lease back, so that another may take the job at once; nothing if it is lost."""
        with self.writing() as connection:
            connection.execute(
                jobs.update()
                .where(jobs.c.name == job, jobs.c.epoch == epoch)
                .values(lease_owner=None, lease_until=None)
            )

    def request_cancel(self, job: str) -> Job:
        """Ask whoever runs a job to stop it; a job that has ended stays as it is.

        Whoever runs a pipeline hears of its steps by `renew_pipeline`.

        Raises: NotFound (`job_not_found`).
        """
        with self.writing() as connection:
            connection.execute(
                jobs.update()
                .where(
                    jobs.c.name == job,
                    jobs.c.terminal == false(),
                    jobs.c.cancel_requested == false(),
                )
                .values(
                    cancel_requested=True,
                    state=JobState.CANCEL_REQUESTED.value,
                    version=jobs.c.version + 1,
                )
            )
            return self.get_job(job)

    def lapse_leases(self, owner_prefix: str) -> list[str]:
        """Free the leases of owners whose name begins so (a supervisor known to be dead)."""
        with self.writing() as connection:
            return list(
                connection.execute(
                    jobs.update()
                    .where(
                        jobs.c.terminal == false(),
                        jobs.c.lease_owner.startswith(owner_prefix, autoescape=True),
                    )
                    .values(lease_owner=None, lease_until=None)
                    .returning(jobs.c.name)
                ).scalars()
            )

    def count_open_jobs(self) -> int:
        """Return how many jobs have not ended; a pipeline counts as one."""
        with self.reading() as connection:
            return connection.execute(
                select(func.count()).select_from(jobs).where(*open_roots())
            ).scalar_one()

    def _names(self, conditions: Sequence[ColumnElement[bool]], limit: int) -> list[str]:
        with self.reading() as connection:
            return list(
                connection.execute(
                    select(jobs.c.name).where(*conditions).order_by(jobs.c.sequence).limit(limit)
                ).scalars()
            )


def _exists(connection: Connection, job: str) -> bool:
    return connection.execute(select(jobs.c.sequence).where(jobs.c.name == job)).first() is not None


def _job_of_key(
    connection: Connection, endpoint: str, key: str | None, body_hash: str | None
) -> Job | None:
    if key is None:
        return None
    row = (
        connection.execute(
            select(jobs).where(jobs.c.endpoint == endpoint, jobs.c.idempotency_key == key)
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    if row["body_hash"] != body_hash:
        raise Conflict(
            f"the idempotency key {key!r} was used before with another body, for job "
            f"{row['name']!r}; use a new key for a new job",
            code="idempotency_conflict",
            where="Idempotency-Key",
        )
    return with_deliveries(connection, [job_from(row)])[0]
