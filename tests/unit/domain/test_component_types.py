"""Types that only Azure has are refused by name at every door, with what to do instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from batchpoint.domain.component import ComponentInput, ComponentOutput, StepData
from batchpoint.domain.findings import invalid_fields
from batchpoint.domain.job_pointers import JobInput, PipelineOutput


@pytest.mark.parametrize(
    ("noun", "fields"),
    [
        (ComponentInput, {}),
        (ComponentOutput, {}),
        (StepData, {"path": "data"}),
        (JobInput, {"uri": "data"}),
        (PipelineOutput, {}),
    ],
)
@pytest.mark.parametrize(
    ("word", "advice"), [("TritonModel", "custom_model"), ("ml_table", "write mltable")]
)
def test_a_type_of_azures_is_refused_by_name(
    noun: type[Any], fields: dict[str, str], word: str, advice: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        noun.model_validate({"type": word, **fields})
    found = invalid_fields(caught.value.errors())
    assert (found.code, found.where) == ("field_unsupported", "type")
    assert "is not supported" in found.message
    assert advice in found.message
