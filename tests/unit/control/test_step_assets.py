"""Outputs of steps, registered under the names that were asked for."""

from pathlib import Path
from typing import cast

import pytest

from batchpoint.control.assets import Assets
from batchpoint.control.step_assets import register_output
from batchpoint.domain.component import DataType
from batchpoint.domain.errors import Conflict, Invalid
from batchpoint.domain.job import PublishedOutput
from batchpoint.domain.job_spec import StepOutput
from tests.unit.control_plane import ControlPlane, data_folder, mlflow_model


def register(
    assets: Assets, kind: str, path: Path, name: str | None = "asset", version: str | None = None
) -> str | None:
    told = cast("DataType", kind)
    output = StepOutput(type=told, uri=path.as_uri(), register_as=name, register_version=version)
    published = PublishedOutput(type=told, uri=path.as_uri())
    return register_output(assets, output, published, "job-train", "model")


def test_a_model_is_copied_and_says_where_it_came_from(plane: ControlPlane, tmp_path: Path) -> None:
    made = mlflow_model(tmp_path / "model")
    assert register(plane.assets, "mlflow_model", made) == "azureml:asset:1"
    model = plane.assets.models.get("asset", "1")
    assert (model.type, model.path.startswith("upload:")) == ("mlflow_model", True)
    assert model.properties == {"batchpoint.job": "job-train", "batchpoint.output": "model"}


@pytest.mark.parametrize("kind", ["uri_folder", "uri_file", "mltable"])
def test_data_is_pointed_at(plane: ControlPlane, tmp_path: Path, kind: str) -> None:
    made = data_folder(tmp_path / "out")
    path = made / "a.csv" if kind == "uri_file" else made
    assert register(plane.assets, kind, path, version="7") == "azureml:asset:7"
    data = plane.assets.data.get("asset", "7")
    assert (data.type, data.path) == (kind, path.as_uri())


def test_doing_it_again_makes_no_second_version(plane: ControlPlane, tmp_path: Path) -> None:
    made = data_folder(tmp_path / "out")
    for kind in ("uri_folder", "custom_model"):
        assert register(plane.assets, kind, made, name=kind.replace("_", "-")) is not None
        again = register(plane.assets, kind, made, name=kind.replace("_", "-"))
        assert again == f"azureml:{kind.replace('_', '-')}:1"


def test_a_version_that_is_taken_is_refused(plane: ControlPlane, tmp_path: Path) -> None:
    assert register(plane.assets, "uri_folder", data_folder(tmp_path / "a"), version="1")
    with pytest.raises(Conflict) as caught:
        register(plane.assets, "uri_folder", data_folder(tmp_path / "b"), version="1")
    assert caught.value.code == "asset_immutable"


def test_what_is_no_model_is_refused(plane: ControlPlane, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        register(plane.assets, "mlflow_model", data_folder(tmp_path / "out"))
    assert caught.value.code == "model_invalid"


def test_nothing_is_registered_unasked(plane: ControlPlane, tmp_path: Path) -> None:
    assert register(plane.assets, "uri_folder", data_folder(tmp_path / "out"), name=None) is None
    assert plane.assets.data.list(10, None) == []
