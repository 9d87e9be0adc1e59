"""Datastores: registered with what opens them, sealed; opened only for those that need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter

from batchpoint.clock import Clock
from batchpoint.control.credential_rules import check_credentials, check_endpoint
from batchpoint.control.merge_patch import patched
from batchpoint.domain.asset import Data
from batchpoint.domain.datastore import (
    Credentials,
    Datastore,
    DatastoreAccess,
    DatastoreFindings,
    StorageAccess,
)
from batchpoint.domain.datastore_urls import lies_inside
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.ids import asset_name
from batchpoint.domain.references import DatastorePath, data_reference
from batchpoint.ledger.ledger import Ledger, Record
from batchpoint.storage.locate import path_of

DEFAULT = "workspaceblobstore"
"""The datastore that is the default until another one is made it."""
BUILT_IN = ("workspaceartifactstore", DEFAULT)

_USERS_TOLD = 3
_OPEN_JOBS_MAX = 100_000
_SECRETS = TypeAdapter(dict[str, str])
# Changing these tells nothing about the store: it is not tested again.
_WORDS = {"name", "description", "tags", "properties", "is_default"}
# With another one of these, stored credentials would be sent to somebody else.
_WHOSE_IT_IS = ("type", "account_name", "endpoint", "protocol", "region")


class Box(Protocol):
    """Keeps secrets: what it seals, nobody reads without the key of this home."""

    def seal(self, plain: bytes, about: str) -> str:
        """Return a secret sealed for what it belongs to."""
        ...

    def open_sealed(self, text: str, about: str) -> bytes:
        """Return the secret again. Raises: Unavailable (`secrets_unreadable`)."""
        ...


Examine = Callable[[DatastoreAccess], DatastoreFindings]


class Datastores:
    """The registered datastores; their credentials lie sealed beside the document, never in it."""

    def __init__(
        self,
        ledger: Ledger,
        box: Box,
        clock: Clock,
        home: Path,
        *,
        examine: Examine,
        ambient: bool,
    ) -> None:
        """Keep them in a ledger.

        Args:
            ledger: where documents and sealed credentials lie.
            box: seals and opens credentials.
            clock: tells when something was made.
            home: the built-in datastores are folders below `home/datastores`.
            examine: the self-test; raises when the store cannot be reached or denies everything.
            ambient: whether URLs in no datastore are opened with this user's own credentials.
        """
        self._ledger = ledger
        self._box = box
        self._clock = clock
        self._home = home
        self._examine = examine
        self._ambient = ambient

    # --- registering -----------------------------------------------------------------------

    def put(self, datastore: Datastore, *, skip_validation: bool = False) -> tuple[Datastore, bool]:
        """Create or update a datastore; return it (without credentials) and whether it is new.

        An update that gives no credentials keeps those there are. Unless `skip_validation`, the
        store is tested first; what was found is kept and shown.
        Raises: Invalid (`field_invalid`, `storage_denied`, `uri_invalid`); Unavailable
        (`storage_unavailable`).
        """
        asset_name(datastore.name)
        credentials = self._credentials(datastore)
        check_credentials(datastore, credentials)
        check_endpoint(datastore)
        if datastore.type == "local":
            _check_folder(datastore.path or "")
        # Outside the transaction: it talks to somebody else's server.
        findings = None if skip_validation else self._tested(datastore, credentials)
        with self._ledger.atomic():
            known = self._ledger.get_resource("datastore", datastore.name)
            stored = None if known is None else _datastore(known)
            credentials = self._credentials(datastore)
            told = datastore.model_copy(
                update={
                    "credentials": None,
                    "credentials_type": credentials.type,
                    "is_default": stored is not None and stored.is_default,
                    "findings": findings,
                    "created_at": self._now() if stored is None else stored.created_at,
                }
            )
            was_default = self.default_name() == datastore.name
            new = (
                self._save(told, self._sealed(datastore.name, credentials))
                and datastore.name not in BUILT_IN
            )
            if "is_default" in datastore.model_fields_set and datastore.is_default != was_default:
                self._make_default(datastore.name if datastore.is_default else DEFAULT)
        return self.get(datastore.name), new

    def update(
        self, name: str, patch: Mapping[str, object], *, skip_validation: bool = False
    ) -> Datastore:
        """Change fields of a datastore by a JSON merge patch; checked as when it is created.

        Raises: as `put`; NotFound (`datastore_not_found`).
        """
        stored = self.get(name)
        changed = patched(stored, {**patch, "name": name})
        if patch.get("credentials", changed) is None:  # null: without any from now on
            changed = changed.model_copy(update={"credentials": Credentials()})
        if set(patch) - _WORDS:
            return self.put(changed, skip_validation=skip_validation)[0]
        with self._ledger.atomic():
            known = self._ledger.get_resource("datastore", name)
            if known is not None or set(patch) - {"name", "is_default"}:
                sealed = None if known is None else known.resolution
                same = {"is_default": known is not None and _datastore(known).is_default}
                self._save(changed.model_copy(update=same), sealed)
            if changed.is_default != stored.is_default:
                self._make_default(name if changed.is_default else DEFAULT)
        return self.get(name)

    def test(self, name: str) -> Datastore:
        """Test a datastore again, and return it with what was found.

        Raises: NotFound (`datastore_not_found`); Invalid (`storage_denied`); Unavailable
        (`storage_unavailable`).
        """
        access = self._access(name)
        findings = self._tested(access.datastore, access.credentials or Credentials())
        with self._ledger.atomic():
            known = self._ledger.get_resource("datastore", name)
            if known is None:  # built in: nothing to keep it in
                return access.datastore.model_copy(update={"findings": findings})
            tested = _datastore(known).model_copy(update={"findings": findings})
            self._save(tested, known.resolution)
        return self.get(name)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Delete a datastore; the data in it stays. A replaced built-in is what it was again.

        Raises: NotFound (`datastore_not_found`); Conflict (`conflict` for a built-in one,
        `datastore_in_use` while a data asset or an open job needs it, unless `force`).
        """
        with self._ledger.atomic():
            datastore = self.get(name)
            if self._ledger.get_resource("datastore", name) is None:
                raise Conflict(f"datastore {name!r} is built in and always there")
            if not force:
                self._refuse_if_used(datastore)
            self._ledger.delete_resource("datastore", name)

    # --- finding ---------------------------------------------------------------------------

    def get(self, name: str) -> Datastore:
        """Return a datastore, without credentials. Raises: NotFound (`datastore_not_found`)."""
        record = self._ledger.get_resource("datastore", name)
        if record is None and name not in BUILT_IN:
            raise NotFound(
                f"there is no datastore named {name!r}; `batchpoint datastore list` shows those "
                "there are",
                code="datastore_not_found",
            )
        found = self._built_in(name) if record is None else _datastore(record)
        return found.model_copy(update={"is_default": name == self.default_name()})

    def list(self, limit: int, after: str | None) -> list[Datastore]:
        """Return datastores by name, beginning after the name `after`."""
        found = {name: self._built_in(name) for name in BUILT_IN}
        for record in self._ledger.all_in_kind("datastore"):
            found[record.name] = _datastore(record)
        default = next((d.name for d in found.values() if d.is_default), DEFAULT)
        page = [found[name] for name in sorted(found) if name > (after or "")][:limit]
        return [d.model_copy(update={"is_default": d.name == default}) for d in page]

    def default_name(self) -> str:
        """Return the name of the datastore that is used where none is named."""
        for record in self._ledger.all_in_kind("datastore"):
            if _datastore(record).is_default:
                return record.name
        return DEFAULT

    def local_path(self, place: DatastorePath) -> Path | None:
        """Return where a place lies on this machine, None when its datastore is elsewhere.

        Raises: NotFound (`datastore_not_found`).
        """
        datastore = self._access(place.datastore).datastore
        if datastore.type != "local":
            return None
        return path_of(datastore.path or "") / place.path

    def access_for(self, uris: Iterable[str]) -> StorageAccess:
        """Return what opens these URIs, with credentials in clear: for memory only.

        Only the datastores that they name or lie in. Raises: NotFound (`datastore_not_found`);
        Invalid (`reference_invalid`); Unavailable when credentials cannot be opened.
        """
        wanted: dict[str, None] = {}
        elsewhere: list[str] = []
        for uri in uris:
            found = data_reference(uri)
            if isinstance(found, DatastorePath):
                wanted[found.datastore] = None
            else:
                elsewhere.append(uri)
        if elsewhere:
            for record in self._ledger.all_in_kind("datastore"):
                datastore = _datastore(record)
                if datastore.type != "local" and any(lies_inside(u, datastore) for u in elsewhere):
                    wanted[record.name] = None
        return StorageAccess(
            datastores=tuple(self._access(name) for name in wanted), ambient=self._ambient
        )

    # --- inside ----------------------------------------------------------------------------

    def _access(self, name: str) -> DatastoreAccess:
        datastore = self.get(name)
        record = self._ledger.get_resource("datastore", name)
        if record is None:
            path_of(datastore.path or "").mkdir(parents=True, exist_ok=True)
        return DatastoreAccess(datastore=datastore, credentials=self._opened(record))

    def _built_in(self, name: str) -> Datastore:
        folder = self._home / "datastores" / name
        return Datastore(
            name=name,
            type="local",
            path=str(folder),
            description="Built in: a folder of this server.",
            credentials_type="none",
        )

    def _credentials(self, datastore: Datastore) -> Credentials:
        """Return what opens a datastore from now on: what was given, or else what it had."""
        if datastore.credentials is not None:
            return datastore.credentials
        known = self._ledger.get_resource("datastore", datastore.name)
        kept = self._opened(known)
        if kept is None or known is None:
            return Credentials()
        stored = _datastore(known)
        moved = [f for f in _WHOSE_IT_IS if getattr(stored, f) != getattr(datastore, f)]
        if moved:
            raise Invalid(
                f"have to be given again, because {moved[0]} changes: those of another place are "
                "never sent to a new one",
                code="field_invalid",
                where="credentials",
            )
        return kept

    def _sealed(self, name: str, credentials: Credentials) -> str | None:
        if credentials.type == "none":
            return None
        return self._box.seal(_SECRETS.dump_json(credentials.revealed()), f"datastore {name}")

    def _opened(self, record: Record | None) -> Credentials | None:
        if record is None or record.resolution is None:
            return None
        secrets = self._box.open_sealed(record.resolution, f"datastore {record.name}")
        return Credentials.model_validate(_SECRETS.validate_json(secrets))

    def _tested(self, datastore: Datastore, credentials: Credentials) -> DatastoreFindings:
        access = DatastoreAccess(
            datastore=datastore.model_copy(update={"credentials": None}), credentials=credentials
        )
        findings = self._examine(access)
        if findings.readable is False:
            raise Invalid(
                f"datastore {datastore.name!r} cannot be read: "
                + ("; ".join(findings.notes) or "the store refuses these credentials")
                + "; correct it, or register it as it is with skip_validation",
                code="storage_denied",
                where="credentials",
            )
        return findings

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.seconds(), UTC)

    def _save(self, datastore: Datastore, sealed: str | None) -> bool:
        return self._ledger.put_resource(
            "datastore",
            datastore.name,
            datastore.model_dump_json(),
            resolution=sealed,
            now=self._clock.seconds(),
        )

    def _make_default(self, name: str) -> None:
        if name != DEFAULT and self._ledger.get_resource("datastore", name) is None:
            self._save(self._built_in(name), None)
        for record in self._ledger.all_in_kind("datastore"):
            datastore = _datastore(record)
            if datastore.is_default != (record.name == name):
                changed = datastore.model_copy(update={"is_default": record.name == name})
                self._save(changed, record.resolution)

    def _refuse_if_used(self, datastore: Datastore) -> None:
        users = [
            f"data asset {record.name}:{record.version}"
            for record in self._ledger.all_in_kind("data")
            if _needs(Data.model_validate_json(record.document).path, datastore)
        ]
        for name in self._ledger.open_jobs(limit=_OPEN_JOBS_MAX):
            job = self._ledger.get_job(name)
            jobs = [job, *(self._ledger.child_jobs(name) if job.spec.type == "pipeline" else ())]
            if any(_needs(uri, datastore) for each in jobs for uri in each.spec.places):
                users.append(f"job {name}")
        if users:
            more = len(users) - _USERS_TOLD
            raise Conflict(
                f"datastore {datastore.name!r} is used by {', '.join(users[:_USERS_TOLD])}"
                + (f" and {more} more" if more > 0 else "")
                + ": delete or wait for them first, or delete it by force",
                code="datastore_in_use",
            )


def _datastore(record: Record) -> Datastore:
    return Datastore.model_validate_json(record.document)


def _needs(uri: str, datastore: Datastore) -> bool:
    try:
        found = data_reference(uri)
    except Invalid:
        return False
    if isinstance(found, DatastorePath):
        return found.datastore == datastore.name
    return datastore.type != "local" and lies_inside(uri, datastore)


def _check_folder(path: str) -> None:
    folder = path_of(path, where="path")
    if not folder.is_dir():
        raise Invalid(
            f"there is no folder {folder}; name one that the server can see",
            code="uri_invalid",
            where="path",
        )
