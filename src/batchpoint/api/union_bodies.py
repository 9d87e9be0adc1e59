"""Nouns of several types as bodies and answers: components, deployments, and pages of them.

A tag in brackets is no part of a field's name where findings name one (`domain/findings.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast, get_args

from pydantic import Discriminator, Tag

from batchpoint.api.services import Page
from batchpoint.domain.component import (
    CommandComponent,
    Component,
    ParallelComponent,
    PipelineComponent,
)
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.endpoint import ModelDeployment
from batchpoint.domain.pipeline import PipelineDeployment


def _bracketed(union: object) -> Callable[[Any], str | None]:
    """Return how a union tells its types apart, with the tags in brackets."""
    tag_of = cast("Callable[[Any], object]", get_args(union)[1].discriminator)

    def bracketed(value: Any) -> str | None:
        tag = tag_of(value)
        return None if tag is None else f"({tag})"

    return bracketed


AnyComponent = Annotated[
    Annotated[CommandComponent, Tag("(command)")]
    | Annotated[ParallelComponent, Tag("(parallel)")]
    | Annotated[PipelineComponent, Tag("(pipeline)")],
    Discriminator(_bracketed(Component)),
]
AnyDeployment = Annotated[
    Annotated[ModelDeployment, Tag("(model)")] | Annotated[PipelineDeployment, Tag("(pipeline)")],
    Discriminator(_bracketed(Deployment)),
]


class ComponentPage(Page[AnyComponent]):
    """Some of a list of components."""


class DeploymentPage(Page[AnyDeployment]):
    """Some of a list of deployments."""
