"""Every spelling of a pointer to something registered or to where data lies: one parser."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from batchpoint.domain.errors import Invalid

AssetKind = Literal["model", "data", "environment", "code", "component"]
NamedKind = Literal["compute", "datastore", "job"]
InputKind = Literal["uri_file", "uri_folder"]

LATEST = "latest"

# How long ids begin that we give out; one server is one workspace.
WORKSPACE_ID = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/batchpoint"
    "/providers/Microsoft.MachineLearningServices/workspaces/batchpoint"
)

# The name of each collection in long ids.
COLLECTIONS: dict[str, str] = {
    "model": "models",
    "data": "data",
    "environment": "environments",
    "code": "codes",
    "component": "components",
    "compute": "computes",
    "datastore": "datastores",
    "job": "jobs",
}
_KINDS: dict[str, AssetKind | NamedKind] = {
    "models": "model",
    "data": "data",
    "environments": "environment",
    "codes": "code",
    "components": "component",
    "computes": "compute",
    "datastores": "datastore",
    "jobs": "job",
}
_ASSETS: dict[str, AssetKind] = {
    collection: kind
    for collection, kind in _KINDS.items()
    if kind in ("model", "data", "environment", "code", "component")
}


class AssetReference(NamedTuple):
    """A registered asset; `version` None is the newest one (`@latest`)."""

    kind: AssetKind
    name: str
    version: str | None

    def __str__(self) -> str:
        """Write it as `azureml:NAME:VERSION` or `azureml:NAME@latest`."""
        return f"azureml:{self.name}" + (f":{self.version}" if self.version else f"@{LATEST}")


class NamedReference(NamedTuple):
    """A thing without versions: a compute, a datastore or a job."""

    kind: NamedKind
    name: str

    def __str__(self) -> str:
        """Write it as `azureml:NAME`."""
        return f"azureml:{self.name}"


class RegistryReference(NamedTuple):
    """An asset of a shared registry; nothing of a registry is here, but settings may map it."""

    registry: str
    kind: AssetKind
    name: str
    version: str | None

    def __str__(self) -> str:
        """Write it as `azureml://registries/R/TYPE/NAME/versions/V` (or `/labels/latest`)."""
        which = f"versions/{self.version}" if self.version else f"labels/{LATEST}"
        return f"azureml://registries/{self.registry}/{COLLECTIONS[self.kind]}/{self.name}/{which}"


class DatastorePath(NamedTuple):
    """A place in a datastore; `path` is a raw key, "" for the top, a folder may end with `/`."""

    datastore: str
    path: str

    def __str__(self) -> str:
        """Write it as `azureml://datastores/NAME/paths/PATH`."""
        return f"azureml://datastores/{self.datastore}/paths/{self.path}"


class JobOutputPath(NamedTuple):
    """A place in what a job left: `path` below its output, "" for all of it."""

    job: str
    output: str
    path: str

    def __str__(self) -> str:
        """Write it as `azureml://jobs/JOB/outputs/OUTPUT/paths/PATH`."""
        below = f"/paths/{self.path}" if self.path else ""
        return f"azureml://jobs/{self.job}/outputs/{self.output}{below}"


class UploadReference(NamedTuple):
    """An uploaded tree; `name` is its folder's (or file's) name, "" when it was left out."""

    hash: str
    name: str

    def __str__(self) -> str:
        """Write it as `upload:HASH/NAME`."""
        return f"upload:{self.hash}" + (f"/{self.name}" if self.name else "")


class MlflowModel(NamedTuple):
    """A model of an MLflow server: by version (`models:/N/3`), alias (`models:/N@best`) or id."""

    name: str
    version: str | None
    alias: str | None

    def __str__(self) -> str:
        """Write it as MLflow does."""
        which = f"@{self.alias}" if self.alias is not None else ""
        if self.version is not None:
            which = f"/{self.version}"
        return f"models:/{self.name}{which}"


class MlflowRun(NamedTuple):
    """Files that a run of an MLflow server logged."""

    run: str
    path: str

    def __str__(self) -> str:
        """Write it as `runs:/RUN/PATH`."""
        return f"runs:/{self.run}" + (f"/{self.path}" if self.path else "")


class Location(NamedTuple):
    """Anything else that says where it lies: a URI of another scheme, or a local path."""

    uri: str

    def __str__(self) -> str:
        """Write it as it was given."""
        return self.uri


Reference = (
    AssetReference
    | NamedReference
    | RegistryReference
    | DatastorePath
    | JobOutputPath
    | UploadReference
    | MlflowModel
    | MlflowRun
    | Location
)

_NAME = r"[a-zA-Z0-9][\w.-]*"
_PREFIX = "azureml:"
_SHORT = re.compile(rf"(?P<name>{_NAME})(?::(?P<version>{_NAME})|@(?P<label>{_NAME}))?", re.ASCII)
# `/subscriptions/S/resourceGroups/R/[providers/P/]workspaces/W/…`, with or without the first `/`.
_WORKSPACE = re.compile(
    r"/?subscriptions/[^/]+(?:/resourcegroups/[^/]+)?(?:/providers/[^/]+)?/workspaces/[^/]+"
    r"/(?P<rest>.+)",
    re.IGNORECASE | re.DOTALL,
)
_REGISTRY = re.compile(r"registries/(?P<registry>[^/]+)/(?P<rest>.+)", re.IGNORECASE)
_VERSIONED = re.compile(
    rf"(?P<type>[a-z]+)/(?P<name>{_NAME})"
    rf"(?:/(?P<what>versions|labels)/(?P<which>{_NAME}))?/?",
    re.ASCII | re.IGNORECASE,
)
_DATASTORE_PATH = re.compile(
    rf"datastores/(?P<name>{_NAME})(?:/paths(?:/(?P<path>.*))?)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_JOB_OUTPUT = re.compile(
    rf"jobs/(?P<job>{_NAME})/outputs/(?P<output>\w+)(?:/(?:paths(?:/(?P<path>.*))?)?)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_UPLOAD = re.compile(r"upload:(?P<hash>[0-9a-f]{64})(?:/(?P<name>[^/]+))?")
_MLFLOW_MODEL = re.compile(r"models:/(?P<name>[^/@:]+)(?:/(?P<version>[^/@]+)|@(?P<alias>[^/@]+))")
_MLFLOW_ID = re.compile(r"models:/(?P<name>m-[0-9a-f]{32})")
_MLFLOW_RUN = re.compile(r"runs:/+(?P<run>[^/]+)(?:/(?P<path>.*))?", re.DOTALL)
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")
_AUTHORITY = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://[^/]*")
_QUERY = re.compile(r"[?#]")
_FILE_NAME = re.compile(r"[^/]*[^/.][^/]*\.[A-Za-z0-9]{1,8}")

_DATA_FORMS = (
    "a path, a URI (file, s3, gs, abfss, wasbs, https), azureml:NAME:VERSION, azureml:NAME@latest, "
    "azureml://datastores/NAME/paths/PATH or azureml://jobs/JOB/outputs/OUTPUT/paths/PATH"
)


def is_reference(text: str) -> bool:
    """Tell whether a text can only mean something registered here, and no path or other URI."""
    return text.startswith((_PREFIX, "upload:")) or _is_long_id(text)


def asset_reference(text: str, kind: AssetKind) -> AssetReference | RegistryReference:
    """Read a reference to a registered asset in any spelling, the `azureml:` prefix optional.

    `azureml:NAME:VERSION`, `azureml:NAME@latest` (components also `@default`), long ids
    (`/subscriptions/…/workspaces/W/models/NAME/versions/V`) and registry references.
    Raises: Invalid (`reference_invalid`), saying what is wrong and which forms there are.
    """
    found = _asset(text, kind)
    if found is not None:
        return found
    collection = COLLECTIONS[kind]
    raise _invalid(
        text,
        f"is not a reference to a registered {kind}: expected azureml:NAME:VERSION, "
        f"azureml:NAME@latest or an id that ends in /{collection}/NAME/versions/VERSION",
        kind,
    )


def named_reference(text: str, kind: NamedKind) -> str:
    """Read a reference to a compute, datastore or job: `azureml:NAME`, `NAME` or a long id.

    Raises: Invalid (`reference_invalid`).
    """
    if "${{" in text:
        raise _invalid(text, f"cannot be bound to an input here; write the {kind}'s name", kind)
    rest = _long_id(text.removeprefix(_PREFIX))
    if rest is not None:
        found = _VERSIONED.fullmatch(rest)
        if found is not None and found["what"] is None:
            actual = _KINDS.get(found["type"].lower())
            if actual == kind:
                return found["name"]
            raise _invalid(text, f"names one of {found['type']}, not a {kind}", kind)
    else:
        short = _SHORT.fullmatch(text.removeprefix(_PREFIX))
        if short is not None and short["version"] is None and short["label"] is None:
            return short["name"]
    raise _invalid(
        text,
        f"is not a reference to a {kind}: expected azureml:NAME, NAME or an id that ends in "
        f"/{COLLECTIONS[kind]}/NAME",
        kind,
    )


def data_reference(text: str) -> Reference:
    """Read a pointer to data: a reference in any spelling, else a URI or path as it is.

    `azureml:NAME:VERSION` is a data asset here.
    Raises: Invalid (`reference_invalid`, `uri_invalid`).
    """
    if text.startswith("upload:"):
        return upload_reference(text)
    place = _place(text)
    if place is not None:
        return place
    if text.startswith(_PREFIX) or _is_long_id(text):
        found = _asset(text, "data", named=True)
        if found is None:
            raise _invalid(text, f"does not point at data: expected {_DATA_FORMS}", None)
        return found
    return _mlflow(text) or Location(_checked_uri(text))


def model_source(text: str) -> Reference:
    """Read the `path` of a model: where its files lie, not the name of another model.

    Raises: Invalid (`reference_invalid`).
    """
    if text.startswith(("models:", "runs:")):
        found = _mlflow(text)
        if found is None:
            raise _invalid(
                text,
                "is no MLflow URI: expected models:/NAME/VERSION, models:/NAME@ALIAS or "
                "runs:/RUN/PATH",
                "path",
            )
        return found
    return data_reference(text)


def upload_reference(text: str) -> UploadReference:
    """Read `upload:HASH/NAME` or `upload:HASH`. Raises: Invalid (`reference_invalid`)."""
    found = _UPLOAD.fullmatch(text)
    if found is None:
        raise _invalid(text, "is not an upload: expected upload:HASH/NAME", None)
    return UploadReference(found["hash"], found["name"] or "")


def is_uri(text: str) -> bool:
    """Tell a URI (`s3://…`, `runs:/…`) from a local path."""
    return _SCHEME.match(text) is not None


def kind_by_name(uri: str) -> InputKind:
    """Guess from a path or URI alone whether it is a file: the last name in it has a suffix.

    Hosts and buckets are no names. A `?` begins the query of a URL only: elsewhere keys are raw.
    """
    if uri.lower().startswith(("http:", "https:")):
        uri = _QUERY.split(uri, maxsplit=1)[0]
    host = _AUTHORITY.match(uri)
    last = uri[host.end() if host else 0 :].rpartition("/")[2]
    return "uri_file" if _FILE_NAME.fullmatch(last) else "uri_folder"


def _asset(
    text: str, kind: AssetKind, *, named: bool = False
) -> AssetReference | RegistryReference | None:
    bare = text.removeprefix(_PREFIX)
    registry = _REGISTRY.fullmatch(bare.lstrip("/"))
    if registry is not None:
        found = _versioned(text, registry["rest"], kind)
        return found and RegistryReference(registry["registry"], *found)
    rest = _long_id(bare)
    if rest is not None:
        return _versioned(text, rest, kind)
    short = _SHORT.fullmatch(bare)
    if short is None:
        return None
    name, version, label = short["name"], short["version"], short["label"]
    if version is None and label is None:
        what = "data asset" if named else kind
        raise _invalid(
            text,
            f"names a {what} without its version: write azureml:{name}:VERSION or "
            f"azureml:{name}@{LATEST}",
            None if named else kind,
        )
    if label is not None:
        _check_label(text, label, kind)
    return AssetReference(kind, name, version)


def _versioned(text: str, rest: str, kind: AssetKind) -> AssetReference | None:
    found = _VERSIONED.fullmatch(rest)
    if found is None:
        return None
    actual = _ASSETS.get(found["type"].lower())
    if actual is None:
        return None
    if actual != kind:
        raise _invalid(text, f"names one of {found['type']}, not a {kind}", kind)
    if found["what"] is None:
        raise _invalid(text, f"names a {kind} without its version: add /versions/VERSION", kind)
    if found["what"].lower() == "labels":
        _check_label(text, found["which"], kind)
        return AssetReference(kind, found["name"], None)
    return AssetReference(kind, found["name"], found["which"])


def _check_label(text: str, label: str, kind: AssetKind) -> None:
    allowed = (LATEST, "default") if kind == "component" else (LATEST,)
    if label not in allowed:
        raise _invalid(
            text, f"has a label other than {LATEST!r}, the only one; write a version instead", kind
        )


def _place(text: str) -> DatastorePath | JobOutputPath | None:
    """Read what lies in a datastore or in a job's output, in its short and long forms."""
    bare = text.removeprefix(_PREFIX)
    if bare == text and not _is_long_id(text):
        return None
    rest = _long_id(bare)
    if rest is None:
        if not bare.startswith("//"):
            return None
        rest = bare[2:]
    found = _DATASTORE_PATH.fullmatch(rest)
    if found is not None:
        path = found["path"] or ""
        # A `/` too many: what Azure's SDK makes of an output path that begins with one.
        return DatastorePath(found["name"], _path_below(text, path.lstrip("/")))
    found = _JOB_OUTPUT.fullmatch(rest)
    if found is not None:
        path = (found["path"] or "").strip("/")
        return JobOutputPath(found["job"], found["output"], _path_below(text, path))
    return None


