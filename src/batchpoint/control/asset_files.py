"""The files of models and code, brought into the store: from here, a datastore, a job or MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from batchpoint.clock import Clock
from batchpoint.control.data_references import DataPlaces
from batchpoint.control.datastores import Datastores
from batchpoint.control.mlflow_source import fetch_from_mlflow
from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.domain.references import (
    DatastorePath,
    Location,
    MlflowModel,
    MlflowRun,
    Reference,
    UploadReference,
    data_reference,
    is_uri,
    model_source,
)
from batchpoint.domain.upload import PREFIX, tree_path
from batchpoint.formats.durable import storage_error
from batchpoint.storage.locate import path_of
from batchpoint.storage.store import Found
from batchpoint.storage.tree_store import TreeStore

_UNIQUE_DIGITS = 16


class StoredFiles(NamedTuple):
    """A tree in the store: the file or folder, its hash, and how to refer to it."""

    path: Path
    hash: str
    reference: str


class AssetFiles:
    """Brings files into the store; the same content is stored once, whatever it came from."""

    def __init__(
        self,
        trees: TreeStore,
        places: DataPlaces,
        datastores: Datastores,
        clock: Clock,
        *,
        environ: Mapping[str, str],
        local_paths: bool,
    ) -> None:
        """Store in `trees`.

        Args:
            trees: where trees are kept.
            places: tells where references point.
            datastores: opens what lies in stores.
            clock: names what is being fetched.
            environ: environment variables; `MLFLOW_TRACKING_URI` names the MLflow server.
            local_paths: callers share this machine's files.
        """
        self._trees = trees
        self._places = places
        self._datastores = datastores
        self._clock = clock
        self._environ = environ
        self._local_paths = local_paths

    def stored(self, path: str, *, where: str) -> StoredFiles:
        """Return the files that a path, a URI or a reference points at, storing them if need be.

        Raises: Invalid (`field_unsupported`, `reference_invalid`, `uri_invalid`,
        `input_not_found`, `model_invalid`); NotFound; Conflict (`job_not_finished`); Unavailable.
        """
        source = model_source(path)
        if isinstance(source, UploadReference):
            return self.opened(path, where=where)
        if isinstance(source, MlflowModel | MlflowRun):
            return self._fetched(source, where)
        if isinstance(source, Location) and _is_local(source.uri):
            if not self._local_paths:
                raise Invalid(
                    f"{path!r} is not on this server: upload the files first and give "
                    "upload:HASH/NAME (the SDK and the command line do)",
                    code="field_unsupported",
                    where=where,
                )
            return self._local(path_of(source.uri, where=where), where)
        uri = self._places.uri(source, where=where)
        if _is_local(uri):
            return self._local(path_of(uri, where=where), where)
        place = data_reference(uri)
        if isinstance(place, DatastorePath):
            local = self._datastores.local_path(place)
            if local is not None:
                return self._local(local, where)
        return self._fetched(place, where)

    def opened(self, reference: str, *, where: str) -> StoredFiles:
        """Return the files of an upload. Raises: Invalid (`reference_invalid`); NotFound."""
        found, tree = self._trees.open_tree(reference, where=where)
        return StoredFiles(found, tree, f"{PREFIX}{tree}/{found.name}")

    def _local(self, path: Path, where: str) -> StoredFiles:
        unique = self._clock.hexadecimal(_UNIQUE_DIGITS)
        return self.opened(self._trees.add_local(path, unique=unique).reference, where=where)

    def _fetched(self, source: Reference, where: str) -> StoredFiles:
        folder = self._trees.incoming / f"fetch-{self._clock.hexadecimal(_UNIQUE_DIGITS)}"
        try:
            if isinstance(source, MlflowModel | MlflowRun):
                fetched = fetch_from_mlflow(source, folder / "mlflow", self._environ, where=where)
            else:
                fetched = self._from_store(str(source), folder, where)
            return self._local(fetched, where)
        except OSError as error:
            raise storage_error(error, folder) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _from_store(self, uri: str, folder: Path, where: str) -> Path:
        # Only those who point into a store pay for importing its client.
        from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415

        store, key = ObjectLocations(self._datastores.access_for([uri])).at(uri)
        name = key.rstrip("/").rpartition("/")[2] or "files"
        target = folder / tree_path(name)
        folder.mkdir(parents=True)
        found = store.find(key) if key and not uri.endswith("/") else None
        if found is not None:
            store.fetch(found, target)
            return target
        prefix = f"{key.rstrip('/')}/" if key else ""
        count = 0
        for some in store.list(prefix):
            for entry in some:
                count += _fetch_below(store.fetch, entry, prefix, target)
                if count > limits.UPLOAD_FILES_MAX:
                    raise Invalid(
                        f"{uri} holds more than {limits.UPLOAD_FILES_MAX:,} files; name the folder "
                        "of the model itself",
                        code="model_invalid",
                        where=where,
                    )
        if not count:
            raise Invalid(
                f"there is nothing at {uri}; check the path", code="input_not_found", where=where
            )
        return target


def _fetch_below(
    fetch: Callable[[Found, Path], None], entry: Found, prefix: str, target: Path
) -> bool:
    below = entry.path.removeprefix(prefix)
    if not below or below.endswith("/"):  # an empty object that some tools make for a folder
        return False
    file = target / tree_path(below)
    file.parent.mkdir(parents=True, exist_ok=True)
    fetch(entry, file)
    return True


def _is_local(uri: str) -> bool:
    return uri.startswith("file:") or not is_uri(uri)
