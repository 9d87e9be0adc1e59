"""The specifications of a pipeline's steps: what each of its jobs is to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from batchpoint.control.parallel_settings import ScoringAssets, parallel_spec
from batchpoint.control.prepared_pipeline import PreparedPipeline, StepParts
from batchpoint.core.binding import read_placeholder
from batchpoint.core.graph import FlatStep
from batchpoint.domain.component import CommandComponent, ParallelComponent
from batchpoint.domain.compute import Compute
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import (
    CommandSpec,
    ResolvedCode,
    ScoreSpec,
    StepInput,
    StepOutput,
    StepPlace,
)
from batchpoint.formats.layout import job_folder
from batchpoint.storage.locate import uri_of

# What of a component says nothing about what its code computes, and what is told by its hash.
_NO_IDENTITY = {
    "name",
    "version",
    "display_name",
    "description",
    "tags",
    "properties",
    "archived",
    "created_at",
    "is_deterministic",
    "inputs",
    "outputs",
    "code",
    "environment",
    "environment_variables",
    "resources",
    "limits",
    "retry_settings",
    "max_concurrency_per_instance",
    "logging_level",
}
_OF_TASKS = {"code", "environment", "model"}
_REPLACED = ("mini_batch_size", "mini_batch_error_threshold", "error_threshold")

Outputs = Mapping[str, Mapping[str, StepOutput]]
"""The outputs of all steps: by the step's name, then by their own."""


class StepSpecs:
    """Makes the specifications of the steps of one pipeline job."""

    def __init__(
        self, prepared: PreparedPipeline, parent: str, told: Mapping[str, object], home: Path
    ) -> None:
        """`told` are the fields of `SpecCommon` that all jobs of the pipeline share."""
        self._prepared = prepared
        self._parent = parent
        self._told = told
        self._home = home

    def spec(
        self,
        step: FlatStep,
        job: str,
        inputs: Mapping[str, StepInput],
        outputs: Outputs,
        compute: Compute,
    ) -> CommandSpec | ScoreSpec:
        """Return the specification of a step whose job has the name `job`.

        Raises: Invalid: what is wrong with a parallel step's data (`inputs.NAME.type`).
        """
        parts = self._prepared.steps[step.name]
        place = self._place(step, parts, inputs, outputs[step.name])
        common = {**self._told, "display_name": step.display_name}
        if isinstance(step.component, ParallelComponent):
            made = self._parallel(step.component, step, parts, place, job, outputs, compute)
            return made.model_copy(update=common)
        component = step.component
        retries = step.step.retry_settings.max_retries
        return CommandSpec.model_validate(
            {
                **common,
                "step": place,
                "environment": self._prepared.environments[parts.environment],
                "compute": compute.name,
                "max_instances": compute.max_instances,
                "idle_seconds": compute.idle_time_before_scale_down,
                "command": component.command,
                "code": parts.code,
                "environment_variables": _variables(step),
                "max_retries": component.retry_settings.max_retries or 0
                if retries is None
                else retries,
                "timeout_seconds": _timeout(step, component),
            }
        )

    def _place(
        self,
        step: FlatStep,
        parts: StepParts,
        inputs: Mapping[str, StepInput],
        outputs: Mapping[str, StepOutput],
    ) -> StepPlace:
        return StepPlace(
            parent=self._parent,
            name=step.name,
            display_name=step.display_name,
            component=step.reference or "",
            needs=step.needs,
            inputs=dict(inputs),
            outputs=dict(outputs),
            is_deterministic=step.component.is_deterministic,
            identity=self._identity(step, parts, inputs, outputs),
        )

    def _parallel(
        self,
        component: ParallelComponent,
        step: FlatStep,
        parts: StepParts,
        place: StepPlace,
        job: str,
        outputs: Outputs,
        compute: Compute,
    ) -> ScoreSpec:
        code, script = parts.code, component.task.entry_script
        assets = ScoringAssets(
            code=None
            if code is None or script is None
            else ResolvedCode(path=code.path, scoring_script=script, hash=code.hash),
            model=parts.model,
            environment=self._prepared.environments[parts.environment],
        )
        return parallel_spec(
            component,
            step.step,
            place=place,
            source=_scored(component, place, outputs),
            results_uri=uri_of(job_folder(self._home, job).results),
            assets=assets,
            compute=compute,
        )

    def _identity(
        self,
        step: FlatStep,
        parts: StepParts,
        inputs: Mapping[str, StepInput],
        outputs: Mapping[str, StepOutput],
    ) -> str:
        """Hash all that decides what a step computes, but for the content of its data."""
        content = step.component.model_dump(mode="json", exclude=_NO_IDENTITY)
        if isinstance(step.component, ParallelComponent):
            content["task"] = step.component.task.model_dump(mode="json", exclude=_OF_TASKS)
            content |= {
                field: value
                for field in _REPLACED
                if (value := getattr(step.step, field)) is not None
            }
        told = {
            "component": content,
            "code": parts.code and parts.code.hash,
            "model": parts.model and parts.model.hash,
            "environment": self._prepared.environments[parts.environment].hash,
            "variables": _variables(step),
            "inputs": {name: _input_identity(each) for name, each in sorted(inputs.items())},
            # Real folders are the same to a command, however they came about.
            "outputs": {
                name: [each.type, each.mode == "direct"] for name, each in sorted(outputs.items())
            },
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _input_identity(given: StepInput) -> list[object]:
    # `1`, `1.0` and `true` are different texts on a command line, and equal in Python.
    literal = None if given.value is None else [type(given.value).__name__, given.value]
    # A command that is given the URI itself may compute with its text.
    uris = given.data.sources if given.mode == "direct" and given.data is not None else ()
    return [given.type, given.mode == "direct", literal, *uris]


def _variables(step: FlatStep) -> dict[str, str]:
    return step.component.environment_variables | step.step.environment_variables


def _timeout(step: FlatStep, component: CommandComponent) -> int | None:
    """Return how long an attempt of a command may take; the use counts before the component."""
    for limits, retries in (
        (step.step.limits, step.step.retry_settings),
        (component.limits, component.retry_settings),
    ):
        timeout = limits.timeout or retries.timeout
        if timeout is not None:
            return timeout
    return None


def _scored(component: ParallelComponent, place: StepPlace, outputs: Outputs) -> JobInput:
    """Return where the data that is cut into mini-batches lies, or will lie."""
    bound = read_placeholder(component.input_data)
    name = component.input_data if bound is None else bound.name
    given = place.inputs.get(name)
    if given is None or (given.data is None and given.output is None):
        raise Invalid(
            "has no data to be cut into mini-batches; bind it to some",
            code="input_missing",
            where=f"inputs.{name}",
        )
    if given.data is not None:
        return given.data
    assert given.output is not None
    written = outputs[given.output.step][given.output.output]
    return JobInput(type=written.type, uri=written.uri)
