"""Values for typed inputs, as they come from files, callers and the wire."""

import pytest

from batchpoint.core.input_values import fits, literal_value, values_for
from batchpoint.domain.component import DATA_TYPES, LITERAL_TYPES, ComponentInput
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput

Scalar = str | int | float | bool


def declared(**fields: object) -> ComponentInput:
    return ComponentInput.model_validate(fields)


@pytest.mark.parametrize(
    ("type_", "given", "value"),
    [
        ("integer", 3, 3),
        ("integer", "3", 3),
        ("integer", " -3 ", -3),
        ("integer", 3.0, 3),
        ("number", 3, 3),
        ("number", "3", 3),
        ("number", "0.5", 0.5),
        ("number", "1e-3", 0.001),
        ("number", ".5", 0.5),
        ("boolean", True, True),
        ("boolean", "True", True),
        ("boolean", "false", False),
        ("string", "", ""),
        ("string", 3, "3"),
        ("string", 0.5, "0.5"),
        ("string", True, "True"),
    ],
)
def test_values_become_those_of_their_type(type_: str, given: Scalar, value: Scalar) -> None:
    found = literal_value(declared(type=type_), given)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("type_", "given"),
    [
        ("integer", "3.5"),
        ("integer", 3.5),
        ("integer", True),
        ("integer", "1_000"),
        ("integer", "٣"),
        ("integer", ""),
        ("integer", 2**63),
        ("integer", "9" * 5_000),
        ("integer", float("inf")),
        ("number", "nan"),
        ("number", float("nan")),
        ("number", float("inf")),
        ("number", "1e999"),
        ("number", "1" * 5_000),
        ("number", False),
        ("boolean", 1),
        ("boolean", "yes"),
        ("string", "a\0b"),
    ],
)
def test_values_of_another_type_are_refused(type_: str, given: Scalar) -> None:
    with pytest.raises(Invalid) as caught:
        literal_value(declared(type=type_), given)
    assert caught.value.code == "field_invalid"
    assert len(caught.value.message) < 200


def test_bounds_and_enums_hold() -> None:
    bounded = declared(type="number", min=1, max=2.5)
    assert literal_value(bounded, "2.5") == 2.5
    for outside in (0.99, "2.51"):
        with pytest.raises(Invalid, match=r"minimum 1|maximum 2\.5"):
            literal_value(bounded, outside)
    listed = declared(type="integer", enum=["1", 2])
    assert literal_value(listed, "2") == 2
    with pytest.raises(Invalid, match="none of: 1, 2"):
        literal_value(listed, 3)


INPUTS = {
    "data": declared(type="uri_folder"),
    "mode": declared(type="string", enum=["a", "b"]),
    "n": declared(type="integer", default="7"),
    "maybe": declared(type="uri_file", optional=True),
}
FOLDER = JobInput(type="uri_folder", uri="file:///d")


def test_values_with_defaults_and_without_what_is_optional() -> None:
    values, findings = values_for(INPUTS, {"data": FOLDER, "mode": "a", "maybe": None}, "inputs")
    assert values == {"data": FOLDER, "mode": "a", "n": 7}
    assert not findings


def test_everything_wrong_is_told_at_once_with_its_place() -> None:
    given = {"mode": FOLDER, "n": "x", "maybe": FOLDER, "dat": 1}
    values, findings = values_for(INPUTS, given, "jobs.j.inputs")
    assert values == {}
    assert [(each.where, each.code) for each in findings] == [
        ("jobs.j.inputs.data", "input_missing"),
        ("jobs.j.inputs.mode", "field_invalid"),
        ("jobs.j.inputs.n", "field_invalid"),
        ("jobs.j.inputs.maybe", "field_invalid"),
        ("jobs.j.inputs.dat", "field_unknown"),
    ]
    assert "one of: a, b" in findings[1].message
    assert "did you mean 'data'?" in findings[4].message


def test_a_literal_is_no_data() -> None:
    findings = values_for(INPUTS, {"data": "./d", "mode": "a"}, "inputs")[1]
    assert [each.message for each in findings] == [
        (
            "expected data of type uri_folder, not the literal './d'; "
            "data is given as inputs.data.path=./d"
        )
    ]


def test_which_types_fit_which() -> None:
    pairs = {(a, b) for a in LITERAL_TYPES for b in LITERAL_TYPES if a != b and fits(a, b)}
    text = {("string", each) for each in LITERAL_TYPES}
    text |= {(each, "string") for each in LITERAL_TYPES}
    assert pairs == (text | {("integer", "number")}) - {("string", "string")}
    assert all(fits(each, each) for each in (*LITERAL_TYPES, *DATA_TYPES))
    assert not any(fits(a, b) or fits(b, a) for a in LITERAL_TYPES for b in DATA_TYPES)
    assert not fits("uri_file", "uri_folder")
    assert not fits("uri_folder", "uri_file")
    assert not fits("uri_file", "mlflow_model")
    for folder in ("uri_folder", "mltable", "mlflow_model", "custom_model"):
        assert fits(folder, "uri_folder")
    for each in DATA_TYPES:
        assert fits(each, "custom_model")
