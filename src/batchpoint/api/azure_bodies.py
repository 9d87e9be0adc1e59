"""Bodies of invocations as callers of Azure ML send them, read as our own, whatever their case.

Property names are compared without case; names that callers choose (of inputs, of tags) keep it.
What cannot be honoured is refused by name. Nothing is looked up here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from pydantic import JsonValue, ValidationError

from batchpoint.domain.component import TYPES_REFUSED, DataType
from batchpoint.domain.endpoint import seconds
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.domain.findings import all_of, invalid_fields
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
    "partitionKeys": "is not supported: input is cut by files and rows, which have no keys",
    "interactionEndpoints": "is set by the server; leave it out",
    "output": "is set by the server; say with outputData where results shall appear",
    "provisioningState": "is set by the server; leave it out",
    "status": "is set by the server; leave it out",
}
_NO_MACHINES = "is not supported: no machines are created here; name a compute as target"
_COMPUTE_REFUSED = {
    "instanceType": _NO_MACHINES,
    "location": _NO_MACHINES,
    "properties": _NO_MACHINES,
}
_DATA_TYPES: dict[str, DataType] = {
    "urifile": "uri_file",
    "urifolder": "uri_folder",
    "mltable": "mltable",
    "custommodel": "custom_model",
    "mlflowmodel": "mlflow_model",
}
_TRITON = f"is not supported: {TYPES_REFUSED['triton_model']}"
# What Azure's SDK calls the one input of a caller who gave it no name.
_UNNAMED = frozenset({"UriFile", "UriFolder"})
_INPUT_MODES = {
    "readonlymount": "ro_mount",
    "romount": "ro_mount",
    "download": "download",
    "direct": "direct",
}
_OUTPUT_MODES = {
    "readwritemount": "rw_mount",
    "rwmount": "rw_mount",
    "upload": "upload",
    "direct": "direct",
}
_EVAL = ("evalmount", "evaldownload")


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
        """Return an error that names properties of the body in the place of our own fields."""
        findings = tuple(
            found._replace(where=self._written(found.where)) for found in error.findings
        )
        if len(findings) > 1:
            told: BatchpointError = all_of(findings)
            told.code = error.code
            return told
        where = error.where and self._written(error.where)
        told = type(error)(error.message, code=error.code, where=where)
        told.findings = findings
        return told

    def _written(self, where: str) -> str:
        if where.startswith("settings."):  # merged with those of the deployment
            where = f"overrides.{where.removeprefix('settings.')}"
        known, rest = where, ""
        while known:
            if known in self.given_by:
                return self.given_by[known] + rest
            known, dot, last = known.rpartition(".")
            rest = f"{dot}{last}{rest}"
        return where


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
        self._named: dict[str, dict[str, JsonValue]] = {"inputs": {}, "outputs": {}}
        self.given_by: dict[str, str] = {
            "input": f"{_ROOT}.inputData",
            "inputs": f"{_ROOT}.inputData",
            "output": f"{_ROOT}.outputData",
            "outputs": f"{_ROOT}.outputData",
        }

    def put(self, place: str, value: JsonValue, given_by: str) -> None:
        if value is None:
            return
        before = self.given_by.get(place)
        if before is not None and self._fields[place] != value:
            raise _invalid(given_by, f"says something else than {before}; give one of them")
        self._fields[place] = value
        self.given_by[place] = given_by

    def name(self, holder: str, name: str, value: JsonValue, given_by: str) -> None:
        """Keep an input or output under the name that the caller has chosen for it."""
        self._named[holder][name] = value
        place = f"{holder}.{name}"
        self.given_by[place] = given_by
        if isinstance(value, dict):
            kind = "jobInputType" if holder == "inputs" else "jobOutputType"
            self.given_by[f"{place}.type"] = f"{given_by}.{kind}"

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
        tree |= {holder: named for holder, named in self._named.items() if named}
        try:
            return Invocation.model_validate(tree)
        except ValidationError as error:
            found = invalid_fields(error.errors(include_url=False), tree)
            raise AzureRequest(Invocation(), self.given_by).in_its_words(found) from error


def _read_inputs(
    given: _Properties, reading: _Reading, kind_of: Callable[[str], InputKind]
) -> None:
    data: dict[str, tuple[dict[str, JsonValue], str]] = {}
    for name, entry in given.named("inputData"):
        kind = _spelled(entry, "jobInputType")
        if kind == "literal":
            reading.name("inputs", name, _literal(entry), entry.path("value"))
            continue
        told = _data(entry, "jobInputType", kind, "UriFolder, UriFile or Literal")
        if "uri" not in told:
            raise _invalid(entry.path("uri"), "is missing: say which data to read")
        told |= _mode(entry, _INPUT_MODES)
        entry.take("description")
        entry.refuse_rest("is no property of an input; remove it")
        data[name] = (told, entry.path("uri").rpartition(".")[0])
    dataset = given.mapping("dataset")
    if dataset is not None:
        if data:
            other = next(iter(data.values()))[1]
            raise _unsupported(
                given.path("dataset"), f"is a second data input beside {other}; give one of them"
            )
        uri, where = _dataset_uri(dataset)
        dataset.refuse_rest("is no property of a dataset; remove it")
        reading.put("input.type", kind_of(uri), where)
        reading.put("input.uri", uri, where)
    for name, (told, where) in data.items():
        if len(data) == 1 and name in _UNNAMED:
            for field, value in told.items():
                written = "jobInputType" if field == "type" else field
                reading.put(f"input.{field}", value, f"{where}.{written}")
        else:
            reading.name("inputs", name, told, where)


def _data(entry: _Properties, field: str, kind: str, expected: str) -> dict[str, JsonValue]:
    """Read type and URI of an input or output that is data."""
    if kind == "tritonmodel":
        raise _unsupported(entry.path(field), _TRITON)
    if kind not in _DATA_TYPES:
        raise _invalid(
            entry.path(field), f"expected {expected} (also MLTable, CustomModel, MLFlowModel)"
        )
    told: dict[str, JsonValue] = {"type": _DATA_TYPES[kind]}
    uri = entry.text("uri")
    if uri:
        told["uri"] = uri
    return told


def _mode(entry: _Properties, modes: Mapping[str, str]) -> dict[str, JsonValue]:
    given = _spelled(entry, "mode")
    if not given:
        return {}
    if given in _EVAL:
        raise _unsupported(entry.path("mode"), "is not supported: nothing is evaluated lazily here")
    if given not in modes:
        raise _invalid(entry.path("mode"), f"expected one of {', '.join(modes.values())}")
    return {"mode": modes[given]}


def _literal(entry: _Properties) -> JsonValue:
    value = entry.take("value")
    if value is None or isinstance(value, list | dict):
        raise _invalid(entry.path("value"), "expected a text, a number or a truth value")
    entry.take("description")
    entry.refuse_rest("is no property of a literal input; remove it")
    return value


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
    named: list[str] = []
    for name, entry in given.named("outputData"):
        kind = _spelled(entry, "jobOutputType")
        told = _data(entry, "jobOutputType", kind, "UriFolder or UriFile")
        told |= _mode(entry, _OUTPUT_MODES)
        entry.take("description")
        entry.refuse_rest("is no property of an output; remove it")
        named.append(entry.path("uri").rpartition(".")[0])
        reading.name("outputs", name, told, named[-1])
    older = given.mapping("outputDataset")
    if older is None:
        return
    if named:
        raise _unsupported(
            given.path("outputDataset"),
            f"is a second output beside {named[0]}; give one of them",
        )
    datastore, path = older.text("datastoreId"), older.text("path") or ""
    older.refuse_rest("is no property of an output; remove it")
    if not datastore:
        raise _invalid(older.path("datastoreId"), "is missing: name a datastore")
    name = datastore.removeprefix("azureml:").rstrip("/").rpartition("/")[2]
    uri = f"azureml://datastores/{name}/paths/{path.lstrip('/')}"
    reading.put("output.uri", uri, older.path("path"))


def _read_compute(given: _Properties, reading: _Reading) -> None:
    compute = given.mapping("compute")
    if compute is None:
        return
    reading.refuse(compute, _COMPUTE_REFUSED)
    # Of pipelines: where steps run that name no compute of their own.
    reading.put("default_compute", compute.text("target"), compute.path("target"))
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
