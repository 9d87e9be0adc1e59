"""Bodies of invocations as callers of Azure ML send them, read as our own, whatever their case.

Property names are compared without case; names that callers choose (of inputs, of tags) keep it.
What cannot be honoured is refused by name. Nothing is looked up here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from pydantic import JsonValue, ValidationError

from batchpoint.domain.endpoint import seconds
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.domain.findings import invalid_fields
from batchpoint.domain.job import Invocation
from batchpoint.domain.references import InputKind, kind_by_name

_ROOT = "properties"
# Where our own invocation keeps what a property says as it is.
_PLACES = {
    "errorThreshold": "overrides.error_threshold",
    "miniBatchSize": "overrides.mini_batch_size",
    "maxConcurrencyPerInstance": "overrides.max_concurrency_per_instance",
    "loggingLevel": "overrides.logging_level",
    "outputFileName": "overrides.output_file_name",
    "name": "job_name",
    "description": "description",
    "tags": "tags",
}
_REFUSED = {
    "partitionKeys": "is not supported: a model deployment scores files, which have no keys",
    "interactionEndpoints": "is set by the server; leave it out",
    "output": "is set by the server; say with outputData where results shall appear",
    "provisioningState": "is set by the server; leave it out",
    "status": "is set by the server; leave it out",
}
_COMPUTE_REFUSED = {
    "target": "is not supported: a job runs on its deployment's compute",
    "instanceType": "is not supported: a job runs on its deployment's compute",
    "location": "is not supported: a job runs on its deployment's compute",
    "properties": "is not supported: a job runs on its deployment's compute",
}
_MODEL = "cannot be scored: the model belongs to the deployment, and an input points at data"
_INPUT_TYPES_REFUSED = {
    "mltable": "cannot be scored: tables are not supported, point at the folder of files",
    "custommodel": _MODEL,
    "mlflowmodel": _MODEL,
    "tritonmodel": _MODEL,
}
_DATA_TYPES: dict[str, InputKind] = {"urifile": "uri_file", "urifolder": "uri_folder"}


def is_azure_body(body: object) -> bool:
    """Tell whether a body has Azure's shape: everything is below `properties`."""
    if not isinstance(body, dict):
        return False
    return any(name.lower() == _ROOT for name in cast("dict[str, object]", body))


class AzureRequest(NamedTuple):
    """An invocation, and by which property of the body each part of it was given."""

    invocation: Invocation
    given_by: Mapping[str, str]

    def in_its_words(self, error: BatchpointError) -> BatchpointError:
        """Return an error that names the property of the body in the place of our own field."""
        where = error.where or ""
        if where.startswith("settings."):  # merged with those of the deployment
            where = f"overrides.{where.removeprefix('settings.')}"
        written = self.given_by.get(where)
        if written is None:
            return error
        return type(error)(error.message, code=error.code, where=written)


def read_invocation(
    body: Mapping[str, JsonValue], kind_of: Callable[[str], InputKind] = kind_by_name
) -> AzureRequest:
    """Read a body of Azure's shape as an invocation.

    `kind_of` tells what a `dataset` points at, the one form that does not say it itself.
    Raises: Invalid (`field_invalid`, `field_unknown`, `field_unsupported`), naming the property.
    """
    top = _Properties(body, "")
    given = top.mapping(_ROOT)
    top.refuse_rest()
    if given is None:
        raise _invalid(_ROOT, "is missing")
    reading = _Reading()
    reading.refuse(given, _REFUSED)
    _read_inputs(given, reading, kind_of)
    _read_outputs(given, reading)
    for name, place in _PLACES.items():
        reading.put(place, given.take(name), given.path(name))
    _read_compute(given, reading)
    _read_retries(given, reading)
    free = given.mapping("properties")
    if free is not None:
        reading.put("experiment_name", free.take("experimentName"), free.path("experimentName"))
        free.refuse_rest("is not kept; use tags for what shall be found again with the job")
    given.refuse_rest()
    return AzureRequest(reading.invocation(), reading.given_by)


