"""Endpoints, deployments, computes and versioned assets in the ledger, as frozen documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, false, func, select

from batchpoint.ledger.database import Database
from batchpoint.ledger.schema import resources

Kind = Literal[
    "endpoint",
    "deployment",
    "compute",
    "datastore",
    "model",
    "environment",
    "data",
    "code",
    "component",
]
ANONYMOUS = "anonymous"
"""Name of assets that were given none; their version is the hash of their content."""


class Record(NamedTuple):
    """One stored resource: its document, what it was resolved to, and the hash of its content.

    An `archived` version of an asset is found by its number only.
    """

    scope: str
    name: str
    version: str
    document: str
    resolution: str | None
    content_hash: str | None
    created_at: float
    updated_at: float
    archived: bool = False


class ResourceStore(Database):
    """The resources. A deployment's `scope` is its endpoint; a thing without versions has ""."""

    def get_resource(
        self, kind: Kind, name: str, *, scope: str = "", version: str = ""
    ) -> Record | None:
        """Return one resource, or None."""
        return self._first(kind, scope, resources.c.name == name, resources.c.version == version)

    def latest_resource(self, kind: Kind, name: str) -> Record | None:
        """Return the version of an asset that was made last and is not archived, or None."""
        return self._first(kind, "", resources.c.name == name, resources.c.archived == false())

    def put_resource(
        self,
        kind: Kind,
        name: str,
        document: str,
        *,
        scope: str = "",
        version: str = "",
        resolution: str | None = None,
        now: float,
    ) -> bool:
        """Create or replace a thing without versions, or one version; return whether it is new."""
        with self.writing() as connection:
            changed = connection.execute(
                resources.update()
                .where(
                    resources.c.kind == kind,
                    resources.c.scope == scope,
                    resources.c.name == name,
                    resources.c.version == version,
                )
                .values(document=document, resolution=resolution, updated_at=now)
            )
            if changed.rowcount:
                return False
            connection.execute(
                resources.insert().values(
                    kind=kind,
                    scope=scope,
                    name=name,
                    version=version,
                    ordinal=0,
                    document=document,
                    resolution=resolution,
                    created_at=now,
                    updated_at=now,
                )
            )
            return True

    def add_version(
        self,
        kind: Kind,
        name: str,
        version: str | None,
        document: Callable[[str], str],
        *,
        content_hash: str,
        now: float,
    ) -> Record:
        """Add a version of an asset, numbered by the ledger when None; `document` is told which.

        The caller makes sure that a given version is new, in the same transaction.
        """
        with self.writing() as connection:
            mine = (resources.c.kind == kind, resources.c.scope == "", resources.c.name == name)
            number, ordinal = connection.execute(
                select(func.max(resources.c.number), func.max(resources.c.ordinal)).where(*mine)
            ).one()
            if version is None:
                version = str((number or 0) + 1)
            text = document(version)
            connection.execute(
                resources.insert().values(
                    kind=kind,
                    scope="",
                    name=name,
                    version=version,
                    ordinal=(ordinal or 0) + 1,
                    number=_number(version),
                    document=text,
                    content_hash=content_hash,
                    created_at=now,
                    updated_at=now,
                )
            )
        return Record("", name, version, text, None, content_hash, now, now)

    def delete_resource(
        self, kind: Kind, name: str, *, scope: str = "", version: str | None = None
    ) -> int:
        """Delete a thing, or with None all versions of it; return how many were there."""
        condition = [
            resources.c.kind == kind,
            resources.c.scope == scope,
            resources.c.name == name,
        ]
        if version is not None:
            condition.append(resources.c.version == version)
        with self.writing() as connection:
            return connection.execute(resources.delete().where(*condition)).rowcount

    def delete_scope(self, kind: Kind, scope: str) -> int:
        """Delete everything of one kind in a scope; return how many there were."""
        with self.writing() as connection:
            return connection.execute(
                resources.delete().where(resources.c.kind == kind, resources.c.scope == scope)
            ).rowcount

    def archive(self, kind: Kind, name: str, version: str | None, *, archived: bool) -> int:
        """Archive or restore a version of an asset, None: all of them; return how many."""
        mine = [resources.c.kind == kind, resources.c.scope == "", resources.c.name == name]
        if version is not None:
            mine.append(resources.c.version == version)
        with self.writing() as connection:
            return connection.execute(
                resources.update().where(*mine).values(archived=archived)
            ).rowcount

    def list_resources(
        self,
        kind: Kind,
        *,
        scope: str = "",
        limit: int,
        after: str | None = None,
        include_archived: bool = False,
    ) -> list[Record]:
        """Return up to `limit` resources by name, beginning after `after`; of assets the newest."""
        newest = (
            select(resources.c.name, func.max(resources.c.ordinal).label("ordinal"))
            .where(
                resources.c.kind == kind,
                resources.c.scope == scope,
                resources.c.name != ANONYMOUS,
                resources.c.name > (after or ""),
                *_unless_archived(include_archived),
            )
            .group_by(resources.c.name)
            .order_by(resources.c.name)
            .limit(limit)
            .subquery()
        )
        with self.reading() as connection:
            rows = connection.execute(
                select(resources)
                .join(
                    newest,
                    (resources.c.name == newest.c.name) & (resources.c.ordinal == newest.c.ordinal),
                )
                .where(resources.c.kind == kind, resources.c.scope == scope)
                .order_by(resources.c.name)
            ).mappings()
            return [_record(row) for row in rows]

    def list_versions(
        self,
        kind: Kind,
        name: str,
        *,
        limit: int,
        after: str | None = None,
        include_archived: bool = False,
    ) -> list[Record]:
        """Return up to `limit` versions of an asset, newest first, beginning after `after`."""
        mine = (resources.c.kind == kind, resources.c.scope == "", resources.c.name == name)
        query = select(resources).where(*mine, *_unless_archived(include_archived))
        if after is not None:
            query = query.where(
                resources.c.ordinal
                < select(resources.c.ordinal)
                .where(*mine, resources.c.version == after)
                .scalar_subquery()
            )
        with self.reading() as connection:
            rows = connection.execute(
                query.order_by(resources.c.ordinal.desc()).limit(limit)
            ).mappings()
            return [_record(row) for row in rows]

    def all_in_kind(self, kind: Kind) -> list[Record]:
        """Return every resource of one kind, whatever its scope."""
        with self.reading() as connection:
            rows = connection.execute(
                select(resources)
                .where(resources.c.kind == kind)
                .order_by(resources.c.scope, resources.c.name, resources.c.ordinal)
            ).mappings()
            return [_record(row) for row in rows]

    def _first(self, kind: Kind, scope: str, *conditions: ColumnElement[bool]) -> Record | None:
        with self.reading() as connection:
            return _newest(connection, kind, scope, *conditions)


def _newest(
    connection: Connection, kind: Kind, scope: str, *conditions: ColumnElement[bool]
) -> Record | None:
    row = (
        connection.execute(
            select(resources)
            .where(resources.c.kind == kind, resources.c.scope == scope, *conditions)
            .order_by(resources.c.ordinal.desc())
            .limit(1)
        )
        .mappings()
        .first()
    )
    return None if row is None else _record(row)


def _unless_archived(include_archived: bool) -> list[ColumnElement[bool]]:  # noqa: FBT001
    return [] if include_archived else [resources.c.archived == false()]


def _record(row: RowMapping) -> Record:
    return Record(*(row[field] for field in Record._fields))


def _number(version: str) -> int | None:
    return int(version) if version.isascii() and version.isdigit() and len(version) < 10 else None
