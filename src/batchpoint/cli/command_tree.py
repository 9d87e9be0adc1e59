"""The shape of the command tree: which module holds which command, loaded when it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command as built

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Place(NamedTuple):
    """Where a command is: a module of this package and the name of its `typer.Typer` there."""

    module: str
    name: str
    summary: str
    aliases: tuple[str, ...] = ()


COMMANDS: Mapping[str, Place] = {
    "deploy": Place("score_commands", "deploy", "Put a model behind an endpoint in one step."),
    "invoke": Place("score_commands", "invoke", "Score data, or run an endpoint's pipeline."),
    "job": Place("job_commands", "job", "Run pipelines; watch, read and cancel jobs."),
    "batch-endpoint": Place(
        "endpoint_commands", "endpoint", "Manage endpoints: stable names.", ("endpoint",)
    ),
    "batch-deployment": Place(
        "endpoint_commands", "deployment", "Manage deployments behind them.", ("deployment",)
    ),
    "model": Place("asset_commands", "model", "Manage registered models."),
    "environment": Place("asset_commands", "environment", "Manage registered environments."),
    "data": Place("asset_commands", "data", "Manage data assets: names for where data lies."),
    "datastore": Place("asset_commands", "datastore", "Manage the places where data lies."),
    "code": Place("asset_commands", "code", "Manage registered folders of scoring code."),
    "component": Place("component_commands", "component", "Manage components: steps, pipelines."),
    "compute": Place("asset_commands", "compute", "Manage compute clusters."),
    "az-shim": Place("az_shim", "az_shim", "Install an `az` for scripts of `az ml` commands."),
    "serve": Place("serve_command", "serve", "Run the server: REST API and supervisor."),
    "supervisor": Place("serve_command", "supervisor", "Run only the supervisor of jobs."),
    "down": Place("serve_command", "down", "End supervisor, nodes and running jobs now."),
}
_BY_ALIAS = {alias: name for name, place in COMMANDS.items() for alias in place.aliases}


class _CheckedWhenGiven:
    """Checks the value of an option that was given, unless it is text that may be anything.

    Typer makes a pydantic adapter for every option of a command before it knows which were given,
    which is a tenth of a short command's time.
    """

    def coerce(self, value: object, *, param: Any, ctx: Any) -> object:
        if value is None or (isinstance(value, str) and param.type_descriptor.annotation is str):
            return value
        param._runtime_param = None  # noqa: SLF001 - typer makes its own then
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


class Command(TyperCommand):
    """A command whose long options may be cut short while they stay unique, as in `az`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        params = self.get_params(ctx)
        for param in params:
            cast("Any", param)._runtime_param = _CheckedWhenGiven()  # noqa: SLF001
        known = [name for param in params for name in param.opts]
        return super().parse_args(ctx, completed(args, known))


class ScoringCommand(Command):
    """A command that takes data: says what happened when the shell has expanded a wildcard."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            if "extra argument" in error.message and {"-i", "--input"} & set(args):
                error.message += (
                    "; put quotes around wildcards, or write --input before every single path"
                )
            raise


class Noun(TyperGroup):
    """A group that shows its help when nothing else was asked for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


class Root(Noun):
    """The tree's root; a command's module is imported when the command is used."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        place = COMMANDS.get(_BY_ALIAS.get(cmd_name, cmd_name))
        return None if place is None else load_command(place)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # The suggestions for a mistyped word are taken from here.
        self.commands.update(dict.fromkeys((*COMMANDS, *_BY_ALIAS)))  # type: ignore[arg-type]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (", ".join((name, *place.aliases)), place.summary)
                    for name, place in COMMANDS.items()
                ]
            )


def load_command(place: Place) -> Any:
    """Import a command and build it."""
    module = import_module(f"batchpoint.cli.{place.module}")
    command = built(cast("typer.Typer", getattr(module, place.name)))
    command.name = place.name
    return command


def new_app(summary: str = "") -> typer.Typer:
    """Make an empty noun, or the holder of a single command."""
    return typer.Typer(
        cls=Noun,
        help=summary or None,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )


def completed(args: Sequence[str], known: Sequence[str]) -> list[str]:
    """Write out long options that were cut short; what is unknown or ambiguous stays as it is."""
    done: list[str] = []
    for index, arg in enumerate(args):
        if arg == "--":
            return [*done, *args[index:]]
        name, equals, value = arg.partition("=")
        if name.startswith("--") and name not in known:
            fitting = [option for option in known if option.startswith(name)]
            if len(fitting) == 1:
                done.append(f"{fitting[0]}{equals}{value}")
                continue
        done.append(arg)
    return done
