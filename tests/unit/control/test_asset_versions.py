"""Assets of every kind: numbered, immutable, described, archived and restored."""

from pathlib import Path

import pytest

from batchpoint.domain.asset import Code, Data, Environment, Model
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from tests.unit.control_plane import (
    ControlPlane,
    code_folder,
    data_folder,
    deployed_model,
    mlflow_model,
)


@pytest.fixture
def three(plane: ControlPlane, tmp_path: Path) -> ControlPlane:
    """A data asset `rows` with three versions that point at three folders."""
    for number in (1, 2, 3):
        folder = data_folder(tmp_path / f"data-{number}")
        plane.assets.data.register(Data(name="rows", path=str(folder)))
    return plane


def versions(plane: ControlPlane, *, include_archived: bool = False) -> list[str | None]:
    found = plane.assets.data.versions("rows", 10, None, include_archived=include_archived)
    return [asset.version for asset in found]


def test_archived_versions_are_left_out_of_lists_and_of_latest(three: ControlPlane) -> None:
    data = three.assets.data
    data.archive("rows", "3")
    assert data.get("rows").version == "2"
    assert versions(three) == ["2", "1"]
    assert versions(three, include_archived=True) == ["3", "2", "1"]
    assert [a.version for a in data.list(10, None)] == ["2"]
    named = data.get("rows", "3")
    assert named.archived
    data.archive("rows", "3", archived=False)
    assert not data.get("rows", "3").archived
    assert data.get("rows").version == "3"


def test_a_whole_name_is_archived(three: ControlPlane, tmp_path: Path) -> None:
    data = three.assets.data
    data.archive("rows", None)
    assert data.list(10, None) == []
    assert versions(three) == []
    with pytest.raises(NotFound) as caught:
        data.get("rows")
    assert caught.value.code == "data_not_found"
    assert [a.version for a in data.list(10, None, include_archived=True)] == ["3"]
    added = data.register(Data(name="rows", path=str(data_folder(tmp_path / "more"))))
    assert (added.version, added.archived) == ("4", False)
    assert data.get("rows").version == "4"
    data.archive("rows", None, archived=False)
    assert versions(three) == ["4", "3", "2", "1"]


def test_an_archived_version_is_not_registered_again(three: ControlPlane) -> None:
    known = three.assets.data.get("rows", "2")
    three.assets.data.archive("rows", "2")
    with pytest.raises(Conflict, match="restore it") as caught:
        three.assets.data.register(Data(name="rows", version="2", path=known.path))
    assert caught.value.code == "asset_archived"


def test_what_there_is_not_cannot_be_archived(three: ControlPlane) -> None:
    for name, version in (("ghost", None), ("rows", "9")):
        with pytest.raises(NotFound):
            three.assets.data.archive(name, version)
        with pytest.raises(NotFound):
            three.assets.data.delete(name, version)


def test_only_the_description_of_a_version_changes(three: ControlPlane) -> None:
    data = three.assets.data
    changed = data.update("rows", "1", {"description": "d", "tags": {"a": "1", "b": "2"}})
    assert (changed.description, changed.tags) == ("d", {"a": "1", "b": "2"})
    changed = data.update("rows", "1", {"description": None, "tags": {"a": None}})
    assert (changed.description, changed.tags) == (None, {"b": "2"})
    assert data.get("rows", "1") == changed
    with pytest.raises(Conflict) as caught:
        data.update("rows", "1", {"path": "/elsewhere"})
    assert (caught.value.code, caught.value.where) == ("asset_immutable", "path")
    with pytest.raises(NotFound):
        data.update("rows", "9", {"tags": {}})


def test_describing_an_archived_version_leaves_it_archived(three: ControlPlane) -> None:
    three.assets.data.archive("rows", "1")
    assert three.assets.data.update("rows", "1", {"description": "old"}).archived
    assert versions(three) == ["3", "2"]


# --- data ----------------------------------------------------------------------------------------


