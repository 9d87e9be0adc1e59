"""Rows of the table of jobs: written, changed and read back as nouns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import TypeAdapter
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    bindparam,
    case,
    false,
    literal,
    or_,
    select,
    true,
)

from batchpoint.domain.errors import NotFound, Unavailable
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState, JobStatus
from batchpoint.domain.job_spec import JobSpec
from batchpoint.ledger.schema import job_tags, jobs, tag_rows, value_hash

_SPECS: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
LEASE_SECONDS_MAX = 600.0


def insert_jobs(
    connection: Connection,
    made: Sequence[Job],
    *,
    idempotency_key: str | None = None,
    body_hash: str | None = None,
) -> None:
    """Write new jobs, in this order; the key is that of the first one."""
    rows = [_new_row(job) for job in made]
    rows[0] |= {"idempotency_key": idempotency_key, "body_hash": body_hash}
    connection.execute(jobs.insert(), rows)
    tagged = {job.name: job.spec.tags for job in made if job.spec.tags}
    if tagged:
        found = connection.execute(
            select(jobs.c.name, jobs.c.sequence).where(jobs.c.name.in_(tagged))
        ).all()
        tags = [line for row in found for line in tag_rows(row.sequence, tagged[row.name])]
        connection.execute(job_tags.insert(), tags)


def _new_row(job: Job) -> dict[str, object]:
    parent = None if job.spec.step is None else job.spec.step.parent
    return {
        "name": job.name,
        "parent": parent,
        "type": job.spec.type,
        "state": job.status.state.value,
        # In the lists of its endpoint stands the pipeline, not each of its steps.
        "endpoint": (job.spec.endpoint_name or "") if parent is None else "",
        "deployment": (job.spec.deployment_name or "") if parent is None else "",
        "spec": job.spec.model_dump_json(),
        "status": job.status.model_dump_json(),
        "terminal": job.status.state in TERMINAL_STATES,
        "created_at": job.created_at.timestamp(),
        "version": job.version,
        "cancel_requested": False,
        "epoch": 0,
        "checkpoints": 0,
        "idempotency_key": None,
        "body_hash": None,
    }


def shown_state(status: JobStatus) -> ColumnElement[str]:
    """Return the state to be stored: a wish to cancel shows until the job has ended."""
    state = status.state.value
    if status.state in TERMINAL_STATES:
        return literal(state)
    wish = JobState.CANCEL_REQUESTED.value
    return case((jobs.c.cancel_requested == true(), wish), else_=state)


def store_children(connection: Connection, parent: str, children: Mapping[str, JobStatus]) -> None:
    """Store statuses of steps of a pipeline, whoever held them before."""
    wish = JobState.CANCEL_REQUESTED.value
    for ended in (False, True):
        rows = [
            {"this": name, "to": status.state.value, "said": status.model_dump_json()}
            for name, status in children.items()
            if (status.state in TERMINAL_STATES) == ended
        ]
        if not rows:
            continue
        to = bindparam("to", type_=jobs.c.state.type)
        state = to if ended else case((jobs.c.cancel_requested == true(), wish), else_=to)
        connection.execute(
            jobs.update()
            .where(jobs.c.name == bindparam("this"), jobs.c.parent == parent)
            .values(
                status=bindparam("said"),
                state=state,
                terminal=ended,
                version=jobs.c.version + 1,
            ),
            rows,
        )


def job_from(row: RowMapping) -> Job:
    """Read a row of the table as the noun."""
    status = JobStatus.model_validate_json(row["status"])
    # Whoever runs the job may not have seen the wish yet; everybody else should.
    if row["cancel_requested"] and status.state not in TERMINAL_STATES:
        status = status.model_copy(update={"state": JobState.CANCEL_REQUESTED})
    return Job(
        name=row["name"],
        spec=_SPECS.validate_json(row["spec"]),
        status=status,
        created_at=datetime.fromtimestamp(row["created_at"], UTC),
        version=row["version"],
    )


def open_roots() -> list[ColumnElement[bool]]:
    """The conditions for jobs that have not ended and are no steps of others."""
    return [jobs.c.terminal == false(), jobs.c.parent.is_(None)]


def lease_is_free(now: float) -> ColumnElement[bool]:
    """Tell whether nobody holds a job: its lease has run out, or is of a clock since set back."""
    return or_(
        jobs.c.lease_until.is_(None),
        jobs.c.lease_until <= now,
        jobs.c.lease_until > now + LEASE_SECONDS_MAX,
    )


def with_tags(tags: Mapping[str, str | None]) -> tuple[FromClause, ColumnElement[int]]:
    """Return the jobs that have all these tags (None: with any value), and their sequence.

    To be ordered by that column: then the tags are looked through, and not the jobs.
    """
    chosen: FromClause = jobs
    sequence: ColumnElement[int] = jobs.c.sequence
    for key, value in tags.items():
        each = job_tags.alias()
        having = (each.c.sequence == jobs.c.sequence) & (each.c.key == key)
        if value is not None:
            having &= each.c.value_hash == value_hash(value)
        chosen, sequence = chosen.join(each, having), each.c.sequence
    return chosen, sequence


def no_such_job(name: str) -> NotFound:
    """Say that there is no job of a name."""
    return NotFound(
        f"there is no job named {name!r}; `batchpoint job list` shows those there are",
        code="job_not_found",
    )


def lease_lost(job: str, epoch: int) -> Unavailable:
    """Say that a job's writer has been shut out."""
    return Unavailable(
        f"job {job!r} is no longer held under epoch {epoch}: another runner has taken it or it has "
        "ended; nothing was written",
        code="lease_lost",
    )
