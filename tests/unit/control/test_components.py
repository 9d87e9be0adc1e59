"""Components: pinned when they are registered, refused with everything that is wrong."""

from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain.asset import Data, Environment, Model
from batchpoint.domain.component import ParallelComponent, PipelineComponent, StepData
from batchpoint.domain.errors import BatchpointError, Conflict, Invalid, NotFound
from tests.unit.control.pipeline_cases import component, pipeline, prepare, told, train
from tests.unit.control_plane import ControlPlane, code_folder, data_folder, mlflow_model


def registered(plane: ControlPlane, document: dict[str, Any], **fields: Any) -> Any:
    return plane.assets.components.register(component({**document, **fields}))


def refused(plane: ControlPlane, document: dict[str, Any]) -> BatchpointError:
    with pytest.raises(BatchpointError) as caught:
        plane.assets.components.register(component(document))
    return caught.value


def test_code_and_environment_are_pinned(plane: ControlPlane, tmp_path: Path) -> None:
    code = code_folder(tmp_path / "src")
    inline = {"requirements": ["numpy==2.0"]}
    made = registered(plane, prepare(code), environment=inline)
    assert made.version == "1"
    assert made.code.startswith("upload:")
    assert made.code.endswith("/src")
    assert made.environment.startswith("azureml:anonymous:")
    (code / "score.py").write_text("changed = True\n")
    assert plane.assets.components.get("prepare") == made
    assert registered(plane, prepare(code), environment=inline).version == "2"


def test_registered_code_is_pinned_to_its_files(plane: ControlPlane, tmp_path: Path) -> None:
    from batchpoint.domain.asset import Code

    code = Code(name="shared", path=str(code_folder(tmp_path / "src")))
    tree = plane.assets.codes.register(code).path
    made = registered(plane, prepare(), code="azureml:shared@latest")
    assert made.code == tree


def test_labels_become_versions(plane: ControlPlane) -> None:
    environment = Environment(name="base", requirements=["numpy"])
    plane.assets.environments.register(environment)
    first = registered(plane, prepare(), environment="azureml:base@latest")
    plane.assets.environments.register(
        environment.model_copy(update={"requirements": ["numpy", "pandas"]})
    )
    assert first.environment == "azureml:base:1"
    assert registered(plane, prepare(), environment="base@latest").environment == "azureml:base:2"


def test_the_same_version_is_registered_once(plane: ControlPlane) -> None:
    first = registered(plane, prepare(), version="7", description="old")
    again = registered(plane, prepare(), version="7", description="new")
    assert (first.version, again.version, again.description) == ("7", "7", "new")
    with pytest.raises(Conflict) as caught:
        registered(plane, prepare(command="true"), version="7")
    assert caught.value.code == "asset_immutable"


