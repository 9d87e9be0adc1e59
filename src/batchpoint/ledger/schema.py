"""The ledger's tables and the numbered steps that bring an older ledger up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    false,
    inspect,
    select,
    text,
    true,
)

_ROWS_PER_READ = 500

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

# Endpoints, deployments (scope = their endpoint), computes, models and environments alike: a frozen
# document, beside it what it was resolved to. `ordinal` counts the versions of one name in order of
# creation; `number` is the version when it is one, so that the next can be given out.
resources = Table(
    "resources",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("scope", String(64), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("version", String(255), primary_key=True),
    Column("ordinal", Integer, nullable=False),
    Column("number", Integer),
    Column("document", Text, nullable=False),
    Column("resolution", Text),
    Column("content_hash", String(64)),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("archived", Boolean, nullable=False, server_default=false()),
    Index("resources_by_content", "kind", "name", "content_hash"),
)

# A step of a pipeline is a job with a `parent`; its `endpoint` and `deployment` are empty, so that
# it stands in no list but its parent's. `state` is what people see: with a wish to cancel in it.
jobs = Table(
    "jobs",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("endpoint", String(32), nullable=False),
    Column("deployment", String(32), nullable=False),
    Column("spec", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("terminal", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("version", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("lease_owner", String(255)),
    Column("lease_until", Float),
    Column("checkpoints", Integer, nullable=False),
    Column("idempotency_key", String(255)),
    Column("body_hash", String(64)),
    Column("parent", String(255)),
    Column("type", String(16), nullable=False, server_default="score"),
    Column("state", String(32), nullable=False, server_default="Queued"),
    UniqueConstraint("endpoint", "idempotency_key", name="jobs_idempotent"),
    Index("jobs_of_endpoint", "endpoint", "sequence"),
    Index("jobs_of_deployment", "endpoint", "deployment", "sequence"),
    # State and type are there so that a list can pass over jobs without reading them.
    Index("jobs_of_parent", "parent", "sequence", "state", "type"),
    sqlite_autoincrement=True,
)
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job", String(255), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

# Sums over the jobs that have ended, so that counting them never means reading them.
job_totals = Table(
    "job_totals",
    metadata,
    Column("endpoint", String(32), primary_key=True),
    Column("deployment", String(32), primary_key=True),
    Column("state", String(32), primary_key=True),
    Column("jobs", Integer, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("items_failed", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("rows_failed", BigInteger, nullable=False),
    Column("retries", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
)

# The outbox: one message for each job that asked for one. `since` is when it became due first.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job", String(255), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("private_allowed", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("claimed", Boolean, nullable=False),
    Column("due_at", Float),
    Column("since", Float),
    Column("said", Text),
    Column("ended_at", Float),
)


# By key, value and age, so that the newest jobs with a tag are found without looking at others.
# Values are told by their hash: an index does not hold long ones everywhere.
job_tags = Table(
    "job_tags",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value_hash", String(64), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Index("job_tags_by_age", "key", "sequence"),
)

# What a deterministic step computed: the key names component and content of inputs, the job is the
# one that did it last.
step_results = Table(
    "step_results",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("job", String(255), nullable=False),
)


def value_hash(value: str) -> str:
    """Return what stands for the value of a tag."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def tag_rows(sequence: int, tags: Mapping[str, str]) -> list[dict[str, object]]:
    """Return the rows for the tags of one job."""
    return [
        {"sequence": sequence, "key": key, "value_hash": value_hash(value)}
        for key, value in tags.items()
    ]


def _first_tables(connection: Connection) -> None:
    metadata.create_all(connection)
    # Few jobs are open at a time: finding them must not cost more as finished ones pile up. Written
    # as text, because an `Index` with a condition imports all SQLAlchemy knows of each database.
    no = false().compile(dialect=connection.dialect)
    connection.execute(
        text(f"CREATE INDEX jobs_open ON jobs (sequence, lease_until) WHERE terminal = {no}")
    )