class _Properties:
    """The properties of one JSON object, taken by name without regard to case; null is absent."""

    def __init__(self, given: Mapping[str, JsonValue], where: str) -> None:
        self._where = where
        self._left: dict[str, tuple[str, JsonValue]] = {}
        for name, value in given.items():
            if name.lower() in self._left:
                raise _invalid(self.path(name), "is given twice, in two spellings")
            self._left[name.lower()] = (name, value)

    def path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def take(self, name: str) -> JsonValue:
        return self._left.pop(name.lower(), (name, None))[1]

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if value is None or isinstance(value, str):
            return value
        raise _invalid(self.path(name), "expected a text")

    def mapping(self, name: str) -> _Properties | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _invalid(self.path(name), "expected an object")
        return _Properties(value, self.path(name))

    def named(self, name: str) -> list[tuple[str, _Properties]]:
        """Take an object whose names the caller has chosen, with the objects in it."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, dict):
            raise _invalid(self.path(name), "expected an object")
        found: list[tuple[str, _Properties]] = []
        for key, entry in value.items():
            place = f"{self.path(name)}.{key}"
            if not isinstance(entry, dict):
                raise _invalid(place, "expected an object")
            found.append((key, _Properties(entry, place)))
        return found

    def refuse_rest(self, why: str = "is no property of an invocation; remove it") -> None:
        for name, value in self._left.values():
            if value is not None:
                raise Invalid(why, code="field_unknown", where=self.path(name))


class _Reading:
    """An invocation in the making, and by which property each part of it was given."""

    def __init__(self) -> None:
        self._fields: dict[str, JsonValue] = {}
        self.given_by: dict[str, str] = {}

    def put(self, place: str, value: JsonValue, given_by: str) -> None:
        if value is None:
            return
        before = self.given_by.get(place)
        if before is not None and self._fields[place] != value:
            raise _invalid(given_by, f"says something else than {before}; give one of them")
        self._fields[place] = value
        self.given_by[place] = given_by

    def refuse(self, given: _Properties, refused: Mapping[str, str]) -> None:
        for name, why in refused.items():
            if given.take(name) not in (None, {}):
                raise _unsupported(given.path(name), why)

    def invocation(self) -> Invocation:
        tree: dict[str, object] = {}
        for place, value in self._fields.items():
            *above, last = place.split(".")
            here = tree
            for step in above:
                here = cast("dict[str, object]", here.setdefault(step, {}))
            here[last] = value
        try:
            return Invocation.model_validate(tree)
        except ValidationError as error:
            findings = error.errors(include_url=False)
            for finding in findings:
                finding["loc"] = (self._written(finding["loc"]),)
            raise invalid_fields(findings) from error

    def _written(self, loc: tuple[int | str, ...]) -> str:
        steps = [str(step) for step in loc]
        for count in range(len(steps), 0, -1):
            given_by = self.given_by.get(".".join(steps[:count]))
            if given_by is not None:
                return ".".join([given_by, *steps[count:]])
        return ".".join([_ROOT, *steps])


def _read_inputs(
    given: _Properties, reading: _Reading, kind_of: Callable[[str], InputKind]
) -> None:
    data: list[str] = []
    for _name, entry in given.named("inputData"):
        where = entry.path("jobInputType")
        kind = _spelled(entry, "jobInputType")
        if kind == "literal":
            _read_literal(_name, entry, reading)
            continue
        if kind in _INPUT_TYPES_REFUSED:
            raise _unsupported(where, _INPUT_TYPES_REFUSED[kind])
        if kind not in _DATA_TYPES:
            raise _invalid(where, "expected UriFolder, UriFile or Literal")
        data.append(where.rpartition(".")[0])
        reading.put("input.type", _DATA_TYPES[kind], where)
        uri = entry.text("uri")
        if not uri:
            raise _invalid(entry.path("uri"), "is missing: say which file or folder to score")
        _only_one(data)
        reading.put("input.uri", uri, entry.path("uri"))
        entry.take("mode")  # how data reaches a node is the engine's choice
        entry.take("description")
        entry.refuse_rest("is no property of an input; remove it")
    dataset = given.mapping("dataset")
    if dataset is not None:
        data.append(given.path("dataset"))
        _only_one(data)
        uri, where = _dataset_uri(dataset)
        dataset.refuse_rest("is no property of a dataset; remove it")
        reading.put("input.type", kind_of(uri), where)
        reading.put("input.uri", uri, where)
    if not data:
        raise _invalid(
            given.path("inputData"),
            "is missing: it has to hold one input with jobInputType UriFolder or UriFile",
        )


def _only_one(data: list[str]) -> None:
    if len(data) > 1:
        raise _unsupported(
            data[1], f"is a second data input beside {data[0]}: a model deployment takes one"
        )


def _read_literal(name: str, entry: _Properties, reading: _Reading) -> None:
    value = entry.take("value")
    if value is None or isinstance(value, list | dict):
        raise _invalid(entry.path("value"), "expected a text, a number or a truth value")
    if "." in name:
        raise _invalid(entry.path("value"), f"{name!r} is not the name of a parameter")
    reading.put(f"overrides.parameters.{name}", value, entry.path("value"))
    entry.take("description")
    entry.refuse_rest("is no property of a literal input; remove it")


def _dataset_uri(dataset: _Properties) -> tuple[str, str]:
    """Read the oldest form of an input; gives the URI and the property that says it."""
    kind = _spelled(dataset, "dataInputType")
    if kind == "datasetversion":
        name, version = dataset.text("datasetName"), dataset.text("datasetVersion")
        if not name:
            raise _invalid(dataset.path("datasetName"), "is missing: name the data asset")
        which = f":{version}" if version else "@latest"
        return f"azureml:{name}{which}", dataset.path("datasetName")
    properties = {"dataurl": "path", "datasetid": "datasetId"}
    if kind not in properties:
        where = dataset.path("dataInputType")
        raise _invalid(where, "expected DataUrl, DatasetId or DatasetVersion")
    uri = dataset.text(properties[kind])
    if not uri:
        raise _invalid(dataset.path(properties[kind]), "is missing: say which data to score")
    return uri, dataset.path(properties[kind])


def _read_outputs(given: _Properties, reading: _Reading) -> None:
    outputs: list[str] = []
    for _name, entry in given.named("outputData"):
        where = entry.path("jobOutputType")
        kind = _spelled(entry, "jobOutputType")
        if kind not in _DATA_TYPES:
            raise _unsupported(where, "expected UriFolder or UriFile: results are files")
        outputs.append(where.rpartition(".")[0])
        if len(outputs) > 1:
            raise _unsupported(
                outputs[1], f"is a second output beside {outputs[0]}: a model deployment has one"
            )
        uri, where = entry.text("uri"), entry.path("uri")
        if uri and _DATA_TYPES[kind] == "uri_file":
            uri, name = _folder_and_file(uri, where)
            reading.put("overrides.output_file_name", name, where)
        reading.put("output.uri", uri, where)
        entry.take("mode")
        entry.take("description")
        entry.refuse_rest("is no property of an output; remove it")
    older = given.mapping("outputDataset")
    if older is None:
        return
    if outputs:
        raise _unsupported(
            given.path("outputDataset"),
            f"is a second output beside {outputs[0]}: a model deployment has one",
        )
    datastore, path = older.text("datastoreId"), older.text("path") or ""
    older.refuse_rest("is no property of an output; remove it")
    if not datastore:
        raise _invalid(older.path("datastoreId"), "is missing: name a datastore")
    name = datastore.removeprefix("azureml:").rstrip("/").rpartition("/")[2]
    uri = f"azureml://datastores/{name}/paths/{path.lstrip('/')}"
    reading.put("output.uri", uri, older.path("path"))


def _folder_and_file(uri: str, where: str) -> tuple[str, str]:
    """Part the URI of a file into that of its folder and its name."""
    folder, _, name = uri.rpartition("/")
    if not folder or folder.endswith(("/", ":")) or not name:
        raise _invalid(where, "expected the URI of a file: a folder, '/' and a file name")
    return folder + "/", name


def _read_compute(given: _Properties, reading: _Reading) -> None:
    compute = given.mapping("compute")
    if compute is None:
        return
    reading.refuse(compute, _COMPUTE_REFUSED)
    place = "overrides.instance_count"
    reading.put(place, compute.take("instanceCount"), compute.path("instanceCount"))
    compute.take("isLocal")  # Azure's SDK sends true with every instance count; it means nothing
    compute.refuse_rest("is no property of a compute; remove it")


def _read_retries(given: _Properties, reading: _Reading) -> None:
    retries = given.mapping("retrySettings")
    if retries is None:
        return
    reading.put("overrides.max_retries", retries.take("maxRetries"), retries.path("maxRetries"))
    given_timeout = retries.take("timeout")
    timeout = seconds(given_timeout.upper() if isinstance(given_timeout, str) else given_timeout)
    if isinstance(timeout, str):
        raise _invalid(
            retries.path("timeout"), "expected an ISO 8601 duration such as PT30S or PT5M"
        )
    reading.put("overrides.timeout", cast("JsonValue", timeout), retries.path("timeout"))
    retries.refuse_rest("is no property of retry settings; remove it")


def _spelled(entry: _Properties, name: str) -> str:
    """Take the value of an enum without its case and separators."""
    return (entry.text(name) or "").replace("_", "").replace("-", "").lower()


def _invalid(where: str, sentence: str) -> Invalid:
    return Invalid(sentence, code="field_invalid", where=where)


def _unsupported(where: str, sentence: str) -> Invalid:
    return Invalid(sentence, code="field_unsupported", where=where)
