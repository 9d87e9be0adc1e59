"""The two commands of the main job: `deploy` and `invoke`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchpoint.cli.command_options import Form, Name, NameArgument, Query, Sets
from batchpoint.cli.command_tree import Command, ScoringCommand, new_app
from batchpoint.cli.output_forms import OutputForm

if TYPE_CHECKING:
    from batchpoint.domain.component import PipelineComponent
    from batchpoint.domain.job import Job

deploy = new_app()
invoke = new_app()

_Workers = Annotated[
    int | None,
    typer.Option(
        "--max-concurrency-per-instance",
        min=1,
        help="Workers per instance; deploy takes one per core of this machine.",
        show_default=False,
    ),
]
_Instances = Annotated[
    int | None,
    typer.Option("--instance-count", min=1, help="Instances per job.", show_default=False),
]
_JobFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        help="Job file (YAML): inputs and outputs by name, and settings of this job.",
        show_default=False,
        metavar="FILE",
    ),
]
_MiniBatch = Annotated[
    int | None,
    typer.Option("--mini-batch-size", min=1, help="Files per run().", show_default=False),
]


@deploy.command(cls=Command)
def deploy_command(
    path: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model file or folder (azureml:NAME:VERSION works, too), or a deployment file.",
        ),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", help="The endpoint; made when there is none of this name."),
    ] = None,
    deployment_name: Annotated[
        str | None,
        typer.Option("--deployment-name", "-d", help="The deployment behind it; else `default`."),
    ] = None,
    code: Annotated[
        Path | None,
        typer.Option("--code", help="Folder of the scoring script.", show_default=False),
    ] = None,
    scoring_script: Annotated[
        str | None,
        typer.Option("--scoring-script", help="Script with init() and run().", show_default=False),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment",
            help="azureml:NAME:VERSION, or a conda or requirements file.",
            show_default=False,
        ),
    ] = None,
    compute: Annotated[
        str | None, typer.Option("--compute", help="Compute; else `local`.", show_default=False)
    ] = None,
    instance_count: _Instances = None,
    workers: _Workers = None,
    mini_batch_size: _MiniBatch = None,
    sets: Sets = None,
    form: Form = None,
    query: Query = None,
) -> None:
    """Put a model behind an endpoint in one step: endpoint, deployment, default.

    An MLflow model needs no code; anything else takes a scoring script. Deploying again updates
    the deployment.
    """
    from batchpoint.cli.deploy_step import DeployWish, deploy_model

    wish = DeployWish(
        path=path,
        sets=sets or [],
        flags={
            "endpoint_name": ("--name", name),
            "name": ("--deployment-name", deployment_name),
            "compute": ("--compute", compute),
            "resources.instance_count": ("--instance-count", instance_count),
            "settings.max_concurrency_per_instance": ("--max-concurrency-per-instance", workers),
            "settings.mini_batch_size": ("--mini-batch-size", mini_batch_size),
        },
        code=code,
        scoring_script=scoring_script,
        environment=environment,
    )
    deploy_model(wish, form=form, query=query)


_Data = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        help="What to score: file, folder, quoted wildcard, URI, data asset; may be given often.",
        show_default=False,
    ),
]
_FileList = Annotated[
    str | None,
    typer.Option(
        "--input-file-list",
        help="File with one such pointer a line; - for stdin.",
        show_default=False,
    ),
]
_Pattern = Annotated[
    str | None,
    typer.Option(
        "--input-pattern",
        help="Only files of a folder whose path matches, e.g. '**/*.csv'.",
        show_default=False,
    ),
]
_OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output-file-name",
        help="File of the predictions; its ending chooses the format.",
        show_default=False,
    ),
]
_Retries = Annotated[
    int | None,
    typer.Option("--max-retries", min=0, help="Retries of a mini-batch.", show_default=False),
]
_Timeout = Annotated[
    int | None,
    typer.Option("--timeout", min=1, help="Seconds for one run().", show_default=False),
]
_Threshold = Annotated[
    int | None,
    typer.Option(
        "--error-threshold", min=-1, help="Failed items a job survives.", show_default=False
    ),
]
_Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        help="A parameter of script or model, typed as in YAML; may be given often.",
        show_default=False,
        metavar="NAME=VALUE",
    ),
]
_Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        help="An environment variable of user code; may be given often.",
        show_default=False,
        metavar="NAME=VALUE",
    ),
]
_Webhook = Annotated[
    str | None,
    typer.Option("--webhook-url", help="Called when the job has ended.", show_default=False),
]
_DataType = Annotated[
    str | None,
    typer.Option(
        "--input-type", help="uri_file or uri_folder; found by looking.", show_default=False
    ),
]
_Deployment = Annotated[
    str | None,
    typer.Option(
        "--deployment-name", "-d", help="Deployment; else the default.", show_default=False
    ),
]
_OutputPath = Annotated[
    str | None,
    typer.Option("--output-path", help="Folder in which the results appear.", show_default=False),
]
_JobName = Annotated[
    str | None, typer.Option("--job-name", help="Name of the job.", show_default=False)
]
_Experiment = Annotated[
    str | None, typer.Option("--experiment-name", help="Kept with the job.", show_default=False)
]
_JobWorkers = Annotated[
    int | None,
    typer.Option(
        "--max-concurrency-per-instance", min=1, help="Workers per instance.", show_default=False
    ),
]
_Key = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        help="The same key and job again give the job that there is.",
        show_default=False,
    ),
]
_Wait = Annotated[
    bool,
    typer.Option("--wait/--detach", help="Watch the job to its end, or print its name and go."),
]


@invoke.command(cls=ScoringCommand)
def invoke_command(
    name_argument: NameArgument = None,
    *,
    name: Name = None,
    data: _Data = None,
    data_type: _DataType = None,
    file_list: _FileList = None,
    pattern: _Pattern = None,
    deployment_name: _Deployment = None,
    output_path: _OutputPath = None,
    output_file_name: _OutputFile = None,
    job_name: _JobName = None,
    experiment_name: _Experiment = None,
    mini_batch_size: _MiniBatch = None,
    instance_count: _Instances = None,
    workers: _JobWorkers = None,
    max_retries: _Retries = None,
    timeout: _Timeout = None,
    error_threshold: _Threshold = None,
    parameters: _Params = None,
    variables: _Variables = None,
    webhook_url: _Webhook = None,
    idempotency_key: _Key = None,
    file: _JobFile = None,
    sets: Sets = None,
    wait: _Wait = False,
    form: Form = None,
    query: Query = None,
) -> None:
    """Start a job of an endpoint: score what --input points at, or run its pipeline.

    --set also takes what the job file may say: `retry_settings.timeout=60`, `tags.a=b`. Pipelines
    take inputs and outputs by name: `inputs.NAME.path=DATA` (a path or URI), `inputs.NAME=0.5` (a
    number or text), `outputs.NAME.path=URI`.
    """
    from batchpoint.cli import invocation_file as asked
    from batchpoint.cli.client_connection import connected, given_name
    from batchpoint.cli.error_report import warn
    from batchpoint.cli.job_following import watch_to_end

    endpoint = given_name(name_argument, name, "endpoint")
    loaded = asked.load_invocation(
        file,
        sets or [],
        {
            "deployment_name": ("--deployment-name", deployment_name),
            "job_name": ("--job-name", job_name),
            "experiment_name": ("--experiment-name", experiment_name),
            "overrides.mini_batch_size": ("--mini-batch-size", mini_batch_size),
            "overrides.instance_count": ("--instance-count", instance_count),
            "overrides.max_concurrency_per_instance": ("--max-concurrency-per-instance", workers),
            "overrides.max_retries": ("--max-retries", max_retries),
            "overrides.timeout": ("--timeout", timeout),
            "overrides.error_threshold": ("--error-threshold", error_threshold),
            "overrides.output_file_name": ("--output-file-name", output_file_name),
            "webhook_url": ("--webhook-url", webhook_url),
        },
        inputs=asked.InputFlags(data or (), file_list, data_type, pattern),
        output_path=output_path,
        pairs={"--param": parameters or (), "--env": variables or ()},
        declared=partial(_declared, endpoint),
    )
    warn(loaded.warnings)
    with connected(will_invoke=True) as client, asked.told_as_asked(loaded.places):
        body = asked.with_found_types(client, loaded.noun, loaded.open_types)
        handle = client.send_invocation(endpoint, body, idempotency_key)
        if wait:
            watch_to_end(client, handle, form=form, query=query)
        else:
            print_started(handle.job, form, query)


def _declared(endpoint: str, deployment: str | None) -> PipelineComponent | None:
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.declared_names import declared_by

    with connected() as client:
        return declared_by(client, endpoint, deployment)


def print_started(job: Job, form: OutputForm | None, query: str | None) -> None:
    """Say that a job was started, and how to go on with it."""
    from batchpoint.cli.job_cards import next_commands
    from batchpoint.cli.render import emit
    from batchpoint.domain.job_spec import ScoreSpec

    def text() -> str:
        if isinstance(job.spec, ScoreSpec):
            started = f"Started job {job.name}\n  results will be at {job.spec.output.uri}\n"
        else:
            from batchpoint.cli.pipeline_cards import started_text

            started = started_text(job)
        return started + next_commands(job)

    emit(job, form=form, query=query, text=text)
