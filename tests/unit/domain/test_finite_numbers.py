"""JSON has no NaN and no infinity: they would arrive as null, which means "not given"."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from batchpoint.domain.component import ComponentInput
from batchpoint.domain.findings import invalid_fields
from batchpoint.domain.job import Invocation, Overrides

RATE = {"type": "number"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("noun", "document", "where"),
    [
        (Invocation, lambda value: {"inputs": {"rate": value}}, "inputs.rate"),
        (Overrides, lambda value: {"parameters": {"rate": value}}, "parameters.rate"),
        (ComponentInput, lambda value: {**RATE, "default": value}, "default"),
        (ComponentInput, lambda value: {**RATE, "max": value}, "max"),
    ],
)
def test_what_is_not_finite_is_refused(
    noun: type[Any], document: Callable[[float], dict[str, object]], where: str, value: float
) -> None:
    with pytest.raises(ValidationError) as caught:
        noun.model_validate(document(value))
    found = invalid_fields(caught.value.errors())
    assert found.where == where
    assert found.message == "input should be a finite number"
