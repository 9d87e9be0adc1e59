"""Bringing local files to the server: models, code, data, conda files, components with theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from batchpoint.client.connection import Connection, segments
from batchpoint.client.pointers import data_uri, is_local, local_path
from batchpoint.domain import limits
from batchpoint.domain.asset import Code, Data, Environment, Model
from batchpoint.domain.component import Component, Scalar
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import Invocation
from batchpoint.domain.job_pointers import JobInput, PipelineOutput
from batchpoint.domain.pipeline import PipelineDeployment, PipelineJob
from batchpoint.domain.upload import UploadStatus

if TYPE_CHECKING:  # reading folders is for those who upload; everybody else imports less
    from batchpoint.storage.tree_scan import ScannedTree

_CHUNK_BYTES = 1 << 20


class LocalFiles:
    """Replaces local paths in what a caller sends by what the server can use.

    Without a server nothing is copied here: the app reads this machine's files itself.
    """

    def __init__(self, connection: Connection) -> None:
        """Upload through a connection."""
        self._connection = connection

    def model(self, model: Model) -> Model:
        """Return the model with its local path uploaded."""
        return model.model_copy(update={"path": self.sent(model.path, "path")})

    def data(self, data: Data) -> Data:
        """Return the data asset with its local path uploaded, or made absolute without a server."""
        path = data_uri(data.path, Path.cwd())
        if is_local(path):
            path = self.sent(path, "path", is_data=True)
        return data.model_copy(update={"path": path})

    def code(self, code: Code) -> Code:
        """Return the code asset with its folder uploaded."""
        return code.model_copy(update={"path": self.sent(code.path, "path")})

    def invocation(self, body: Invocation) -> Invocation:
        """Return the invocation with local data uploaded, unless the server is on this machine.

        Raises: Invalid (`uri_invalid`) for results in a folder that the server cannot reach.
        """
        if self._connection.shares_files:
            return body
        changes = self._named_data(body.inputs, body.outputs)
        if body.output is not None:
            self._check_reachable(body.output.uri, "output.uri")
        if body.input is not None:
            changes["input"] = self._source(body.input, "input")
        return body.model_copy(update=changes)

    def pipeline_job(self, job: PipelineJob) -> PipelineJob:
        """Return the job with everything local that it mentions brought to the server.

        Raises: Invalid, as `invocation` and `component`.
        """
        from batchpoint.client.component_files import ComponentFiles  # noqa: PLC0415

        job = _absolute(job)
        changes: dict[str, object] = {}
        if not self._connection.shares_files:
            changes |= self._named_data(job.inputs, job.outputs)
        components = ComponentFiles(self)
        if job.jobs is not None:
            changes["jobs"] = components.steps(job.jobs, "jobs")
        if job.component is not None and not isinstance(job.component, str):
            changes["component"] = components.sent(job.component, "component")
        return job.model_copy(update=changes)

    def component(self, component: Component) -> Component:
        """Return the component with its code, and all that is local in its steps, uploaded."""
        from batchpoint.client.component_files import ComponentFiles  # noqa: PLC0415

        return ComponentFiles(self).sent(component)

    def environment(self, environment: Environment) -> Environment:
        """Return the environment with its conda file read."""
        if not isinstance(environment.conda_file, str):
            return environment
        return environment.model_copy(update={"conda_file": _conda(Path(environment.conda_file))})

    def deployment(self, deployment: Deployment) -> Deployment:
        """Return the deployment with everything local that it mentions brought to the server."""
        changes: dict[str, object] = {}
        if isinstance(deployment, PipelineDeployment):
            if deployment.component is not None and not isinstance(deployment.component, str):
                from batchpoint.client.component_files import ComponentFiles  # noqa: PLC0415

                changes["component"] = ComponentFiles(self).sent(deployment.component, "component")
            return deployment.model_copy(update=changes)
        if isinstance(deployment.model, Model):
            changes["model"] = self.model(deployment.model)
        if isinstance(deployment.environment, Environment):
            changes["environment"] = self.environment(deployment.environment)
        code = deployment.code_configuration
        if code is not None:
            sent = self.sent(code.code, "code_configuration.code")
            changes["code_configuration"] = code.model_copy(update={"code": sent})
        return deployment.model_copy(update=changes)

    def _named_data(
        self,
        inputs: Mapping[str, Scalar | JobInput | None],
        outputs: Mapping[str, PipelineOutput | None],
    ) -> dict[str, object]:
        """Return what changes of named inputs when local data is sent; checks named outputs."""
        for name, output in outputs.items():
            if output is not None and output.uri is not None:
                self._check_reachable(output.uri, f"outputs.{name}.uri")
        sent = {
            name: self._source(value, f"inputs.{name}") if isinstance(value, JobInput) else value
            for name, value in inputs.items()
        }
        return {"inputs": sent} if sent else {}

    def _source(self, source: JobInput, where: str) -> JobInput:
        sources = source.sources
        sent = tuple(
            self.sent(uri, f"{where}.uri", is_data=True, pattern=source.pattern)
            if is_local(uri)
            else uri
            for uri in sources
        )
        if sent == sources:
            return source
        told = {"uri": sent[0]} if source.uri is not None else {"uris": sent}
        return source.model_copy(update=told)

    def _check_reachable(self, uri: str, where: str) -> None:
        if is_local(uri):
            raise Invalid(
                f"the server at {self._connection.url} cannot write into {uri}, a "
                "folder of this machine; leave it out and get the results with `batchpoint job "
                "download`, name a datastore (azureml://datastores/NAME/paths/PATH), or write "
                "file:///PATH for a folder of the server",
                code="uri_invalid",
                where=where,
            )

    def sent(
        self, path: str, where: str, *, is_data: bool = False, pattern: str | None = None
    ) -> str:
        """Return a reference that the server understands, after sending what it lacks.

        With a `pattern` only the files of the folder that match it are sent.
        """
        if not path.startswith("file://") and not is_local(path):
            return path
        local = Path(path.removeprefix("file://")).expanduser().absolute()
        if not local.exists():
            raise Invalid(
                f"there is no file or folder {local}; give the path of one",
                code="input_not_found",
                where=where,
            )
        if self._connection.embedded:
            # The same machine: the app copies it by itself.
            return str(local)
        return self._uploaded(_scanned(local, where, pattern, is_data=is_data))

    def _uploaded(self, scanned: ScannedTree) -> str:
        answer = self._connection.send("POST", "/uploads", body=scanned.manifest, repeatable=True)
        status = UploadStatus.model_validate_json(answer.content)
        if status.complete:
            return status.reference
        sizes = {entry.path: entry.size for entry in scanned.manifest.entries}
        for path in status.missing:
            place = f"/uploads/{status.hash}/files/{segments(path)}"
            self._connection.put_bytes(place, _chunks(scanned.files[path]), sizes[path])
        self._connection.send("POST", f"/uploads/{status.hash}/commit", repeatable=True)
        return status.reference


def _absolute(job: PipelineJob) -> PipelineJob:
    """Return the job with relative paths made absolute."""
    folder = Path.cwd()

    def placed(uri: str) -> str:
        return str(local_path(uri, folder)) if is_local(uri) else uri

    def source(value: JobInput) -> JobInput:
        if value.uri is not None:
            return value.model_copy(update={"uri": placed(value.uri)})
        return value.model_copy(update={"uris": tuple(placed(uri) for uri in value.uris)})

    changes: dict[str, object] = {}
    if job.inputs:
        changes["inputs"] = {
            name: source(value) if isinstance(value, JobInput) else value
            for name, value in job.inputs.items()
        }
    if job.outputs:
        changes["outputs"] = {
            name: output
            if output is None or output.uri is None
            else output.model_copy(update={"uri": placed(output.uri)})
            for name, output in job.outputs.items()
        }
    return job.model_copy(update=changes)


def _scanned(local: Path, where: str, pattern: str | None, *, is_data: bool) -> ScannedTree:
    from batchpoint.storage.tree_scan import scan_tree  # noqa: PLC0415

    wanted = None
    if pattern is not None:
        from batchpoint.core.path_pattern import compile_pattern  # noqa: PLC0415

        wanted = compile_pattern(pattern, "input.pattern")
    try:
        return scan_tree(local, wanted)
    except Invalid as error:
        if not is_data or error.code != "model_invalid":
            raise
        # The same flaws; but here it is no model that has them.
        at = error.where or str(local)
        raise Invalid(f"{at} {error.message}", code="input_unreadable", where=where) from error


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _conda(path: Path) -> dict[str, object]:
    import yaml  # noqa: PLC0415

    try:
        data = path.expanduser().read_bytes()
        if len(data) > limits.YAML_BYTES_MAX:
            raise Invalid(
                f"is larger than {limits.YAML_BYTES_MAX:,} bytes",
                code="yaml_invalid",
                where=str(path),
            )
        content = yaml.safe_load(data)
    except (OSError, yaml.YAMLError) as error:
        raise Invalid(
            f"cannot be read as YAML: {error}", code="yaml_invalid", where=str(path)
        ) from error
    if not isinstance(content, dict):
        raise Invalid(
            "is not a conda file: a mapping with `dependencies` was expected",
            code="environment_invalid",
            where=str(path),
        )
    return cast("dict[str, object]", content)
