"""What a pipeline deployment declares, beside all that its caller's file got wrong by itself.

A server is not asked to run what cannot be read. Without this, names that it does not know would be
told only when the file's own mistakes are mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from batchpoint.cli.yaml_fields import Problem
from batchpoint.cli.yaml_nodes import MapNode, Mark, Node, ScalarNode, plain
from batchpoint.domain.component import PipelineComponent, Scalar
from batchpoint.domain.errors import BatchpointError, Finding
from batchpoint.domain.job_pointers import JobInput

if TYPE_CHECKING:
    from batchpoint.client.client import Client


def declared_by(client: Client, endpoint: str, deployment: str | None) -> PipelineComponent | None:
    """Give the pipeline that an invoke would run; None for a model, and when it cannot be found."""
    from batchpoint.cli.deployment_view import component_of

    try:
        chosen = deployment or client.endpoints.get(endpoint).defaults.deployment_name
        return component_of(client, client.deployments.get(endpoint, chosen)) if chosen else None
    except BatchpointError:
        return None  # the file's own mistakes are told; the next try tells this


def undeclared(
    component: PipelineComponent, tree: MapNode, told: Sequence[Problem]
) -> list[Problem]:
    """Tell which inputs and outputs of an invocation a pipeline does not have, or needs.

    `tree` has the layout of an invocation. Fields that `told` is about are not told again.
    """
    from batchpoint.core.input_values import unknown, values_for

    inputs, outputs = _entries(tree, "inputs"), _entries(tree, "outputs")
    given = {name: _value(node) for name, node in inputs.items()}
    _, found = values_for(component.inputs, given, "inputs")
    if "input" in tree.items:  # data without a name is one of those that are missing
        found = [each for each in found if each.code != "input_missing"]
    found += [
        Finding(f"outputs.{name}", unknown("output", name, component.outputs), "field_unknown")
        for name in outputs
        if name not in component.outputs
    ]
    known = {".".join(problem.field.split(".")[:2]) for problem in told}
    return [
        Problem(_mark(tree, each.where), each.where, each.message, each.code)
        for each in found
        if each.where not in known
    ]


def _entries(tree: MapNode, side: str) -> dict[str, Node]:
    node = tree.items.get(side)
    return node.items if isinstance(node, MapNode) else {}


def _value(node: Node) -> Scalar | JobInput | None:
    if isinstance(node, ScalarNode):
        return cast("Scalar | None", plain(node))
    try:
        return JobInput.model_validate(plain(node))
    except ValidationError:
        return None  # told by the validation of the whole


def _mark(tree: MapNode, where: str) -> Mark:
    side, _, name = where.partition(".")
    node = tree.items.get(side)
    if not isinstance(node, MapNode):
        return tree.mark
    return node.keys.get(name, tree.keys[side])
