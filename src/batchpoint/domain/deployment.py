"""Deployments of both kinds as one noun: what lies behind an endpoint."""

from __future__ import annotations

from typing import Annotated, cast

from pydantic import Discriminator, Tag

from batchpoint.domain.endpoint import ModelDeployment
from batchpoint.domain.model_shape import snake
from batchpoint.domain.pipeline import PipelineDeployment


def _type_of(value: object) -> object:
    """Tell by which noun a deployment is read: its type, else what it deploys."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        if fields.get("type") is not None:
            return snake(fields["type"])
        return "pipeline" if {"component", "job_definition"} & fields.keys() else "model"
    return getattr(value, "type", None)


Deployment = Annotated[
    Annotated[ModelDeployment, Tag("model")] | Annotated[PipelineDeployment, Tag("pipeline")],
    Discriminator(_type_of),
]
