"""The SDK's front door: `Client`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypedDict, Unpack

from pydantic import ValidationError

from batchpoint.client.asset_resources import Codes, Components, DataAssets, Environments, Models
from batchpoint.client.connection import Connection, segment, server_url
from batchpoint.client.embedded_transport import AsgiApp
from batchpoint.client.jobs import JobHandle, Jobs
from batchpoint.client.local_files import LocalFiles
from batchpoint.client.named_values import (
    Input,
    NamedInputs,
    Pointer,
    Value,
    absolute,
    named_outputs,
)
from batchpoint.client.pointers import common_type, is_asset
from batchpoint.client.resources import Computes, Datastores, Deployments, Endpoints
from batchpoint.clock import SystemClock
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.component import ComponentInput
from batchpoint.domain.endpoint import (
    BatchEndpoint,
    CodeConfiguration,
    DeploymentSettings,
    ModelDeployment,
    RetrySettings,
)
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.findings import invalid_fields
from batchpoint.domain.job import Invocation, Job, Overrides
from batchpoint.domain.job_pointers import JobInput, JobOutput, PipelineOutput
from batchpoint.domain.pipeline import PipelineDeployment
from batchpoint.domain.references import (
    AssetReference,
    InputKind,
    asset_reference,
    data_reference,
    is_reference,
    is_uri,
)

_KEY_DIGITS = 32
_SAID_OTHERWISE = {
    "deployment_name": "write deployment=…",
    "overrides": "write what is in it as arguments of its own",
}


class SettingFields(TypedDict, total=False):
    """Settings of a deployment as keywords of `Client.deploy`; see `DeploymentSettings`."""

    instance_count: int
    max_concurrency_per_instance: int
    mini_batch_size: int
    max_retries: int
    timeout: int
    error_threshold: int
    logging_level: Literal["debug", "info", "warning"]
    output_action: Literal["append_row", "summary_only"]
    output_file_name: str
    output_format: Literal["batchpoint", "azure"]
    environment_variables: Mapping[str, str]
    parameters: Mapping[str, str | int | float | bool]
    split_files: bool
    coalesce_files: bool


class OverrideFields(TypedDict, total=False):
    """What one job may change, as keywords of `Client.invoke`; see `Overrides` and `Invocation`.

    Of pipelines: `display_name`; `default_compute`, where steps run that name none;
    `continue_on_step_failure`, whether steps go on that do not need one which failed; and
    `force_rerun`, whether every step is computed although its outputs may be known.
    """

    instance_count: int
    max_concurrency_per_instance: int
    mini_batch_size: int
    max_retries: int
    timeout: int
    error_threshold: int
    logging_level: Literal["debug", "info", "warning"]
    output_file_name: str
    environment_variables: Mapping[str, str]
    parameters: Mapping[str, str | int | float | bool]
    display_name: str
    default_compute: str
    continue_on_step_failure: bool
    force_rerun: bool


class Client:
    """Batchpoint from Python.

    Without a `url` (and without BATCHPOINT_URL) everything happens on this machine with no server;
    with one, the same calls go to the server there. Usable as a context manager.

    Raises: errors of `batchpoint.domain.errors`, wherever they happened.
    """

    def __init__(self, url: str | None = None, *, app: AsgiApp | None = None) -> None:
        """Nothing is contacted yet. `app`: an ASGI app to use in the embedded mode's place."""
        connection = Connection(None if app is not None else url or server_url(), app)
        files = LocalFiles(connection)
        self._connection = connection
        self._files = files
        self.endpoints = Endpoints(connection)
        self.deployments = Deployments(connection, files)
        self.models = Models(connection, files)
        self.environments = Environments(connection, files)
        self.data = DataAssets(connection, files)
        self.codes = Codes(connection, files)
        self.components = Components(connection, files)
        self.datastores = Datastores(connection)
        self.computes = Computes(connection)
        self.jobs = Jobs(connection, files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; jobs go on."""
        self._connection.close()

    @property
    def is_embedded(self) -> bool:
        """Whether there is no server and this process does the work of one."""
        return self._connection.embedded

    def server_version(self) -> str:
        """Return the version of batchpoint that answers."""
        return self._connection.send("GET", "/version").json()["version"]

    def deploy(
        self,
        model: str | os.PathLike[str] | Model,
        name: str,
        *,
        deployment: str = "default",
        code: str | os.PathLike[str] | None = None,
        scoring_script: str | None = None,
        environment: str | Environment | None = None,
        compute: str = "local",
        set_default: bool = True,
        **settings: Unpack[SettingFields],
    ) -> ModelDeployment:
        """Put a model behind an endpoint, making the endpoint when there is none of that name.

        Args:
            model: a folder or file, a registered model (`azureml:NAME:VERSION`), or a `Model`. A
                folder with an MLmodel file in it is an MLflow model, which needs no code.
            name: the endpoint.
            deployment: the deployment behind it; an existing one is updated.
            code: the folder of the scoring script; that of the script when left out.
            scoring_script: the script in that folder, or the path of one.
            environment: what the code runs in; an MLflow model brings its own.
            compute: where it runs.
            set_default: make it the endpoint's default.
            settings: as in a deployment file, e.g. `mini_batch_size=20`.

        Raises:
            Invalid: something is wrong with the model, the script or a setting.
        """
        try:
            wanted = ModelDeployment(
                name=deployment,
                endpoint_name=name,
                model=_model(model),
                code_configuration=_code(code, scoring_script),
                environment=environment,
                compute=compute,
                settings=_settings(settings),
            )
            endpoint = BatchEndpoint(name=name)
        except ValidationError as error:
            raise invalid_fields(error.errors()) from error
        try:
            self.endpoints.get(name)
            is_new = False
        except NotFound:
            self.endpoints.create_or_update(endpoint)
            is_new = True
        try:
            return self.deployments.create_or_update(wanted, set_default=set_default)
        except (Invalid, NotFound, Conflict):
            if is_new:
                # What could not be deployed should leave nothing behind.
                self.endpoints.delete(name)
            raise

    def invoke(  # noqa: PLR0913  # keywords, all of them optional
        self,
        endpoint: str,
        input: Pointer | Sequence[Pointer] | Input | JobInput | None = None,  # noqa: A002  # the field's word
        *,
        inputs: Mapping[str, Value] | None = None,
        outputs: Mapping[str, Pointer | PipelineOutput] | None = None,
        deployment: str | None = None,
        output: str | os.PathLike[str] | None = None,
        job_name: str | None = None,
        experiment_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        **overrides: Unpack[OverrideFields],
    ) -> JobHandle:
        """Start a job that scores everything `input` points at, or runs a pipeline on `inputs`.

        Args:
            endpoint: whose default deployment is invoked, unless `deployment` names one.
            input: a file or a folder, a URI, a data asset, or several of them; see `Input`. What
                is local is sent to a server on another machine, unless it is there already. A
                pipeline takes it for its only data input.
            inputs: inputs by name, of pipelines: data as for `input`, and literal values. A plain
                text is a path where the component declares data, and else a literal. A model takes
                one that is an `Input`, and literals as parameters.
            outputs: where outputs appear, by name; `PipelineOutput` also registers them.
            deployment: the deployment to use.
            output: the folder in which the results appear when they are complete.
            job_name: a name for the job; made up when left out.
            experiment_name: kept with the job.
            description: kept with the job.
            tags: kept with the job.
            webhook_url: called when the job has ended.
            idempotency_key: the same key and arguments again give the same job.
            overrides: what is different for this job, e.g. `mini_batch_size=20`, or of a pipeline
                `force_rerun=True`.

        Raises:
            Invalid: `input_not_found`, `input_unreadable`, a wrong field.
            NotFound: no such endpoint or deployment.
            Conflict: `default_deployment_unset`, `output_exists`, `idempotency_conflict`.
        """
        named = NamedInputs(lambda: self._declared(endpoint, deployment), self.with_type_of_asset)
        told: dict[str, object] = {
            "deployment_name": deployment,
            "input": None if input is None else self._source(input),
            "output": None if output is None else JobOutput(uri=absolute(output)),
            "inputs": named.read(inputs) if inputs else None,
            "outputs": named_outputs(outputs) if outputs else None,
            "job_name": job_name,
            "experiment_name": experiment_name,
            "description": description,
            "tags": dict(tags or {}),
            "webhook_url": webhook_url,
        }
        return self.send_invocation(endpoint, _invocation(told, overrides), idempotency_key)

    def _source(self, given: Pointer | Sequence[Pointer] | Input | JobInput) -> JobInput:
        if isinstance(given, JobInput):
            return given
        asked = given if isinstance(given, Input) else Input(given)
        source = asked.resolved()
        return source if asked.type is not None else self.with_type_of_asset(source)

    def _declared(self, endpoint: str, deployment: str | None) -> Mapping[str, ComponentInput]:
        """Return the inputs that a pipeline deployment's component declares; of a model none."""
        wanted = deployment or self.endpoints.get(endpoint).defaults.deployment_name
        if wanted is None:
            return {}  # the server says what is missing
        found = self.deployments.get(endpoint, wanted)
        if not isinstance(found, PipelineDeployment) or not isinstance(found.component, str):
            return {}
        named = asset_reference(found.component, "component")
        assert isinstance(named, AssetReference)  # as the server gives it
        return self.components.get(named.name, named.version).inputs

    def send_invocation(
        self, endpoint: str, body: Invocation, idempotency_key: str | None = None
    ) -> JobHandle:
        """Start a job from a whole invocation; see `invoke`."""
        body = self._files.invocation(body)
        key = idempotency_key or SystemClock().hexadecimal(_KEY_DIGITS)
        answer = self._connection.send(
            "POST",
            f"/endpoints/{segment(endpoint)}/jobs",
            body=body,
            headers={"Idempotency-Key": key},
            repeatable=True,
        )
        return JobHandle(self._connection, Job.model_validate_json(answer.content))

    def with_type_of_asset(self, source: JobInput) -> JobInput:
        """Return an input with the type that the data assets in it have.

        Raises: NotFound (`data_not_found`); Invalid (`field_invalid`) when types differ.
        """
        if source.pattern is not None or not any(is_asset(uri) for uri in source.sources):
            return source
        kinds: dict[str, InputKind] = {}
        for uri in source.sources:
            found = data_reference(uri)
            if isinstance(found, AssetReference):
                kind = self.data.get(found.name, found.version).type
                if kind == "mltable":  # which no model can score; the server says so
                    return source
                kinds[uri] = kind
            else:
                kinds[uri] = "uri_file" if source.type == "uri_file" else "uri_folder"
        return source.model_copy(update={"type": common_type(kinds)})

    def job(self, name: str) -> JobHandle:
        """Return a handle on a job that exists. Raises: NotFound (`job_not_found`)."""
        return self.jobs.handle(name)


def _invocation(told: Mapping[str, object], different: OverrideFields) -> Invocation:
    """Make the body of an invoke. Raises: Invalid (`field_invalid`, `field_unknown`)."""
    fields = {name: value for name, value in told.items() if value is not None}
    overrides: dict[str, object] = {}
    for name, value in different.items():
        if name in _SAID_OTHERWISE:  # else it would be taken, and types looked up elsewhere
            sentence = f"is no argument of invoke: {_SAID_OTHERWISE[name]}"
            raise Invalid(sentence, code="field_unknown", where=name)
        holder = fields if name in Invocation.model_fields else overrides
        holder[name] = value
    try:
        return Invocation.model_validate(
            {**fields, "overrides": Overrides.model_validate(overrides)}
        )
    except ValidationError as error:
        raise invalid_fields(error.errors()) from error


def _model(model: Pointer | Model) -> str | Model:
    if isinstance(model, Model):
        return model
    text = os.fspath(model)
    path = Path(text).expanduser()
    if is_reference(text) and not text.startswith("azureml://"):
        return Model(path=text) if text.startswith("upload:") else text
    if is_uri(text):  # in a datastore, in what a job left, in an MLflow registry
        return text if text.startswith("azureml://registries/") else Model(path=text)
    if not path.exists() and ":" in text:
        return text
    kind = "mlflow_model" if (path / "MLmodel").is_file() else "custom_model"
    return Model(path=str(path.absolute()), type=kind)


def _code(code: str | os.PathLike[str] | None, script: str | None) -> CodeConfiguration | None:
    if code is None and script is None:
        return None
    if script is None:
        raise Invalid(
            "is needed with code: name the script in that folder",
            code="field_invalid",
            where="scoring_script",
        )
    if code is None:
        path = Path(script).expanduser().absolute()
        return CodeConfiguration(code=str(path.parent), scoring_script=path.name)
    return CodeConfiguration(code=os.fspath(code), scoring_script=script)


def _settings(given: SettingFields) -> DeploymentSettings:
    fields = dict(given)
    retry = {name: fields.pop(name) for name in ("max_retries", "timeout") if name in fields}
    if retry:
        fields["retry_settings"] = RetrySettings.model_validate(retry)
    return DeploymentSettings.model_validate(fields)
