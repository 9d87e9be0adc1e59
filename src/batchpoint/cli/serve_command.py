"""Commands that are processes: the server, the supervisor, and ending them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from batchpoint.cli.command_tree import Command, new_app

serve = new_app()
supervisor = new_app()
down = new_app()


@supervisor.command(cls=Command)
def supervisor_command(
    exit_when_idle: Annotated[
        bool, typer.Option("--exit-when-idle", help="End when no job runs and no node is warm.")
    ] = False,
) -> None:
    """Adopt jobs and run them on this machine, until ended.

    A second one for the same BATCHPOINT_HOME ends at once. Commands start one by themselves when
    they need it.
    """
    from batchpoint import wiring
    from batchpoint.settings import Settings
    from batchpoint.telemetry import configure_logs

    settings = Settings.load(os.environ)
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    if not wiring.run_supervisor(settings, exit_when_idle=exit_when_idle):
        sys.stderr.write(f"another supervisor already looks after {settings.home}\n")
