"""Turning URIs of this machine into paths and back."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.datastore_urls import without_query
from batchpoint.domain.errors import Invalid
from batchpoint.domain.references import DatastorePath, data_reference


def path_of(uri: str, *, where: str | None = None) -> Path:
    """Return the local path that a `file://` URI or an absolute path names.

    Raises: Invalid (`uri_invalid`), naming what can be read.
    """
    text = uri if uri.startswith("/") else _decoded(uri)
    if not text.startswith("/") or "\0" in text:
        raise Invalid(
            f"{uri!r} does not name data on this machine: expected an absolute path or a file:// "
            "URI",
            code="uri_invalid",
            where=where,
        )
    return Path(text)


def uri_of(path: Path) -> str:
    """Return the `file://` URI of an absolute path."""
    return path.as_uri()


def local_path_of(uri: str, access: StorageAccess) -> Path | None:
    """Return the path that a URI names here, also in a datastore that is a local folder.

    None: it lies elsewhere. Raises: Invalid (`uri_invalid`, `reference_invalid`).
    """
    if is_local(uri):
        return path_of(uri)
    found = data_reference(uri)
    if not isinstance(found, DatastorePath):
        return None
    for datastore in (each.datastore for each in access.datastores):
        if datastore.name == found.datastore and datastore.type == "local":
            if ".." in PurePosixPath(found.path).parts:
                raise Invalid(f"{uri!r} leaves its datastore", code="uri_invalid")
            return path_of(datastore.path or "") / found.path.lstrip("/")
    return None


def shown_of(uri: str) -> str:
    """Return a URI as people read it: the path of a local one, a URL without its query."""
    return str(path_of(uri)) if is_local(uri) else without_query(uri)


def etag_of(state: os.stat_result) -> str:
    """Name the content of a local file as far as a look at it can: another etag, other content."""
    return f"{state.st_mtime_ns:x}-{state.st_size:x}"


def is_local(uri: str) -> bool:
    """Tell a path or `file:` URI of this machine from what lies in an object store or on the web.

    Text that is no URI at all counts as local too: `path_of` says what is wrong with it.
    """
    return uri.startswith(("/", "file:")) or "://" not in uri


def _decoded(uri: str) -> str:
    """Return the path of a `file:` URI; anything else comes back as it is."""
    if not uri.startswith("file:"):
        return uri
    # A bare `?` or `#` belongs to the name: files have no queries.
    try:
        parts = urlsplit(uri.replace("#", "%23").replace("?", "%3F"))
    except ValueError:  # such as a bracket where a host belongs
        return uri
    return unquote(parts.path) if parts.netloc in ("", "localhost") else uri
