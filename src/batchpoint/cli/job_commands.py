"""The noun `job`: watch, read and cancel jobs."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchpoint.cli.command_options import EndpointName, Form, MaxResults, Name, NameArgument, Query
from batchpoint.cli.command_tree import Command, new_app
from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.repro_command import repro_job

if TYPE_CHECKING:  # commands import what they use when they run
    from batchpoint.client.jobs import JobHandle

job = new_app("Watch, read and cancel jobs.")
job.command("repro", cls=Command)(repro_job)

_OUTPUT_NAME = "score"


@job.command("show", cls=Command)
def show_job(
    name_argument: NameArgument = None, name: Name = None, form: Form = None, query: Query = None
) -> None:
    """Show a job: the cause first when it failed, then what it does with what."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.job_cards import job_card
    from batchpoint.cli.render import emit, terminal_width
    from batchpoint.clock import SystemClock

    with connected() as client:
        found = client.jobs.get(given_name(name_argument, name, "job"))
    now = SystemClock().now()
    emit(found, form=form, query=query, text=lambda: job_card(found, terminal_width(), now))


@job.command("list", cls=Command)
def list_jobs(
    endpoint_name: EndpointName = None,
    deployment_name: Annotated[
        str | None,
        typer.Option("--deployment-name", "-d", help="Only of this one.", show_default=False),
    ] = None,
    max_results: MaxResults = 50,
    form: Form = None,
    query: Query = None,
) -> None:
    """List jobs, newest first."""
    print_jobs(endpoint_name, deployment_name, limit=max_results, form=form, query=query)


def print_jobs(
    endpoint: str | None,
    deployment: str | None,
    *,
    limit: int,
    form: OutputForm | None,
    query: str | None,
) -> None:
    """Print the newest jobs (of an endpoint, of a deployment)."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.job_cards import jobs_table
    from batchpoint.cli.progress_printers import to_stderr
    from batchpoint.cli.render import emit, terminal_width
    from batchpoint.clock import SystemClock

    with connected() as client:
        found = list(islice(client.jobs.list(endpoint, deployment), limit))
        if endpoint is not None and not found:  # jobs stay when their endpoint is deleted
            client.endpoints.get(endpoint)
    now = SystemClock().now()

    def text() -> str:
        if not found:
            to_stderr("There are none.")
            return ""
        return jobs_table(found, terminal_width(), now)

    emit(found, form=form, query=query, text=text, text_is_table=True)


@job.command("stream", cls=Command)
def stream_job(
    name_argument: NameArgument = None, name: Name = None, form: Form = None, query: Query = None
) -> None:
    """Watch a job until it has ended; the exit code is the job's."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.job_following import watch_to_end

    with connected() as client:
        watch_to_end(client.job(given_name(name_argument, name, "job")), form=form, query=query)


@job.command("cancel", cls=Command)
def cancel_job(
    name_argument: NameArgument = None, name: Name = None, form: Form = None, query: Query = None
) -> None:
    """Stop a job; its user code is stopped within seconds and nothing is published."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.job_cards import headline
    from batchpoint.cli.render import emit

    with connected() as client:
        asked = client.jobs.cancel(given_name(name_argument, name, "job"))
    emit(asked, form=form, query=query, text=lambda: headline(asked))


@job.command("head", cls=Command)
def head_job(
    name_argument: NameArgument = None,
    name: Name = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many.")] = 10,
    form: Form = None,
    query: Query = None,
) -> None:
    """Print the first rows of the predictions."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.job_cards import head_columns, predictions_table
    from batchpoint.cli.render import emit, terminal_width

    with connected() as client:
        head = client.job(given_name(name_argument, name, "job")).head(rows)
    columns = head_columns(head)
    records = [dict(zip(columns, row, strict=False)) for row in head.rows]
    emit(
        records,
        form=form,
        query=query,
        text=lambda: predictions_table(head, terminal_width()),
    )


@job.command("download", cls=Command)
def download_job(
    name_argument: NameArgument = None,
    name: Name = None,
    download_path: Annotated[
        Path, typer.Option("--download-path", "-p", help="Folder to write into.")
    ] = Path(),
    output_name: Annotated[
        str | None,
        typer.Option(
            "--output-name",
            help="Write to named-outputs/NAME below the folder; there is one output, score.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also logs; results go to named-outputs/score.")
    ] = False,
) -> None:
    """Download the results of a job."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.progress_printers import to_stderr
    from batchpoint.cli.text_tables import count
    from batchpoint.domain.errors import NotFound

    if output_name not in (None, _OUTPUT_NAME):
        raise NotFound(
            f"a job has no output {output_name!r}; there is one: {_OUTPUT_NAME}",
            code="output_not_found",
        )
    named = output_name is not None or everything
    folder = download_path / "named-outputs" / _OUTPUT_NAME if named else download_path
    with connected() as client:
        handle = client.job(given_name(name_argument, name, "job"))
        files = handle.download(folder)
        if everything:
            files += _download_logs(handle, download_path / "artifacts" / "logs")
    sys.stdout.write("".join(f"{path}\n" for path in files))
    to_stderr(f"{count(len(files), 'file')} downloaded")


def _download_logs(handle: JobHandle, folder: Path) -> list[Path]:
    written: list[Path] = []
    for log in handle.logs():
        target = folder / log.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            file.writelines(handle.log(log.path))
        written.append(target)
    return written


@job.command("logs", cls=Command)
def logs_of_job(
    name_argument: NameArgument = None,
    name: Name = None,
    path: Annotated[
        str | None,
        typer.Option("--path", help="One log, as --list shows it.", show_default=False),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the logs that there are.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the job has ended.")
    ] = False,
    form: Form = None,
    query: Query = None,
) -> None:
    """Print a job's log and what user code printed."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.job_logs import follow_log, print_logs
    from batchpoint.cli.render import emit, terminal_width
    from batchpoint.cli.text_tables import table

    with connected() as client:
        handle = client.job(given_name(name_argument, name, "job"))
        if listed:
            logs = handle.logs()
            rows = [[log.path, f"{log.size:,}"] for log in logs]
            emit(
                logs,
                form=form,
                query=query,
                text=lambda: table(["log", "bytes"], rows, terminal_width()),
            )
        elif follow:
            follow_log(handle, path or "job.log", sys.stdout.buffer)
        else:
            print_logs(handle, path, sys.stdout.buffer)


@job.command("failed-items", cls=Command)
def failed_items_of_job(
    name_argument: NameArgument = None,
    name: Name = None,
    max_results: MaxResults = 1_000,
    form: Form = None,
    query: Query = None,
) -> None:
    """List what failed for good: file, row and reason."""
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.job_cards import failed_items_table
    from batchpoint.cli.render import emit, terminal_width

    with connected() as client:
        handle = client.job(given_name(name_argument, name, "job"))
        items = list(islice(handle.failed_items(), max_results))

    def text() -> str:
        return failed_items_table(items, terminal_width()) if items else "No item failed."

    emit(items, form=form, query=query, text=text)