@pytest.mark.parametrize(
    "changed",
    [
        {"command": "true"},
        {"is_deterministic": False},
        {"display_name": "other"},
        {"environment_variables": {"A": "1"}},
        {"limits": {"timeout": 7}},
        {"retry_settings": {"max_retries": 1}},
        {"outputs": {"clean": {"type": "uri_folder", "mode": "upload"}}},
        {"inputs": {"data": {"type": "uri_folder"}, "rate": {"type": "number", "default": 0.4}}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_field_is_content(plane: ControlPlane, changed: dict[str, Any]) -> None:
    registered(plane, prepare(), version="1")
    with pytest.raises(Conflict, match="other content"):
        registered(plane, prepare(), version="1", **changed)


def test_the_content_of_what_is_named_counts(plane: ControlPlane) -> None:
    """A version that was deleted and made again with other content is another one."""
    registered(plane, train(), version="1")
    uses = pipeline()
    uses["jobs"]["train"]["component"] = "azureml:train:1"
    registered(plane, uses, version="1")
    plane.assets.components.delete("train", "1")
    registered(plane, train(command="echo 2 > ${{outputs.model}}/weights"), version="1")
    with pytest.raises(Conflict, match="other content"):
        registered(plane, uses, version="1")


@pytest.mark.parametrize("name", ["Train", "a b", "_a", "", "a.b", "ä", "x" * 256])
def test_names_are_lower_case(plane: ControlPlane, name: str) -> None:
    error = refused(plane, train(name=name))
    assert (error.code, error.where) == ("field_invalid", "name")


def test_names_may_hold_digits_and_both_strokes(plane: ControlPlane) -> None:
    assert registered(plane, train(), name="train_2-x").name == "train_2-x"


def test_nested_components_are_named_by_versions(plane: ControlPlane) -> None:
    registered(plane, prepare())
    document = pipeline()
    document["jobs"]["prepare"]["component"] = "azureml:prepare@default"
    made = registered(plane, document)
    assert made.jobs["prepare"].component == "azureml:prepare:1"
    nested = made.jobs["train"].component
    assert nested.startswith("azureml:anonymous:")
    reference, found = plane.assets.components.found(nested)
    assert (reference, found.display_name) == (nested, "train")
    assert plane.assets.components.get("train-on-data") == made
    assert [each.name for each in plane.assets.components.list(10, None)] == [
        "prepare",
        "train-on-data",
    ]


def test_data_in_a_pipeline_is_pinned(plane: ControlPlane, tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "data")
    plane.assets.data.register(Data(name="rows", path=str(folder)))
    model = Model(name="m", type="mlflow_model", path=str(mlflow_model(tmp_path / "model")))
    plane.assets.models.register(model)
    use = train(inputs={"data": {"type": "uri_folder"}, "start": {"type": "mlflow_model"}})
    use["command"] += " ${{inputs.start}}"
    data = {"path": "azureml:rows@latest"}
    steps = {
        "a": {"component": use, "inputs": {"data": data, "start": {"path": "azureml:m@latest"}}},
        "b": {
            "component": train(),
            "inputs": {"data": {"type": "uri_folder", "path": str(folder)}},
        },
    }
    made = registered(plane, {"name": "pinned", "jobs": steps})
    assert isinstance(made, PipelineComponent)
    given = [*made.jobs["a"].inputs.values(), *made.jobs["b"].inputs.values()]
    assert [each.path for each in given if isinstance(each, StepData)] == [
        "azureml:rows:1",
        "azureml:m:1",
        folder.as_uri(),
    ]


def test_everything_wrong_is_told_at_once(plane: ControlPlane) -> None:
    document = pipeline()
    document["outputs"]["ghost"] = {}
    steps = document["jobs"]
    steps["prepare"]["component"] = "azureml:nothing:1"
    steps["train"]["environment"] = "azureml:nowhere:1"
    steps["train"]["component"]["code"] = "/there/is/no/such/folder"
    steps["train"]["component"]["environment"] = {"conda_file": "conda.yml"}
    steps["third"] = {
        "component": train(),
        "inputs": {"data": {"type": "uri_folder", "path": "azureml:no-data:1"}},
    }
    steps["fourth"] = {"component": train(), "inputs": {"data": "${{parent.jobs.x.outputs.y}}"}}
    error = refused(plane, document)
    assert isinstance(error, Invalid)
    found = told(error)
    assert found["jobs.prepare.component"] == "component_not_found"
    assert found["jobs.train.environment"] == "environment_not_found"
    assert found["jobs.train.component.code"] == "input_not_found"
    assert found["jobs.train.component.environment.conda_file"] == "environment_invalid"
    assert found["jobs.third.inputs.data.path"] == "data_not_found"
    assert "jobs.fourth.inputs.data" in found
    assert "outputs.ghost" in found
    assert plane.assets.components.list(10, None) == []


def test_a_lone_finding_keeps_its_family(plane: ControlPlane) -> None:
    document = pipeline()
    document["jobs"]["train"]["component"] = "azureml:nothing:1"
    error = refused(plane, document)
    assert isinstance(error, NotFound)
    assert (error.code, error.where) == ("component_not_found", "jobs.train.component")


def test_shared_registries_are_not_reached(plane: ControlPlane) -> None:
    reference = "azureml://registries/azureml/components/prepare/versions/1"
    with pytest.raises(Invalid, match="shared registry"):
        plane.assets.components.found(reference)


def test_a_parallel_component_names_its_model_and_code(plane: ControlPlane, tmp_path: Path) -> None:
    code, model = code_folder(tmp_path / "src"), mlflow_model(tmp_path / "model")
    document: dict[str, Any] = {
        "name": "score",
        "type": "parallel",
        "inputs": {"rows": {"type": "uri_folder"}},
        "outputs": {"scores": {"type": "uri_file"}},
        "input_data": "${{inputs.rows}}",
        "task": {
            "code": str(code),
            "entry_script": "score.py",
            "append_row_to": "${{outputs.scores}}",
            "environment": {"requirements": ["numpy"]},
            "model": {"name": "net", "type": "mlflow_model", "path": str(model)},
        },
    }
    made = registered(plane, document)
    assert isinstance(made, ParallelComponent)
    assert made.task.code is not None
    assert made.task.code.startswith("upload:")
    assert made.task.model == "azureml:net:1"
    assert str(made.task.environment).startswith("azureml:anonymous:")
    document["task"]["entry_script"] = None
    document["task"]["model"] = "azureml:ghost:1"
    found = told(refused(plane, document))
    assert found == {
        "task.entry_script": "field_invalid",
        "task.model": "model_not_found",
    }


def test_archived_components_are_found_by_their_version_only(plane: ControlPlane) -> None:
    registered(plane, train())
    plane.assets.components.archive("train", "1")
    with pytest.raises(NotFound):
        plane.assets.components.found("azureml:train@latest")
    assert plane.assets.components.found("azureml:train:1")[0] == "azureml:train:1"
    plane.assets.components.archive("train", "1", archived=False)
    changed = plane.assets.components.update("train", "1", {"tags": {"a": "b"}})
    assert changed.tags == {"a": "b"}
    with pytest.raises(Conflict, match="never changes"):
        plane.assets.components.update("train", "1", {"command": "true"})
    plane.assets.components.delete("train", None)
    with pytest.raises(NotFound, match="no component named 'train'"):
        plane.assets.components.get("train")


def test_on_a_server_paths_are_not_this_machines(server: ControlPlane) -> None:
    steps = {
        "a": {"component": train(), "inputs": {"data": {"type": "uri_folder", "path": "/data"}}}
    }
    error = refused(server, {"name": "p", "jobs": steps})
    assert told(error) == {"jobs.a.inputs.data.path": "field_unsupported"}
