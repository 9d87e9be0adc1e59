"""One database, its short transactions, and its troubles in our own words."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import weakref
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from batchpoint.domain.errors import Unavailable
from batchpoint.ledger import schema

BUSY_TIMEOUT_SECONDS = 30
CONNECTIONS_KEPT = 4
CONNECTIONS_MAX = 64


class Database:
    """Connections and transactions over SQLite; safe for many threads and many processes.

    A write is one short `BEGIN IMMEDIATE` transaction, durable (WAL, synchronous=FULL) when it
    returns. A `writing()` inside another one of the same thread joins it, so that several calls
    become one transaction. A forked child gets connections of its own.
    """

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`, making or migrating it first where needed.

        Raises: Unavailable (`ledger_unavailable`, `storage_full`).
        """
        self.path = path
        self._engine = _engine(path)
        self._thread = threading.local()
        self._turn = threading.RLock()
        _forget_connections_after_fork(self)
        self._prepare()

    def close(self) -> None:
        """Close all idle connections; the next call opens new ones."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Give a connection that sees one state of the ledger."""
        joined: Connection | None = getattr(self._thread, "connection", None)
        if joined is not None:
            yield joined
            return
        with self._in_our_words(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Give a connection whose changes are all kept at the end, or none of them."""
        joined: Connection | None = getattr(self._thread, "connection", None)
        if joined is not None:
            yield joined
            return
        # Threads queue here: SQLite's own waiting is by naps, which starves some of them.
        with self._turn, self._in_our_words(), self._engine.connect() as plain:
            connection = plain.execution_options(batchpoint_writes=True)
            self._thread.connection = connection
            try:
                with connection.begin():
                    yield connection
            finally:
                self._thread.connection = None

    def _forget_connections(self) -> None:
        self._engine.dispose(close=False)
        self._thread = threading.local()
        self._turn = threading.RLock()

    def _prepare(self) -> None:
        wanted = len(schema.MIGRATIONS)
        if self.path.exists() and self._version() == wanted:
            return
        # Turning WAL on does not wait for others as a transaction does; one process at a time.
        with self._in_our_words(OSError), self._lock_file() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_SECONDS)) as raw:
                raw.execute("PRAGMA journal_mode=WAL")
            with self.writing() as connection:
                found = schema.stored_version(connection)
                if found > wanted:
                    raise Unavailable(
                        f"the ledger is of version {found} and this batchpoint knows versions up "
                        f"to {wanted}; use the newer batchpoint that wrote it",
                        code="ledger_unavailable",
                        where=str(self.path),
                    )
                if found < wanted:
                    schema.migrate(connection)

    def _lock_file(self) -> TextIO:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.path.with_name(self.path.name + ".lock").open("w")

    def _version(self) -> int:
        with self.reading() as connection:
            try:
                return connection.execute(select(schema.schema_version.c.version)).scalar() or 0
            except DBAPIError as error:
                if "no such table" in str(error.orig):
                    return 0
                raise

    @contextmanager
    def _in_our_words(self, *also: type[Exception]) -> Generator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, sqlite3.Error, *also) as error:
            cause = str(error.orig if isinstance(error, DBAPIError) else error)
            if "database or disk is full" in cause or "No space left" in cause:
                raise Unavailable(
                    "the disk that holds the ledger is full; nothing was lost, and work goes on "
                    "once there is space: free some, or set BATCHPOINT_HOME to another disk",
                    code="storage_full",
                    where=str(self.path),
                ) from error
            raise Unavailable(
                f"the ledger cannot be used ({cause}); check that the file is readable and "
                "writable for this user and on a local disk, then try again",
                code="ledger_unavailable",
                where=str(self.path),
            ) from error


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite+pysqlite:///{path}",
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        pool_size=CONNECTIONS_KEPT,
        max_overflow=CONNECTIONS_MAX - CONNECTIONS_KEPT,
    )

    def connected(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        # The driver's own idea of when to begin is too late; `began` below does it.
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")

    def began(connection: Connection) -> None:
        writes = connection.get_execution_options().get("batchpoint_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", began)
    return engine


def _forget_connections_after_fork(database: Database) -> None:
    reference = weakref.ref(database)

    def in_child() -> None:
        living = reference()
        if living is not None:
            living._forget_connections()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    os.register_at_fork(after_in_child=in_child)
