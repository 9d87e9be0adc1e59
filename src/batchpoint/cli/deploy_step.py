"""What `deploy` does: an endpoint when there is none, a deployment, and making it the default."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchpoint.cli.client_connection import connected
from batchpoint.cli.deployment_view import component_of, deployment_card
from batchpoint.cli.error_report import warn
from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.progress_printers import to_stderr
from batchpoint.cli.render import emit
from batchpoint.cli.yaml_deployment import LoadedDeployment, load_deployment
from batchpoint.cli.yaml_files import Flags
from batchpoint.cli.yaml_nodes import MapNode, Mark
from batchpoint.cli.yaml_overrides import tree_of
from batchpoint.cli.yaml_places import told_at_places
from batchpoint.client.pointers import found_at, local_path
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.errors import BatchpointError, Invalid, NotFound
from batchpoint.domain.references import is_reference, is_uri

if TYPE_CHECKING:
    from batchpoint.client.client import Client

_DEPLOYMENT = "default"
_YAML = (".yml", ".yaml")


@dataclass(frozen=True)
class DeployWish:
    """What the command line says; `flags` are dotted fields of a deployment."""

    path: str
    sets: list[str]
    flags: Flags
    code: Path | None
    scoring_script: str | None
    environment: str | None


def deploy_model(wish: DeployWish, *, form: OutputForm | None, query: str | None) -> None:
    """Deploy and say what was chosen.

    Raises:
        Invalid: Something is wrong with the model, the script, the environment or a setting.
    """
    is_file = wish.path.endswith(_YAML) and found_at(Path(wish.path)) == "file"
    loaded = _from_file(wish) if is_file else _from_model(wish)
    warn(loaded.warnings)
    with connected() as client:
        deployment = loaded.noun
        if not is_file and isinstance(deployment, ModelDeployment):
            deployment = _with_workers(deployment, client)
        if sys.stderr.isatty():
            to_stderr("Checking everything and making environments …")
        with told_at_places(loaded.places):
            made, is_new = _put(client, deployment)
        component = component_of(client, made)
    title, note = f"Deployed {made.endpoint_name}", "new" if is_new else "was there"
    emit(
        made,
        form=form,
        query=query,
        text=lambda: deployment_card(
            made, title=title, default=made.name, note=note, component=component
        ),
    )


def _put(client: Client, deployment: Deployment) -> tuple[Deployment, bool]:
    """Make endpoint and deployment; an endpoint made in vain is taken away again."""
    owner = deployment.endpoint_name
    try:
        client.endpoints.get(owner)
        is_new = False
    except NotFound:
        client.endpoints.create_or_update(BatchEndpoint(name=owner))
        is_new = True
    try:
        return client.deployments.create_or_update(deployment, set_default=True), is_new
    except BatchpointError:
        if is_new:
            client.endpoints.delete(owner)
        raise


def _from_file(wish: DeployWish) -> LoadedDeployment:
    for flag, value in (
        ("--code", wish.code),
        ("--scoring-script", wish.scoring_script),
        ("--environment", wish.environment),
    ):
        if value is not None:
            raise Invalid(f"{flag} goes with a model; {wish.path} says it itself (or use --set)")
    return load_deployment(Path(wish.path), wish.sets, wish.flags)


def _from_model(wish: DeployWish) -> LoadedDeployment:
    if wish.flags["endpoint_name"][1] is None:
        raise Invalid("the endpoint's name is missing: give it with --name")
    path = wish.path
    if not is_reference(path) and not is_uri(path):
        local = local_path(path, Path.cwd())
        is_versioned = found_at(local) is None and (":" in path or "@" in path)
        path = path if is_versioned else str(local)
    data: dict[str, object] = {"name": _DEPLOYMENT, "type": "model", "model": path}
    if wish.scoring_script is not None or wish.code is not None:
        data["code_configuration"] = _code(wish)
    if wish.environment is not None:
        data["environment"] = _environment(wish.environment)
    tree = tree_of(data, Mark("command line", 0, 0))
    assert isinstance(tree, MapNode)
    return load_deployment(None, wish.sets, wish.flags, existing=tree)


def _code(wish: DeployWish) -> dict[str, object]:
    if wish.scoring_script is None:
        raise Invalid("--code needs --scoring-script: the name of the script in that folder")
    if wish.code is not None:
        return {"code": str(wish.code), "scoring_script": wish.scoring_script}
    script = local_path(wish.scoring_script, Path.cwd())
    return {"code": str(script.parent), "scoring_script": script.name}


def _environment(text: str) -> object:
    """Read `--environment`: a reference, a conda file (YAML) or a list of requirements."""
    if found_at(local_path(text, Path.cwd())) != "file":
        return text
    return {"conda_file": text} if text.endswith(_YAML) else {"requirements": text}


def _with_workers(deployment: ModelDeployment, client: Client) -> ModelDeployment:
    """Take one worker per core where the cores are known: on this machine."""
    settings = deployment.settings
    if settings.max_concurrency_per_instance is not None or not client.is_embedded:
        return deployment
    workers = {"max_concurrency_per_instance": cores()}
    return deployment.model_copy(update={"settings": settings.model_copy(update=workers)})


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