def _checked_uri(text: str) -> str:
    """Refuse a URI whose host is none, without repeating it: it may hold a password."""
    scheme, found, after = text.partition("://")
    try:
        if found:
            urlsplit(f"//{after.partition('/')[0]}")
    except ValueError as error:
        raise Invalid(
            f"the host of this {scheme[:20]}:// URI is none ({error}); check its brackets",
            code="uri_invalid",
        ) from error
    return text


def _path_below(text: str, path: str) -> str:
    """Refuse steps that would lead out of the place that was named."""
    if any(step in (".", "..") for step in path.split("/")) or "\0" in path:
        raise _invalid(text, "holds '.' or '..' in its path; write the path without them", None)
    return path


def _mlflow(text: str) -> MlflowModel | MlflowRun | None:
    model = _MLFLOW_MODEL.fullmatch(text)
    if model is not None:
        return MlflowModel(model["name"], model["version"], model["alias"])
    logged = _MLFLOW_ID.fullmatch(text)
    if logged is not None:
        return MlflowModel(logged["name"], None, None)
    run = _MLFLOW_RUN.fullmatch(text)
    if run is not None:
        path = (run["path"] or "").strip("/")
        return MlflowRun(run["run"], _path_below(text, path))
    return None


def _long_id(bare: str) -> str | None:
    """Return what a long id names inside its workspace, None when it is no long id."""
    found = _WORKSPACE.fullmatch(bare.removeprefix("//"))
    return None if found is None else found["rest"]


def _is_long_id(text: str) -> bool:
    return text.lower().startswith("/subscriptions/")


def _invalid(text: str, what: str, where: str | None) -> Invalid:
    shown = text if len(text) <= 200 else text[:200] + "…"
    return Invalid(f"{shown!r} {what}", code="reference_invalid", where=where)
