"""The nouns `batch-endpoint` and `batch-deployment`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from batchpoint.cli.command_options import (
    Description,
    EndpointName,
    File,
    Force,
    Form,
    MaxResults,
    Name,
    NameArgument,
    Query,
    Sets,
    Yes,
)
from batchpoint.cli.command_tree import Command, ScoringCommand, new_app
from batchpoint.cli.score_commands import invoke_command

if TYPE_CHECKING:
    from batchpoint.cli.output_forms import OutputForm
    from batchpoint.cli.yaml_places import Places
    from batchpoint.client.client import Client
    from batchpoint.domain.deployment import Deployment

endpoint = new_app("Manage endpoints: stable names behind which deployments live.")
deployment = new_app("Manage deployments: a model, or a pipeline, with everything it needs.")
endpoint.command("invoke", cls=ScoringCommand)(invoke_command)

_SetDefault = Annotated[
    bool, typer.Option("--set-default", help="Make it the endpoint's default deployment.")
]


@endpoint.command("create", cls=Command)
def create_endpoint(
    name_argument: NameArgument = None,
    file: File = None,
    name: Name = None,
    description: Description = None,
    sets: Sets = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Create an endpoint, or update the one of this name."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.error_report import warn
    from batchpoint.cli.resource_view import show
    from batchpoint.cli.yaml_files import load_endpoint

    flags = {
        "name": ("--name", name or name_argument),
        "description": ("--description", description),
    }
    loaded = load_endpoint(file, sets or [], flags)
    warn(loaded.warnings)
    with connected() as client:
        show(client.endpoints.create_or_update(loaded.noun), form, query)


@endpoint.command("update", cls=Command)
def update_endpoint(
    name_argument: NameArgument = None,
    file: File = None,
    name: Name = None,
    description: Description = None,
    sets: Sets = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Change an endpoint: `--set defaults.deployment_name=NAME` switches all callers at once."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.error_report import warn
    from batchpoint.cli.resource_view import as_tree, merge_patch, need_change, show
    from batchpoint.cli.yaml_files import load_endpoint

    need_change(sets, [description], file=file)
    flags = {
        "name": ("--name", name or name_argument),
        "description": ("--description", description),
    }
    with connected() as client:
        if file is not None:
            loaded = load_endpoint(file, sets or [], flags)
            client.endpoints.get(loaded.noun.name)  # an update makes nothing new
            updated = client.endpoints.create_or_update(loaded.noun)
        else:
            wanted = given_name(name_argument, name, "endpoint")
            before = client.endpoints.get(wanted)
            tree = as_tree(before, f"endpoint {wanted}")
            loaded = load_endpoint(None, sets or [], flags, existing=tree)
            updated = client.endpoints.update(wanted, merge_patch(before, loaded.noun))
        warn(loaded.warnings)
        show(updated, form, query)


@endpoint.command("show", cls=Command)
def show_endpoint(
    name_argument: NameArgument = None, name: Name = None, form: Form = None, query: Query = None
) -> None:
    """Show an endpoint."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.resource_view import show

    with connected() as client:
        show(client.endpoints.get(given_name(name_argument, name, "endpoint")), form, query)


@endpoint.command("list", cls=Command)
def list_endpoints(max_results: MaxResults = 100, form: Form = None, query: Query = None) -> None:
    """List endpoints."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.resource_view import show_list
    from batchpoint.cli.text_tables import moment

    with connected() as client:
        show_list(
            client.endpoints.list(),
            "endpoint,default,created,description",
            lambda e: [
                e.name,
                e.defaults.deployment_name or "",
                moment(e.created_at),
                e.description or "",
            ],
            limit=max_results,
            form=form,
            query=query,
        )


@endpoint.command("delete", cls=Command)
def delete_endpoint(
    name_argument: NameArgument = None, name: Name = None, yes: Yes = False, force: Force = False
) -> None:
    """Delete an endpoint with its deployments; jobs and their results stay."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.resource_view import confirm_delete

    wanted = given_name(name_argument, name, "endpoint")
    confirm_delete(f"endpoint {wanted!r} with its deployments", yes=yes)
    with connected() as client:
        client.endpoints.delete(wanted, force=force)


@endpoint.command("list-jobs", cls=Command)
def list_endpoint_jobs(
    name_argument: NameArgument = None,
    name: Name = None,
    max_results: MaxResults = 50,
    form: Form = None,
    query: Query = None,
) -> None:
    """List the jobs of an endpoint, newest first."""
    from batchpoint.cli.client_connection import given_name
    from batchpoint.cli.job_commands import print_jobs
    from batchpoint.cli.job_filters import JobFilters

    wanted = JobFilters(given_name(name_argument, name, "endpoint"))
    print_jobs(wanted, limit=max_results, form=form, query=query)


