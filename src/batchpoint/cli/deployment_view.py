"""What people read of a deployment that was made or changed: what was chosen, and how to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchpoint.cli.text_tables import count, short_hash
from batchpoint.domain.component import LITERAL_TYPES, ComponentInput, PipelineComponent
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.endpoint import ModelDeployment
from batchpoint.domain.errors import NotFound
from batchpoint.domain.pipeline import PipelineDeployment
from batchpoint.domain.references import AssetReference, asset_reference

if TYPE_CHECKING:
    from batchpoint.client.client import Client


def deployment_card(
    made: Deployment,
    *,
    title: str,
    default: str | None,
    note: str = "",
    component: PipelineComponent | None = None,
) -> str:
    """Show a deployment in short.

    `default` is the endpoint's, `note` is about the endpoint; `component` is the pipeline that the
    deployment names.
    """
    if isinstance(made, PipelineDeployment):
        told, given = _of_pipeline(made, component), _given(component)
    else:
        told, given = _of_model(made), " --input DATA"
    owner = made.endpoint_name
    role = " (the endpoint's default)" if made.name == default else ""
    fields = [
        ("endpoint", f"{owner} ({note})" if note else owner),
        ("deployment", f"{made.name}{role}"),
        *told,
    ]
    lines = [title, *(f"  {label:<11} {value}" for label, value in fields if value)]
    chosen = "" if made.name == default else f" --deployment-name {made.name}"
    return "\n".join([*lines, "", f"  batchpoint invoke {owner}{chosen}{given} --wait"])


def _of_pipeline(
    made: PipelineDeployment, component: PipelineComponent | None
) -> list[tuple[str, str]]:
    fields = [
        ("made of", f"job {_plain(made.job_definition)}" if made.job_definition else ""),
        ("component", short_hash(what_and_where(made)[0])),
        ("compute", made.settings.default_compute or ""),
    ]
    if component is not None:
        inputs, outputs = component.inputs.items(), component.outputs.items()
        fields += [
            ("steps", f"{len(component.jobs)}: {', '.join(component.jobs)}"),
            ("inputs", ", ".join(input_told(name, each) for name, each in inputs)),
            ("outputs", ", ".join(f"{name} ({each.type})" for name, each in outputs)),
        ]
    return fields


def _plain(reference: str) -> str:
    return reference.removeprefix("azureml:")


def component_of(client: Client, made: Deployment) -> PipelineComponent | None:
    """Give the pipeline that a deployment names; None for a model, and when it is there no more."""
    found = made.component if isinstance(made, PipelineDeployment) else None
    if isinstance(found, str):
        reference = asset_reference(found, "component")
        if not isinstance(reference, AssetReference):
            return None
        try:
            found = client.components.get(reference.name, reference.version)
        except NotFound:
            return None
    return found if isinstance(found, PipelineComponent) else None


def input_told(name: str, given: ComponentInput) -> str:
    """Tell an input in a few words: its type, and what it is when nobody says it."""
    if given.default is not None:
        return f"{name} ({given.type}, else {given.default})"
    return f"{name} ({given.type}{', optional' if given.optional else ''})"


def _given(component: PipelineComponent | None) -> str:
    """Say what has to be given when a pipeline is invoked, as far as its inputs are known."""
    if component is None:
        return " --file job.yml"
    needed = {
        name: each
        for name, each in component.inputs.items()
        if each.default is None and not each.optional
    }
    return "".join(
        f" --param {name}=VALUE"
        if each.type in LITERAL_TYPES
        else f" --set inputs.{name}.path=DATA"
        for name, each in needed.items()
    )


def _of_model(made: ModelDeployment) -> list[tuple[str, str]]:
    settings, code = made.settings, made.code_configuration
    instances = made.resources.instance_count or settings.instance_count or 1
    workers = settings.max_concurrency_per_instance or 1
    fields = [
        ("model", short_hash(made.model if isinstance(made.model, str) else made.model.path)),
        ("scored by", code.scoring_script if code else "the model itself, no code needed"),
        ("compute", f"{made.compute}: {count(instances, 'instance')} × {count(workers, 'worker')}"),
        ("mini-batch", count(settings.mini_batch_size or 1, "file")),
    ]
    if isinstance(made.environment, str):
        fields.append(("environment", short_hash(made.environment)))
    return fields


def what_and_where(made: Deployment) -> tuple[str, str]:
    """Tell in two cells what is deployed, and the compute that it runs on."""
    if isinstance(made, PipelineDeployment):
        component = made.component
        named = component if isinstance(component, str) else "(in the deployment)"
        return short_hash(named), made.settings.default_compute or ""
    return short_hash(made.model if isinstance(made.model, str) else made.model.path), made.compute
