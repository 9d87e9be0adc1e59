"""Invoking a pipeline: values for its inputs by name, places for its outputs, settings."""

from __future__ import annotations

from datetime import datetime

from batchpoint.control.collected_findings import CollectedFindings
from batchpoint.control.pipeline_jobs import PipelineWish
from batchpoint.control.pipelines import settings_of_job
from batchpoint.control.prepared_pipeline import DeployedPipeline
from batchpoint.core.input_values import is_literal
from batchpoint.domain.component import PipelineComponent, Scalar
from batchpoint.domain.job import Invocation
from batchpoint.domain.job_pointers import JobInput, PipelineOutput
from batchpoint.domain.pipeline import PipelineJob, PipelineSettings
from batchpoint.tracing import current_traceparent

_INSTEAD = {"parameters": "give literals by their names in inputs"}


def wish_of(
    endpoint: str, deployed: DeployedPipeline, body: Invocation, name: str, now: datetime
) -> PipelineWish:
    """Return what an invocation wants of a pipeline deployment.

    An `input` without a name is the only data input that has no value yet, an `output` without one
    the only output. Its findings tell what means nothing to a pipeline (`field_unsupported`), and
    names that cannot be guessed (`field_invalid`).
    """
    collected = CollectedFindings()
    deployment, prepared = deployed
    pipeline = prepared.pipeline
    for field in sorted(body.overrides.model_fields_set):
        if getattr(body.overrides, field) not in (None, {}):
            why = _INSTEAD.get(field, "it belongs to the steps; remove it")
            told = f"means nothing to a pipeline deployment: {why}"
            collected.add(f"overrides.{field}", told, "field_unsupported")
    inputs = _inputs(body, pipeline, collected)
    outputs = _outputs(body, pipeline, collected)
    own = deployment.settings
    settings = PipelineSettings(
        default_compute=body.default_compute or own.default_compute,
        default_datastore=own.default_datastore,
        continue_on_step_failure=_first(
            body.continue_on_step_failure, own.continue_on_step_failure
        ),
        force_rerun=_first(body.force_rerun, own.force_rerun),
    )
    told = {
        "endpoint_name": endpoint,
        "deployment_name": deployment.name,
        "experiment_name": body.experiment_name,
        "traceparent": current_traceparent.get(),
    }
    return PipelineWish(
        name=name,
        created_at=now,
        inputs=inputs,
        outputs=outputs,
        settings=settings,
        told=told,
        display_name=body.display_name,
        description=body.description,
        tags=body.tags,
        findings=collected.all,
    )


def _inputs(
    body: Invocation, pipeline: PipelineComponent, collected: CollectedFindings
) -> dict[str, Scalar | JobInput | None]:
    inputs = dict(body.inputs)
    if body.input is None:
        return inputs
    data = [name for name, each in pipeline.inputs.items() if not is_literal(each.type)]
    free = [name for name in data if inputs.get(name) is None]
    needed = [name for name in free if not pipeline.inputs[name].optional]
    meant = needed if len(needed) == 1 else free
    if len(meant) == 1:
        inputs[meant[0]] = body.input
    elif not data:
        told = "is no input of this pipeline, which reads no data; remove it"
        collected.add("input", told, "field_invalid")
    elif not free:
        told = f"all data inputs have a value already ({', '.join(data)}); remove it"
        collected.add("input", told, "field_invalid")
    else:
        told = f"could be each of {', '.join(free)}: give the data by its name in inputs"
        collected.add("input", told, "field_invalid")
    return inputs


def _outputs(
    body: Invocation, pipeline: PipelineComponent, collected: CollectedFindings
) -> dict[str, PipelineOutput | None]:
    outputs = dict(body.outputs)
    if body.output is None:
        return outputs
    free = [name for name in pipeline.outputs if outputs.get(name) is None]
    if len(free) == 1:
        outputs[free[0]] = PipelineOutput(uri=body.output.uri)
    elif not pipeline.outputs:
        collected.add("output", "this pipeline has no outputs; remove it", "field_invalid")
    else:
        names = ", ".join(pipeline.outputs)
        told = f"does not say which of the outputs is meant ({names}): name it in outputs"
        collected.add("output", told, "field_invalid")
    return outputs


def wish_of_job(body: PipelineJob, name: str, now: datetime) -> PipelineWish:
    """Return what a job that needs no endpoint wants of its pipeline."""
    told = {
        "experiment_name": body.experiment_name,
        "traceparent": current_traceparent.get(),
    }
    return PipelineWish(
        name=name,
        created_at=now,
        inputs=body.inputs,
        outputs=body.outputs,
        settings=settings_of_job(body),
        told=told,
        display_name=body.display_name,
        description=body.description,
        tags=body.tags,
    )


def _first(*values: bool | None) -> bool | None:
    return next((value for value in values if value is not None), None)
