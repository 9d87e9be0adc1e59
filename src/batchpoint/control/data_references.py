"""From a pointer to data, in any spelling, to the canonical URI of where it lies."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from batchpoint.control.asset_versions import AssetVersions
from batchpoint.control.datastores import Datastores
from batchpoint.domain.asset import Data, Model
from batchpoint.domain.component import FILE_TYPES, DataType
from batchpoint.domain.datastore_urls import without_query
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import PipelineSpec, ScoreSpec
from batchpoint.domain.references import (
    AssetReference,
    DatastorePath,
    JobOutputPath,
    Location,
    MlflowModel,
    MlflowRun,
    Reference,
    UploadReference,
    asset_reference,
    data_reference,
    is_reference,
    is_uri,
    model_source,
)
from batchpoint.ledger.ledger import Ledger
from batchpoint.storage.locate import uri_of
from batchpoint.storage.tree_store import TreeStore

# The output of a job here; `artifacts` is where Azure's training jobs leave a model.
OUTPUTS = ("score", "artifacts")
_ENCODED = ("file://", "http://", "https://")
# What signs URLs: Azure (SAS), S3 in both versions, GCS.
_SIGNATURE = re.compile(r"(?i)(?:^|&)(?:sig|signature|x-amz-signature|x-goog-signature)=")
MODEL_TYPES = ("mlflow_model", "custom_model")
"""Types of data that name a registered model where others name a data asset."""
SCHEMES = ("file", "s3", "gs", "abfs", "abfss", "wasb", "wasbs", "http", "https")


class DataPlaces:
    """Where datastore paths, job outputs and uploads lie."""

    def __init__(self, datastores: Datastores, trees: TreeStore, ledger: Ledger) -> None:
        """Look things up in these."""
        self._datastores = datastores
        self._trees = trees
        self._ledger = ledger

    def uri(self, place: Reference, *, where: str) -> str:
        """Return the canonical URI of a place; a location comes back as it was given.

        Raises: NotFound (`datastore_not_found`, `job_not_found`, `output_not_found`,
        `upload_not_found`); Conflict (`job_not_finished`); Invalid (`uri_invalid`,
        `reference_invalid`).
        """
        match place:
            case DatastorePath():
                self._datastores.get(place.datastore)
                return str(place)
            case JobOutputPath():
                return self._output(place, where)
            case UploadReference():
                return uri_of(self._trees.open_tree(str(place), where=where)[0])
            case Location():
                _check_scheme(place.uri, where)
                return place.uri
            case MlflowModel() | MlflowRun():
                why = "is a model's address; data is given by its own path or URI"
            case _:
                why = "does not say where data lies; give a path, a URI or a registered data asset"
        raise Invalid(f"{str(place)!r} {why}", code="reference_invalid", where=where)

    def _output(self, place: JobOutputPath, where: str) -> str:
        job = self._ledger.get_job(place.job)
        if isinstance(job.spec, ScoreSpec) and job.spec.step is None:
            return self._score(job, place, where)
        published = self._published(job, place.output, where)
        if published.type in FILE_TYPES and place.path:
            raise NotFound(
                f"output {place.output!r} of job {place.job!r} is a file, with nothing below it; "
                "leave the path out",
                code="output_not_found",
                where=where,
            )
        return below(published.uri, place.path)

    def _score(self, job: Job, place: JobOutputPath, where: str) -> str:
        if place.output not in OUTPUTS:
            raise NotFound(
                f"job {place.job!r} has no output named {place.output!r}; its one output is score",
                code="output_not_found",
                where=where,
            )
        _check_completed(job, where)
        return below(job.status.output_uri or job.scoring.output.uri, place.path)

    def _published(self, job: Job, output: str, where: str) -> PublishedOutput:
        """Return an output of a pipeline or of one of its steps, as soon as it is complete."""
        found = job.status.outputs.get(output)
        if found is not None:
            return found
        spec = job.spec
        if isinstance(spec, PipelineSpec):
            known = sorted(spec.outputs)
            by = spec.outputs.get(output)
            if by is not None:
                child = self._ledger.get_job(spec.steps[by.step])
                found = child.status.outputs.get(by.output)
                if found is not None:
                    return found
                if child.status.state in TERMINAL_STATES:
                    job = child
        else:
            known = sorted(spec.step.outputs) if spec.step is not None else []
        if output not in known:
            there = f"its outputs are {', '.join(known)}" if known else "it has none"
            raise NotFound(
                f"job {job.name!r} has no output named {output!r}; {there}",
                code="output_not_found",
                where=where,
            )
        _check_completed(job, where)
        raise NotFound(
            f"job {job.name!r} has completed without its output {output!r}",
            code="output_not_found",
            where=where,
        )


def _check_completed(job: Job, where: str) -> None:
    state = job.status.state
    if state not in TERMINAL_STATES:
        raise Conflict(
            f"job {job.name!r} has not ended ({state.value}): its output appears when it has; "
            "wait for it",
            code="job_not_finished",
            where=where,
        )
    if state is not JobState.COMPLETED:
        raise NotFound(
            f"job {job.name!r} is {state.value} and left no output; name one that completed",
            code="output_not_found",
            where=where,
        )


class DataReferences:
    """Turns what callers point at into what jobs read."""

    def __init__(
        self,
        data: AssetVersions[Data],
        models: AssetVersions[Model],
        places: DataPlaces,
        stored: Callable[[str, str], str],
    ) -> None:
        """Look assets and places up in these.

        `stored` brings the files of an MLflow model here and returns the reference of their tree;
        it gets the model's URI and the field that names it.
        """
        self._data = data
        self._models = models
        self._places = places
        self._stored = stored

    def is_registered(self, kind: DataType, name: str, version: str) -> bool:
        """Tell whether there is a model or data asset, as the type says, of this version."""
        known = self._models if kind in MODEL_TYPES else self._data
        try:
            known.get(name, version)
        except NotFound:
            return False
        return True

    def resolved_input(self, source: JobInput, where: str = "input") -> JobInput:
        """Return an input to be scored, its sources canonical URIs.

        `asset` says which assets were named. Where one data asset is all that is named, its own
        type counts; `where` is the field that holds the input.
        Raises: NotFound (`data_not_found` and as `DataPlaces.uri`); Conflict
        (`job_not_finished`); Invalid (`reference_invalid`, `field_unsupported` for an mltable).
        """
        found = self._all(source, where)
        for text, (_, asset) in zip(source.sources, found, strict=True):
            if isinstance(asset, Data) and asset.type == "mltable":
                raise Invalid(
                    f"{text!r} is an MLTable, which a model deployment cannot read: register the "
                    "files it points at as uri_folder, and name that",
                    code="field_unsupported",
                    where=_place(source, where),
                )
        return _told(source, found)

    def resolved_data(self, source: JobInput, where: str) -> JobInput:
        """Return an input of a pipeline of any type, as `resolved_input` does.

        What is of a model's type names registered models; MLflow's are stored here first.
        Raises: as `resolved_input`; NotFound (`model_not_found`).
        """
        if source.type not in MODEL_TYPES:
            return _told(source, self._all(source, where))
        field = _place(source, where)
        return _told(source, [self._model(text, field) for text in source.sources])

    def _all(self, source: JobInput, where: str) -> list[tuple[str, _Asset | None]]:
        field = _place(source, where)
        return [self._resolved(text, field) for text in source.sources]

    def _resolved(self, text: str, where: str) -> tuple[str, _Asset | None]:
        reference = data_reference(text)
        if not isinstance(reference, AssetReference):
            return self._places.uri(reference, where=where), None
        asset = self._data.get(reference.name, reference.version)
        return self._places.uri(data_reference(asset.path), where=where), asset

    def _model(self, text: str, where: str) -> tuple[str, _Asset | None]:
        source = model_reference(text)
        if isinstance(source, AssetReference):
            model = self._models.get(source.name, source.version)
            return self._places.uri(data_reference(model.path), where=where), model
        if isinstance(source, MlflowModel | MlflowRun):
            source = data_reference(self._stored(text, where))
        return self._places.uri(source, where=where), None


_Asset = Data | Model


def _place(source: JobInput, where: str) -> str:
    return f"{where}.{'uri' if source.uri is not None else 'uris'}"


def _told(source: JobInput, found: list[tuple[str, _Asset | None]]) -> JobInput:
    uris = tuple(uri for uri, _ in found)
    assets = [asset for _, asset in found if asset is not None]
    told: dict[str, object] = {
        "uri": uris[0] if source.uri is not None else None,
        "uris": () if source.uri is not None else uris,
        "asset": ", ".join(f"azureml:{a.name}:{a.version}" for a in assets) or None,
    }
    if len(found) == len(assets) == 1:
        told["type"] = assets[0].type
    return source.model_copy(update=told)


def model_reference(text: str) -> Reference:
    """Read what names a model as data: `azureml:NAME:VERSION` is a registered one.

    Raises: Invalid (`reference_invalid`).
    """
    if not is_reference(text) or text.startswith("upload:"):
        return model_source(text)
    try:
        place = data_reference(text)
    except Invalid:  # the long id of a model, or wrong: then the next line tells why
        return asset_reference(text, "model")
    if isinstance(place, DatastorePath | JobOutputPath):
        return place
    return asset_reference(text, "model")


def below(uri: str, path: str) -> str:
    """Return the URI of a path below a folder's URI; `path` is raw, "" is the folder itself."""
    if not path:
        return uri
    step = quote(path) if uri.startswith(_ENCODED) else path
    return f"{uri.rstrip('/')}/{step}"


def _check_scheme(uri: str, where: str) -> None:
    scheme, _, rest = uri.partition("://")
    scheme = scheme.partition(":")[0].lower()
    if scheme in ("http", "https") and "@" in rest.partition("/")[0]:
        raise Invalid(
            f"the {scheme} URL holds a user name or password, which would be kept and shown with "
            "the job: register a datastore with these credentials, and leave them out",
            code="uri_invalid",
            where=where,
        )
    if scheme in ("http", "https") and _SIGNATURE.search(uri.partition("?")[2]):
        raise Invalid(
            f"{without_query(uri)} comes with a signature, which would be kept with the job: "
            "register a datastore with it (credentials sas_token, or the access key behind it) and "
            "name azureml://datastores/NAME/paths/PATH",
            code="uri_invalid",
            where=where,
        )
    if is_uri(uri) and scheme not in SCHEMES:
        raise Invalid(
            f"{uri!r} cannot be read: expected a path or a URI of {', '.join(SCHEMES)}, or "
            "azureml://datastores/NAME/paths/PATH",
            code="uri_invalid",
            where=where,
        )
