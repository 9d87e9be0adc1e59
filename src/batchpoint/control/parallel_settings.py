"""How a parallel component and its use in a pipeline become what a job scores with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from batchpoint.control.scoring_settings import OUTPUT_FILE_NAME, is_variable
from batchpoint.core.binding import Kind, placeholders, read_placeholder
from batchpoint.core.driver_arguments import driver_arguments
from batchpoint.domain import limits
from batchpoint.domain.component import ParallelComponent, Step
from batchpoint.domain.compute import Compute
from batchpoint.domain.errors import Finding, Invalid
from batchpoint.domain.findings import all_of
from batchpoint.domain.job_pointers import JobInput, JobOutput
from batchpoint.domain.job_spec import (
    ResolvedCode,
    ResolvedEnvironment,
    ResolvedModel,
    ScoreSpec,
    ScoringSettings,
    StepPlace,
)

# Those of Azure's parallel jobs, which are not those of its model deployments.
MINI_BATCH_SIZE = "1"
MAX_RETRIES = 2
TIMEOUT_SECONDS = 60
CONCURRENCY_PER_INSTANCE = 1
INSTANCE_COUNT = 1

_SIZE = re.compile(r"(\d{1,15})\s*([kmg]?b)?", re.IGNORECASE)
_UNIT_BYTES = {"b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}
# What the driver argument of a name says as a field, and what it may be at most.
_THRESHOLDS = {
    "error_threshold": ("error_threshold", limits.ERROR_THRESHOLD_MAX),
    "allowed_failed_count": ("mini_batch_error_threshold", limits.ERROR_THRESHOLD_MAX),
    "allowed_failed_percent": ("", 100),
}
_SCORED_TYPES = ("uri_file", "uri_folder")
_ARGUMENTS = "task.program_arguments"


class ScoringAssets(NamedTuple):
    """What a parallel step scores with, resolved.

    `code` is the folder with `entry_script`, None for a model as it is; `model` the one that the
    task names, if it does.
    """

    code: ResolvedCode | None
    model: ResolvedModel | None
    environment: ResolvedEnvironment


class _MiniBatches(NamedTuple):
    """How big mini-batches are: so many files, or as many files as have so many bytes."""

    files: int
    bytes: int | None


def check_parallel(component: ParallelComponent, step: Step | None = None) -> list[Finding]:
    """Tell all that is wrong with what a parallel component says of scoring.

    With `step`, a use of it, only what is wrong with the step's own fields is told. Places are
    fields of the component (`task.program_arguments`), or those of the step. Empty: nothing is.
    Names of inputs and outputs are checked with the graph.
    """
    if step is not None:
        return [*_check_size(step.mini_batch_size), *_check_step(step)]
    return [
        *_check_size(component.mini_batch_size),
        *_check_variables(component.environment_variables),
        *_check_task(component),
        *_check_arguments(component),
        *_check_bound(component, "inputs", "input_data", component.input_data),
        *_check_bound(component, "outputs", "task.append_row_to", component.task.append_row_to),
    ]


def check_model(component: ParallelComponent, model: ResolvedModel | None) -> list[Finding]:
    """Tell what is wrong with the model that a component's task names, once it is resolved."""
    if component.task.type != "model" or model is None or model.type == "mlflow_model":
        return []
    told = (
        f"{model.name!r} is a {model.type}, and only a model in MLflow format can be run as it is; "
        "register it as mlflow_model, or write a script (task.type run_function)"
    )
    return [Finding("task.model", told, "model_invalid")]


