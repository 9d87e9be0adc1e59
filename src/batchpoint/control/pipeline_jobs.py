"""From a prepared pipeline and what a caller gives to its job and the jobs of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from batchpoint.control.collected_findings import CollectedFindings, joined
from batchpoint.control.computes import LOCAL, Computes, check_instances
from batchpoint.control.data_references import MODEL_TYPES, DataReferences, model_reference
from batchpoint.control.input_checks import InputChecks
from batchpoint.control.output_checks import OutputChecks, Wanted
from batchpoint.control.pipeline_outputs import OutputPlan, filled, planned_outputs
from batchpoint.control.prepared_pipeline import PreparedPipeline, StepParts
from batchpoint.control.step_specs import StepSpecs
from batchpoint.core.graph import FlatStep, Graph, flatten
from batchpoint.core.graph_tree import bound_compute
from batchpoint.core.graph_values import step_inputs
from batchpoint.core.input_values import expected, fits, values_for
from batchpoint.domain.component import (
    FILE_TYPES,
    CommandComponent,
    ComponentInput,
    Scalar,
    StepData,
)
from batchpoint.domain.compute import Compute
from batchpoint.domain.errors import Finding, Invalid
from batchpoint.domain.ids import job_name
from batchpoint.domain.job import Job, JobStatus
from batchpoint.domain.job_pointers import JobInput, PipelineOutput
from batchpoint.domain.job_spec import JobSpec, OutputOf, PipelineSpec, StepInput
from batchpoint.domain.pipeline import PipelineSettings
from batchpoint.domain.references import (
    DatastorePath,
    JobOutputPath,
    Reference,
    is_reference,
    named_reference,
)


class PipelineWish(NamedTuple):
    """What a caller wants of a pipeline.

    `settings` are those of the job: the caller's, merged over its deployment's. `told` are fields
    of `SpecCommon` that parent and steps share, `findings` what is known to be wrong already.
    """

    name: str
    created_at: datetime
    inputs: Mapping[str, Scalar | JobInput | None]
    outputs: Mapping[str, PipelineOutput | None]
    settings: PipelineSettings
    told: Mapping[str, object]
    display_name: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = {}
    findings: tuple[Finding, ...] = ()


class PipelineJobs:
    """Makes the jobs of pipelines; everything that is wrong is said at once."""

    def __init__(
        self,
        references: DataReferences,
        inputs: InputChecks,
        outputs: OutputChecks,
        computes: Computes,
        home: Path,
    ) -> None:
        """Look up and check data with these; the folders of jobs lie below `home`."""
        self._references = references
        self._inputs = inputs
        self._outputs = outputs
        self._computes = computes
        self._home = home

    def made(self, prepared: PreparedPipeline, wish: PipelineWish) -> tuple[Job, list[Job]]:
        """Return the pipeline's job and its steps' in the order of the graph.

        Raises: Invalid, NotFound, Conflict: all findings, with the caller's fields
        (`inputs.NAME.uri`, `outputs.NAME.uri`, `default_compute`); Unavailable.
        """
        graph = flatten(prepared.pipeline, prepared.found)
        collected = CollectedFindings()
        collected.extend(wish.findings)
        children = {name: f"{wish.name}-{name.replace('/', '-')}" for name in graph.steps}
        for name, child in children.items():
            collected.tried(graph.steps[name].where, lambda child=child: job_name(child))
        values = self._values(graph, wish, collected)
        inputs = {
            name: self._inputs_of(step, values, prepared.steps[name], collected)
            for name, step in graph.steps.items()
        }
        plan = OutputPlan(
            graph,
            wish.outputs,
            wish.name,
            children,
            wish.settings.default_datastore,
            self._references.is_registered,
        )
        outputs = planned_outputs(self._outputs, plan, _read(inputs), collected)
        computes = self._computes_of(graph, values, wish.settings, collected)
        collected.raise_any()
        specs = StepSpecs(prepared, wish.name, wish.told, self._home)
        made: list[Job] = []
        for name, step in graph.steps.items():
            spec = collected.tried(
                step.where,
                lambda step=step, name=name: specs.spec(
                    step, children[name], inputs[name], outputs, computes[name]
                ),
                inside=True,
            )
            if spec is not None:
                made.append(_job(children[name], wish.created_at, spec))
        collected.raise_any()
        parent = PipelineSpec.model_validate(
            {
                **wish.told,
                "component": prepared.component,
                "inputs": values,
                "outputs": {name: out.written_by for name, out in graph.outputs.items()},
                "steps": children,
                "default_compute": wish.settings.default_compute,
                "default_datastore": wish.settings.default_datastore,
                "continue_on_step_failure": wish.settings.continue_on_step_failure is not False,
                "force_rerun": wish.settings.force_rerun is True,
                "display_name": wish.display_name,
                "description": wish.description,
                "tags": wish.tags,
            }
        )
        return _job(wish.name, wish.created_at, parent), made

    def check_places(self, graph: Graph, above: str, collected: CollectedFindings) -> None:
        """See whether places of outputs that are written in a pipeline can be such at all."""
        for step in graph.steps.values():
            for name, sink in step.outputs.items():
                uri, field = sink.uri, joined(above, f"{step.where}.outputs.{name}.path")
                if uri is not None:
                    wanted = Wanted(step.name, name, sink.type in FILE_TYPES, field)
                    place = filled(uri, step.name, None)
                    collected.tried(field, partial(self._outputs.place, place, wanted))

    def check_inputs(
        self, inputs: Mapping[str, Scalar | JobInput | None], collected: CollectedFindings
    ) -> None:
        """See whether data is there that a job is given, before anything is made for it."""
        for name, value in inputs.items():
            if isinstance(value, JobInput):
                self._data(value, ComponentInput(type=value.type), f"inputs.{name}", collected)

    # --- inputs --------------------------------------------------------------------------------

    def _values(
        self, graph: Graph, wish: PipelineWish, collected: CollectedFindings
    ) -> dict[str, Scalar | JobInput]:
        """Check what was given for the graph's inputs; data is resolved and looked at."""
        values, findings = values_for(graph.inputs, wish.inputs, "inputs")
        collected.extend(findings)
        for name, value in list(values.items()):
            if isinstance(value, JobInput):
                where = f"inputs.{name}"
                found = self._data(value, graph.inputs[name], where, collected)
                if found is None:
                    del values[name]  # nothing more is said about it
                else:
                    values[name] = found
        return values

    def _data(
        self,
        given: JobInput,
        declared: ComponentInput,
        where: str,
        collected: CollectedFindings,
    ) -> JobInput | None:
        # Names of models and of data assets are told apart by the type that was declared.
        asked = given
        models = declared.type in MODEL_TYPES and given.type not in MODEL_TYPES
        if models and _names_model(given):
            asked = given.model_copy(update={"type": declared.type})

        def look() -> JobInput:
            found = self._references.resolved_data(asked, where)
            found = self._inputs.checked(found, where)
            if not fits(found.type, declared.type):
                raise Invalid(
                    f"expected {expected(declared)}, and {found.shown} is a {found.type}",
                    code="field_invalid",
                    where=f"{where}.type",
                )
            return found

        return collected.tried(where, look)

    def _inputs_of(
        self,
        step: FlatStep,
        values: Mapping[str, Scalar | JobInput],
        parts: StepParts,
        collected: CollectedFindings,
    ) -> dict[str, StepInput]:
        """Return what the inputs of a step get; data named in the pipeline is looked at."""
        given, findings = step_inputs(step, values)
        collected.extend(findings)
        made: dict[str, StepInput] = {}
        for name, value in given.items():
            declared = step.inputs[name].declared
            told: dict[str, object] = {"type": declared.type}
            mode = declared.mode
            if isinstance(value, OutputOf):
                told["output"] = value
            elif isinstance(value, StepData | JobInput):
                data = value if isinstance(value, JobInput) else parts.data[name]
                if isinstance(value, StepData):
                    data = self._inline(step, data, f"{step.where}.inputs.{name}", collected)
                told["data"] = data
                mode = mode or data.mode
            else:
                told["value"] = value
            made[name] = StepInput.model_validate({**told, "mode": mode or "ro_mount"})
        return made

    def _inline(
        self, step: FlatStep, data: JobInput, where: str, collected: CollectedFindings
    ) -> JobInput:
        field = f"{where}.path"
        checked = collected.tried(field, lambda: self._inputs.checked(data, where))
        if checked is None:
            return data
        if isinstance(step.component, CommandComponent) and (checked.uris or checked.pattern):
            told = "a command takes one file or folder, neither several nor a pattern"
            collected.add(field, told, "field_unsupported")
        return checked

    # --- computes ------------------------------------------------------------------------------

    def _computes_of(
        self,
        graph: Graph,
        values: Mapping[str, Scalar | JobInput],
        settings: PipelineSettings,
        collected: CollectedFindings,
    ) -> dict[str, Compute]:
        """Return the compute of each step: its own, else the default, else this machine."""
        known: dict[str, Compute] = {}
        found: dict[str, Compute] = {}
        for step in graph.steps.values():
            own, field = step.step.compute, f"{step.where}.compute"
            bound = bound_compute(step.step)
            if bound is not None:
                value = values.get(bound)
                own, field = value if isinstance(value, str) else None, f"inputs.{bound}"
            named = own or settings.default_compute or LOCAL
            field = field if own else "default_compute"
            if named not in known:
                compute = collected.tried(
                    field,
                    lambda named=named: self._computes.get_compute(
                        named_reference(named, "compute")
                    ),
                )
                if compute is None:
                    continue
                known[named] = compute
            compute = found[step.name] = known[named]
            count = step.step.resources.instance_count or step.component.resources.instance_count
            if count is not None:
                field = f"{step.where}.resources.instance_count"
                collected.tried(
                    field, lambda count=count, compute=compute: check_instances(count, compute)
                )
        return found


def _read(inputs: Mapping[str, Mapping[str, StepInput]]) -> list[str]:
    """Return the URIs of all data that the steps read, each once."""
    found: dict[str, None] = {}
    for some in inputs.values():
        for each in some.values():
            found.update(dict.fromkeys(each.data.sources if each.data is not None else ()))
    return list(found)


def _names_model(given: JobInput) -> bool:
    """Tell whether a pointer can only mean a registered asset: by its type, a model."""
    return all(
        is_reference(text) and not isinstance(_place(text), DatastorePath | JobOutputPath)
        for text in given.sources
    )


def _place(text: str) -> Reference | None:
    try:
        return model_reference(text)
    except Invalid:
        return None


def _job(name: str, created_at: datetime, spec: JobSpec) -> Job:
    return Job(name=name, spec=spec, status=JobStatus(), created_at=created_at)
