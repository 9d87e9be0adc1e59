"""Compute clusters: where nodes come from and how long they stay."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from batchpoint.domain import limits
from batchpoint.domain.endpoint import Iso8601, Name, seconds
from batchpoint.domain.model_shape import Moment, Noun, TextMap, Whole, snake

_Seconds = Annotated[Whole, Field(ge=0, le=limits.TIMEOUT_SECONDS_MAX)]


class Compute(Noun):
    """A cluster of nodes; `local` nodes are worker groups on this machine.

    `type: amlcompute` is read as Azure writes it and served by the local engine.
    """

    name: Name
    type: Annotated[Literal["local", "amlcompute"], BeforeValidator(snake)] = "local"
    size: str | None = None
    tier: Annotated[Literal["dedicated", "low_priority"], BeforeValidator(snake)] = "dedicated"
    min_instances: Whole = Field(default=0, ge=0, le=limits.INSTANCES_MAX)
    max_instances: Whole = Field(default=4, ge=1, le=limits.INSTANCES_MAX)
    idle_time_before_scale_down: Annotated[
        _Seconds, BeforeValidator(seconds, json_schema_input_type=_Seconds | Iso8601)
    ] = 120
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    location: str | None = None
    # Set by the server.
    provisioning_state: Literal["Succeeded"] | None = None
    created_at: Moment | None = None
