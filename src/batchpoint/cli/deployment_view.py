"""What people read of a deployment that was made or changed: what was chosen, and how to use it."""

from __future__ import annotations

from batchpoint.cli.text_tables import count, short_hash
from batchpoint.domain.component import LITERAL_TYPES, ComponentInput, PipelineComponent
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.endpoint import ModelDeployment
from batchpoint.domain.pipeline import PipelineDeployment


def deployment_card(made: Deployment, *, title: str, default: str | None, note: str = "") -> str:
    """Show a deployment in short; `default` is the endpoint's, `note` is about the endpoint."""
    fields = _of_pipeline(made) if isinstance(made, PipelineDeployment) else _of_model(made)
    owner = made.endpoint_name
    role = " (the endpoint's default)" if made.name == default else ""
    fields = [
        ("endpoint", f"{owner} ({note})" if note else owner),
        ("deployment", f"{made.name}{role}"),
        *fields,
    ]
    lines = [title, *(f"  {label:<11} {value}" for label, value in fields if value)]
    chosen = "" if made.name == default else f" --deployment-name {made.name}"
    given = _given(made) if isinstance(made, PipelineDeployment) else " --input DATA"
    return "\n".join([*lines, "", f"  batchpoint invoke {owner}{chosen}{given} --wait"])


def _of_pipeline(made: PipelineDeployment) -> list[tuple[str, str]]:
    settings, component = made.settings, made.component
    fields = [("compute", settings.default_compute or "")]
    if isinstance(component, PipelineComponent):
        steps, inputs, outputs = component.jobs, component.inputs, component.outputs
        fields = [
            ("steps", f"{len(steps)}: {', '.join(steps)}"),
            ("inputs", ", ".join(input_told(name, each) for name, each in inputs.items())),
            ("outputs", ", ".join(f"{name} ({each.type})" for name, each in outputs.items())),
            *fields,
        ]
    else:
        fields.insert(0, ("component", short_hash(component or "")))
    if made.job_definition is not None:
        fields.insert(0, ("made of", f"job {made.job_definition}"))
    return fields


def input_told(name: str, given: ComponentInput) -> str:
    """Tell an input in a few words: its type, and what it is when nobody says it."""
    if given.default is not None:
        return f"{name} ({given.type}, else {given.default})"
    return f"{name} ({given.type}{', optional' if given.optional else ''})"


def _given(made: PipelineDeployment) -> str:
    """Say what has to be given when a pipeline is invoked, as far as its inputs are known."""
    component = made.component
    if not isinstance(component, PipelineComponent):
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
        named = component if isinstance(component, str) else made.job_definition or "inline"
        return short_hash(named), made.settings.default_compute or ""
    return short_hash(made.model if isinstance(made.model, str) else made.model.path), made.compute
