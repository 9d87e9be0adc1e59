"""The SDK's verbs for what has versions: models, environments, data, code and components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from batchpoint.client.connection import Connection, segment
from batchpoint.client.local_files import LocalFiles
from batchpoint.domain.asset import Code, Data, Environment, Model
from batchpoint.domain.component import (
    CommandComponent,
    Component,
    ParallelComponent,
    PipelineComponent,
)
from batchpoint.domain.errors import Invalid
from batchpoint.domain.references import LATEST

Patch = Mapping[str, object]
Asset = TypeVar(
    "Asset",
    bound=Model
    | Environment
    | Data
    | Code
    | CommandComponent
    | ParallelComponent
    | PipelineComponent,
)


class _VersionedAssets(Generic[Asset]):
    """Registered assets of one kind: numbered, immutable but for their words, archived or not."""

    _collection: str

    def __init__(self, connection: Connection, files: LocalFiles) -> None:
        """Work through a connection."""
        self._connection = connection
        self._files = files

    def create_or_update(self, asset: Asset) -> Asset:
        """Upload and register an asset: the next version of its name, or the one it gives."""
        answer = self._connection.send("POST", f"/{self._collection}", body=self._sent(asset))
        return self._read(answer.json())

    def get(self, name: str, version: str | None = None, *, label: str | None = None) -> Asset:
        """Return a version of an asset; None, or the label `latest`: the newest not archived.

        Raises: NotFound; Invalid (`reference_invalid`) for another label, or for both.
        """
        if label is not None and (label != LATEST or version is not None):
            raise Invalid(
                f"the label {label!r} cannot be looked up: give {LATEST!r}, the only one, or a "
                "version",
                code="reference_invalid",
            )
        return self._read(self._connection.send("GET", self._path(name, version)).json())

    def list(self, name: str | None = None, *, include_archived: bool = False) -> Iterator[Asset]:
        """Yield the newest version of each asset, or all versions of one, newest first."""
        path = f"/{self._collection}" if name is None else f"{self._path(name, None)}/versions"
        asked = {"include_archived": True} if include_archived else None
        return map(self._read, self._connection.documents(path, asked))

    def update(self, name: str, version: str | None, patch: Patch) -> Asset:
        """Change description, tags or properties of a version; None: of the newest."""
        if version is None:
            version = self.get(name).version
        answer = self._connection.send("PATCH", self._path(name, version), body=patch)
        return self._read(answer.json())

    def archive(self, name: str, version: str | None = None) -> None:
        """Hide a version (None: all) from lists and from `latest`; who names it still gets it."""
        self._connection.send("POST", f"{self._path(name, version)}/archive", repeatable=True)

    def restore(self, name: str, version: str | None = None) -> None:
        """Take back `archive`."""
        self._connection.send("POST", f"{self._path(name, version)}/restore", repeatable=True)

    def delete(self, name: str, version: str | None = None) -> None:
        """Delete one version of an asset; None: all of them."""
        self._connection.send("DELETE", self._path(name, version))

    def _sent(self, asset: Asset) -> Asset:
        raise NotImplementedError

    def _read(self, document: object) -> Asset:
        raise NotImplementedError

    def _path(self, name: str, version: str | None) -> str:
        path = f"/{self._collection}/{segment(name)}"
        return path if version is None else f"{path}/versions/{segment(version)}"


class Models(_VersionedAssets[Model]):
    """`client.models`. Raises: NotFound (`model_not_found`), Conflict (`asset_immutable`)."""

    _collection = "models"

    def _sent(self, asset: Model) -> Model:
        return self._files.model(asset)

    def _read(self, document: object) -> Model:
        return Model.model_validate(document)


class Environments(_VersionedAssets[Environment]):
    """`client.environments`. Raises: NotFound (`environment_not_found`), Conflict, Invalid."""

    _collection = "environments"

    def _sent(self, asset: Environment) -> Environment:
        return self._files.environment(asset)

    def _read(self, document: object) -> Environment:
        return Environment.model_validate(document)


class DataAssets(_VersionedAssets[Data]):
    """`client.data`: names for where data lies. Raises: NotFound (`data_not_found`), Conflict."""

    _collection = "data"

    def _sent(self, asset: Data) -> Data:
        return self._files.data(asset)

    def _read(self, document: object) -> Data:
        return Data.model_validate(document)


class Codes(_VersionedAssets[Code]):
    """`client.codes`: folders of scoring code. Raises: NotFound (`code_not_found`), Conflict."""

    _collection = "codes"

    def _sent(self, asset: Code) -> Code:
        return self._files.code(asset)

    def _read(self, document: object) -> Code:
        return Code.model_validate(document)


class Components(_VersionedAssets[Component]):
    """`client.components`: steps and graphs of them. Raises: NotFound (`component_not_found`)."""

    _collection = "components"

    def _sent(self, asset: Component) -> Component:
        return self._files.component(asset)

    def _read(self, document: object) -> Component:
        return _reader().validate_python(document)


@cache
def _reader() -> TypeAdapter[Component]:
    return TypeAdapter(Component)