def _archived_assets(connection: Connection) -> None:
    # The first step makes the tables as they are now, so that a new ledger has the column already.
    if "archived" not in {
        column["name"] for column in inspect(connection).get_columns("resources")
    }:
        no = false().compile(dialect=connection.dialect)
        connection.execute(
            text(f"ALTER TABLE resources ADD COLUMN archived BOOLEAN DEFAULT {no} NOT NULL")
        )


def _job_totals(connection: Connection) -> None:
    """Count from now on; jobs that ended under an earlier version are in no sum."""
    job_totals.create(connection, checkfirst=True)


def _deliveries(connection: Connection) -> None:
    deliveries.create(connection, checkfirst=True)
    connection.execute(
        text(
            "CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at) "
            "WHERE state = 'pending'"
        )
    )


def _pipelines(connection: Connection) -> None:
    """Steps as jobs with a parent, tags that can be searched, and what steps computed."""
    # Asked one by one: the first step makes the tables as they are now.
    there = {column["name"] for column in inspect(connection).get_columns("jobs")}
    for name, kind in (
        ("parent", "VARCHAR(255)"),
        ("type", "VARCHAR(16) DEFAULT 'score' NOT NULL"),
        ("state", "VARCHAR(32) DEFAULT 'Queued' NOT NULL"),
    ):
        if name not in there:
            connection.execute(text(f"ALTER TABLE jobs ADD COLUMN {name} {kind}"))
    job_tags.create(connection, checkfirst=True)
    step_results.create(connection, checkfirst=True)
    _fill_states_and_tags(connection)
    yes, no = (each.compile(dialect=connection.dialect) for each in (true(), false()))
    still_open = f"terminal = {no}"
    open_in = f"jobs_open_in ON jobs (parent, sequence, lease_until) WHERE {still_open}"
    wish = f"cancel_requested = {yes}"
    for statement in (
        "CREATE INDEX IF NOT EXISTS jobs_of_parent ON jobs (parent, sequence, state, type)",
        "DROP INDEX IF EXISTS jobs_open",
        f"CREATE INDEX IF NOT EXISTS {open_in}",
        f"CREATE INDEX IF NOT EXISTS jobs_to_cancel ON jobs (parent) WHERE {still_open} AND {wish}",
    ):
        connection.execute(text(statement))


def _fill_states_and_tags(connection: Connection) -> None:
    last = 0
    columns = (
        jobs.c.sequence, jobs.c.spec, jobs.c.status, jobs.c.cancel_requested, jobs.c.terminal,
    )  # fmt: skip
    chosen = select(*columns).order_by(jobs.c.sequence).limit(_ROWS_PER_READ)
    while rows := connection.execute(chosen.where(jobs.c.sequence > last)).all():
        last = rows[-1].sequence
        states: list[dict[str, object]] = []
        tags: list[dict[str, object]] = []
        for row in rows:
            state = json.loads(row.status)["state"]
            if row.cancel_requested and not row.terminal:
                state = "CancelRequested"
            states.append({"this": row.sequence, "state": state})
            tags += tag_rows(row.sequence, json.loads(row.spec).get("tags", {}))
        connection.execute(jobs.update().where(jobs.c.sequence == bindparam("this")), states)
        if tags:
            connection.execute(job_tags.insert(), tags)


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _first_tables,
    _archived_assets,
    _job_totals,
    _deliveries,
    _pipelines,
)
"""Step n brings a ledger from version n to n + 1; a step, once released, never changes."""


def stored_version(connection: Connection) -> int:
    """Return the version of the tables that are there; 0 when there are none."""
    if not inspect(connection).has_table(schema_version.name):
        return 0
    return connection.execute(select(schema_version.c.version)).scalar() or 0


def migrate(connection: Connection) -> None:
    """Bring the tables up to date inside the connection's transaction."""
    version = stored_version(connection)
    for step in MIGRATIONS[version:]:
        step(connection)
    connection.execute(schema_version.delete())
    connection.execute(schema_version.insert().values(version=len(MIGRATIONS)))