def test_data_is_pointed_at_and_not_copied(plane: ControlPlane, tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "with space")
    stored = plane.assets.data.register(Data(name="rows", path=str(folder)))
    assert stored.path == folder.as_uri()
    assert not (plane.home / "store").exists()


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("DATA", "uri_file", "field_invalid"),
        ("DATA/a.csv", "uri_folder", "field_invalid"),
        ("DATA/ghost", "uri_folder", "input_not_found"),
        ("s3://bucket/folder/", "uri_file", "field_invalid"),
        ("adl://store/x", "uri_folder", "uri_invalid"),
        ("azureml:other:1", "uri_folder", "reference_invalid"),
        ("azureml://datastores/ghost/paths/x", "uri_folder", "datastore_not_found"),
        ("azureml://jobs/ghost/outputs/score", "uri_folder", "job_not_found"),
        ("models:/heart/1", "uri_folder", "reference_invalid"),
        ("relative", "uri_folder", "uri_invalid"),
        (f"upload:{'a' * 64}/x", "uri_folder", "upload_not_found"),
    ],
)
def test_data_that_cannot_be_there_is_refused(
    plane: ControlPlane, tmp_path: Path, path: str, kind: str, code: str
) -> None:
    folder = data_folder(tmp_path / "data")
    asked = {"name": "rows", "type": kind, "path": path.replace("DATA", str(folder))}
    with pytest.raises((Invalid, NotFound)) as caught:
        plane.assets.data.register(Data.model_validate(asked))
    assert caught.value.code == code
    assert plane.assets.data.list(10, None) == []


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/folder/",
        "https://host/data.csv",
        "azureml://datastores/workspaceblobstore/paths/in/",
        "abfss://fs@account.dfs.core.windows.net/p",
    ],
)
def test_data_elsewhere_is_taken_as_it_is(plane: ControlPlane, path: str) -> None:
    assert plane.assets.data.register(Data(name="rows", path=path)).path == path


def test_a_long_id_of_a_datastore_path_becomes_short(plane: ControlPlane) -> None:
    long = "azureml://subscriptions/s/resourcegroups/r/workspaces/w/datastores/workspaceblobstore/"
    stored = plane.assets.data.register(Data(name="rows", path=f"{long}paths/in"))
    assert stored.path == "azureml://datastores/workspaceblobstore/paths/in"


def test_a_server_takes_no_paths_of_its_callers(server: ControlPlane, tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "data")
    for path in (str(folder), folder.as_uri()):
        with pytest.raises(Invalid, match="upload") as caught:
            server.assets.data.register(Data(name="rows", path=path))
        assert caught.value.code == "field_unsupported"
    status = server.services.trees.add_local(folder, unique="1")
    stored = server.assets.data.register(Data(name="rows", path=status.reference))
    assert stored.path == status.reference


# --- models and code -----------------------------------------------------------------------------


def test_a_model_in_a_local_datastore_is_stored_once(plane: ControlPlane, tmp_path: Path) -> None:
    folder = plane.home / "datastores" / "workspaceblobstore" / "models"
    mlflow_model(folder / "heart")
    path = "azureml://datastores/workspaceblobstore/paths/models/heart"
    model = plane.assets.models.register(Model(name="heart", path=path, type="mlflow_model"))
    assert model.path.startswith("upload:")
    assert model.properties == {"source_uri": path}
    here = plane.assets.models.register(
        Model(name="heart", path=str(folder / "heart"), type="mlflow_model")
    )
    assert (here.version, here.path, here.properties) == ("2", model.path, {})


def test_models_that_no_file_can_be_had_of(plane: ControlPlane) -> None:
    for path, code in (
        ("models:/heart/1", "reference_invalid"),
        ("runs:/abc/model", "reference_invalid"),
        ("models:/heart", "reference_invalid"),
        ("azureml:heart:1", "reference_invalid"),
        ("azureml://datastores/workspaceblobstore/paths/none", "input_not_found"),
    ):
        with pytest.raises(Invalid) as caught:
            plane.assets.models.register(Model(name="heart", path=path))
        assert (caught.value.code, path) == (code, path)


def test_triton_models_are_refused_by_name() -> None:
    for spelling in ("triton_model", "TritonModel"):
        with pytest.raises(ValueError, match="triton_model is not supported"):
            Model.model_validate({"path": "x", "type": spelling})