def parallel_spec(
    component: ParallelComponent,
    step: Step,
    *,
    place: StepPlace,
    source: JobInput,
    results_uri: str,
    assets: ScoringAssets,
    compute: Compute,
) -> ScoreSpec:
    """Return the specification of the step's scoring job.

    Args:
        component: the component, as registered.
        step: its use, whose fields replace the component's.
        place: the step's place in its pipeline, with its inputs and outputs.
        source: where the data of `input_data` lies, or will lie (`StepOutput.uri` of another step).
        results_uri: `uri_of(job_folder(home, CHILD).results)`, in the child's own folder.
        assets: what it scores with.
        compute: where it runs.

    Raises: Invalid (`findings.all_of` what `check_parallel` and `check_model` tell).
    """
    findings = [*check_parallel(component), *check_parallel(component, step)]
    if source.type not in _SCORED_TYPES:
        findings += [_unscored(f"inputs.{_bound(component.input_data)}.type", source.type)]
    findings += check_model(component, assets.model)
    if findings:
        raise all_of(findings)
    rows_to = component.task.append_row_to
    return ScoreSpec(
        step=place,
        environment=assets.environment,
        compute=compute.name,
        max_instances=compute.max_instances,
        idle_seconds=compute.idle_time_before_scale_down,
        model=assets.model,
        code=assets.code,
        settings=_settings(component, step, place),
        input=source,
        output=JobOutput(uri=results_uri),
        arguments=component.task.program_arguments,
        input_data=_bound(component.input_data),
        append_row_to=None if rows_to is None else _bound(rows_to),
    )


def _settings(component: ParallelComponent, step: Step, place: StepPlace) -> ScoringSettings:
    size = _mini_batches(step.mini_batch_size or component.mini_batch_size or MINI_BATCH_SIZE)
    said = driver_arguments(component.task.program_arguments or "").driver
    numbers = {name: int(text) for name, text in said.items() if name in _THRESHOLDS}
    retries, timeout = step.retry_settings, component.retry_settings
    is_model = component.task.type == "model"
    return ScoringSettings(
        instance_count=step.resources.instance_count
        or component.resources.instance_count
        or INSTANCE_COUNT,
        max_concurrency_per_instance=step.max_concurrency_per_instance
        or component.max_concurrency_per_instance
        or CONCURRENCY_PER_INSTANCE,
        mini_batch_size=size.files,
        mini_batch_bytes=size.bytes,
        max_retries=_first(retries.max_retries, timeout.max_retries, MAX_RETRIES) or 0,
        timeout_seconds=retries.timeout or timeout.timeout or TIMEOUT_SECONDS,
        error_threshold=_first(
            step.error_threshold, component.error_threshold, numbers.get("error_threshold")
        ),
        mini_batch_error_threshold=_first(
            step.mini_batch_error_threshold,
            component.mini_batch_error_threshold,
            numbers.get("allowed_failed_count"),
        ),
        allowed_failed_percent=numbers.get("allowed_failed_percent"),
        logging_level=step.logging_level or component.logging_level or "info",
        output_action="summary_only" if component.task.append_row_to is None else "append_row",
        output_file_name=_file_name(component, place),
        output_format="batchpoint",
        environment_variables=component.environment_variables | step.environment_variables,
        split_files=is_model,
        coalesce_files=is_model,
    )


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _file_name(component: ParallelComponent, place: StepPlace) -> str:
    """Choose the format of the rows by the name of the file that they go to: else CSV."""
    rows_to = component.task.append_row_to
    output = None if rows_to is None else place.outputs.get(_bound(rows_to))
    if output is None or output.type != "uri_file":
        return OUTPUT_FILE_NAME
    suffix = PurePosixPath(output.uri).suffix.lower()
    stem = PurePosixPath(OUTPUT_FILE_NAME).stem
    return f"{stem}{suffix}" if suffix in (".parquet", ".jsonl") else OUTPUT_FILE_NAME


def _mini_batches(text: str) -> _MiniBatches:
    """Read `mini_batch_size`. Raises: Invalid (`field_invalid`)."""
    found = _SIZE.fullmatch(text.strip())
    number = int(found[1]) if found is not None else 0
    unit = found[2] if found is not None else None
    if number < 1 or (unit is None and number > limits.MINI_BATCH_ITEMS_MAX):
        raise Invalid(
            f"{text[:50]!r} is not the size of a mini-batch: expected a number of files from 1 to "
            f"{limits.MINI_BATCH_ITEMS_MAX:,}, or bytes such as 10kb or 100 mb",
            code="field_invalid",
        )
    if unit is None:
        return _MiniBatches(number, None)
    return _MiniBatches(1, number * _UNIT_BYTES[unit.lower()])


def _bound(text: str) -> str:
    """Return the name of the input or output that stands in a field."""
    found = read_placeholder(text)
    return text if found is None else found.name


