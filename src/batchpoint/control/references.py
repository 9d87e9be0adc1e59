"""References to assets and computes, in the spellings that files and callers use."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from batchpoint.domain.errors import Invalid

_REFERENCE = re.compile(
    r"(?:azureml:)?(?P<name>[a-zA-Z0-9][\w.-]*)"
    r"(?::(?P<version>[a-zA-Z0-9][\w.-]*)|@(?P<label>\w+))?",
    re.ASCII,
)


class Reference(NamedTuple):
    """A registered asset; `version` None is the newest (`@latest`)."""

    name: str
    version: str | None


def asset_reference(text: str, kind: Literal["model", "environment"]) -> Reference:
    """Read `azureml:NAME:VERSION`, `azureml:NAME@latest` or the same without `azureml:`.

    Raises: Invalid (`reference_invalid`), saying what is missing or which forms there are.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise Invalid(
            f"{text!r} is not a reference to a registered {kind}: expected azureml:NAME:VERSION or "
            "azureml:NAME@latest",
            code="reference_invalid",
            where=kind,
        )
    name, version, label = found["name"], found["version"], found["label"]
    if version is None and label is None:
        raise Invalid(
            f"{text!r} names a {kind} without its version: write azureml:{name}:VERSION or "
            f"azureml:{name}@latest",
            code="reference_invalid",
            where=kind,
        )
    if label not in (None, "latest"):
        raise Invalid(
            f"{text!r}: the only label is 'latest'; write azureml:{name}@latest or a version",
            code="reference_invalid",
            where=kind,
        )
    return Reference(name, version)


def compute_reference(text: str) -> str:
    """Read `azureml:NAME` or `NAME`. Raises: Invalid (`reference_invalid`)."""
    found = _REFERENCE.fullmatch(text)
    if found is None or found["version"] or found["label"]:
        raise Invalid(
            f"{text!r} is not a reference to a compute: expected azureml:NAME or NAME",
            code="reference_invalid",
            where="compute",
        )
    return found["name"]
