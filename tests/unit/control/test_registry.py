"""Endpoints, deployments, computes and assets: what is allowed, what is refused, what stays."""

from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.compute import Compute
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.job import Invocation, Job, JobState, JobStatus
from batchpoint.domain.job_pointers import JobInput
from tests.unit.control_plane import (
    ControlPlane,
    code_folder,
    control_plane,
    data_folder,
    deployed_model,
    mlflow_model,
)


def deployment(model: str | Model, **fields: Any) -> ModelDeployment:
    return ModelDeployment.model_validate(
        {"name": "first", "endpoint_name": "heart", "model": model} | fields
    )


def log(line: str) -> None:
    assert line


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(path=str(mlflow_model(tmp_path / "model")), type="mlflow_model")


@pytest.fixture
def ready(plane: ControlPlane, model: Model) -> ControlPlane:
    """An endpoint whose default deployment is `first`."""
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    plane.registry.put_deployment(deployment(model), log, set_default=True)
    return plane


def start(plane: ControlPlane, tmp_path: Path) -> Job:
    folder = tmp_path / "data"
    if not folder.exists():
        data_folder(folder)
    body = Invocation(input=JobInput(type="uri_folder", uri=str(folder)))
    return plane.invocations.invoke("heart", body)


# --- endpoints ---------------------------------------------------------------------------------


def test_an_endpoint_is_created_then_updated(plane: ControlPlane) -> None:
    stored, new = plane.registry.put_endpoint(BatchEndpoint(name="heart", tags={"a": "1"}))
    assert new
    assert stored.provisioning_state == "Succeeded"
    again, new = plane.registry.put_endpoint(BatchEndpoint(name="heart", description="d"))
    assert not new
    assert (again.description, again.tags) == ("d", {})
    assert again.created_at == stored.created_at
    assert plane.registry.get_endpoint("heart") == again
    assert plane.registry.list_endpoints(10, None) == [again]


def test_an_update_that_does_not_mention_the_default_keeps_it(ready: ControlPlane) -> None:
    ready.registry.put_endpoint(BatchEndpoint(name="heart", description="d"))
    assert ready.registry.get_endpoint("heart").defaults.deployment_name == "first"
    reset = BatchEndpoint.model_validate({"name": "heart", "defaults": {"deployment_name": None}})
    ready.registry.put_endpoint(reset)
    assert ready.registry.get_endpoint("heart").defaults.deployment_name is None


def test_the_default_has_to_exist(ready: ControlPlane) -> None:
    ghost = {"defaults": {"deployment_name": "ghost"}}
    with pytest.raises(NotFound) as caught:
        ready.registry.update_endpoint("heart", ghost)
    assert caught.value.code == "deployment_not_found"
    with pytest.raises(NotFound):
        ready.registry.put_endpoint(BatchEndpoint.model_validate({"name": "heart"} | ghost))
    assert ready.registry.get_endpoint("heart").defaults.deployment_name == "first"


def test_a_patch_changes_what_it_names(ready: ControlPlane) -> None:
    ready.registry.update_endpoint("heart", {"tags": {"a": "1", "b": "2"}, "description": "d"})
    changed = ready.registry.update_endpoint("heart", {"tags": {"a": None}, "description": None})
    assert (changed.tags, changed.description) == ({"b": "2"}, None)
    assert changed.defaults.deployment_name == "first"


def test_an_endpoint_with_running_jobs_stays(ready: ControlPlane, tmp_path: Path) -> None:
    job = start(ready, tmp_path)
    with pytest.raises(Conflict, match=job.name) as caught:
        ready.registry.delete_endpoint("heart")
    assert caught.value.code == "endpoint_in_use"
    ready.registry.delete_endpoint("heart", force=True)
    with pytest.raises(NotFound):
        ready.registry.get_endpoint("heart")
    assert ready.ledger.get_job(job.name) == job
    ready.registry.put_endpoint(BatchEndpoint(name="heart"))
    assert ready.registry.list_deployments("heart", 10, None) == []


# --- deployments -------------------------------------------------------------------------------


def test_a_deployment_needs_its_endpoint(plane: ControlPlane, model: Model) -> None:
    with pytest.raises(NotFound) as caught:
        plane.registry.put_deployment(deployment(model), log)
    assert caught.value.code == "endpoint_not_found"


def test_a_running_job_keeps_what_it_was_given(ready: ControlPlane, tmp_path: Path) -> None:
    job = start(ready, tmp_path)
    other = Model(path=str(mlflow_model(tmp_path / "other")), type="mlflow_model")
    updated, new = ready.registry.put_deployment(
        deployment(other, settings={"mini_batch_size": 3}), log
    )
    assert not new
    assert updated.settings.mini_batch_size == 3
    assert ready.ledger.get_job(job.name).spec == job.spec
    later = start(ready, tmp_path)
    assert later.scoring.model != job.scoring.model
    assert later.scoring.settings.mini_batch_size == 3


