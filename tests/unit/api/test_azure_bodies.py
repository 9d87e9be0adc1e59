"""Every recorded body of an Azure invocation is read, in any case, and the rest is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from batchpoint.api.azure_bodies import is_azure_body, read_invocation
from batchpoint.domain.errors import Invalid
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
            "input": {"type": "uri_file", "uri": "https://example.com/x.csv"},
            "output": {"uri": "azureml://datastores/workspaceblobstore/paths/out/"},
            "job_name": "jobx",
            "experiment_name": "exp1",
            "overrides": {
                "parameters": {"score_mode": "append"},
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
            "input": {"type": "uri_folder", "uri": FOLDER},
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
            "input": {"type": "uri_folder", "uri": FOLDER},
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
            "input": {"type": "uri_folder", "uri": FOLDER},
            "output": {"uri": "azureml://datastores/ds/paths//p/"},
            "overrides": {"output_file_name": "x.csv"},
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
            "input": {"type": "uri_folder", "uri": FOLDER},
            "output": {"uri": "azureml://d/x"},
            "description": "monthly",
            "tags": {"Team": "vision"},
            "overrides": {
                "parameters": {"beams": 4},
                "max_concurrency_per_instance": 2,
                "logging_level": "warning",
            },
        },
    ),
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
TWO: dict[str, Any] = {"a": DATA["data"], "b": DATA["data"]}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"inputData": DATA, "partitionKeys": ["a"]}, "properties.partitionKeys", "field_unsupported"),
    ({"inputData": TWO}, "properties.inputData.b", "field_unsupported"),
    (
        {"inputData": DATA, "dataset": {"dataInputType": "DataUrl", "path": "/x"}},
        "properties.dataset",
        "field_unsupported",
    ),
    ({"inputData": {}}, "properties.inputData", "field_invalid"),
    ({}, "properties.inputData", "field_invalid"),
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
        {"inputData": DATA, "outputData": {"s": {"jobOutputType": "MLTable", "uri": "/x"}}},
        "properties.outputData.s.jobOutputType",
        "field_unsupported",
    ),
    (
        {"inputData": DATA, "outputData": {"s": {"jobOutputType": "UriFile", "uri": "x.csv"}}},
        "properties.outputData.s.uri",
        "field_invalid",
    ),
    (
        {
            "inputData": DATA,
            "outputData": {
                name: {"jobOutputType": "UriFolder", "uri": "/x"} for name in ("s", "t")
            },
        },
        "properties.outputData.t",
        "field_unsupported",
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
        {
            "inputData": DATA,
            "outputData": {"s": {"jobOutputType": "UriFile", "uri": "/o/a.csv"}},
            "outputFileName": "b.csv",
        },
        "properties.outputFileName",
        "field_invalid",
    ),
    (
        {"inputData": DATA, "outputDataset": {"path": "p"}},
        "properties.outputDataset.datastoreId",
        "field_invalid",
    ),
    (
        {"inputData": DATA, "compute": {"target": "gpu"}},
        "properties.compute.target",
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
MODELS_REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (
        {"inputData": {"m": {"jobInputType": kind, "uri": "azureml:m:1", "mode": "Download"}}},
        "properties.inputData.m.jobInputType",
        "field_unsupported",
    )
    for kind in ("MLTable", "CustomModel", "MLFlowModel", "TritonModel")
]


@pytest.mark.parametrize(("properties", "where", "code"), REFUSED + MODELS_REFUSED)
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
