"""`job repro`: score the mini-batch that failed again, here, where one can look at it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from batchpoint.cli.command_options import Name, NameArgument


def repro_job(
    name_argument: NameArgument = None,
    *,
    name: Name = None,
    item: Annotated[
        str | None,
        typer.Option(
            "--item",
            help="Number or name of an item; else the first one that failed.",
            show_default=False,
        ),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Only this item, not its whole mini-batch.")
    ] = False,
    debugger: Annotated[
        bool, typer.Option("--debugger", help="Open Python's debugger where it fails.")
    ] = False,
) -> None:
    """Score a failed mini-batch again under the job's code, model, environment and parameters.

    Runs in the foreground and changes nothing of the job: rows go to stdout, what failed to stderr
    with its traceback. Ends with 1 when something failed again. Needs the files of the job: run it
    on the machine that ran it.
    """
    from batchpoint import wiring
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.progress_printers import to_stderr
    from batchpoint.domain.errors import Invalid, NotFound
    from batchpoint.settings import Settings

    settings = Settings.load(os.environ)
    if settings.url is not None:
        raise Invalid(
            "job repro needs the files of the job: run it on the server's machine, with its "
            "BATCHPOINT_HOME and without BATCHPOINT_URL",
            code="field_unsupported",
            where="job repro",
        )
    wanted = given_name(name_argument, name, "job")
    with connected() as client:
        handle = client.job(wanted)
        job = handle.job
        failed = None
        if item is None:
            found = (one for one in handle.failed_items() if one["item"] is not None)
            failed = next(found, None)
            if failed is None:
                raise NotFound(
                    f"nothing of job {wanted!r} failed for good; name an item with --item",
                    code="input_not_found",
                )
    place = item if failed is None else (failed["item"], failed["name"], failed["row"])
    assert place is not None
    with wiring.reproduction(settings, job, place, alone=alone, debugger=debugger) as prepared:
        to_stderr(
            f"mini-batch {prepared.mini_batch} of job {wanted}: {len(prepared.names)} "
            f"{'file' if len(prepared.names) == 1 else 'files'}, the first is {prepared.names[0]}"
        )
        sys.stdout.flush()
        code = wiring.run_reproduction(prepared)
    if code < 0:
        to_stderr(f"the process that scored it was ended by {signal.Signals(-code).name}")
    raise typer.Exit(code if code >= 0 else 1)
