"""Parameters are merged by name, and typed as the model's signature declares them."""

import json
from pathlib import Path
from typing import Any

import pytest

from batchpoint.control.model_parameters import declared_parameters, fitted, merged
from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid


def param(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "default": None, "shape": None} | more


@pytest.fixture
def model(tmp_path: Path) -> Path:
    params = [
        param("beams", "long"),
        param("small", "integer"),
        param("temperature", "double"),
        param("loud", "boolean"),
        param("mode", "string"),
        param("many", "double", shape=[-1]),
        param("since", "datetime"),
    ]
    folder = tmp_path / "model"
    folder.mkdir()
    signature = {"inputs": None, "outputs": None, "params": json.dumps(params)}
    (folder / "MLmodel").write_text(json.dumps({"flavors": {}, "signature": signature}))
    return folder


def test_a_job_changes_some_parameters_and_keeps_the_others() -> None:
    assert merged({"a": 1, "b": "x"}, {"b": "y", "c": 2.5}) == {"a": 1, "b": "y", "c": 2.5}


@pytest.mark.parametrize(
    ("default", "given", "read"),
    [(4, "5", 5), (0.5, "1", 1.0), (True, "False", False), ("x", "5", "5"), (4, 0.5, 0.5)],
)
def test_text_is_read_as_the_deployments_default_is(default: Any, given: Any, read: Any) -> None:
    found = merged({"p": default}, {"p": given})["p"]
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("default", "given"), [(4, "4.5"), (4, "four"), (0.5, "nan"), (0.5, "x"), (True, "1")]
)
def test_text_that_is_no_such_value_is_refused(default: Any, given: str) -> None:
    with pytest.raises(Invalid) as caught:
        merged({"p": default}, {"p": given})
    assert (caught.value.code, caught.value.where) == ("field_invalid", "overrides.parameters.p")
    assert given in str(caught.value)


def test_all_parameters_together_are_bounded() -> None:
    most = {f"p{number}": number for number in range(limits.PARAMETERS_MAX)}
    assert len(merged(most, {"p0": 7})) == limits.PARAMETERS_MAX
    with pytest.raises(Invalid, match="101 parameters"):
        merged(most, {"one_more": 7})


def test_parameters_are_typed_by_the_signature(model: Path) -> None:
    on_the_wire = {"beams": "5", "small": 7.0, "temperature": "0.25", "loud": "TRUE", "mode": "5"}
    typed = fitted(on_the_wire, model)
    assert typed == {"beams": 5, "small": 7, "temperature": 0.25, "loud": True, "mode": "5"}
    assert [type(value) for value in typed.values()] == [int, int, float, bool, str]
    assert fitted({"temperature": 1}, model) == {"temperature": 1.0}
    assert fitted({}, model / "nowhere") == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("beam", "5", "the model has no parameter 'beam'; its signature has beams"),
        ("beams", "x", 'expected a whole number of 64 bits, got "x"'),
        ("beams", True, "expected a whole number"),
        ("beams", 2**63, "expected a whole number of 64 bits"),
        ("small", 2**31, "expected a whole number of 32 bits"),
        ("temperature", "inf", "expected a number"),
        ("temperature", False, "expected a number"),
        ("loud", 1, "expected true or false"),
        ("mode", 5, "expected a text, got 5"),
        ("many", "1", "is a list in the model's signature"),
        ("since", "2026-01-01", "of type datetime"),
    ],
)
def test_what_the_model_cannot_take_is_refused(
    model: Path, name: str, value: Any, said: str
) -> None:
    with pytest.raises(Invalid, match=said.replace("(", r"\(")) as caught:
        fitted({name: value}, model)
    assert (caught.value.code, caught.value.where) == (
        "field_invalid",
        f"overrides.parameters.{name}",
    )


@pytest.mark.parametrize("signature", [None, {}, {"params": None}, {"inputs": "[]"}])
def test_a_model_without_params_takes_none(tmp_path: Path, signature: Any) -> None:
    (tmp_path / "MLmodel").write_text(json.dumps({"signature": signature}))
    assert declared_parameters(tmp_path) == {}
    with pytest.raises(Invalid, match="has no params"):
        fitted({"a": 1}, tmp_path)


@pytest.mark.parametrize("text", ["signature: {params: '['}", "signature: {params: [1]}", "{", ""])
def test_an_mlmodel_file_that_says_nothing_is_not_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(Invalid):
        fitted({"a": 1}, tmp_path)


def test_the_model_may_lie_one_folder_below(model: Path) -> None:
    assert fitted({"beams": 1}, model.parent) == {"beams": 1}
