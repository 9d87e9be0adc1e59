"""Opens the SDK for a command: to the server that the settings name, or in this process."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from batchpoint.cli.lean_imports import without
from batchpoint.domain.errors import BatchpointError, Invalid

if TYPE_CHECKING:  # httpx is slow to import, and `--help` does without
    from batchpoint.client.client import Client


def _tell(line: str) -> None:
    """Show what takes its time while something is created (an environment being built)."""
    sys.stderr.write(f"  {line}\n")
    sys.stderr.flush()


@contextmanager
def connected(*, will_invoke: bool = False) -> Generator[Client]:
    """Give a client and close it afterwards; jobs go on.

    Args:
        will_invoke: A job will be started: its supervisor may be started beside all that has to be
            imported here.

    Raises:
        Invalid: `settings_invalid`.
    """
    from batchpoint.settings import Settings

    settings = Settings.load(os.environ)
    if will_invoke and settings.url is None:
        from batchpoint.runner.supervisor_link import SupervisorLink

        with suppress(OSError, BatchpointError):  # whatever it is, starting the job will say it
            SupervisorLink(settings.home).ensure()
    from batchpoint.client.client import Client

    if settings.url is not None:
        client = Client(settings.url)
    else:
        from batchpoint import wiring

        with without("rich"):  # tracebacks in colour
            from batchpoint.telemetry import configure_logs
        # The app runs in this process: what it has to log must not get into results on stdout.
        configure_logs(level="warning", log_format="console")
        client = Client(app=wiring.embedded_app(settings, _tell))
    gc.enable()  # all is imported (see main.py), and waiting for a job may take days
    with client:
        yield client


def given_name(argument: str | None, option: str | None, what: str) -> str:
    """Take a name that may be given as an argument or with `--name`.

    Raises:
        Invalid: When it is missing, or given twice and differently.
    """
    if argument is not None and option is not None and argument != option:
        raise Invalid(f"the {what} is given twice: {argument!r} and --name {option!r}")
    name = argument or option
    if not name:
        raise Invalid(f"the {what}'s name is missing: give it as an argument or with --name")
    return name


def endpoint_given(name: str | None) -> str:
    """Take the endpoint's name that `--endpoint-name` gives. Raises: Invalid when missing."""
    if not name:
        raise Invalid("the endpoint's name is missing: give it with --endpoint-name")
    return name
