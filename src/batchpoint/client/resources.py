"""The SDK's verbs for endpoints, deployments, models, environments and computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from batchpoint.client.connection import Connection, segment
from batchpoint.client.local_files import LocalFiles
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.compute import Compute
from batchpoint.domain.endpoint import BatchDeployment, BatchEndpoint

Patch = Mapping[str, object]


class Endpoints:
    """`client.endpoints`. Raises: NotFound (`endpoint_not_found`), Conflict, Invalid."""

    def __init__(self, connection: Connection) -> None:
        """Work through a connection."""
        self._connection = connection

    def create_or_update(self, endpoint: BatchEndpoint) -> BatchEndpoint:
        """Create an endpoint or update it; without `defaults` the default deployment stays."""
        answer = self._connection.send("PUT", _endpoint(endpoint.name), body=endpoint)
        return BatchEndpoint.model_validate_json(answer.content)

    def update(self, name: str, patch: Patch) -> BatchEndpoint:
        """Change some fields, e.g. `{"defaults": {"deployment_name": "b"}}`."""
        answer = self._connection.send("PATCH", _endpoint(name), body=patch)
        return BatchEndpoint.model_validate_json(answer.content)

    def get(self, name: str) -> BatchEndpoint:
        """Return an endpoint."""
        return self._connection.get(BatchEndpoint, _endpoint(name))

    def list(self) -> Iterator[BatchEndpoint]:
        """Yield all endpoints by name."""
        return self._connection.pages(BatchEndpoint, "/endpoints")

    def delete(self, name: str, *, force: bool = False) -> None:
        """Delete an endpoint and its deployments; with `force` also while its jobs run."""
        self._connection.send("DELETE", _endpoint(name), params={"force": force})


class Deployments:
    """`client.deployments`. Raises: NotFound (`deployment_not_found`), Conflict, Invalid."""

    def __init__(self, connection: Connection, files: LocalFiles) -> None:
        """Work through a connection."""
        self._connection = connection
        self._files = files

    def create_or_update(
        self, deployment: BatchDeployment, *, set_default: bool = False
    ) -> BatchDeployment:
        """Create a deployment or update it; uploads what is local, returns when jobs can run.

        Building its environment may take minutes.
        """
        answer = self._connection.send(
            "PUT",
            _deployment(deployment.endpoint_name, deployment.name),
            params={"set_default": set_default},
            body=self._files.deployment(deployment),
            answer_seconds_max=None,
        )
        return BatchDeployment.model_validate_json(answer.content)

    def update(self, endpoint: str, name: str, patch: Patch) -> BatchDeployment:
        """Change some fields, e.g. `{"settings": {"mini_batch_size": 20}}`."""
        answer = self._connection.send(
            "PATCH", _deployment(endpoint, name), body=patch, answer_seconds_max=None
        )
        return BatchDeployment.model_validate_json(answer.content)

    def get(self, endpoint: str, name: str) -> BatchDeployment:
        """Return a deployment with the server's defaults filled in."""
        return self._connection.get(BatchDeployment, _deployment(endpoint, name))

    def list(self, endpoint: str) -> Iterator[BatchDeployment]:
        """Yield the deployments of an endpoint by name."""
        return self._connection.pages(BatchDeployment, f"{_endpoint(endpoint)}/deployments")

    def delete(self, endpoint: str, name: str, *, force: bool = False) -> None:
        """Delete a deployment; with `force` also the default and one whose jobs run."""
        self._connection.send("DELETE", _deployment(endpoint, name), params={"force": force})


class Models:
    """`client.models`. Raises: NotFound (`model_not_found`), Conflict (`asset_immutable`)."""

    def __init__(self, connection: Connection, files: LocalFiles) -> None:
        """Work through a connection."""
        self._connection = connection
        self._files = files

    def create_or_update(self, model: Model) -> Model:
        """Upload and register a model: the next version of its name, or the one it gives."""
        sent = self._files.model(model)
        answer = self._connection.send("POST", "/models", body=sent)
        return Model.model_validate_json(answer.content)

    def get(self, name: str, version: str | None = None) -> Model:
        """Return a version of a model; None: the newest."""
        return self._connection.get(Model, _asset("models", name, version))

    def list(self, name: str | None = None) -> Iterator[Model]:
        """Yield the newest version of each model, or all versions of one, newest first."""
        path = "/models" if name is None else f"/models/{segment(name)}/versions"
        return self._connection.pages(Model, path)

    def delete(self, name: str, version: str | None = None) -> None:
        """Delete one version of a model; None: all of them."""
        self._connection.send("DELETE", _asset("models", name, version))


class Environments:
    """`client.environments`. Raises: NotFound (`environment_not_found`), Conflict, Invalid."""

    def __init__(self, connection: Connection, files: LocalFiles) -> None:
        """Work through a connection."""
        self._connection = connection
        self._files = files

    def create_or_update(self, environment: Environment) -> Environment:
        """Register an environment: the next version of its name, or the one it gives."""
        sent = self._files.environment(environment)
        answer = self._connection.send("POST", "/environments", body=sent)
        return Environment.model_validate_json(answer.content)

    def get(self, name: str, version: str | None = None) -> Environment:
        """Return a version of an environment; None: the newest."""
        return self._connection.get(Environment, _asset("environments", name, version))

    def list(self, name: str | None = None) -> Iterator[Environment]:
        """Yield the newest version of each environment, or all of one, newest first."""
        path = "/environments" if name is None else f"/environments/{segment(name)}/versions"
        return self._connection.pages(Environment, path)

    def delete(self, name: str, version: str | None = None) -> None:
        """Delete one version of an environment; None: all of them."""
        self._connection.send("DELETE", _asset("environments", name, version))


class Computes:
    """`client.computes`. Raises: NotFound (`compute_not_found`), Conflict, Invalid."""

    def __init__(self, connection: Connection) -> None:
        """Work through a connection."""
        self._connection = connection

    def create_or_update(self, compute: Compute) -> Compute:
        """Create a compute or update it."""
        path = f"/computes/{segment(compute.name)}"
        answer = self._connection.send("PUT", path, body=compute)
        return Compute.model_validate_json(answer.content)

    def update(self, name: str, patch: Patch) -> Compute:
        """Change some fields, e.g. `{"max_instances": 8}`."""
        answer = self._connection.send("PATCH", f"/computes/{segment(name)}", body=patch)
        return Compute.model_validate_json(answer.content)

    def get(self, name: str) -> Compute:
        """Return a compute."""
        return self._connection.get(Compute, f"/computes/{segment(name)}")

    def list(self) -> Iterator[Compute]:
        """Yield all computes by name; `local` is always one of them."""
        return self._connection.pages(Compute, "/computes")

    def delete(self, name: str) -> None:
        """Delete a compute that no deployment uses."""
        self._connection.send("DELETE", f"/computes/{segment(name)}")


def _endpoint(name: str) -> str:
    return f"/endpoints/{segment(name)}"


def _deployment(endpoint: str, name: str) -> str:
    return f"{_endpoint(endpoint)}/deployments/{segment(name)}"


def _asset(kind: str, name: str, version: str | None) -> str:
    path = f"/{kind}/{segment(name)}"
    return path if version is None else f"{path}/versions/{segment(version)}"
