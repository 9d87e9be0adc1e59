"""How a file or a flag points at something: `azureml:` references, ARM ids, paths and URIs."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Literal

from batchpoint.domain.errors import Invalid

AssetKind = Literal["model", "environment"]

_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")
_NAME = r"[a-zA-Z0-9][\w.-]*"
_ASSET = re.compile(rf"(?P<name>{_NAME})(?::(?P<version>{_NAME})|@(?P<label>{_NAME}))")
_ARM = re.compile(
    r"/?subscriptions/.+/(?P<type>models|environments|computes|data|codes)/(?P<name>[^/]+)"
    r"(?:/(?:versions/(?P<version>[^/]+)|labels/(?P<label>[^/]+)))?/?"
)
_REGISTRY = re.compile(
    rf"azureml://registries/{_NAME}/(?P<type>\w+)/{_NAME}/(versions|labels)/{_NAME}"
)


def is_uri(text: str) -> bool:
    """Tell a URI (`s3://…`, `runs:/…`) from a local path."""
    return _URI.match(text) is not None


def is_reference(text: str) -> bool:
    """Tell whether a text can only be a reference to a registered asset."""
    return text.startswith(("azureml:", "/subscriptions/"))


def asset_reference(text: str, kind: AssetKind) -> str:
    """Bring a reference to the form `azureml:NAME:VERSION` or `azureml:NAME@LABEL`.

    A reference into a registry is returned as it is: settings may map it.

    Raises:
        Invalid: `reference_invalid`, saying which forms there are.
    """
    if _REGISTRY.fullmatch(text):
        return text
    bare = text.removeprefix("azureml:")
    arm = _ARM.fullmatch(bare)
    if arm is not None:
        if arm["type"] != f"{kind}s":
            raise Invalid(
                f"{text!r} names one of {arm['type']}, not a {kind}", code="reference_invalid"
            )
        bare = arm["name"] + (
            f":{arm['version']}" if arm["version"] else f"@{arm['label'] or 'latest'}"
        )
    found = _ASSET.fullmatch(bare)
    if found is None:
        raise Invalid(
            f"{text!r} is not a reference to a {kind}: expected azureml:NAME:VERSION or "
            "azureml:NAME@latest",
            code="reference_invalid",
        )
    if found["label"] not in (None, "latest"):
        raise Invalid(
            f"{text!r}: the only label is 'latest': write azureml:{found['name']}@latest or a "
            "version",
            code="reference_invalid",
        )
    return f"azureml:{bare}"


def compute_name(text: str) -> str:
    """Bring a reference to a compute (`azureml:NAME`, an ARM id, a name) to its name."""
    bare = text.removeprefix("azureml:")
    arm = _ARM.fullmatch(bare)
    return arm["name"] if arm is not None else bare


def local_path(text: str, folder: Path) -> Path:
    """Make a path that is written in a file of `folder` absolute; `~` is the user's home."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # `~nobody`: taken literally, and then not found
        path = Path(text)
    return Path(os.path.normpath(folder / path))


def found_at(path: Path) -> Literal["file", "folder", "other"] | None:
    """Tell what is at a path; None for nothing, and for what cannot be a path at all."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def data_uri(text: str, folder: Path) -> str:
    """Bring a pointer to data to a URI or an absolute path.

    Raises:
        Invalid: `field_unsupported` for a registered data asset.
    """
    if is_reference(text) and not text.startswith("azureml://datastores/"):
        raise Invalid(
            f"{text!r} names a data asset, which is not supported yet: give the path or URI of the "
            "data itself",
            code="field_unsupported",
        )
    return text if is_uri(text) else str(local_path(text, folder))


def data_type(uri: str) -> Literal["uri_file", "uri_folder"]:
    """Guess whether data is one file or a folder: by looking, or by the last part of the URI."""
    if not is_uri(uri):
        return "uri_file" if found_at(Path(uri)) == "file" else "uri_folder"
    last = uri.partition("?")[0].rpartition("/")[2]
    if uri.startswith("file:"):
        local = Path(uri.removeprefix("file://"))
        return "uri_file" if found_at(local) == "file" else "uri_folder"
    return "uri_file" if uri.startswith(("http:", "https:")) and "." in last else "uri_folder"
