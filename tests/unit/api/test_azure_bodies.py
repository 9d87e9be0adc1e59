"""Every recorded body of an Azure invocation is read, in any case, and the rest is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from batchpoint.api.azure_bodies import is_azure_body, read_invocation
from batchpoint.domain.errors import Conflict, Finding, Invalid
from batchpoint.domain.findings import all_of
from batchpoint.domain.job import Invocation

SHA = "0" * 64
FOLDER = f"azureml://datastores/workspaceblobstore/paths/LocalUpload/{SHA}/data/"
ASSET = (
    "/subscriptions/s/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
    "/data/heart/versions/3"
)

# What clients were recorded to send, and what it means here.
RECORDED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one folder": (
        {"inputData": {"UriFolder": {"jobInputType": "UriFolder", "uri": FOLDER}}},
        {"input": {"type": "uri_folder", "uri": FOLDER}},
    ),
    "everything": (
        {
            "inputData": {
                "input_data": {"jobInputType": "UriFile", "uri": "https://example.com/x.csv"},
                "score_mode": {"jobInputType": "Literal", "value": "append"},
            },
            "outputData": {
                "score": {
                    "jobOutputType": "UriFile",
                    "uri": "azureml://datastores/workspaceblobstore/paths/out/foo.csv",
                }
            },
            "compute": {"isLocal": True, "instanceCount": 5},
            "retrySettings": {"maxRetries": 1, "timeout": "PT40S"},
            "errorThreshold": 3,
            "miniBatchSize": 20,
            "outputFileName": "foo.csv",
            "name": "jobx",
            "properties": {"experimentName": "exp1"},
        },
        {
            "inputs": {
                "input_data": {"type": "uri_file", "uri": "https://example.com/x.csv"},
                "score_mode": "append",
            },
            "outputs": {
                "score": {
                    "type": "uri_file",
                    "uri": "azureml://datastores/workspaceblobstore/paths/out/foo.csv",
                }
            },
            "job_name": "jobx",
            "experiment_name": "exp1",
            "overrides": {
                "output_file_name": "foo.csv",
                "instance_count": 5,
                "max_retries": 1,
                "timeout": 40,
                "error_threshold": 3,
                "mini_batch_size": 20,
            },
        },
    ),
    "a data asset": (
        {"inputData": {"UriFolder": {"jobInputType": "UriFolder", "uri": ASSET}}},
        {"input": {"type": "uri_folder", "uri": ASSET}},
    ),
    "the oldest form": (
        {"dataset": {"dataInputType": "DataUrl", "Path": "https://e.com/data/mnist/sample"}},
        {"input": {"type": "uri_folder", "uri": "https://e.com/data/mnist/sample"}},
    ),
    "the oldest form, a file": (
        {"dataset": {"dataInputType": "DataUrl", "path": "https://e.com/data/x.csv?sv=1"}},
        {"input": {"type": "uri_file", "uri": "https://e.com/data/x.csv?sv=1"}},
    ),
    "the oldest form, an asset by id": (
        {"dataset": {"dataInputType": "DatasetId", "datasetId": ASSET}},
        {"input": {"type": "uri_folder", "uri": ASSET}},
    ),
    "the oldest form, an asset by name": (
        {
            "dataset": {
                "dataInputType": "DatasetVersion",
                "datasetName": "heart",
                "datasetVersion": "3",
            }
        },
        {"input": {"type": "uri_folder", "uri": "azureml:heart:3"}},
    ),
    "an output dataset": (
        {
            "inputData": {"a": {"jobInputType": "UriFolder", "uri": FOLDER}},
            "outputDataset": {"datastoreId": "azureml:workspaceblobstore", "path": "/out/here"},
            "outputFileName": "y.csv",
        },
        {
            "inputs": {"a": {"type": "uri_folder", "uri": FOLDER}},
            "output": {"uri": "azureml://datastores/workspaceblobstore/paths/out/here"},
            "overrides": {"output_file_name": "y.csv"},
        },
    ),
    "an output dataset by its long id": (
        {
            "inputData": {"a": {"jobInputType": "UriFolder", "uri": FOLDER}},
            "outputDataset": {
                "datastoreId": "/subscriptions/s/resourceGroups/rg/workspaces/w/datastores/ds",
                "path": "out",
            },
        },
        {
            "inputs": {"a": {"type": "uri_folder", "uri": FOLDER}},
            "output": {"uri": "azureml://datastores/ds/paths/out"},
        },
    ),
    "what the SDK makes of a path that begins with a slash": (
        {
            "inputData": {"a": {"jobInputType": "UriFolder", "uri": FOLDER}},
            "outputData": {
                "output_name": {
                    "jobOutputType": "UriFile",
                    "uri": "azureml://datastores/ds/paths//p/x.csv",
                }
            },
        },
        {
            "inputs": {"a": {"type": "uri_folder", "uri": FOLDER}},
            "outputs": {
                "output_name": {
                    "type": "uri_file",
                    "uri": "azureml://datastores/ds/paths//p/x.csv",
                }
            },
        },
    ),
    "an output folder and the rest of the overrides": (
        {
            "inputData": {
                "data": {"jobInputType": "uri_folder", "uri": FOLDER, "mode": "ReadOnlyMount"},
                "beams": {"jobInputType": "Literal", "value": 4},
            },
            "outputData": {"score": {"jobOutputType": "UriFolder", "uri": "azureml://d/x"}},
            "maxConcurrencyPerInstance": 2,
            "loggingLevel": "Warning",
            "description": "monthly",
            "tags": {"Team": "vision"},
            "partitionKeys": None,
        },
        {
            "inputs": {
                "data": {"type": "uri_folder", "uri": FOLDER, "mode": "ro_mount"},
                "beams": 4,
            },
            "outputs": {"score": {"type": "uri_folder", "uri": "azureml://d/x"}},
            "description": "monthly",
            "tags": {"Team": "vision"},
            "overrides": {
                "max_concurrency_per_instance": 2,
                "logging_level": "warning",
            },
        },
    ),
    "a pipeline with inputs of every type": (
        {
            "inputData": {
                "table": {"jobInputType": "MLTable", "uri": "azureml:t:1", "mode": "Download"},
                "model": {"jobInputType": "MLFlowModel", "uri": "azureml:m:1"},
                "weights": {"jobInputType": "CustomModel", "uri": "azureml:w:1", "mode": "Direct"},
                "UriFile": {"jobInputType": "UriFile", "uri": "/x"},
                "rate": {"jobInputType": "Literal", "value": "0.3"},
            },
            "outputData": {
                "model": {"jobOutputType": "MLFlowModel", "mode": "ReadWriteMount"},
                "table": {"jobOutputType": "MLTable", "uri": "/t", "mode": "Upload"},
            },
            "compute": {"target": "azureml:nightly"},
        },
        {
            "inputs": {
                "table": {"type": "mltable", "uri": "azureml:t:1", "mode": "download"},
                "model": {"type": "mlflow_model", "uri": "azureml:m:1"},
                "weights": {"type": "custom_model", "uri": "azureml:w:1", "mode": "direct"},
                "UriFile": {"type": "uri_file", "uri": "/x"},
                "rate": "0.3",
            },
            "outputs": {
                "model": {"type": "mlflow_model", "mode": "rw_mount"},
                "table": {"type": "mltable", "uri": "/t", "mode": "upload"},
            },
            "default_compute": "azureml:nightly",
        },
    ),
    "no data at all": ({"inputData": {}}, {}),
}
CHOSEN = {"inputData", "outputData", "tags"}
"""Objects whose names the caller chooses: they keep their case."""


def respelled(node: Any, spell: Callable[[str], str], *, keep: bool = False) -> Any:
    if not isinstance(node, dict):
        return node
    return {
        (name if keep else spell(name)): respelled(value, spell, keep=name in CHOSEN)
        for name, value in node.items()
    }


CASES: dict[str, Callable[[str], str]] = {
    "camel": lambda name: name,
    "pascal": lambda name: name[:1].upper() + name[1:],
    "lower": str.lower,
    "upper": str.upper,
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("form", list(RECORDED))
def test_recorded_bodies_mean_what_they_meant(form: str, case: str) -> None:
    properties, meant = RECORDED[form]
    body = respelled({"properties": properties}, CASES[case])
    assert is_azure_body(body)
    read = read_invocation(json.loads(json.dumps(body))).invocation
    assert read == Invocation.model_validate(meant)


def test_our_own_bodies_are_told_apart() -> None:
    for body in ({"input": {}}, {}, [], None, "properties", {"property": {}}):
        assert not is_azure_body(body)


DATA: dict[str, Any] = {"data": {"jobInputType": "UriFolder", "uri": FOLDER}}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"inputData": DATA, "partitionKeys": ["a"]}, "properties.partitionKeys", "field_unsupported"),
    (
        {"inputData": DATA, "dataset": {"dataInputType": "DataUrl", "path": "/x"}},
        "properties.dataset",
        "field_unsupported",
    ),
    ({"inputData": []}, "properties.inputData", "field_invalid"),
    ({"inputData": {"a": 1}}, "properties.inputData.a", "field_invalid"),
    ({"inputData": {"a": {"uri": "/x"}}}, "properties.inputData.a.jobInputType", "field_invalid"),
    (
        {"inputData": {"a": {"jobInputType": "UriFile"}}},
        "properties.inputData.a.uri",
        "field_invalid",
    ),
    (
        {"inputData": {"a": {"jobInputType": "UriFile", "uri": 3}}},
        "properties.inputData.a.uri",
        "field_invalid",
    ),
    (
        {"inputData": {"a": {"jobInputType": "UriFile", "uri": "/x", "pathOnCompute": "/y"}}},
        "properties.inputData.a.pathOnCompute",
        "field_unknown",
    ),
    (
        {"inputData": DATA | {"n": {"jobInputType": "Literal", "value": [1]}}},
        "properties.inputData.n.value",
        "field_invalid",
    ),
    (
        {
            "inputData": DATA,
            "outputData": {"s": {"jobOutputType": "UriFolder", "uri": "/x"}},
            "outputDataset": {"datastoreId": "d", "path": "p"},
        },
        "properties.outputDataset",
        "field_unsupported",
    ),
    (
        {"inputData": DATA, "outputDataset": {"path": "p"}},
        "properties.outputDataset.datastoreId",
        "field_invalid",
    ),
    (
        {"inputData": DATA, "compute": {"instanceType": "gpu"}},
        "properties.compute.instanceType",
        "field_unsupported",
    ),
    (
        {"inputData": DATA, "compute": {"instanceCount": 0}},
        "properties.compute.instanceCount",
        "field_invalid",
    ),
    (
        {"inputData": DATA, "compute": {"nodes": 2}},
        "properties.compute.nodes",
        "field_unknown",
    ),
    (
        {"inputData": DATA, "retrySettings": {"timeout": "40 s"}},
        "properties.retrySettings.timeout",
        "field_invalid",
    ),
    (
        {"inputData": DATA, "retrySettings": {"retries": 1}},
        "properties.retrySettings.retries",
        "field_unknown",
    ),
    ({"inputData": DATA, "miniBatchSize": "x"}, "properties.miniBatchSize", "field_invalid"),
    ({"inputData": DATA, "loggingLevel": "loud"}, "properties.loggingLevel", "field_invalid"),
    ({"inputData": DATA, "tags": {"a": {}}}, "properties.tags.a", "field_invalid"),
    ({"inputData": DATA, "status": "Running"}, "properties.status", "field_unsupported"),
    ({"inputData": DATA, "priority": 1}, "properties.priority", "field_unknown"),
    (
        {"inputData": DATA, "properties": {"owner": "me"}},
        "properties.properties.owner",
        "field_unknown",
    ),
    ({"inputData": DATA, "InputData": DATA}, "properties.InputData", "field_invalid"),
    (
        {"dataset": {"dataInputType": "DataUrl"}},
        "properties.dataset.path",
        "field_invalid",
    ),
    (
        {"dataset": {"dataInputType": "Table", "path": "/x"}},
        "properties.dataset.dataInputType",
        "field_invalid",
    ),
]
MODELS_AND_MODES: list[tuple[dict[str, Any], str, str]] = [
    (
        {"inputData": {"m": {"jobInputType": "TritonModel", "uri": "azureml:m:1"}}},
        "properties.inputData.m.jobInputType",
        "field_unsupported",
    ),
    (
        {"inputData": DATA, "outputData": {"m": {"jobOutputType": "TritonModel"}}},
        "properties.outputData.m.jobOutputType",
        "field_unsupported",
    ),
    (
        {"inputData": {"a": DATA["data"] | {"mode": "EvalMount"}}},
        "properties.inputData.a.mode",
        "field_unsupported",
    ),
    (
        {"inputData": {"a": DATA["data"] | {"mode": "Upload"}}},
        "properties.inputData.a.mode",
        "field_invalid",
    ),
]


@pytest.mark.parametrize(("properties", "where", "code"), REFUSED + MODELS_AND_MODES)
def test_what_cannot_be_honoured_is_refused_by_name(
    properties: dict[str, Any], where: str, code: str
) -> None:
    with pytest.raises(Invalid) as caught:
        read_invocation({"properties": properties})
    assert (caught.value.where, caught.value.code) == (where, code)
    assert caught.value.message


def test_what_stands_beside_properties_is_refused() -> None:
    body: dict[str, Any] = {"properties": {"inputData": DATA}, "sku": "big"}
    with pytest.raises(Invalid) as caught:
        read_invocation(body)
    assert (caught.value.where, caught.value.code) == ("sku", "field_unknown")
    empties: list[dict[str, Any]] = [{"properties": None}, {"properties": 3}]
    for empty in empties:
        with pytest.raises(Invalid):
            read_invocation(empty)


def test_errors_name_the_properties_of_the_body() -> None:
    literal = {"jobInputType": "Literal", "value": "x"}
    body: dict[str, Any] = {
        "properties": {
            "inputData": {"a.b": DATA["data"], "rate": literal},
            "outputData": {"s": {"jobOutputType": "UriFile", "uri": "/x/y.csv"}},
            "miniBatchSize": 2,
        }
    }
    read = read_invocation(body)
    named = {
        "inputs.a.b": "properties.inputData.a.b",
        "inputs.a.b.uri": "properties.inputData.a.b.uri",
        "inputs.rate": "properties.inputData.rate.value",
        "inputs.other": "properties.inputData.other",
        "outputs.s.uri": "properties.outputData.s.uri",
        "input": "properties.inputData",
        "settings.mini_batch_size": "properties.miniBatchSize",
        "deployment_name": "deployment_name",
    }
    for where, written in named.items():
        told = read.in_its_words(Conflict("no", code="output_exists", where=where))
        assert (told.where, told.code, type(told)) == (written, "output_exists", Conflict)
    findings = [Finding(where, "no", "input_missing") for where in named]
    told = read.in_its_words(all_of(findings))
    assert [found.where for found in told.findings] == list(named.values())
    assert "properties.inputData.rate.value: no" in told.message
