"""The SDK's verbs for endpoints, deployments, computes and datastores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter

from batchpoint.client.connection import Connection, segment
from batchpoint.client.local_files import LocalFiles
from batchpoint.domain.compute import Compute
from batchpoint.domain.datastore import Datastore
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.pipeline import PipelineDeployment

Patch = Mapping[str, object]
_Some = TypeVar("_Some", bound=ModelDeployment | PipelineDeployment)


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

    def create_or_update(self, deployment: _Some, *, set_default: bool = False) -> _Some:
        """Create a deployment or update it; uploads what is local, returns when jobs can run.

        Building its environments may take minutes.
        """
        answer = self._connection.send(
            "PUT",
            _deployment(deployment.endpoint_name, deployment.name),
            params={"set_default": set_default},
            body=self._files.deployment(deployment),
            answer_seconds_max=None,
        )
        return type(deployment).model_validate_json(answer.content)

    def update(self, endpoint: str, name: str, patch: Patch) -> Deployment:
        """Change some fields, e.g. `{"settings": {"mini_batch_size": 20}}`."""
        answer = self._connection.send(
            "PATCH", _deployment(endpoint, name), body=patch, answer_seconds_max=None
        )
        return _reader().validate_json(answer.content)

    def get(self, endpoint: str, name: str) -> Deployment:
        """Return a deployment with the server's defaults filled in: of a model, or a pipeline."""
        answer = self._connection.send("GET", _deployment(endpoint, name))
        return _reader().validate_json(answer.content)

    def list(self, endpoint: str) -> Iterator[Deployment]:
        """Yield the deployments of an endpoint by name."""
        found = self._connection.documents(f"{_endpoint(endpoint)}/deployments")
        return map(_reader().validate_python, found)

    def delete(self, endpoint: str, name: str, *, force: bool = False) -> None:
        """Delete a deployment; with `force` also the default and one whose jobs run."""
        self._connection.send("DELETE", _deployment(endpoint, name), params={"force": force})


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


class Datastores:
    """`client.datastores`. Raises: NotFound (`datastore_not_found`), Conflict, Invalid.

    Credentials are sent and never come back; what is returned has `credentials_type` instead.
    """

    def __init__(self, connection: Connection) -> None:
        """Work through a connection."""
        self._connection = connection

    def create_or_update(self, datastore: Datastore, *, skip_validation: bool = False) -> Datastore:
        """Register a datastore or update it; without `credentials` an update keeps the old ones.

        The server tries it out first (`findings`), unless `skip_validation`.
        Raises: Invalid (`storage_denied`, `field_invalid`), Unavailable (`storage_unavailable`).
        """
        body = datastore.model_dump(mode="json", exclude_unset=True)
        if datastore.credentials is not None:
            body["credentials"] = datastore.credentials.revealed()
        answer = self._connection.send(
            "PUT",
            f"/datastores/{segment(datastore.name)}",
            params={"skip_validation": skip_validation},
            body=body,
            answer_seconds_max=None,
        )
        return Datastore.model_validate_json(answer.content)

    def update(self, name: str, patch: Patch, *, skip_validation: bool = False) -> Datastore:
        """Change some fields, e.g. `{"is_default": True}` or `{"credentials": {...}}`."""
        answer = self._connection.send(
            "PATCH",
            f"/datastores/{segment(name)}",
            params={"skip_validation": skip_validation},
            body=patch,
            answer_seconds_max=None,
        )
        return Datastore.model_validate_json(answer.content)

    def test(self, name: str) -> Datastore:
        """Try a datastore out again and return it with what was found (`findings`)."""
        path = f"/datastores/{segment(name)}/test"
        answer = self._connection.send("POST", path, answer_seconds_max=None, repeatable=True)
        return Datastore.model_validate_json(answer.content)

    def get(self, name: str) -> Datastore:
        """Return a datastore."""
        return self._connection.get(Datastore, f"/datastores/{segment(name)}")

    def list(self) -> Iterator[Datastore]:
        """Yield all datastores by name; the two built-in ones are always among them."""
        return self._connection.pages(Datastore, "/datastores")

    def delete(self, name: str, *, force: bool = False) -> None:
        """Forget a datastore, not its data; with `force` also when something points into it."""
        self._connection.send("DELETE", f"/datastores/{segment(name)}", params={"force": force})


@cache
def _reader() -> TypeAdapter[Deployment]:
    return TypeAdapter(Deployment)


def _endpoint(name: str) -> str:
    return f"/endpoints/{segment(name)}"


def _deployment(endpoint: str, name: str) -> str:
    return f"{_endpoint(endpoint)}/deployments/{segment(name)}"
