"""Names and identifiers: what a valid name is, and how job names are formed."""

from __future__ import annotations

import re

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid

_ENDPOINT_NAME = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
_ASSET_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_JOB_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]*")


def endpoint_name(text: str) -> str:
    """Check an endpoint, deployment or compute name (3 to 32 letters, digits, inner hyphens)."""
    if (
        not limits.NAME_LENGTH_MIN <= len(text) <= limits.NAME_LENGTH_MAX
        or _ENDPOINT_NAME.fullmatch(text) is None
    ):
        raise Invalid(
            f"{text!r} is not a name: expected {limits.NAME_LENGTH_MIN} to "
            f"{limits.NAME_LENGTH_MAX} letters, digits and hyphens, beginning with a letter "
            "and not ending with a hyphen",
            code="field_invalid",
        )
    return text


def asset_name(text: str) -> str:
    """Check the name or version of an asset (letters, digits, `_`, `.`, `-`)."""
    if len(text) > limits.ASSET_NAME_LENGTH_MAX or _ASSET_NAME.fullmatch(text) is None:
        raise Invalid(
            f"{text!r} is not an asset name: expected up to {limits.ASSET_NAME_LENGTH_MAX} "
            "letters, digits, '_', '.' and '-', beginning with a letter or digit",
            code="field_invalid",
        )
    return text


def job_name(text: str) -> str:
    """Check a job name (letters, digits, `_`, `-`)."""
    if len(text) > limits.ASSET_NAME_LENGTH_MAX or _JOB_NAME.fullmatch(text) is None:
        raise Invalid(
            f"{text!r} is not a job name: expected letters, digits, '_' and '-', beginning "
            "with a letter or digit",
            code="field_invalid",
        )
    return text


def job_name_from(random_hex: str, endpoint: str) -> str:
    """Form a job name that tells its endpoint, e.g. `heart-classifier-3f9a1c20`."""
    return f"{endpoint}-{random_hex[:8]}"
