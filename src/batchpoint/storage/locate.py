"""Turning URIs of this machine into paths and back."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from batchpoint.domain.errors import Invalid


def path_of(uri: str, *, where: str | None = None) -> Path:
    """Return the local path that a `file://` URI or an absolute path names.

    Raises: Invalid (`uri_invalid`), naming what can be read.
    """
    text = unquote(urlsplit(uri).path) if _is_local_uri(uri) else uri
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


def etag_of(state: os.stat_result) -> str:
    """Name the content of a local file as far as a look at it can: another etag, other content."""
    return f"{state.st_mtime_ns:x}-{state.st_size:x}"


def _is_local_uri(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return parts.scheme == "file" and parts.netloc in ("", "localhost")