@deployment.command("create", cls=Command)
def create_deployment(
    name_argument: NameArgument = None,
    file: File = None,
    name: Name = None,
    endpoint_name: EndpointName = None,
    sets: Sets = None,
    set_default: _SetDefault = False,
    form: Form = None,
    query: Query = None,
) -> None:
    """Create a deployment, or update the one of this name; checks all of it first."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.error_report import warn
    from batchpoint.cli.yaml_deployment import load_deployment

    flags = {
        "name": ("--name", name or name_argument),
        "endpoint_name": ("--endpoint-name", endpoint_name),
    }
    loaded = load_deployment(file, sets or [], flags)
    warn(loaded.warnings)
    with connected() as client:
        _put_deployment(
            client, loaded.noun, loaded.places, set_default=set_default, form=form, query=query
        )


@deployment.command("update", cls=Command)
def update_deployment(
    name_argument: NameArgument = None,
    file: File = None,
    name: Name = None,
    endpoint_name: EndpointName = None,
    sets: Sets = None,
    set_default: _SetDefault = False,
    form: Form = None,
    query: Query = None,
) -> None:
    """Change a deployment; jobs that run keep what they were started with."""
    from batchpoint.cli.client_connection import connected, endpoint_given, given_name
    from batchpoint.cli.error_report import warn
    from batchpoint.cli.resource_view import as_tree, need_change
    from batchpoint.cli.yaml_deployment import load_deployment

    need_change(sets, [True if set_default else None], file=file)
    flags = {
        "name": ("--name", name or name_argument),
        "endpoint_name": ("--endpoint-name", endpoint_name),
    }
    with connected() as client:
        if file is not None:
            loaded = load_deployment(file, sets or [], flags)
            client.deployments.get(loaded.noun.endpoint_name, loaded.noun.name)
        else:
            wanted = given_name(name_argument, name, "deployment")
            before = client.deployments.get(endpoint_given(endpoint_name), wanted)
            tree = as_tree(before, f"deployment {wanted}")
            loaded = load_deployment(None, sets or [], flags, existing=tree)
        warn(loaded.warnings)
        _put_deployment(
            client, loaded.noun, loaded.places, set_default=set_default, form=form, query=query
        )


def _put_deployment(
    client: Client,
    deployment: Deployment,
    places: Places,
    *,
    set_default: bool,
    form: OutputForm | None,
    query: str | None,
) -> None:
    """Send a deployment and say in short what was made of it."""
    from batchpoint.cli.deployment_view import component_of, deployment_card
    from batchpoint.cli.render import emit
    from batchpoint.cli.yaml_places import told_at_places

    with told_at_places(places):
        made = client.deployments.create_or_update(deployment, set_default=set_default)

    def text() -> str:
        default = client.endpoints.get(made.endpoint_name).defaults.deployment_name
        title = f"Deployment {made.name} of {made.endpoint_name} is ready"
        component = component_of(client, made)
        return deployment_card(made, title=title, default=default, component=component)

    emit(made, form=form, query=query, text=text)


@deployment.command("show", cls=Command)
def show_deployment(
    name_argument: NameArgument = None,
    name: Name = None,
    endpoint_name: EndpointName = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Show a deployment with the server's defaults filled in."""
    from batchpoint.cli.client_connection import connected, endpoint_given, given_name
    from batchpoint.cli.resource_view import show

    wanted = given_name(name_argument, name, "deployment")
    with connected() as client:
        show(client.deployments.get(endpoint_given(endpoint_name), wanted), form, query)


@deployment.command("list", cls=Command)
def list_deployments(
    endpoint_name: EndpointName = None,
    max_results: MaxResults = 100,
    form: Form = None,
    query: Query = None,
) -> None:
    """List the deployments of an endpoint."""
    from batchpoint.cli.client_connection import connected, endpoint_given
    from batchpoint.cli.deployment_view import what_and_where
    from batchpoint.cli.resource_view import show_list
    from batchpoint.cli.text_tables import moment

    owner = endpoint_given(endpoint_name)
    with connected() as client:
        default = client.endpoints.get(owner).defaults.deployment_name
        show_list(
            client.deployments.list(owner),
            "deployment,default,type,model or component,compute,created",
            lambda d: [
                d.name,
                "yes" if d.name == default else "",
                d.type,
                *what_and_where(d),
                moment(d.created_at),
            ],
            limit=max_results,
            form=form,
            query=query,
        )


@deployment.command("delete", cls=Command)
def delete_deployment(
    name_argument: NameArgument = None,
    name: Name = None,
    endpoint_name: EndpointName = None,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Delete a deployment; the endpoint's default only with --force."""
    from batchpoint.cli.client_connection import connected, endpoint_given, given_name
    from batchpoint.cli.resource_view import confirm_delete

    wanted, owner = given_name(name_argument, name, "deployment"), endpoint_given(endpoint_name)
    confirm_delete(f"deployment {wanted!r} of endpoint {owner!r}", yes=yes)
    with connected() as client:
        client.deployments.delete(owner, wanted, force=force)


@deployment.command("list-jobs", cls=Command)
def list_deployment_jobs(
    name_argument: NameArgument = None,
    name: Name = None,
    endpoint_name: EndpointName = None,
    max_results: MaxResults = 50,
    form: Form = None,
    query: Query = None,
) -> None:
    """List the jobs of a deployment, newest first."""
    from batchpoint.cli.client_connection import endpoint_given, given_name
    from batchpoint.cli.job_commands import print_jobs
    from batchpoint.cli.job_filters import JobFilters

    name = given_name(name_argument, name, "deployment")
    wanted = JobFilters(endpoint_given(endpoint_name), name)
    print_jobs(wanted, limit=max_results, form=form, query=query)