def test_deployments_share_registered_code(plane: ControlPlane, tmp_path: Path) -> None:
    folder = code_folder(tmp_path / "code")
    stored = plane.assets.codes.register(Code(name="scorer", path=str(folder)))
    assert stored.path.startswith("upload:")
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    long = "/subscriptions/s/resourceGroups/r/providers/p/workspaces/w/codes/scorer/versions/1"
    (tmp_path / "m.pkl").write_bytes(b"weights")
    for reference in ("azureml:scorer:1", "azureml:scorer@latest", long, f"azureml:{long}"):
        deployment, _ = plane.registry.put_deployment(
            ModelDeployment.model_validate(
                {
                    "name": "first",
                    "endpoint_name": "heart",
                    "model": {"path": str(tmp_path / "m.pkl")},
                    "code_configuration": {"code": reference, "scoring_script": "score.py"},
                }
            ),
            lambda line: None,
        )
        assert deployment.code_configuration is not None
        assert deployment.code_configuration.code == "azureml:scorer:1"
        resolved = deployed_model(plane, "heart", "first").resolution.code
        assert resolved is not None
        assert Path(resolved.path, "score.py").is_file()


def test_code_is_a_folder(plane: ControlPlane, tmp_path: Path) -> None:
    script = code_folder(tmp_path / "code") / "score.py"
    with pytest.raises(Invalid) as caught:
        plane.assets.codes.register(Code(name="scorer", path=str(script)))
    assert caught.value.where == "path"


def test_code_is_no_empty_folder(plane: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    with pytest.raises(Invalid, match="code is an empty folder") as caught:
        plane.assets.codes.register(Code(name="scorer", path=str(tmp_path / "code")))
    assert (caught.value.code, caught.value.where) == ("component_invalid", "path")


def test_what_registries_hold_is_not_here(plane: ControlPlane) -> None:
    with pytest.raises(Invalid, match="registry"):
        plane.assets.resolve_model("azureml://registries/r/models/m/versions/1")
    with pytest.raises(Invalid, match="registry"):
        plane.assets.resolve_code("azureml://registries/r/codes/c/versions/1", "score.py")
    reference, environment = plane.assets.resolve_environment(
        "azureml://registries/azureml/environments/sklearn/labels/latest"
    )
    assert reference is not None
    assert environment is not None
    assert environment.image == "azureml://registries/azureml/environments/sklearn/labels/latest"


@pytest.mark.parametrize(
    ("named", "which"),
    [("AzureML-x-cpu@latest", "labels/latest"), ("AzureML-x-cpu:5", "versions/5")],
)
def test_environments_that_azure_curates_are_of_its_registry(
    plane: ControlPlane, named: str, which: str
) -> None:
    _, environment = plane.assets.resolve_environment(f"azureml:{named}")
    assert environment is not None
    assert environment.image == f"azureml://registries/azureml/environments/AzureML-x-cpu/{which}"


def test_an_environment_of_a_curated_name_that_is_registered_counts(plane: ControlPlane) -> None:
    own = Environment(name="AzureML-x-cpu", requirements=["pandas"])
    plane.assets.environments.register(own)
    _, environment = plane.assets.resolve_environment("azureml:AzureML-x-cpu@latest")
    assert environment is not None
    assert (environment.image, environment.requirements) == (None, ["pandas"])


def test_a_deployment_keeps_what_it_was_given_when_its_assets_go(
    plane: ControlPlane, tmp_path: Path
) -> None:
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    folder = mlflow_model(tmp_path / "model")
    plane.assets.models.register(Model(name="heart", path=str(folder), type="mlflow_model"))
    plane.assets.environments.register(Environment(name="sk", requirements=["scikit-learn"]))
    asked = {
        "name": "first",
        "endpoint_name": "heart",
        "model": "azureml:heart@latest",
        "environment": "azureml:sk:1",
    }
    plane.registry.put_deployment(ModelDeployment.model_validate(asked), lambda line: None)
    before = plane.registry.deployed("heart", "first")
    plane.assets.models.delete("heart", None)
    plane.assets.environments.archive("sk", None)
    changed = plane.registry.update_deployment(
        "heart", "first", {"settings": {"mini_batch_size": 3}}, lambda line: None
    )
    assert isinstance(changed, ModelDeployment)
    assert (changed.model, changed.environment) == ("azureml:heart:1", "azureml:sk:1")
    assert changed.settings.mini_batch_size == 3
    assert plane.registry.deployed("heart", "first").resolution == before.resolution
    assert len(plane.environments.asked) == 1
    with pytest.raises(NotFound) as caught:
        plane.registry.update_deployment(
            "heart", "first", {"model": "azureml:heart@latest"}, lambda line: None
        )
    assert caught.value.code == "model_not_found"
