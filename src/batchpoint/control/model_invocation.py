"""Invoking a deployment of a model: one pointer to data, literals as parameters, one result."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from batchpoint.control.collected_findings import CollectedFindings
from batchpoint.control.computes import Computes, check_instances
from batchpoint.control.data_references import DataReferences
from batchpoint.control.input_checks import InputChecks
from batchpoint.control.model_deployments import DeployedModel
from batchpoint.control.model_parameters import WHERE as PARAMETERS
from batchpoint.control.model_parameters import fitted
from batchpoint.control.output_checks import OutputChecks, Wanted
from batchpoint.control.scoring_settings import effective
from batchpoint.domain.component import DataType
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.domain.job import Invocation, Overrides
from batchpoint.domain.job_pointers import JobInput, JobOutput, PipelineOutput
from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.domain.references import InputKind
from batchpoint.tracing import current_traceparent

_MODEL = "the model belongs to the deployment, and an input points at data"
_UNSCORED: dict[DataType, str] = {
    "mltable": "tables are not supported: point at the folder of files",
    "custom_model": _MODEL,
    "mlflow_model": _MODEL,
}
_RESULTS = ("uri_file", "uri_folder")
_OF_PIPELINES = ("default_compute", "continue_on_step_failure", "force_rerun")


class ModelRequest(NamedTuple):
    """What an invocation says to a deployment of a model, whatever names it used.

    `input_field` and `output_field` are the fields that hold the one input and the one output;
    `names_file`: the output's URI said what the file of predictions is called.
    """

    input: JobInput
    input_field: str
    output: JobOutput | None
    output_field: str
    overrides: Overrides
    names_file: bool


def model_request(body: Invocation) -> ModelRequest:
    """Read an invocation as a deployment of a model does.

    Exactly one pointer to data, under any name or none; literals are parameters; at most one
    output, whose type may be that of a file: then its last name is that of the predictions.
    Raises: Invalid (`field_invalid`, `field_unsupported`), everything at once.
    """
    collected = CollectedFindings()
    for field in _OF_PIPELINES:
        if getattr(body, field) is not None:
            told = "means nothing to a deployment of a model; it is for pipelines, remove it"
            collected.add(field, told, "field_unsupported")
    data = {"input": body.input} if body.input is not None else {}
    parameters = dict(body.overrides.parameters)
    for name, value in body.inputs.items():
        field = f"inputs.{name}"
        if isinstance(value, JobInput):
            data[field] = value
        elif value is not None and parameters.setdefault(name, value) != value:
            told = "is given as a parameter too (overrides.parameters), and differs; keep one"
            collected.add(field, told, "field_invalid")
    _check_data(data, collected)
    overrides = body.overrides.model_copy(update={"parameters": parameters})
    output_field, output, overrides = _output(body, overrides, collected)
    collected.raise_any()
    field, source = next(iter(data.items()))
    named = (body.overrides.output_file_name, overrides.output_file_name)
    names_file = named[0] is None and named[1] is not None
    return ModelRequest(source, field, output, output_field, overrides, names_file)


def _check_data(data: dict[str, JobInput], collected: CollectedFindings) -> None:
    if not data:
        collected.add("input", "is missing: say what to score", "field_invalid")
    for number, (field, source) in enumerate(data.items()):
        why = _UNSCORED.get(source.type)
        if why is not None:
            told = f"{source.type!r} cannot be scored: {why}"
            collected.add(f"{field}.type", told, "field_unsupported")
        if number:
            told = f"is a second data input beside {next(iter(data))}: a model deployment takes one"
            collected.add(field, told, "field_unsupported")


def _output(
    body: Invocation, overrides: Overrides, collected: CollectedFindings
) -> tuple[str, JobOutput | None, Overrides]:
    """Return the field of the one output, the folder that it says, and the name of its file."""
    given = {"output": PipelineOutput(uri=body.output.uri)} if body.output is not None else {}
    given |= {f"outputs.{name}": out for name, out in body.outputs.items() if out is not None}
    for field in [*given][1:]:
        told = f"is a second output beside {next(iter(given))}: a model deployment has one"
        collected.add(field, told, "field_unsupported")
    if not given:
        return "output", None, overrides
    field, output = next(iter(given.items()))
    if output.type is not None and output.type not in _RESULTS:
        told = "expected uri_folder or uri_file: results are files"
        collected.add(f"{field}.type", told, "field_unsupported")
    if output.mode == "direct":
        told = "means nothing here: results are published when the job has ended; remove it"
        collected.add(f"{field}.mode", told, "field_unsupported")
    for name in ("name", "version"):
        if getattr(output, name) is not None:
            told = "is not supported: results of a model deployment are not registered; remove it"
            collected.add(f"{field}.{name}", told, "field_unsupported")
    uri = output.uri
    if uri is None:
        return field, None, overrides
    if output.type == "uri_file" and not uri.endswith("/"):
        uri, overrides = _file(field, uri, overrides, collected)
    return field, JobOutput(uri=uri), overrides


def _file(
    field: str, uri: str, overrides: Overrides, collected: CollectedFindings
) -> tuple[str, Overrides]:
    """Part the URI of a file into its folder and its name."""
    folder, _, name = uri.rpartition("/")
    if not folder or folder.endswith(("/", ":")) or not name:
        told = "expected the URI of a file: a folder, '/' and a file name such as scores.csv"
        collected.add(f"{field}.uri", told, "field_invalid")
        return uri, overrides
    before = overrides.output_file_name
    if before is not None and before != name:
        told = f"ends with another name than output_file_name ({before}); keep one"
        collected.add(f"{field}.uri", told, "field_invalid")
    return f"{folder}/", overrides.model_copy(update={"output_file_name": name})


def _in_callers_words(error: Invalid, asked: ModelRequest, body: Invocation) -> Invalid:
    """Return an error of the settings with the field by which the caller gave what is wrong."""
    where = error.where or ""
    above, _, last = where.rpartition(".")
    if last == "output_file_name" and asked.names_file:
        where = f"{asked.output_field}.uri"
    elif above == PARAMETERS and last in body.inputs and last not in body.overrides.parameters:
        where = f"inputs.{last}"
    else:
        return error
    return Invalid(error.message, code=error.code, where=where)


class ModelInvocations:
    """Makes the specifications of jobs that score."""

    def __init__(
        self,
        computes: Computes,
        references: DataReferences,
        inputs: InputChecks,
        outputs: OutputChecks,
    ) -> None:
        """Look things up and check them with these."""
        self._computes = computes
        self._references = references
        self._inputs = inputs
        self._outputs = outputs

    def kind_of(self, uri: str, guess: InputKind) -> InputKind:
        """See `Invocations.kind_of`."""
        try:
            self._inputs.checked(self._references.resolved_input(JobInput(type=guess, uri=uri)))
        except BatchpointError as error:
            if error.where == "input.type":
                return "uri_folder" if guess == "uri_file" else "uri_file"
        return guess

    def spec(
        self, endpoint: str, deployed: DeployedModel, body: Invocation, name: str
    ) -> ScoreSpec:
        """Return what a job named `name` is to do, everything decided.

        Raises: as `Invocations.invoke`.
        """
        deployment, resolution = deployed
        asked = model_request(body)
        compute = self._computes.get_compute(deployment.compute)
        try:
            settings = effective(deployment, asked.overrides)
            if resolution.code is None:
                typed = fitted(settings.parameters, Path(resolution.model.path))
                settings = settings.model_copy(update={"parameters": typed})
        except Invalid as error:
            raise _in_callers_words(error, asked, body) from error
        check_instances(settings.instance_count, compute)
        source = self._references.resolved_input(asked.input, asked.input_field)
        source = self._inputs.checked(source, asked.input_field)
        wanted = Wanted(name, where=f"{asked.output_field}.uri")
        output = self._outputs.place(None if asked.output is None else asked.output.uri, wanted)
        self._outputs.check(output, source.sources, wanted)
        return ScoreSpec(
            endpoint_name=endpoint,
            deployment_name=deployment.name,
            model=resolution.model,
            code=resolution.code,
            environment=resolution.environment,
            compute=compute.name,
            idle_seconds=compute.idle_time_before_scale_down,
            max_instances=compute.max_instances,
            settings=settings,
            input=source,
            traceparent=current_traceparent.get(),
            output=JobOutput(uri=output),
            display_name=body.display_name,
            experiment_name=body.experiment_name,
            tags=body.tags,
            description=body.description,
        )
