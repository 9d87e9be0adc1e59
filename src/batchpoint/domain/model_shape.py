"""The shape shared by all nouns: frozen, unknown keys refused, enums read as Azure reads them."""

from __future__ import annotations

import re
from typing import Annotated, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Noun(BaseModel):
    """Base of every noun: frozen; unknown keys are an error; field names are the YAML keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


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


Text = Annotated[str, BeforeValidator(text)]
TextMap = Annotated[dict[str, str], BeforeValidator(text_map)]