def test_the_default_is_not_deleted_by_accident(ready: ControlPlane) -> None:
    with pytest.raises(Conflict, match="is the default") as caught:
        ready.registry.delete_deployment("heart", "first")
    assert caught.value.code == "deployment_in_use"
    ready.registry.delete_deployment("heart", "first", force=True)
    assert ready.registry.get_endpoint("heart").defaults.deployment_name is None


def test_a_deployment_with_running_jobs_stays(
    ready: ControlPlane, model: Model, tmp_path: Path
) -> None:
    job = start(ready, tmp_path)
    ready.registry.put_deployment(deployment(model, name="second"), log, set_default=True)
    with pytest.raises(Conflict, match=job.name) as caught:
        ready.registry.delete_deployment("heart", "first")
    assert caught.value.code == "deployment_in_use"
    epoch = ready.ledger.acquire_lease(job.name, "me", 0.0, 15)
    assert epoch is not None
    ready.ledger.finish(job.name, epoch, JobStatus(state=JobState.COMPLETED))
    ready.registry.delete_deployment("heart", "first")
    assert [d.name for d in ready.registry.list_deployments("heart", 10, None)] == ["second"]


def test_patching_a_deployment_checks_it_again(ready: ControlPlane) -> None:
    changed = ready.registry.update_deployment(
        "heart", "first", {"settings": {"instance_count": 5_000, "mini_batch_size": 2}}, log
    )
    assert isinstance(changed, ModelDeployment)
    assert changed.resources.instance_count == 5_000
    assert changed.settings.mini_batch_size == 2
    assert changed.settings.max_concurrency_per_instance == 1
    with pytest.raises(Invalid):
        ready.registry.update_deployment(
            "heart", "first", {"settings": {"output_file_name": "x.txt"}}, log
        )


def test_a_model_of_ones_own_needs_a_script(plane: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"weights")
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    own = Model(path=str(tmp_path / "m.pkl"))
    with pytest.raises(Invalid, match="scored by your own script") as caught:
        plane.registry.put_deployment(deployment(own), log)
    assert caught.value.code == "model_invalid"
    code = {"code": str(code_folder(tmp_path / "code")), "scoring_script": "score.py"}
    plane.registry.put_deployment(deployment(own, code_configuration=code), log)
    deployed = deployed_model(plane, "heart", "first")
    assert deployed.resolution.code is not None
    assert Path(deployed.resolution.code.path, "score.py").is_file()
    assert Path(deployed.resolution.model.path).read_bytes() == b"weights"
    assert plane.environments.asked[-1] == (Path(deployed.resolution.model.path), None)


def test_a_script_that_cannot_run_is_refused(plane: ControlPlane, tmp_path: Path) -> None:
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    code = {"code": str(code_folder(tmp_path / "c", "def init(:")), "scoring_script": "score.py"}
    model = Model(path=str(mlflow_model(tmp_path / "m")))
    with pytest.raises(Invalid) as caught:
        plane.registry.put_deployment(deployment(model, code_configuration=code), log)
    assert caught.value.code == "scoring_script_invalid"
    assert plane.registry.list_deployments("heart", 10, None) == []
    assert plane.environments.asked == []


def test_inline_environments_are_registered(ready: ControlPlane, model: Model) -> None:
    named = {"name": "sk", "requirements": ["scikit-learn"]}
    for _ in range(2):
        stored, _ = ready.registry.put_deployment(deployment(model, environment=named), log)
        assert stored.environment == "azureml:sk:1"
    more = {"name": "sk", "requirements": ["scikit-learn", "numpy"]}
    stored, _ = ready.registry.put_deployment(deployment(model, environment=more), log)
    assert stored.environment == "azureml:sk:2"
    asked = ready.environments.asked[-1][1]
    assert asked is not None
    assert asked.requirements == ["scikit-learn", "numpy"]
    by_reference = deployment(model, environment="sk@latest")
    stored, _ = ready.registry.put_deployment(by_reference, log)
    assert stored.environment == "azureml:sk:2"
    with pytest.raises(NotFound) as caught:
        ready.registry.put_deployment(deployment(model, environment="sk:9"), log)
    assert caught.value.code == "environment_not_found"


# --- computes ----------------------------------------------------------------------------------


def test_this_machine_is_always_there(plane: ControlPlane) -> None:
    assert plane.registry.get_compute("local").max_instances >= 4
    assert [c.name for c in plane.registry.list_computes(10, None)] == ["local"]
    plane.registry.put_compute(Compute(name="batch-cluster", type="amlcompute"))
    plane.registry.put_compute(Compute(name="zebra"))
    assert [c.name for c in plane.registry.list_computes(2, None)] == ["batch-cluster", "local"]
    assert [c.name for c in plane.registry.list_computes(2, "local")] == ["zebra"]
    plane.registry.update_compute("local", {"idle_time_before_scale_down": 5})
    assert plane.registry.get_compute("local").idle_time_before_scale_down == 5
    assert len(plane.registry.list_computes(10, None)) == 3
    plane.registry.delete_compute("local")
    assert plane.registry.get_compute("local").idle_time_before_scale_down == 120


