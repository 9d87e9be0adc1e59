"""Models, environments, data and code: what each kind is made of, and what it resolves to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from batchpoint.clock import Clock
from batchpoint.control.asset_files import AssetFiles, StoredFiles
from batchpoint.control.asset_versions import CODES, DATA, ENVIRONMENTS, MODELS, AssetVersions
from batchpoint.control.components import Components
from batchpoint.control.data_references import DataPlaces, DataReferences, model_reference
from batchpoint.control.datastores import Datastores
from batchpoint.domain.asset import Code, Data, Environment, Model
from batchpoint.domain.errors import Invalid, NotFound
from batchpoint.domain.job_spec import ResolvedCode, ResolvedEnvironment, ResolvedModel
from batchpoint.domain.references import (
    AssetReference,
    Location,
    MlflowModel,
    MlflowRun,
    Reference,
    RegistryReference,
    UploadReference,
    asset_reference,
    data_reference,
    is_reference,
    is_uri,
)
from batchpoint.ledger.ledger import Ledger
from batchpoint.storage.locate import path_of, uri_of
from batchpoint.storage.tree_store import TreeStore

_SOURCE = "source_uri"
# Names of the environments that Azure curates begin so.
_CURATED = "AzureML-"
# References that say where files lie, and not which registered asset is meant.
_PLACES = ("upload:", "azureml://datastores/", "azureml://jobs/")


class EnvironmentResolver(Protocol):
    """Makes the environment that user code runs in, or finds that the running one will do."""

    def resolve(
        self, model_path: Path | None, environment: Environment | None, log: Callable[[str], None]
    ) -> ResolvedEnvironment:
        """Build or find an environment; None: what the model's own folder asks for, if any.

        Raises: Invalid (`environment_invalid`, `environment_unbuildable`,
        `interpreter_not_found`).
        """
        ...


class Assets:
    """The registered assets of each kind, and the trees they refer to.

    `models`, `environments`, `data`, `codes` and `components` register, find, list, archive and
    delete them.
    """

    def __init__(
        self,
        ledger: Ledger,
        trees: TreeStore,
        datastores: Datastores,
        clock: Clock,
        *,
        environ: Mapping[str, str],
        local_paths: bool,
    ) -> None:
        """Serve from a ledger and a store.

        Args:
            ledger: where they are registered.
            trees: where their files are kept.
            datastores: opens what lies elsewhere.
            clock: tells when something was made.
            environ: environment variables; `MLFLOW_TRACKING_URI` names the MLflow server.
            local_paths: callers share this machine's files.
        """
        self._places = DataPlaces(datastores, trees, ledger)
        self._files = AssetFiles(
            trees, self._places, datastores, clock, environ=environ, local_paths=local_paths
        )
        self._local_paths = local_paths
        self.models = AssetVersions(
            MODELS, Model.model_validate_json, ledger, clock, self._settle_model
        )
        self.environments = AssetVersions(
            ENVIRONMENTS, Environment.model_validate_json, ledger, clock, _settle_environment
        )
        self.data = AssetVersions(DATA, Data.model_validate_json, ledger, clock, self._settle_data)
        self.codes = AssetVersions(
            CODES, Code.model_validate_json, ledger, clock, self._settle_code
        )
        self.components = Components(ledger, clock, self)
        self.references = DataReferences(
            self.data,
            self.models,
            self._places,
            lambda uri, where: self._files.stored(uri, where=where).reference,
        )

    # --- what deployments use ----------------------------------------------------------------

    def resolve_model(self, model: str | Model) -> tuple[str, ResolvedModel]:
        """Return the reference and the files of a model that is named or given inline.

        Raises: as `models.register`; NotFound (`model_not_found`).
        """
        if isinstance(model, str):
            named = asset_reference(model, "model")
            if isinstance(named, RegistryReference):
                raise _elsewhere(model, "model")
            model = self.models.get(named.name, named.version)
        else:
            model = self.models.register(model, reuse=True)
        assert model.name is not None
        assert model.version is not None
        files = self._files.opened(model.path, where="model.path")
        resolved = ResolvedModel(
            name=model.name,
            version=model.version,
            type=model.type,
            path=str(files.path),
            hash=files.hash,
        )
        return str(AssetReference("model", model.name, model.version)), resolved

    def resolve_code(self, code: str, scoring_script: str) -> tuple[str, ResolvedCode]:
        """Return the reference and the files of a code folder, or of a registered code asset.

        Raises: as `codes.register`; NotFound (`code_not_found`).
        """
        where = "code_configuration.code"
        asset = self._registered_code(code, where)
        files = self.code_files(code, where)
        reference = files.reference
        if asset is not None:
            reference = str(AssetReference("code", asset.name or "", asset.version))
        resolved = ResolvedCode(
            path=str(files.path), scoring_script=scoring_script, hash=files.hash
        )
        return reference, resolved

    def code_files(self, code: str, where: str) -> StoredFiles:
        """Return the files of a code folder, storing them, or of a registered code asset.

        Raises: as `resolve_code`.
        """
        asset = self._registered_code(code, where)
        if asset is not None:
            return self._files.opened(asset.path, where=where)
        return self._files.stored(code, where=where)

    def _registered_code(self, code: str, where: str) -> Code | None:
        if not is_reference(code) or code.startswith(_PLACES):
            return None
        named = asset_reference(code, "code")
        if isinstance(named, RegistryReference):
            raise _elsewhere(code, where)
        return self.codes.get(named.name, named.version)

    def pinned_data(self, path: str, *, model: bool, where: str) -> str:
        """Return a pointer to data that means the same for good: labels become versions.

        `model`: names are those of registered models, and what lies in MLflow is stored here.
        Raises: Invalid (`reference_invalid`, `field_unsupported`); NotFound.
        """
        place = model_reference(path) if model else data_reference(path)
        if isinstance(place, RegistryReference):
            raise _elsewhere(path, where)
        if isinstance(place, AssetReference):
            named: Model | Data
            if model:
                named = self.models.get(place.name, place.version)
            else:
                named = self.data.get(place.name, place.version)
            return str(place._replace(version=named.version))
        if isinstance(place, MlflowModel | MlflowRun):
            return self._files.stored(path, where=where).reference
        return self._placed(place, path, where)

    def resolve_environment(
        self, environment: str | Environment | None
    ) -> tuple[str | None, Environment | None]:
        """Return the reference and the content of an environment that is named or given inline.

        Raises: as `environments.register`; NotFound (`environment_not_found`).
        """
        if environment is None:
            return None, None
        if isinstance(environment, str):
            named = asset_reference(environment, "environment")
            if isinstance(named, RegistryReference):
                # Nothing of a registry is here; like an image, a site may map it.
                mapped = Environment(image=environment)
                environment = self.environments.register(mapped, reuse=True)
            else:
                environment = self._named_environment(named)
        else:
            environment = self.environments.register(environment, reuse=True)
        reference = AssetReference("environment", environment.name or "", environment.version)
        return str(reference), environment

    def _named_environment(self, named: AssetReference) -> Environment:
        try:
            return self.environments.get(named.name, named.version)
        except NotFound:
            if not named.name.startswith(_CURATED):
                raise
        # Azure's workspaces have these without registering them: they come from its own registry.
        origin = RegistryReference("azureml", "environment", named.name, named.version)
        return self.environments.register(Environment(image=str(origin)), reuse=True)

    # --- what each kind is made of -------------------------------------------------------------

    def _settle_model(self, model: Model) -> tuple[Model, tuple[str, ...]]:
        files = self._files.stored(model.path, where="path")
        if model.type == "mlflow_model" and not (files.path / "MLmodel").is_file():
            raise Invalid(
                f"{files.path.name!r} is no MLflow model: a folder with a file MLmodel in it was "
                "expected; register the folder that holds MLmodel, or use type custom_model",
                code="model_invalid",
                where="path",
            )
        stored = model.model_copy(
            update={"path": files.reference, "properties": _with_source(model)}
        )
        return stored, (files.hash, model.type)

    def _settle_code(self, code: Code) -> tuple[Code, tuple[str, ...]]:
        try:
            files = self._files.stored(code.path, where="path")
        except Invalid as error:
            if error.code != "model_invalid":
                raise
            # The same flaws of a folder; but here it is no model that has them.
            told = f"the code cannot be taken: {error.where or code.path} {error.message}"
            raise Invalid(told, code="component_invalid", where="path") from error
        if not files.path.is_dir():
            raise Invalid(
                f"{files.path.name!r} is a file; give the folder that holds the scoring script",
                code="field_invalid",
                where="path",
            )
        stored = code.model_copy(update={"path": files.reference, "properties": _with_source(code)})
        return stored, (files.hash,)

    def _settle_data(self, data: Data) -> tuple[Data, tuple[str, ...]]:
        place = data_reference(data.path)
        if isinstance(place, AssetReference):
            raise Invalid(
                f"{data.path!r} is itself a data asset; give the path or URI of the data",
                code="reference_invalid",
                where="path",
            )
        path = self._placed(place, data.path, "path")
        _check_data_type(data, self._places.uri(data_reference(path), where="path"))
        return data.model_copy(update={"path": path}), (path, data.type)

    def _placed(self, place: Reference, given: str, where: str) -> str:
        """Return the canonical spelling of a place; what is said to lie here has to."""
        if isinstance(place, Location) and _is_local(place.uri):
            if not self._local_paths:
                raise Invalid(
                    f"{given!r} is not on this server: upload the files first and give "
                    "upload:HASH/NAME (the SDK and the command line do), or register where they "
                    "lie as a datastore",
                    code="field_unsupported",
                    where=where,
                )
            return uri_of(path_of(place.uri, where=where))
        if isinstance(place, UploadReference):
            return self._files.opened(str(place), where=where).reference
        return str(place)


def _settle_environment(environment: Environment) -> tuple[Environment, tuple[str, ...]]:
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
    return environment, (json.dumps(asked, sort_keys=True),)


def _check_data_type(data: Data, uri: str) -> None:
    """Compare the type with what is there, where a look is cheap: on this machine.

    Raises: Invalid (`input_not_found`, `field_invalid`).
    """
    if data.type == "uri_file" and uri.endswith("/"):
        raise Invalid(
            f"{uri} is a folder, as its final '/' says; use type uri_folder",
            code="field_invalid",
            where="type",
        )
    if not _is_local(uri):
        return
    path = path_of(uri, where="path")
    try:
        present, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise Invalid(
            f"{path} cannot be read: {error.strerror}", code="input_unreadable", where="path"
        ) from error
    if not present:
        raise Invalid(
            f"there is no file or folder {path}; give a path that the server can see",
            code="input_not_found",
            where="path",
        )
    if is_folder != (data.type != "uri_file"):
        actual = "uri_folder" if is_folder else "uri_file"
        raise Invalid(
            f"{path} is a {'folder' if is_folder else 'file'}; use type {actual}",
            code="field_invalid",
            where="type",
        )


def _with_source(asset: Model | Code) -> dict[str, str]:
    """Add where the files were fetched from, unless they came from the caller's own machine."""
    if asset.path.startswith("upload:") or _is_local(asset.path):
        return asset.properties
    return {_SOURCE: asset.path, **asset.properties}


def _is_local(uri: str) -> bool:
    return uri.startswith("file:") or not (is_uri(uri) or is_reference(uri))


def _elsewhere(text: str, where: str) -> Invalid:
    return Invalid(
        f"{text!r} lies in a shared registry, which is not reached from here: register it here "
        "and name that",
        code="reference_invalid",
        where=where,
    )
