"""Outputs of steps as assets: what a step has written, registered as a model or data asset."""

from __future__ import annotations

from batchpoint.control.assets import Assets
from batchpoint.control.data_references import MODEL_TYPES
from batchpoint.domain.asset import Data, Model
from batchpoint.domain.job import PublishedOutput
from batchpoint.domain.job_spec import StepOutput
from batchpoint.domain.references import AssetReference

_JOB = "batchpoint.job"
_OUTPUT = "batchpoint.output"


def register_output(
    assets: Assets, output: StepOutput, published: PublishedOutput, job: str, name: str
) -> str | None:
    """Register an output that is complete as its specification asks; return its reference.

    A model's files are copied into the store, a data asset points at them. Doing it again for the
    same output makes no second version, unless somebody registered another one in between.

    Args:
        assets: made with `local_paths`: outputs lie where the server has put them.
        output: as specified: its type, and the name (and version) to register it under.
        published: where it is.
        job: the step's job, which the asset names in its properties.
        name: the output's name in that job.

    Returns:
        `azureml:NAME:VERSION`, None when nothing was asked for.

    Raises:
        Invalid: `model_invalid`, `field_invalid`: what was written is no model, or not of its type.
        Conflict: `asset_immutable`, the version exists with other content.
        Unavailable: storage or ledger.
    """
    if output.register_as is None:
        return None
    told = {
        "name": output.register_as,
        "version": output.register_version,
        "type": output.type,
        "path": published.uri,
        "properties": {_JOB: job, _OUTPUT: name},
    }
    if output.type in MODEL_TYPES:
        model = assets.models.register(Model.model_validate(told), reuse=True)
        return str(AssetReference("model", model.name or "", model.version))
    data = assets.data.register(Data.model_validate(told), reuse=True)
    return str(AssetReference("data", data.name or "", data.version))
