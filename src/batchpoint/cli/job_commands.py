"""The noun `job`: run pipelines; watch, read and cancel jobs."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchpoint.cli.command_options import (
    EndpointName,
    File,
    Form,
    MaxResults,
    Name,
    NameArgument,
    Query,
    Sets,
)
from batchpoint.cli.command_tree import Command, new_app
from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.repro_command import repro_job

if TYPE_CHECKING:  # commands import what they use when they run
    from batchpoint.cli.job_filters import JobFilters
    from batchpoint.client.jobs import JobHandle
    from batchpoint.domain.job import Job

job = new_app("Run pipelines; watch, read and cancel jobs.")
job.command("repro", cls=Command)(repro_job)


@job.command("create", cls=Command)
def create_job(
    name_argument: NameArgument = None,
    file: File = None,
    name: Name = None,
    sets: Sets = None,
    stream: Annotated[
        bool, typer.Option("--stream", "-s", "--wait", help="Watch the job to its end.")
    ] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            help="The same key and job again give the job that there is.",
            show_default=False,
        ),
    ] = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Run a pipeline once: a file of `type: pipeline`, with its steps or a component."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.error_report import warn
    from batchpoint.cli.job_following import watch_to_end
    from batchpoint.cli.score_commands import print_started
    from batchpoint.cli.yaml_pipeline import load_pipeline_job
    from batchpoint.cli.yaml_places import told_at_places

    loaded = load_pipeline_job(file, sets or [], {"name": ("--name", name or name_argument)})
    warn(loaded.warnings)
    wanted = loaded.noun
    if wanted.experiment_name is None:  # as `az ml job create` calls it
        wanted = wanted.model_copy(update={"experiment_name": Path.cwd().name or None})
    with connected(will_invoke=True) as client:
        with told_at_places(loaded.places):
            handle = client.jobs.create(wanted, idempotency_key=idempotency_key)
        if stream:
            watch_to_end(client, handle, form=form, query=query)
        else:
            print_started(handle.job, form, query)


@job.command("show", cls=Command)
def show_job(
    name_argument: NameArgument = None, name: Name = None, form: Form = None, query: Query = None
) -> None:
    """Show a job: the cause first when it failed, then what it does with what.

    Of a pipeline its graph is drawn: what became of each step, and what it waits for.
    """
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.job_cards import job_card
    from batchpoint.cli.pipeline_cards import pipeline_card, step_card
    from batchpoint.cli.render import emit, is_coloured, terminal_width
    from batchpoint.clock import SystemClock

    with connected() as client:
        handle = client.job(given_name(name_argument, name, "job"))
        found = handle.job

        def text() -> str:
            now, width = SystemClock().now(), terminal_width()
            if found.spec.type == "score":
                return job_card(found, width, now)
            if found.spec.type == "command":
                return step_card(found, width, now)
            steps, outputs = list(handle.children()), handle.outputs()
            return pipeline_card(found, steps, outputs, width, now, colour=is_coloured())

        emit(found, form=form, query=query, text=text)


@job.command("list", cls=Command)
def list_jobs(
    endpoint_name: EndpointName = None,
    deployment_name: Annotated[
        str | None,
        typer.Option("--deployment-name", "-d", help="Only of this one.", show_default=False),
    ] = None,
    *,
    parent_job_name: Annotated[
        str | None,
        typer.Option(
            "--parent-job-name", "-p", help="The steps of this pipeline job.", show_default=False
        ),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status", help="Only in this state; may be given often.", show_default=False
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            help="Only with this tag, KEY or KEY=VALUE; may be given often.",
            show_default=False,
        ),
    ] = None,
    job_type: Annotated[
        str | None,
        typer.Option("--type", help="score, command or pipeline.", show_default=False),
    ] = None,
    max_results: MaxResults = 50,
    form: Form = None,
    query: Query = None,
) -> None:
    """List jobs, newest first; the steps of pipelines only with their parent's name."""
    from batchpoint.cli.job_filters import JobFilters

    wanted = JobFilters(
        endpoint_name, deployment_name, parent_job_name, status or (), tag or (), job_type
    )
    print_jobs(wanted, limit=max_results, form=form, query=query)


def print_jobs(
    wanted: JobFilters, *, limit: int, form: OutputForm | None, query: str | None
) -> None:
    """Print the newest jobs that are wanted."""
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.job_cards import jobs_table
    from batchpoint.cli.progress_printers import to_stderr
    from batchpoint.cli.render import emit, terminal_width
    from batchpoint.clock import SystemClock

    asked = wanted.asked()
    with connected() as client:
        found = list(islice(client.jobs.list(wanted.endpoint, wanted.deployment, **asked), limit))
        if wanted.endpoint is not None and not found:  # jobs stay when their endpoint is deleted
            client.endpoints.get(wanted.endpoint)
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
    """Watch a job until it has ended; the exit code is the job's.

    Of a pipeline, what its steps print is shown as it comes, each line after the step's name.
    """
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.job_following import watch_to_end

    with connected() as client:
        handle = client.job(given_name(name_argument, name, "job"))
        watch_to_end(client, handle, form=form, query=query)


@job.command("cancel", cls=Command)
def cancel_job(
    name_argument: NameArgument = None, name: Name = None, form: Form = None, query: Query = None
) -> None:
    """Stop a job; its user code is stopped within seconds and nothing is published.

    Of a pipeline all steps are stopped; a step that is stopped alone takes those after it along.
    """
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
            help="One output, to named-outputs/NAME below the folder; a model's are called score.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All outputs, to named-outputs, and logs.")
    ] = False,
) -> None:
    """Download the results of a job.

    Of a pipeline and of its steps: each output that is complete, to a folder of its name.
    """
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.progress_printers import to_stderr
    from batchpoint.cli.text_tables import count

    named = download_path / "named-outputs"
    files: list[Path] = []
    with connected() as client:
        handle = client.job(given_name(name_argument, name, "job"))
        if output_name is not None:
            files = handle.download(named / output_name, output_name=output_name)
        elif not everything:
            files = handle.download(download_path)
        else:
            for each in _complete_outputs(handle):
                files += handle.download(named / each, output_name=each)
        if everything:
            files += _download_logs(handle, download_path / "artifacts" / "logs")
    sys.stdout.write("".join(f"{path}\n" for path in files))
    to_stderr(f"{count(len(files), 'file')} downloaded")


def _complete_outputs(handle: JobHandle) -> list[str]:
    """Name the outputs that can be read; of a job that scores its only one, which says why not."""
    outputs = handle.outputs()
    if handle.job.spec.type == "score":
        return list(outputs)
    return [name for name, output in outputs.items() if output.complete]


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
    step: Annotated[
        str | None,
        typer.Option("--step", help="Of this step of a pipeline.", show_default=False),
    ] = None,
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
        if step is not None:
            handle = client.job(_job_of_step(handle.job, step))
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


def _job_of_step(job: Job, step: str) -> str:
    """Find the job of a step. Raises: NotFound (`job_not_found`); Invalid (`job_type_wrong`)."""
    from batchpoint.cli.yaml_fields import closest
    from batchpoint.domain.errors import Invalid, NotFound
    from batchpoint.domain.job_spec import PipelineSpec

    if not isinstance(job.spec, PipelineSpec):
        raise Invalid(
            f"job {job.name!r} is no pipeline and has no steps; leave --step out",
            code="job_type_wrong",
        )
    if step not in job.spec.steps:
        raise NotFound(
            f"job {job.name!r} has no step {step!r}; {closest(step, job.spec.steps)}",
            code="job_not_found",
        )
    return job.spec.steps[step]


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
