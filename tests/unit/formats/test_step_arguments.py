"""The arguments of a step come back as they were, whatever is in them."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job_pointers import JobInput
from batchpoint.formats.step_arguments import read_arguments, write_arguments


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=()))))
def test_they_come_back(tmp_path: Path, arguments: list[str]) -> None:
    path = tmp_path / "arguments.json"
    inputs = {"a": JobInput(type="uri_file", uri="file:///a"), "n": 1, "t": "x", "f": 0.5}
    write_arguments(path, arguments, inputs)
    assert read_arguments(path) == (arguments, inputs)


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read_arguments(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"arguments": [], "inputs": []}',
        '{"arguments": "x", "inputs": {}}',
        '{"arguments": [1], "inputs": {}}',
    ],
)
def test_what_is_no_list_of_texts_is_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "arguments.json"
    path.write_text(text)
    with pytest.raises(Unavailable, match="damaged"):
        read_arguments(path)
