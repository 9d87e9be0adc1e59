"""Versioned assets of one kind: registered once, numbered, archived, immutable from then on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar

from batchpoint.clock import Clock
from batchpoint.control.merge_patch import patched
from batchpoint.domain.asset import Code, Data, Environment, Model
from batchpoint.domain.component import CommandComponent, ParallelComponent, PipelineComponent
from batchpoint.domain.errors import Conflict, NotFound
from batchpoint.domain.ids import asset_name
from batchpoint.ledger.ledger import ANONYMOUS, Kind, Ledger, Record

Asset = TypeVar(
    "Asset",
    bound=Model
    | Data
    | Code
    | Environment
    | CommandComponent
    | ParallelComponent
    | PipelineComponent,
)

_WORDS = ("description", "tags", "properties")


class AssetKind(NamedTuple):
    """A kind of asset as the ledger, the API and people call it."""

    kind: Kind
    collection: str
    shown: str


MODELS = AssetKind("model", "models", "model")
ENVIRONMENTS = AssetKind("environment", "environments", "environment")
DATA = AssetKind("data", "data", "data asset")
CODES = AssetKind("code", "codes", "code asset")
COMPONENTS = AssetKind("component", "components", "component")


class AssetVersions(Generic[Asset]):
    """All assets of one kind.

    `settle` is what the kind does with what callers send: it returns the asset as it is stored and
    the facts that make up its content, and raises Invalid when there is something wrong with it.
    """

    def __init__(
        self,
        kind: AssetKind,
        read: Callable[[str], Asset],
        ledger: Ledger,
        clock: Clock,
        settle: Callable[[Asset], tuple[Asset, tuple[str, ...]]],
        check_name: Callable[[str], str] = asset_name,
    ) -> None:
        """Keep assets of a kind in a ledger; `read` makes the noun of a stored document (JSON)."""
        self.kind = kind
        self._read = read
        self._check_name = check_name
        self._ledger = ledger
        self._clock = clock
        self._settle = settle

    def register(self, asset: Asset, *, reuse: bool = False) -> Asset:
        """Register an asset: a new version unless one is given, anonymous without a name.

        The same version again with the same content changes only its description, tags and
        properties; with `reuse`, content that is the newest version already is that version.
        Raises: Conflict (`asset_immutable`, `asset_archived`); Invalid and NotFound as `settle`.
        """
        name, version, settled, content = self._looked_at(asset)
        now = self._clock.seconds()
        created_at = datetime.fromtimestamp(now, UTC)

        def document(given: str) -> str:
            told = {"name": name, "version": given, "created_at": created_at, "archived": False}
            return settled.model_copy(update=told).model_dump_json()

        with self._ledger.atomic():
            if version is not None:
                known = self._ledger.get_resource(self.kind.kind, name, version=version)
            else:
                known = self._ledger.latest_resource(self.kind.kind, name) if reuse else None
                if known is not None and known.content_hash != content:
                    known = None
            if known is None:
                known = self._ledger.add_version(
                    self.kind.kind, name, version, document, content_hash=content, now=now
                )
            else:
                self._refuse_unless_same(known, content)
                if not reuse:
                    words = {f: getattr(asset, f) for f in _WORDS if f in asset.model_fields_set}
                    known = self._rewrite(known, self._asset(known).model_copy(update=words))
        return self._asset(known)

    def check(self, asset: Asset) -> None:
        """See whether an asset could be registered now. Raises: as `register`."""
        name, version, _, content = self._looked_at(asset)
        if version is not None:
            known = self._ledger.get_resource(self.kind.kind, name, version=version)
            if known is not None:
                self._refuse_unless_same(known, content)

    def get(self, name: str, version: str | None = None) -> Asset:
        """Return a version of an asset; None: the newest one that is not archived.

        Raises: NotFound (`model_not_found` and so on).
        """
        return self._asset(self._record(name, version))

    def content_of(self, name: str, version: str | None) -> str:
        """Return the hash of a version's content. Raises: NotFound."""
        return self._record(name, version).content_hash or ""

    def list(self, limit: int, after: str | None, *, include_archived: bool = False) -> list[Asset]:
        """Return the newest version of each name, by name, beginning after the name `after`."""
        found = self._ledger.list_resources(
            self.kind.kind, limit=limit, after=after, include_archived=include_archived
        )
        return [self._asset(record) for record in found]

    def versions(
        self, name: str, limit: int, after: str | None, *, include_archived: bool = False
    ) -> list[Asset]:
        """Return versions of a name, newest first, beginning after the version `after`.

        Raises: NotFound when there is nothing of this name.
        """
        if not self._ledger.list_versions(self.kind.kind, name, limit=1, include_archived=True):
            raise self._missing(name, None)
        found = self._ledger.list_versions(
            self.kind.kind, name, limit=limit, after=after, include_archived=include_archived
        )
        return [self._asset(record) for record in found]

    def update(self, name: str, version: str, patch: Mapping[str, object]) -> Asset:
        """Change description, tags or properties of a version by a JSON merge patch.

        Raises: NotFound; Conflict (`asset_immutable`) when the patch names anything else.
        """
        for field in patch:
            if field not in _WORDS:
                raise Conflict(
                    f"{field} of a registered {self.kind.shown} never changes: only "
                    f"{', '.join(_WORDS)} do; register a new version",
                    code="asset_immutable",
                    where=field,
                )
        with self._ledger.atomic():
            record = self._record(name, version)
            return self._asset(self._rewrite(record, patched(self._asset(record), patch)))

    def archive(self, name: str, version: str | None, *, archived: bool = True) -> None:
        """Archive a version, None: all of them; with `archived` False bring them back.

        An archived version is left out of lists and of `@latest`; who names it still finds it.
        Raises: NotFound.
        """
        if not self._ledger.archive(self.kind.kind, name, version, archived=archived):
            raise self._missing(name, version)

    def delete(self, name: str, version: str | None) -> None:
        """Delete a version, None: all of them; who uses it holds what it resolved to.

        Raises: NotFound.
        """
        if not self._ledger.delete_resource(self.kind.kind, name, version=version):
            raise self._missing(name, version)

    def _looked_at(self, asset: Asset) -> tuple[str, str | None, Asset, str]:
        """Return name, version (None: the next), what would be stored, and the hash of it."""
        name = self._check_name(asset.name) if asset.name is not None else ANONYMOUS
        version = asset_name(asset.version) if asset.version is not None else None
        settled, facts = self._settle(asset)
        content = hashlib.sha256("\0".join(facts).encode()).hexdigest()
        # Nobody can name an anonymous one but by its content: the same content is the same asset.
        return name, content if asset.name is None else version, settled, content

    def _refuse_unless_same(self, known: Record, content: str) -> None:
        if known.archived:
            raise Conflict(
                f"version {known.version!r} of {self.kind.shown} {known.name!r} is archived: "
                "restore it first, or leave the version out to make a new one",
                code="asset_archived",
                where="version",
            )
        if known.content_hash != content:
            raise Conflict(
                f"{self.kind.shown} {known.name!r} has a version {known.version!r} with other "
                "content, and what is registered never changes; leave the version out to make a "
                "new one",
                code="asset_immutable",
                where="version",
            )

    def _rewrite(self, known: Record, asset: Asset) -> Record:
        text = asset.model_dump_json()
        self._ledger.put_resource(
            self.kind.kind,
            known.name,
            text,
            version=known.version,
            resolution=known.resolution,
            now=self._clock.seconds(),
        )
        return known._replace(document=text)

    def _asset(self, record: Record) -> Asset:
        stored = self._read(record.document)
        return stored.model_copy(update={"archived": record.archived})

    def _record(self, name: str, version: str | None) -> Record:
        if version is None:
            found = self._ledger.latest_resource(self.kind.kind, name)
        else:
            found = self._ledger.get_resource(self.kind.kind, name, version=version)
        if found is None:
            raise self._missing(name, version)
        return found

    def _missing(self, name: str, version: str | None) -> NotFound:
        which = "" if version is None else f" of version {version!r}"
        return NotFound(
            f"there is no {self.kind.shown} named {name!r}{which}; `batchpoint {self.kind.kind} "
            "list` shows those there are (archived ones with --include-archived)",
            code=f"{self.kind.kind}_not_found",
        )