def test_computes_bound_the_nodes_of_jobs(ready: ControlPlane, model: Model) -> None:
    ready.registry.put_compute(Compute(name="small", max_instances=2))
    with pytest.raises(NotFound) as missing:
        ready.registry.put_deployment(deployment(model, compute="azureml:ghost"), log)
    assert missing.value.code == "compute_not_found"
    wants = deployment(model, compute="azureml:small", resources={"instance_count": 3})
    with pytest.raises(Invalid, match="max_instances 2"):
        ready.registry.put_deployment(wants, log)
    stored, _ = ready.registry.put_deployment(deployment(model, compute="azureml:small"), log)
    assert stored.compute == "small"
    with pytest.raises(Conflict, match="'first' of endpoint 'heart'"):
        ready.registry.delete_compute("small")
    with pytest.raises(Invalid):
        ready.registry.update_compute("small", {"min_instances": 3})


# --- assets ------------------------------------------------------------------------------------


def test_versions_count_up_and_never_change(plane: ControlPlane, tmp_path: Path) -> None:
    first = mlflow_model(tmp_path / "model")
    one = plane.assets.models.register(Model(name="m", path=str(first), type="mlflow_model"))
    assert (one.name, one.version) == ("m", "1")
    assert one.path.startswith("upload:")
    two = plane.assets.models.register(Model(name="m", path=str(first), type="mlflow_model"))
    assert (two.version, two.path) == ("2", one.path)
    (first / "model.pkl").write_bytes(b"other")
    with pytest.raises(Conflict) as caught:
        plane.assets.models.register(
            Model(name="m", version="1", path=str(first), type="mlflow_model")
        )
    assert caught.value.code == "asset_immutable"
    described = plane.assets.models.register(two.model_copy(update={"description": "d"}))
    assert (described.version, described.description) == ("2", "d")
    assert plane.assets.models.get("m").description == "d"
    assert [m.version for m in plane.assets.models.versions("m", 10, None)] == ["2", "1"]
    assert [m.version for m in plane.assets.models.list(10, None)] == ["2"]


def test_a_model_without_a_name_is_known_by_its_content(
    plane: ControlPlane, tmp_path: Path, model: Model
) -> None:
    first = plane.assets.models.register(model)
    assert plane.assets.models.register(model) == first
    assert plane.assets.models.list(10, None) == []
    assert first.version is not None
    assert plane.assets.models.get("anonymous", first.version) == first


def test_deploying_the_same_model_again_makes_no_new_version(
    ready: ControlPlane, model: Model, tmp_path: Path
) -> None:
    named = model.model_copy(update={"name": "heart-model"})
    for _ in range(2):
        stored, _ = ready.registry.put_deployment(deployment(named), log)
        assert stored.model == "azureml:heart-model:1"
    (tmp_path / "model" / "model.pkl").write_bytes(b"better")
    stored, _ = ready.registry.put_deployment(deployment(named), log)
    assert stored.model == "azureml:heart-model:2"


def test_an_mlflow_model_has_an_mlmodel_file(plane: ControlPlane, tmp_path: Path) -> None:
    folder = mlflow_model(tmp_path / "run") / "artifacts"
    mlflow_model(folder)
    (tmp_path / "run" / "MLmodel").unlink()
    with pytest.raises(Invalid, match="no MLflow model") as caught:
        plane.assets.models.register(Model(path=str(tmp_path / "run"), type="mlflow_model"))
    assert caught.value.code == "model_invalid"


def test_a_server_takes_no_paths_of_its_own(tmp_path: Path) -> None:
    plane = control_plane(tmp_path / "home", embedded=False)
    with pytest.raises(Invalid, match="upload the files first") as caught:
        plane.assets.models.register(Model(path="/etc"))
    assert caught.value.code == "field_unsupported"
    plane.ledger.close()


def test_environments_ask_for_something(plane: ControlPlane) -> None:
    for asked in ({}, {"name": "e", "description": "d"}, {"conda_file": "conda.yml"}):
        with pytest.raises(Invalid) as caught:
            plane.assets.environments.register(Environment.model_validate(asked))
        assert caught.value.code == "environment_invalid"


def test_what_is_deleted_is_gone(ready: ControlPlane, tmp_path: Path) -> None:
    made = Model(name="m", path=str(tmp_path / "model"), type="mlflow_model")
    for _ in range(3):
        ready.assets.models.register(made)
    ready.assets.models.delete("m", "2")
    assert [m.version for m in ready.assets.models.versions("m", 10, None)] == ["3", "1"]
    ready.assets.models.delete("m", None)
    for version in (None, "1"):
        with pytest.raises(NotFound) as caught:
            ready.assets.models.get("m", version)
        assert caught.value.code == "model_not_found"
        with pytest.raises(NotFound):
            ready.assets.models.delete("m", version)


def test_a_registry_environment_is_something_a_site_may_map(plane: ControlPlane) -> None:
    named = "azureml://registries/azureml/environments/sklearn-1.5/versions/3"
    reference, environment = plane.assets.resolve_environment(named)
    assert environment is not None
    assert environment.image == named
    assert plane.assets.resolve_environment(reference)[1] == environment
