"""Changing some fields of a noun by a JSON merge patch (RFC 7396)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from batchpoint.domain.model_shape import Noun

_Changed = TypeVar("_Changed", bound=Noun)


def patched(noun: _Changed, patch: Mapping[str, object]) -> _Changed:
    """Return the noun with the patch applied: null resets a field, objects are merged.

    Raises: pydantic.ValidationError, naming each field that does not fit.
    """
    document = _merged(noun.model_dump(mode="json"), patch)
    # What was unset stays unset: a field that a patch resets gets the noun's own default.
    return type(noun).model_validate({k: v for k, v in document.items() if v is not None})


def _merged(target: object, patch: Mapping[str, object]) -> dict[str, Any]:
    merged = dict(cast("dict[str, object]", target)) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merged(merged.get(key), cast("dict[str, object]", value))
        else:
            merged[key] = value
    return merged
