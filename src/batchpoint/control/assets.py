"""Models and environments: registered once, numbered, and immutable from then on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from batchpoint.clock import Clock
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.ids import asset_name
from batchpoint.domain.job import ResolvedCode, ResolvedEnvironment, ResolvedModel
from batchpoint.domain.references import RegistryReference, asset_reference
from batchpoint.domain.upload import PREFIX
from batchpoint.ledger.ledger import ANONYMOUS, Kind, Ledger, Record
from batchpoint.storage.locate import path_of
from batchpoint.storage.tree_store import TreeStore

_Asset = TypeVar("_Asset", Model, Environment)


class EnvironmentResolver(Protocol):
    """Makes the environment that user code runs in, or finds that the running one will do."""

    def resolve(
        self, model_path: Path, environment: Environment | None, log: Callable[[str], None]
    ) -> ResolvedEnvironment:
        """Build or find an environment; None: what the model's own folder asks for.

        Raises: Invalid (`environment_invalid`, `environment_unbuildable`,
        `interpreter_not_found`).
        """
        ...


class Assets:
    """The registered models and environments, and the trees they refer to."""

    def __init__(
        self, ledger: Ledger, trees: TreeStore, clock: Clock, *, local_paths: bool
    ) -> None:
        """Serve from a ledger and a store; `local_paths`: callers share this machine's files."""
        self._ledger = ledger
        self._trees = trees
        self._clock = clock
        self._local_paths = local_paths

    # --- models ----------------------------------------------------------------------------

    def register_model(self, model: Model, *, reuse: bool = False) -> Model:
        """Register a model: a new version unless one is given, anonymous without a name.

        The same version again with the same content changes only its description, tags and
        properties; with `reuse`, content that is the newest version already is that version.
        Raises: Conflict (`asset_immutable`); Invalid (`model_invalid`, `reference_invalid`,
        `field_unsupported`); NotFound (`upload_not_found`).
        """
        path, tree, reference = self._tree(model.path, where="path")
        if model.type == "mlflow_model" and not (path / "MLmodel").is_file():
            raise Invalid(
                f"{path.name!r} is no MLflow model: a folder with a file MLmodel in it was "
                "expected; register the folder that holds MLmodel, or use type custom_model",
                code="model_invalid",
                where="path",
            )
        content = _content_hash(tree, model.type)
        given = model.model_copy(update={"path": reference})
        return self._register("model", given, content, reuse=reuse)

    def get_model(self, name: str, version: str | None = None) -> Model:
        """Return a version of a model, None: the newest. Raises: NotFound (`model_not_found`)."""
        return Model.model_validate_json(self._record("model", name, version).document)

    def list_models(self, limit: int, after: str | None) -> list[Model]:
        """Return the newest version of each model by name, beginning after the name `after`."""
        found = self._ledger.list_resources("model", limit=limit, after=after)
        return [Model.model_validate_json(record.document) for record in found]

    def list_model_versions(self, name: str, limit: int, after: str | None) -> list[Model]:
        """Return versions of a model, newest first. Raises: NotFound (`model_not_found`)."""
        self._record("model", name, None)
        found = self._ledger.list_versions("model", name, limit=limit, after=after)
        return [Model.model_validate_json(record.document) for record in found]

    def resolve_model(self, model: str | Model) -> tuple[str, ResolvedModel]:
        """Return the reference and the files of a model that is named or given inline.

        Raises: as `register_model`; NotFound (`model_not_found`).
        """
        if isinstance(model, str):
            named = asset_reference(model, "model")
            if isinstance(named, RegistryReference):
                raise Invalid(
                    f"{model!r} lies in a shared registry, which this server does not reach: "
                    "register the model here and name that",
                    code="reference_invalid",
                    where="model",
                )
            model = self.get_model(named.name, named.version)
        else:
            model = self.register_model(model, reuse=True)
        assert model.name is not None
        assert model.version is not None
        path, tree = self._trees.open_tree(model.path, where="model.path")
        resolved = ResolvedModel(
            name=model.name, version=model.version, type=model.type, path=str(path), hash=tree
        )
        return f"azureml:{model.name}:{model.version}", resolved

    def resolve_code(self, code: str, scoring_script: str) -> tuple[str, ResolvedCode]:
        """Return the reference and the files of a code folder.

        Raises: as `register_model`.
        """
        path, tree, reference = self._tree(code, where="code_configuration.code")
        return reference, ResolvedCode(path=str(path), scoring_script=scoring_script, hash=tree)

    # --- environments ----------------------------------------------------------------------

    def register_environment(self, environment: Environment, *, reuse: bool = False) -> Environment:
        """Register an environment; the rules are those of `register_model`.

        Raises: Conflict (`asset_immutable`); Invalid (`environment_invalid`).
        """
        if isinstance(environment.conda_file, str):
            raise Invalid(
                "is the path of a file; send the content of the conda file instead",
                code="environment_invalid",
                where="conda_file",
            )
        asked = environment.model_dump(
            include={"image", "conda_file", "requirements", "python_version"}, exclude_none=True
        )
        if not asked:
            raise Invalid(
                "asks for nothing: give conda_file, requirements or python_version, or leave the "
                "environment out to use what the model asks for",
                code="environment_invalid",
                where="environment",
            )
        content = _content_hash(json.dumps(asked, sort_keys=True))
        return self._register("environment", environment, content, reuse=reuse)

    def get_environment(self, name: str, version: str | None = None) -> Environment:
        """Return a version of an environment, None: the newest.

        Raises: NotFound (`environment_not_found`).
        """
        record = self._record("environment", name, version)
        return Environment.model_validate_json(record.document)

    def list_environments(self, limit: int, after: str | None) -> list[Environment]:
        """Return the newest version of each environment by name, beginning after `after`."""
        found = self._ledger.list_resources("environment", limit=limit, after=after)
        return [Environment.model_validate_json(record.document) for record in found]

    def list_environment_versions(
        self, name: str, limit: int, after: str | None
    ) -> list[Environment]:
        """Return versions of an environment, newest first.

        Raises: NotFound (`environment_not_found`).
        """
        self._record("environment", name, None)
        found = self._ledger.list_versions("environment", name, limit=limit, after=after)
        return [Environment.model_validate_json(record.document) for record in found]

    def resolve_environment(
        self, environment: str | Environment | None
    ) -> tuple[str | None, Environment | None]:
        """Return the reference and the content of an environment that is named or given inline.

        Raises: as `register_environment`; NotFound (`environment_not_found`).
        """
        if environment is None:
            return None, None
        if isinstance(environment, str):
            named = asset_reference(environment, "environment")
            if isinstance(named, RegistryReference):
                # Nothing of a registry is here; like an image, a site may map it.
                mapped = Environment(image=environment)
                environment = self.register_environment(mapped, reuse=True)
            else:
                environment = self.get_environment(named.name, named.version)
        else:
            environment = self.register_environment(environment, reuse=True)
        return f"azureml:{environment.name}:{environment.version}", environment

    # --- both ------------------------------------------------------------------------------

    def delete(self, kind: Kind, name: str, version: str | None) -> None:
        """Delete one version of an asset, None: all of them.

        Deployments and jobs that use it go on: they hold what it resolved to.
        Raises: NotFound (`model_not_found`, `environment_not_found`).
        """
        if not self._ledger.delete_resource(kind, name, version=version):
            raise _no_such_asset(kind, name, version)

    def _tree(self, path: str, *, where: str) -> tuple[Path, str, str]:
        """Return path in the store, hash and reference of an upload or a local path."""
        if not path.startswith(PREFIX):
            if not self._local_paths:
                raise Invalid(
                    f"{path!r} is not on this server: upload the files first and give "
                    "upload:HASH/NAME (the SDK and the command line do)",
                    code="field_unsupported",
                    where=where,
                )
            unique = self._clock.hexadecimal(16)
            status = self._trees.add_local(path_of(path, where=where), unique=unique)
            path = status.reference
        found, tree = self._trees.open_tree(path, where=where)
        return found, tree, f"{PREFIX}{tree}/{found.name}"

    def _register(self, kind: Kind, asset: _Asset, content: str, *, reuse: bool) -> _Asset:
        name = asset_name(asset.name) if asset.name is not None else ANONYMOUS
        version = asset_name(asset.version) if asset.version is not None else None
        if asset.name is None:
            # Nobody can name it but by its content, so the same content is the same asset.
            version = content
        now = self._clock.seconds()
        created_at = datetime.fromtimestamp(now, UTC)

        def document(given: str) -> str:
            told = {"name": name, "version": given, "created_at": created_at}
            return asset.model_copy(update=told).model_dump_json()

        with self._ledger.atomic():
            if version is not None:
                known = self._ledger.get_resource(kind, name, version=version)
            else:
                known = self._ledger.latest_resource(kind, name) if reuse else None
                if known is not None and known.content_hash != content:
                    known = None
            if known is None:
                known = self._ledger.add_version(
                    kind, name, version, document, content_hash=content, now=now
                )
            elif known.content_hash != content:
                raise Conflict(
                    f"{kind} {name!r} has a version {version!r} with other content, and what is "
                    "registered never changes; leave the version out to make a new one",
                    code="asset_immutable",
                    where="version",
                )
            elif not reuse:
                known = self._describe(kind, asset, known)
        return type(asset).model_validate_json(known.document)

    def _describe(self, kind: Kind, asset: Model | Environment, known: Record) -> Record:
        stored = type(asset).model_validate_json(known.document)
        words = {
            field: getattr(asset, field)
            for field in ("description", "tags", "properties")
            if field in asset.model_fields_set
        }
        text = stored.model_copy(update=words).model_dump_json()
        self._ledger.put_resource(
            kind, known.name, text, version=known.version, now=self._clock.seconds()
        )
        return known._replace(document=text)

    def _record(self, kind: Kind, name: str, version: str | None) -> Record:
        if version is None:
            found = self._ledger.latest_resource(kind, name)
        else:
            found = self._ledger.get_resource(kind, name, version=version)
        if found is None:
            raise _no_such_asset(kind, name, version)
        return found


def _content_hash(*facts: str) -> str:
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def _no_such_asset(kind: Kind, name: str, version: str | None) -> NotFound:
    which = "" if version is None else f" of version {version!r}"
    return NotFound(
        f"there is no {kind} named {name!r}{which}; `batchpoint {kind} list` shows those there are",
        code=f"{kind}_not_found",
    )
