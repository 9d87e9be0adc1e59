"""Models that an MLflow server keeps: found by `models:/` and `runs:/`, fetched through mlflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.references import MlflowModel, MlflowRun

VARIABLE = "MLFLOW_TRACKING_URI"
_REGISTRY_VARIABLE = "MLFLOW_REGISTRY_URI"
# What a server says that does not have it, or does not let us have it: another try changes nothing.
_FINAL = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "NOT_FOUND")


def fetch_from_mlflow(
    source: MlflowModel | MlflowRun, target: Path, environ: Mapping[str, str], *, where: str
) -> Path:
    """Fetch the files that a reference names into the new folder `target`; return what to keep.

    Raises:
        Invalid: `reference_invalid` when no server is named or it has no such model;
            `field_unsupported` when mlflow is not installed here.
        Unavailable: `storage_unavailable` when the server cannot be reached.
    """
    tracking = environ.get(VARIABLE)
    if not tracking:
        raise Invalid(
            f"{str(source)!r} needs an MLflow server: set {VARIABLE} where batchpoint runs",
            code="reference_invalid",
            where=where,
        )
    try:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415
    except ImportError as error:
        raise Invalid(
            f"{str(source)!r} is read through mlflow, which is not installed here: install "
            "batchpoint[mlflow]",
            code="field_unsupported",
            where=where,
        ) from error
    target.mkdir(parents=True)
    try:
        return _fetched(source, target, tracking, environ.get(_REGISTRY_VARIABLE) or tracking)
    except MlflowException as error:
        said = str(error).splitlines()[0][:300]
        if error.error_code in _FINAL:
            raise Invalid(
                f"{str(source)!r} cannot be had from the MLflow server: {said}",
                code="reference_invalid",
                where=where,
            ) from error
        raise _unreachable(source, said, where) from error
    except OSError as error:  # also what requests raises
        raise _unreachable(source, str(error)[:300], where) from error


def _fetched(source: MlflowModel | MlflowRun, target: Path, tracking: str, registry: str) -> Path:
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    client = MlflowClient(tracking_uri=tracking, registry_uri=registry)
    if isinstance(source, MlflowRun):
        # `download_artifacts` of a run keeps the last part of the path as the folder's name.
        return Path(client.download_artifacts(source.run, source.path, str(target)))
    version = source.version
    if version is None and source.alias is None:  # MLflow 3: a logged model by its id
        uri = client.get_logged_model(source.name).artifact_location
    else:
        if version is None:
            version = client.get_model_version_by_alias(source.name, str(source.alias)).version
        elif not version.isdigit():
            newest = client.get_latest_versions(source.name, [version])
            version = newest[0].version if newest else version
        uri = client.get_model_version_download_uri(source.name, str(version))
    fetched = Path(
        download_artifacts(artifact_uri=uri, dst_path=str(target), tracking_uri=tracking)
    )
    return fetched if fetched != target else _named(target, source.name)


def _named(folder: Path, name: str) -> Path:
    """Give a folder whose files were put right into it a name of its own below itself."""
    inner = folder.with_name(f"{folder.name}-named") / (Path(name).name or "model")
    inner.parent.mkdir()
    return folder.replace(inner)


def _unreachable(source: MlflowModel | MlflowRun, said: str, where: str) -> Unavailable:
    return Unavailable(
        f"{str(source)!r} could not be fetched from the MLflow server that {VARIABLE} names: "
        f"{said}; check that it runs and can be reached, then try again",
        code="storage_unavailable",
        where=where,
    )