# --- findings -------------------------------------------------------------------------------------


def _check_size(text: str | None) -> list[Finding]:
    try:
        _mini_batches(MINI_BATCH_SIZE if text is None else text)
    except Invalid as error:
        return [Finding("mini_batch_size", error.message, error.code)]
    return []


def _check_step(step: Step) -> list[Finding]:
    found = _check_variables(step.environment_variables)
    if step.limits.timeout is not None:
        found.append(
            Finding(
                "limits.timeout",
                "is not supported: it bounds commands; retry_settings.timeout bounds one run() of "
                "a parallel step",
                "field_unsupported",
            )
        )
    return found


def _check_variables(variables: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(
            "environment_variables",
            f"{name!r} is not the name of an environment variable: expected letters, digits and "
            "'_', not beginning with a digit",
            "field_invalid",
        )
        for name in variables
        if not is_variable(name)
    ]


def _check_task(component: ParallelComponent) -> list[Finding]:
    task = component.task
    if task.type == "model":
        found = [
            Finding(
                f"task.{field}",
                "means nothing with task.type model, which runs a model as it is; use run_function "
                "for a script",
                "field_invalid",
            )
            for field, value in (("code", task.code), ("entry_script", task.entry_script))
            if value is not None
        ]
        if task.model is None:
            found.append(_missing("task.model", "task.type model needs a model in MLflow format"))
        return found
    needed = {
        "task.code": (task.code, "the folder in which the entry script lies"),
        "task.entry_script": (task.entry_script, "the script with init() and run(mini_batch)"),
    }
    return [
        _missing(place, f"task.type {task.type} needs {what}")
        for place, (value, what) in needed.items()
        if not value
    ]


def _missing(where: str, sentence: str) -> Finding:
    return Finding(where, f"is missing: {sentence}", "field_invalid")


def _check_arguments(component: ParallelComponent) -> list[Finding]:
    """Check the driver's arguments; a malformed template is told of once, as itself."""
    template = component.task.program_arguments or ""
    try:
        script, driver = driver_arguments(template)
    except Invalid as error:
        return [Finding(_ARGUMENTS, error.message, error.code)]
    found: list[Finding] = []
    for name, (field, most) in _THRESHOLDS.items():
        text = driver.get(name)
        if text is None:
            continue
        if not re.fullmatch(r"-1|\d{1,10}", text) or int(text) > most:
            told = f"--{name} {text[:50]!r}: expected a whole number from -1 to {most}"
            found.append(Finding(_ARGUMENTS, told, "field_invalid"))
            continue
        given: int | None = getattr(component, field) if field else None
        if given is not None and given != int(text):
            told = f"says --{name} {text}, and {field} is {given}; give it once"
            found.append(Finding(_ARGUMENTS, told, "field_invalid"))
    if component.task.type == "model" and script:
        told = f"{script[0][:50]!r} would reach nobody: a model without a script reads no arguments"
        found.append(Finding(_ARGUMENTS, told, "field_invalid"))
    return found


def _check_bound(
    component: ParallelComponent, kind: Kind, field: str, text: str | None
) -> list[Finding]:
    if text is None:
        return []
    try:
        name = _bound(text)
        named = [each for each in placeholders(text) if each.kind == kind]
    except Invalid as error:
        return [Finding(field, error.message, error.code)]
    declared = component.inputs if kind == "inputs" else component.outputs
    if not named or name not in declared:
        told = f"{text[:50]!r} names none of the component's {kind}: expected ${{{{{kind}.NAME}}}}"
        return [Finding(field, told, "binding_invalid")]
    found = declared[name]
    if found.type not in _SCORED_TYPES:
        return [_unscored(f"{kind}.{name}.type", found.type)]
    return []


def _unscored(where: str, type_name: str) -> Finding:
    if where.startswith("outputs"):
        told = f"rows cannot be appended to an output of type {type_name}"
    elif type_name == "mltable":
        told = (
            "mini-batches are cut from files, tables of type mltable are not read here; let the "
            "input be the uri_folder in which the files lie"
        )
    else:
        told = f"mini-batches are cut from files, which an input of type {type_name} has not"
    return Finding(where, f"{told}; expected uri_file or uri_folder", "field_unsupported")
