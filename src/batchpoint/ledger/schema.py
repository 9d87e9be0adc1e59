"""The ledger's tables and the numbered steps that bring an older ledger up to date."""

from __future__ import annotations

from collections.abc import Callable

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
    false,
    inspect,
    select,
    text,
)

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
    UniqueConstraint("endpoint", "idempotency_key", name="jobs_idempotent"),
    Index("jobs_of_endpoint", "endpoint", "sequence"),
    Index("jobs_of_deployment", "endpoint", "deployment", "sequence"),
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


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _first_tables,
    _archived_assets,
    _job_totals,
    _deliveries,
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
