"""From a pointer to data, in any spelling, to the canonical URI of where it lies."""

from __future__ import annotations

import re
from urllib.parse import quote

from batchpoint.control.asset_versions import AssetVersions
from batchpoint.control.datastores import Datastores
from batchpoint.domain.asset import Data
from batchpoint.domain.datastore_urls import without_query
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.job import TERMINAL_STATES, JobState
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.references import (
    AssetReference,
    DatastorePath,
    JobOutputPath,
    Location,
    MlflowModel,
    MlflowRun,
    Reference,
    UploadReference,
    data_reference,
    is_uri,
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
        if place.output not in OUTPUTS:
            raise NotFound(
                f"job {place.job!r} has no output named {place.output!r}; its one output is score",
                code="output_not_found",
                where=where,
            )
        state = job.status.state
        if state not in TERMINAL_STATES:
            raise Conflict(
                f"job {place.job!r} has not ended ({state.value}): its output appears when it has; "
                "wait for it",
                code="job_not_finished",
                where=where,
            )
        if state is not JobState.COMPLETED:
            raise NotFound(
                f"job {place.job!r} is {state.value} and left no output; name one that completed",
                code="output_not_found",
                where=where,
            )
        return below(job.status.output_uri or job.scoring.output.uri, place.path)


class DataReferences:
    """Turns what callers point at into what jobs read."""

    def __init__(self, data: AssetVersions[Data], places: DataPlaces) -> None:
        """Look data assets and places up in these."""
        self._data = data
        self._places = places

    def resolved_input(self, source: JobInput) -> JobInput:
        """Return an input whose sources are canonical URIs; `asset` says which assets were named.

        Where one data asset is all that is named, its own type counts.
        Raises: NotFound (`data_not_found` and as `DataPlaces.uri`); Conflict
        (`job_not_finished`); Invalid (`reference_invalid`, `field_unsupported` for an mltable).
        """
        where = "input.uri" if source.uri is not None else "input.uris"
        found = [self._resolved(text, where) for text in source.sources]
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

    def _resolved(self, text: str, where: str) -> tuple[str, Data | None]:
        reference = data_reference(text)
        if not isinstance(reference, AssetReference):
            return self._places.uri(reference, where=where), None
        asset = self._data.get(reference.name, reference.version)
        if asset.type == "mltable":
            raise Invalid(
                f"{text!r} is an MLTable, which a model deployment cannot read: register the files "
                "it points at as uri_folder, and name that",
                code="field_unsupported",
                where=where,
            )
        return self._places.uri(data_reference(asset.path), where=where), asset


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
