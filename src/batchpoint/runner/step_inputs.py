"""What a step of a pipeline gets: its inputs as they really are, and variables that tell of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from batchpoint.domain.component import DataType, Scalar
from batchpoint.domain.job import Job, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import CommandSpec, ScoreSpec, SpecCommon, StepPlace

Published = Mapping[str, Mapping[str, PublishedOutput]]
"""What steps have published: by the step's name and the output's."""

_EXPERIMENT = "Default"


def actual_inputs(place: StepPlace, published: Published) -> dict[str, Scalar | JobInput]:
    """Return the values that hold now: literals, and data where it really lies.

    Every step that `place` needs must have published. Inputs without a value are left out.
    """
    found: dict[str, Scalar | JobInput] = {}
    for name, each in place.inputs.items():
        if each.output is not None:
            made = published[each.output.step][each.output.output]
            # Only data comes from other steps: control has checked the types.
            kind = cast("DataType", each.type)
            found[name] = JobInput(type=kind, uri=made.uri, mode=each.mode)
        elif each.data is not None:
            found[name] = each.data.model_copy(update={"mode": each.mode})
        elif each.value is not None:
            found[name] = each.value
    return found


def known_contents(place: StepPlace, published: Published) -> dict[str, str | None]:
    """Return the hash of the content of each data input; None: it is not known without looking."""
    found: dict[str, str | None] = {}
    for name, each in place.inputs.items():
        if each.output is not None:
            found[name] = published[each.output.step][each.output.output].hash
        elif each.data is not None:
            found[name] = None
    return found


def experiment_of(spec: SpecCommon) -> str:
    """Return the name of the MLflow experiment that a pipeline's steps log to."""
    return spec.experiment_name or spec.endpoint_name or _EXPERIMENT


def variables_for(child: Job, tracking_uri: str) -> dict[str, str]:
    """Return the environment variables that tell a step where it runs; the user's own win."""
    spec, place = child.spec, child.spec.step
    assert isinstance(spec, CommandSpec | ScoreSpec)
    assert place is not None
    context = {
        "batchpoint.job": child.name,
        "batchpoint.parent_job": place.parent,
        "batchpoint.step": place.name,
    }
    told = {
        "BATCHPOINT_JOB": child.name,
        "AZUREML_RUN_ID": child.name,
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_EXPERIMENT_NAME": experiment_of(spec),
        "MLFLOW_RUN_CONTEXT": json.dumps(context),
    }
    if tracking_uri.startswith("file:"):
        told["MLFLOW_ALLOW_FILE_STORE"] = "true"  # newer versions of MLflow want to be told
    scores = isinstance(spec, ScoreSpec)
    mine = spec.settings.environment_variables if scores else spec.environment_variables
    return {name: value for name, value in told.items() if name not in mine}
