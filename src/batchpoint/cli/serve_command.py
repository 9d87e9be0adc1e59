"""Commands that are processes: the server, the supervisor, and ending them."""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer

from batchpoint.cli.command_tree import Command, new_app
from batchpoint.cli.lean_imports import without

serve = new_app()
supervisor = new_app()
down = new_app()


@serve.command(cls=Command)
def serve_command(
    host: Annotated[
        str | None,
        typer.Option("--host", help="Address to listen on; else setting serve.host."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65_535, help="Port, 0 for any free; else setting serve.port."
        ),
    ] = None,
    with_supervisor: Annotated[
        bool,
        typer.Option("--supervisor/--no-supervisor", help="Also run jobs, or only the API."),
    ] = True,
) -> None:
    """Run the server until ended: the REST API and, beside it, the supervisor that runs jobs.

    Clients find it by `BATCHPOINT_URL`. Jobs that were running go on when it starts again.
    """
    gc.enable()  # see main.py
    from batchpoint.cli.server_process import serve_forever
    from batchpoint.settings import Settings
    from batchpoint.telemetry import configure_logs

    settings = Settings.load(os.environ)
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    serve_forever(
        settings,
        host=settings.serve.host if host is None else host,
        port=settings.serve.port if port is None else port,
        with_supervisor=with_supervisor,
    )


@supervisor.command(cls=Command)
def supervisor_command(
    exit_when_idle: Annotated[
        bool, typer.Option("--exit-when-idle", help="End when no job runs and no node is warm.")
    ] = False,
    exit_with_parent: Annotated[
        int | None,
        typer.Option(
            "--exit-with-parent",
            help="End when the process that started it, of this id, does (Linux).",
            metavar="PID",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Adopt jobs and run them on this machine, until ended.

    A second one for the same BATCHPOINT_HOME ends at once. Commands start one by themselves when
    they need it.
    """
    from batchpoint import wiring
    from batchpoint.settings import Settings

    with without("rich"):  # tracebacks in colour
        from batchpoint.telemetry import configure_logs
    if exit_with_parent is not None:
        _end_with(exit_with_parent)
    settings = Settings.load(os.environ)
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    if not wiring.run_supervisor(settings, exit_when_idle=exit_when_idle):
        sys.stderr.write(f"another supervisor already looks after {settings.home}\n")


def _end_with(parent: int) -> None:
    """Have the kernel end this process in good order when its parent is gone (Linux only)."""
    import ctypes
    import signal

    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before the kernel was told
            raise typer.Exit


@down.command(cls=Command)
def down_command() -> None:
    """End the supervisor of BATCHPOINT_HOME with its nodes and everything that runs, now.

    Nothing is lost: unfinished jobs go on with the next command or `serve`.
    """
    from batchpoint.runner.supervisor_link import SupervisorLink
    from batchpoint.settings import Settings

    home = Settings.load(os.environ).home
    ended = SupervisorLink(home).down()
    sys.stdout.write(f"ended what ran for {home}\n" if ended else f"nothing ran for {home}\n")
