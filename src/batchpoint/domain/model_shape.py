"""The shape shared by all nouns: frozen, unknown keys refused, enums read as Azure reads them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Noun(BaseModel):
    """Base of every noun: frozen; unknown keys are an error; field names are the YAML keys.

    Numbers are finite: JSON has no others, and would make them null, which means "not given".
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


def snake(value: object) -> object:
    """Normalise an enum spelling: `AppendRow`, `append-row` and `APPEND_ROW` are `append_row`."""
    if not isinstance(value, str):
        return value
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", value.strip())
    return words.replace("-", "_").lower()


def text(value: object) -> object:
    """Let YAML scalars stand for strings (`version: 1`, `tags: {a: 2}`), as Azure's loader does."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return value


def text_map(value: object) -> object:
    """Apply `text` to each value of a mapping."""
    if isinstance(value, dict):
        return {str(key): text(item) for key, item in cast("dict[object, object]", value).items()}
    return value


def whole(value: object) -> object:
    """Refuse a truth value where a number belongs: nobody means 1 by `true`."""
    if isinstance(value, bool):
        raise ValueError("input should be a whole number, not a truth value")  # noqa: TRY004  # pydantic's
    return value


def moment(value: object) -> object:
    """Refuse a time that is no text such as `2026-01-31T12:00:00Z`: a number has no unit."""
    if isinstance(value, datetime) or (isinstance(value, str) and _MOMENT.match(value)):
        return value
    raise ValueError("input should be a time such as 2026-01-31T12:00:00Z")


_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")
_Scalar = str | int | float | bool
Text = Annotated[str, BeforeValidator(text, json_schema_input_type=_Scalar)]
TextMap = Annotated[
    dict[str, str], BeforeValidator(text_map, json_schema_input_type=dict[str, _Scalar])
]
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, BeforeValidator(whole)]
Moment = Annotated[datetime, BeforeValidator(moment)]
