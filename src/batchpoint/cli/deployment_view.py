"""What people read of a deployment that was made or changed: what was chosen, and how to use it."""

from __future__ import annotations

from batchpoint.cli.text_tables import count, short_hash
from batchpoint.domain.endpoint import ModelDeployment


def deployment_card(
    made: ModelDeployment, *, title: str, default: str | None, note: str = ""
) -> str:
    """Show a deployment in short; `default` is the endpoint's, `note` is about the endpoint."""
    settings, owner = made.settings, made.endpoint_name
    instances = made.resources.instance_count or settings.instance_count or 1
    workers = settings.max_concurrency_per_instance or 1
    code = made.code_configuration
    role = " (the endpoint's default)" if made.name == default else ""
    fields = [
        ("endpoint", f"{owner} ({note})" if note else owner),
        ("deployment", f"{made.name}{role}"),
        ("model", short_hash(made.model if isinstance(made.model, str) else made.model.path)),
        ("scored by", code.scoring_script if code else "the model itself, no code needed"),
        ("compute", f"{made.compute}: {count(instances, 'instance')} × {count(workers, 'worker')}"),
        ("mini-batch", count(settings.mini_batch_size or 1, "file")),
    ]
    if isinstance(made.environment, str):
        fields.append(("environment", short_hash(made.environment)))
    lines = [title, *(f"  {label:<11} {value}" for label, value in fields)]
    chosen = "" if made.name == default else f" --deployment-name {made.name}"
    return "\n".join([*lines, "", f"  batchpoint invoke {owner}{chosen} --input DATA --wait"])
