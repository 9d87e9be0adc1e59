"""The nouns `model`, `environment` and `compute`."""

from __future__ import annotations

from typing import Annotated

import typer

from batchpoint.cli.command_options import (
    Description,
    File,
    Form,
    MaxResults,
    Name,
    NameArgument,
    Query,
    Sets,
    Version,
    Yes,
)
from batchpoint.cli.command_tree import Command, new_app

model = new_app("Manage registered models: numbered and immutable.")
environment = new_app("Manage registered environments: numbered and immutable.")
compute = new_app("Manage compute clusters; `local` is this machine and always there.")


@model.command("create", cls=Command)
def create_model(
    name_argument: NameArgument = None,
    *,
    file: File = None,
    name: Name = None,
    version: Version = None,
    path: Annotated[
        str | None, typer.Option("--path", "-p", help="File or folder.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--type", "-t", help="custom_model or mlflow_model.", show_default=False),
    ] = None,
    description: Description = None,
    sets: Sets = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Register a model: a new version unless one is given."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.error_report import warn
    from batchpoint.cli.resource_view import show
    from batchpoint.cli.yaml_files import load_model

    flags = {
        "name": ("--name", name or name_argument),
        "version": ("--version", version),
        "path": ("--path", path),
        "type": ("--type", kind),
        "description": ("--description", description),
    }
    loaded = load_model(file, sets or [], flags)
    warn(loaded.warnings)
    with connected() as client:
        show(client.models.create_or_update(loaded.noun), form, query)


@model.command("show", cls=Command)
def show_model(
    name_argument: NameArgument = None,
    name: Name = None,
    version: Version = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Show a version of a model."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.resource_view import show

    with connected() as client:
        show(client.models.get(given_name(name_argument, name, "model"), version), form, query)


@model.command("list", cls=Command)
def list_models(
    name_argument: NameArgument = None,
    name: Name = None,
    max_results: MaxResults = 100,
    form: Form = None,
    query: Query = None,
) -> None:
    """List models, or with a name the versions of one."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.resource_view import show_list
    from batchpoint.cli.text_tables import moment

    with connected() as client:
        found = client.models.list(name or name_argument)
        show_list(
            found,
            "model,version,type,created",
            lambda m: [m.name or "", m.version or "", m.type, moment(m.created_at)],
            limit=max_results,
            form=form,
            query=query,
        )


@model.command("delete", cls=Command)
def delete_model(
    name_argument: NameArgument = None, name: Name = None, version: Version = None, yes: Yes = False
) -> None:
    """Delete a version of a model (all without --version); deployments that use it go on."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.resource_view import confirm_delete

    wanted = given_name(name_argument, name, "model")
    confirm_delete(_versions("model", wanted, version), yes=yes)
    with connected() as client:
        client.models.delete(wanted, version)


def _versions(kind: str, name: str, version: str | None) -> str:
    return f"{kind} {name!r}" + (f" version {version}" if version else " with all its versions")


@environment.command("create", cls=Command)
def create_environment(
    name_argument: NameArgument = None,
    *,
    file: File = None,
    name: Name = None,
    version: Version = None,
    conda_file: Annotated[
        str | None, typer.Option("--conda-file", "-c", help="Conda file.", show_default=False)
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image", "-i", help="Image; refused unless the settings map it.", show_default=False
        ),
    ] = None,
    description: Description = None,
    sets: Sets = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Register an environment: a new version unless one is given."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.error_report import warn
    from batchpoint.cli.resource_view import show
    from batchpoint.cli.yaml_files import load_environment

    flags = {
        "name": ("--name", name or name_argument),
        "version": ("--version", version),
        "conda_file": ("--conda-file", conda_file),
        "image": ("--image", image),
        "description": ("--description", description),
    }
    loaded = load_environment(file, sets or [], flags)
    warn(loaded.warnings)
    with connected() as client:
        show(client.environments.create_or_update(loaded.noun), form, query)


@environment.command("show", cls=Command)
def show_environment(
    name_argument: NameArgument = None,
    name: Name = None,
    version: Version = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Show a version of an environment."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.resource_view import show

    wanted = given_name(name_argument, name, "environment")
    with connected() as client:
        show(client.environments.get(wanted, version), form, query)


@environment.command("list", cls=Command)
def list_environments(
    name_argument: NameArgument = None,
    name: Name = None,
    max_results: MaxResults = 100,
    form: Form = None,
    query: Query = None,
) -> None:
    """List environments, or with a name the versions of one."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.resource_view import show_list
    from batchpoint.cli.text_tables import moment

    with connected() as client:
        found = client.environments.list(name or name_argument)
        show_list(
            found,
            "environment,version,created,description",
            lambda e: [e.name or "", e.version or "", moment(e.created_at), e.description or ""],
            limit=max_results,
            form=form,
            query=query,
        )


@environment.command("delete", cls=Command)
def delete_environment(
    name_argument: NameArgument = None, name: Name = None, version: Version = None, yes: Yes = False
) -> None:
    """Delete a version of an environment (all without --version)."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.resource_view import confirm_delete

    wanted = given_name(name_argument, name, "environment")
    confirm_delete(_versions("environment", wanted, version), yes=yes)
    with connected() as client:
        client.environments.delete(wanted, version)


_Size = Annotated[str | None, typer.Option("--size", help="Kept.", show_default=False)]
_Min = Annotated[
    int | None, typer.Option("--min-instances", min=0, help="Instances kept.", show_default=False)
]
_Max = Annotated[
    int | None,
    typer.Option("--max-instances", min=1, help="Instances at most.", show_default=False),
]
_Idle = Annotated[
    int | None,
    typer.Option(
        "--idle-time-before-scale-down",
        min=0,
        help="Seconds for which an idle instance stays warm.",
        show_default=False,
    ),
]


@compute.command("create", cls=Command)
def create_compute(
    name_argument: NameArgument = None,
    *,
    file: File = None,
    name: Name = None,
    kind: Annotated[
        str | None, typer.Option("--type", "-t", help="local or amlcompute.", show_default=False)
    ] = None,
    size: _Size = None,
    tier: Annotated[
        str | None,
        typer.Option("--tier", help="dedicated or low_priority; kept.", show_default=False),
    ] = None,
    min_instances: _Min = None,
    max_instances: _Max = None,
    idle: _Idle = None,
    description: Description = None,
    sets: Sets = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Create a compute cluster, or update the one of this name."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.error_report import warn
    from batchpoint.cli.resource_view import show
    from batchpoint.cli.yaml_files import load_compute

    flags = {
        "name": ("--name", name or name_argument),
        "type": ("--type", kind),
        "size": ("--size", size),
        "tier": ("--tier", tier),
        "min_instances": ("--min-instances", min_instances),
        "max_instances": ("--max-instances", max_instances),
        "idle_time_before_scale_down": ("--idle-time-before-scale-down", idle),
        "description": ("--description", description),
    }
    loaded = load_compute(file, sets or [], flags)
    warn(loaded.warnings)
    with connected() as client:
        show(client.computes.create_or_update(loaded.noun), form, query)


@compute.command("update", cls=Command)
def update_compute(
    name_argument: NameArgument = None,
    name: Name = None,
    min_instances: _Min = None,
    max_instances: _Max = None,
    idle: _Idle = None,
    sets: Sets = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Change a compute cluster; jobs that run keep what they were started with."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.resource_view import as_tree, merge_patch, need_change, show
    from batchpoint.cli.yaml_files import load_compute

    need_change(sets, [min_instances, max_instances, idle], file=None)
    wanted = given_name(name_argument, name, "compute")
    flags = {
        "min_instances": ("--min-instances", min_instances),
        "max_instances": ("--max-instances", max_instances),
        "idle_time_before_scale_down": ("--idle-time-before-scale-down", idle),
    }
    with connected() as client:
        before = client.computes.get(wanted)
        tree = as_tree(before, f"compute {wanted}")
        loaded = load_compute(None, sets or [], flags, existing=tree)
        show(client.computes.update(wanted, merge_patch(before, loaded.noun)), form, query)


@compute.command("show", cls=Command)
def show_compute(
    name_argument: NameArgument = None, name: Name = None, form: Form = None, query: Query = None
) -> None:
    """Show a compute cluster."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.resource_view import show

    with connected() as client:
        show(client.computes.get(given_name(name_argument, name, "compute")), form, query)


@compute.command("list", cls=Command)
def list_computes(max_results: MaxResults = 100, form: Form = None, query: Query = None) -> None:
    """List compute clusters."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.resource_view import show_list

    with connected() as client:
        show_list(
            client.computes.list(),
            "compute,type,min,max,idle seconds",
            lambda c: [
                c.name,
                c.type,
                str(c.min_instances),
                str(c.max_instances),
                str(c.idle_time_before_scale_down),
            ],
            limit=max_results,
            form=form,
            query=query,
        )


@compute.command("delete", cls=Command)
def delete_compute(name_argument: NameArgument = None, name: Name = None, yes: Yes = False) -> None:
    """Delete a compute cluster that no deployment uses."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.resource_view import confirm_delete

    wanted = given_name(name_argument, name, "compute")
    confirm_delete(f"compute {wanted!r}", yes=yes)
    with connected() as client:
        client.computes.delete(wanted)
