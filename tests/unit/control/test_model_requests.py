"""What an invocation says to a deployment of a model, whatever names it used."""

from typing import Any

import pytest

from batchpoint.control.model_invocation import model_request
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.job import Invocation
from tests.unit.control.pipeline_cases import told

DATA = {"type": "uri_folder", "uri": "/data"}


def request(**fields: Any) -> Any:
    return model_request(Invocation.model_validate(fields))


def refused(**fields: Any) -> dict[str, str]:
    with pytest.raises(BatchpointError) as caught:
        request(**fields)
    return told(caught.value)


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"input": DATA}, "input"), ({"inputs": {"rows": DATA, "gone": None}}, "inputs.rows")],
)
def test_the_one_pointer_to_data_may_have_any_name(fields: dict[str, Any], field: str) -> None:
    found = request(**fields)
    assert (found.input.uri, found.input_field) == ("/data", field)
    assert (found.output, found.output_field) == (None, "output")


def test_literals_are_parameters() -> None:
    parameters = {"beams": 4, "mode": "fast"}
    found = request(
        inputs={"rows": DATA, "beams": 4, "top": 0.5, "deep": True},
        overrides={"parameters": parameters, "mini_batch_size": 3},
    )
    assert found.overrides.parameters == {"beams": 4, "mode": "fast", "top": 0.5, "deep": True}
    assert found.overrides.mini_batch_size == 3


def test_a_literal_that_differs_from_a_parameter_is_refused() -> None:
    found = refused(inputs={"rows": DATA, "beams": 5}, overrides={"parameters": {"beams": 4}})
    assert found == {"inputs.beams": "field_invalid"}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mltable", "tables are not supported"),
        ("mlflow_model", "the model belongs to the deployment"),
        ("custom_model", "the model belongs to the deployment"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(kind: str, words: str) -> None:
    with pytest.raises(BatchpointError, match=words) as caught:
        request(inputs={"rows": {"type": kind, "uri": "/data"}})
    assert told(caught.value) == {"inputs.rows.type": "field_unsupported"}


def test_everything_wrong_is_told_at_once() -> None:
    outputs = {
        "scores": {"type": "mltable", "uri": "/out", "name": "asset"},
        "more": {"uri": "/more"},
    }
    assert refused(
        inputs={"a": DATA, "b": DATA}, outputs=outputs, force_rerun=True, default_compute="big"
    ) == {
        "default_compute": "field_unsupported",
        "force_rerun": "field_unsupported",
        "inputs.b": "field_unsupported",
        "outputs.more": "field_unsupported",
        "outputs.scores.type": "field_unsupported",
        "outputs.scores.name": "field_unsupported",
    }
    assert refused(inputs={"rows": None, "x": 1}) == {"input": "field_invalid"}
    assert refused(input=DATA, inputs={"rows": DATA}) == {"inputs.rows": "field_unsupported"}
    found = refused(input=DATA, output={"uri": "/a"}, outputs={"b": {"uri": "/b"}})
    assert found == {"outputs.b": "field_unsupported"}


@pytest.mark.parametrize(
    ("output", "folder", "name"),
    [
        ({"uri": "/out"}, "/out", None),
        ({"type": "uri_folder", "uri": "/out/x.csv"}, "/out/x.csv", None),
        ({"type": "uri_file", "uri": "/out/x.csv"}, "/out/", "x.csv"),
        (
            {"type": "uri_file", "uri": "s3://bucket/deep/x.parquet"},
            "s3://bucket/deep/",
            "x.parquet",
        ),
        ({"type": "uri_file", "uri": "/out/"}, "/out/", None),
    ],
)
def test_an_output_that_is_a_file_names_the_predictions(
    output: dict[str, Any], folder: str, name: str | None
) -> None:
    found = request(input=DATA, outputs={"scores": output})
    assert found.output is not None
    assert (found.output.uri, found.overrides.output_file_name) == (folder, name)
    assert found.output_field == "outputs.scores"


@pytest.mark.parametrize("uri", ["x.csv", "s3://bucket.csv"])
def test_a_file_without_a_folder_is_refused(uri: str) -> None:
    found = refused(input=DATA, outputs={"scores": {"type": "uri_file", "uri": uri}})
    assert found == {"outputs.scores.uri": "field_invalid"}


def test_one_name_for_the_predictions() -> None:
    fields: dict[str, Any] = {
        "input": DATA,
        "outputs": {"scores": {"type": "uri_file", "uri": "/out/x.csv"}},
    }
    assert request(**fields, overrides={"output_file_name": "x.csv"})
    found = refused(**fields, overrides={"output_file_name": "y.csv"})
    assert found == {"outputs.scores.uri": "field_invalid"}


def test_an_output_without_a_place_goes_where_outputs_go() -> None:
    assert request(input=DATA, outputs={"scores": {}, "other": None}).output is None
