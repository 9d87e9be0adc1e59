"""The `batchpoint` command: finds the command, runs it, and turns errors into exit codes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from batchpoint.cli.command_tree import CONTEXT, Root
from batchpoint.cli.error_report import INTERRUPTED, report, wants_json
from batchpoint.cli.lean_imports import hide

app = typer.Typer(
    cls=Root,
    name="batchpoint",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"batchpoint {version('batchpoint')}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and end."),
    ] = False,
) -> None:
    """Batch endpoints for machine learning: point at data, get every row scored, or run pipelines.

    Without a server configured (setting `url`), everything happens on this machine.
    """


def run(arguments: Sequence[str], *, errors_as_json: bool | None = None) -> int:
    """Run one command line (without the program's name) and give its exit code.

    Errors are written as JSON when the command line asks for it, unless `errors_as_json` says.
    """
    try:
        code = get_command(app).main(
            args=list(arguments), prog_name="batchpoint", standalone_mode=False
        )
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    except typer.Exit as ended:
        return ended.exit_code
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing is to be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the bulkhead of the command line
        as_json = wants_json(arguments) if errors_as_json is None else errors_as_json
        return report(error, as_json=as_json)
    return code if isinstance(code, int) else 0


def main() -> None:
    """Be the `batchpoint` command."""
    # Importing makes hundreds of thousands of objects and no garbage; looking for some takes a
    # tenth of a short command's time. Commands that last switch it on again.
    gc.disable()
    # A command line of httpx's own, and what FastAPI checks every annotation against.
    hide("httpx._main", "pydantic.v1")
    code = run(sys.argv[1:])
    # Taking all of it apart again, object by object, would take another tenth.
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # a full disk, or whoever read our output has gone
        code = code or 1
    os._exit(code)
