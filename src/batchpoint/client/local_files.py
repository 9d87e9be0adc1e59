"""Bringing local files to the server: models, code folders, conda files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from batchpoint.client.connection import Connection, segments
from batchpoint.domain import limits
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.endpoint import BatchDeployment
from batchpoint.domain.errors import Invalid
from batchpoint.domain.upload import PREFIX, UploadStatus

if TYPE_CHECKING:  # reading folders is for those who upload; everybody else imports less
    from batchpoint.storage.tree_scan import ScannedTree

_CHUNK_BYTES = 1 << 20


class LocalFiles:
    """Replaces local paths in what a caller sends by what the server can use."""

    def __init__(self, connection: Connection) -> None:
        """Upload through a connection."""
        self._connection = connection

    def model(self, model: Model) -> Model:
        """Return the model with its local path uploaded."""
        return model.model_copy(update={"path": self._sent(model.path, "path")})

    def environment(self, environment: Environment) -> Environment:
        """Return the environment with its conda file read."""
        if not isinstance(environment.conda_file, str):
            return environment
        return environment.model_copy(update={"conda_file": _conda(Path(environment.conda_file))})

    def deployment(self, deployment: BatchDeployment) -> BatchDeployment:
        """Return the deployment with everything local that it mentions brought to the server."""
        changes: dict[str, object] = {}
        if isinstance(deployment.model, Model):
            changes["model"] = self.model(deployment.model)
        if isinstance(deployment.environment, Environment):
            changes["environment"] = self.environment(deployment.environment)
        code = deployment.code_configuration
        if code is not None:
            sent = self._sent(code.code, "code_configuration.code")
            changes["code_configuration"] = code.model_copy(update={"code": sent})
        return deployment.model_copy(update=changes)

    def _sent(self, path: str, where: str) -> str:
        """Return a reference that the server understands, after sending what it lacks."""
        if path.startswith(PREFIX):
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
        from batchpoint.storage.tree_scan import scan_tree  # noqa: PLC0415

        return self._uploaded(scan_tree(local))

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
