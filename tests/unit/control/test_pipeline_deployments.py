"""Deployments of pipelines: resolved when they are made, from a component or from a job."""

from pathlib import Path
from typing import Any

import pytest

from batchpoint.control.prepared_pipeline import DeployedPipeline
from batchpoint.domain.asset import Environment
from batchpoint.domain.component import PipelineComponent
from batchpoint.domain.compute import Compute
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.errors import BatchpointError, Conflict, Invalid, NotFound
from batchpoint.domain.job import JobState
from batchpoint.domain.job_spec import PipelineSpec, ScoreSpec
from batchpoint.domain.pipeline import PipelineDeployment
from tests.unit.control.pipeline_cases import (
    component,
    created,
    deployed,
    deployment,
    ended,
    invoked,
    pipeline,
    prepare,
    told,
    train,
)
from tests.unit.control_plane import ControlPlane, code_folder, data_folder, mlflow_model


def log(line: str) -> None:
    """Nobody reads what creating says."""


def folder(path: Path) -> dict[str, Any]:
    return {"type": "uri_folder", "uri": str(path)}


def refused(plane: ControlPlane, **fields: Any) -> BatchpointError:
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    document = {"name": "graph", "endpoint_name": "heart", **fields}
    with pytest.raises(BatchpointError) as caught:
        plane.registry.put_deployment(deployment(document), log)
    assert plane.registry.list_deployments("heart", 10, None) == []
    return caught.value


def resolved(plane: ControlPlane) -> DeployedPipeline:
    found = plane.registry.deployed("heart", None)
    assert isinstance(found, DeployedPipeline)
    return found


def test_an_inline_component_becomes_an_anonymous_one(plane: ControlPlane, tmp_path: Path) -> None:
    graph = pipeline()
    graph["jobs"]["prepare"]["component"] = prepare(code_folder(tmp_path / "src"))
    made = deployed(plane, component=graph)
    assert str(made.component).startswith("azureml:anonymous:")
    assert made.provisioning_state == "Succeeded"
    assert plane.registry.get_deployment("heart", "graph") == made
    assert plane.registry.list_deployments("heart", 10, None) == [made]
    kept = resolved(plane)
    assert kept.resolution == type(kept.resolution).model_validate_json(
        kept.resolution.model_dump_json()
    )
    parts = kept.resolution.steps["prepare"]
    assert parts.code is not None
    assert Path(parts.code.path, "score.py").is_file()


def test_each_environment_is_resolved_once(plane: ControlPlane) -> None:
    plane.assets.environments.register(Environment(name="base", requirements=["numpy"]))
    use = train(environment="azureml:base:1")
    steps = {
        name: {"component": use, "inputs": {"data": "${{parent.inputs.raw}}"}}
        for name in ("a", "b", "c")
    }
    steps["c"]["environment"] = {"requirements": ["pandas"]}
    deployed(plane, component={"inputs": {"raw": {"type": "uri_folder"}}, "jobs": steps})
    asked = [environment for _, environment in plane.environments.asked]
    assert [each.requirements for each in asked if each] == [["numpy"], ["pandas"]]
    kept = resolved(plane).resolution
    assert kept.steps["a"].environment == kept.steps["b"].environment == "azureml:base:1"
    assert len(kept.environments) == 2


def test_what_is_deleted_later_is_not_missed(plane: ControlPlane, tmp_path: Path) -> None:
    plane.assets.environments.register(Environment(name="base", requirements=["numpy"]))
    plane.assets.components.register(component(train(environment="azureml:base:1")))
    graph = pipeline()
    graph["jobs"]["train"]["component"] = "azureml:train:1"
    plane.assets.components.register(component(graph))
    made = deployed(plane, component="azureml:train-on-data@latest")
    assert made.component == "azureml:train-on-data:1"
    plane.assets.components.delete("train", None)
    plane.assets.components.delete("train-on-data", None)
    plane.assets.environments.delete("base", None)
    values = {"raw": folder(data_folder(tmp_path / "data")), "rate": 1}
    job = invoked(plane, {"inputs": values})
    assert isinstance(job.spec, PipelineSpec)
    patch = {"description": "still here", "settings": {"force_rerun": True}}
    changed = plane.registry.update_deployment("heart", "graph", patch, log)
    assert (changed.description, changed.settings.model_dump()["force_rerun"]) == (
        "still here",
        True,
    )
    again = {"name": "other", "endpoint_name": "heart", "component": "azureml:train-on-data:1"}
    with pytest.raises(NotFound) as caught:
        plane.registry.put_deployment(deployment(again), log)
    assert (caught.value.code, caught.value.where) == ("component_not_found", "component")


def test_a_component_that_uses_a_deleted_one_says_which(plane: ControlPlane) -> None:
    plane.assets.components.register(component(train()))
    graph = pipeline()
    graph["jobs"]["train"]["component"] = "azureml:train:1"
    plane.assets.components.register(component(graph))
    plane.assets.components.delete("train", None)
    error = refused(plane, component="azureml:train-on-data:1")
    assert told(error) == {"component.jobs.train.component": "component_not_found"}


def test_everything_wrong_is_told_at_once(plane: ControlPlane) -> None:
    graph = pipeline()
    graph["jobs"]["prepare"]["compute"] = "ghost"
    graph["jobs"]["train"]["component"]["environment"] = "azureml:nowhere:1"
    graph["jobs"]["train"]["inputs"]["data"] = "${{parent.jobs.nobody.outputs.clean}}"
    settings = {"default_compute": "nothing", "default_datastore": "none"}
    found = told(refused(plane, component=graph, settings=settings))
    assert found["component.jobs.prepare.compute"] == "compute_not_found"
    assert found["component.jobs.train.component.environment"] == "environment_not_found"
    assert "component.jobs.train.inputs.data" in found
    assert found["settings.default_compute"] == "compute_not_found"
    assert found["settings.default_datastore"] == "datastore_not_found"


def test_only_pipelines_are_deployed(plane: ControlPlane) -> None:
    plane.assets.components.register(component(train()))
    error = refused(plane, component="azureml:train:1")
    assert (error.code, error.where) == ("field_invalid", "component")


def test_a_compute_that_a_pipeline_uses_stays(plane: ControlPlane) -> None:
    plane.registry.put_compute(Compute(name="big"))
    plane.registry.put_compute(Compute(name="fast"))
    plane.registry.put_compute(Compute(name="idle"))
    graph = pipeline()
    graph["jobs"]["train"]["compute"] = "azureml:big"
    deployed(plane, component=graph, settings={"default_compute": "azureml:fast"})
    for name in ("big", "fast"):
        with pytest.raises(Conflict, match="is used by deployment 'graph'"):
            plane.registry.delete_compute(name)
    plane.registry.delete_compute("idle")
    plane.registry.delete_deployment("heart", "graph", force=True)
    plane.registry.delete_compute("big")


def test_the_type_of_a_deployment_stays(plane: ControlPlane) -> None:
    deployed(plane)
    with pytest.raises(Conflict) as caught:
        plane.registry.update_deployment("heart", "graph", {"type": "model"}, log)
    assert caught.value.where == "type"


def test_a_new_component_takes_the_place_of_the_old_one(plane: ControlPlane) -> None:
    before = deployed(plane)
    changed = pipeline(description="slower")
    changed["jobs"]["train"]["limits"] = {"timeout": 9}
    after = plane.registry.update_deployment("heart", "graph", {"component": changed}, log)
    assert isinstance(after, PipelineDeployment)
    assert after.component != before.component
    assert after.created_at == before.created_at


# --- from a job -----------------------------------------------------------------------------------


@pytest.fixture
def done(plane: ControlPlane, tmp_path: Path) -> ControlPlane:
    """A control plane with a pipeline job `tried` that has completed."""
    plane.registry.put_compute(Compute(name="big"))
    values = {"raw": folder(data_folder(tmp_path / "data")), "rate": 0.25}
    body = {
        "name": "tried",
        "jobs": pipeline()["jobs"],
        "inputs": values,
        "outputs": {"model": None},
        "compute": "big",
        "settings": {"continue_on_step_failure": False},
    }
    job = created(plane, body)
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    assert told_of_unfinished(plane)
    ended(plane, job)
    return plane


def told_of_unfinished(plane: ControlPlane) -> bool:
    error = refused(plane, job_definition="azureml:tried")
    return (error.code, error.where) == ("job_not_finished", "job_definition")


@pytest.mark.parametrize("named", ["azureml:tried", "tried"])
def test_a_completed_job_can_be_deployed(done: ControlPlane, tmp_path: Path, named: str) -> None:
    made = deployed(done, component=None, job_definition=named)
    assert made.job_definition == "azureml:tried"
    assert made.settings.default_compute == "big"
    assert made.settings.continue_on_step_failure is False
    found = done.assets.components.found(str(made.component))[1]
    assert isinstance(found, PipelineComponent)
    assert found.inputs["rate"].default == 0.25
    assert found.inputs["raw"].default is None
    assert list(found.jobs) == ["prepare", "train"]
    with pytest.raises(BatchpointError) as caught:
        invoked(done, {})
    assert told(caught.value) == {"inputs.raw": "input_missing"}
    job = invoked(done, {"input": folder(tmp_path / "data")})
    assert isinstance(job.spec, PipelineSpec)
    assert job.spec.inputs["rate"] == 0.25


def test_the_defaults_of_a_job_of_nested_pipelines_are_kept(done: ControlPlane) -> None:
    values = {"raw": "${{parent.inputs.r}}", "rate": 0.5}
    inner = {"type": "pipeline", "component": pipeline(), "inputs": values}
    settings = {"default_compute": "big", "default_datastore": "workspaceblobstore"}
    given = done.ledger.get_job("tried").spec
    assert isinstance(given, PipelineSpec)
    body = {"jobs": {"in": inner}, "inputs": {"r": given.inputs["raw"]}, "settings": settings}
    ended(done, created(done, {**body, "name": "outer"}))
    made = deployed(done, component=None, job_definition="outer")
    assert made.settings.default_compute == "big"
    assert made.settings.default_datastore == "workspaceblobstore"


def test_a_deployment_of_a_job_can_be_sent_back_as_it_was_shown(done: ControlPlane) -> None:
    made = deployed(done, component=None, job_definition="tried")
    again, is_new = done.registry.put_deployment(made, log)
    assert not is_new
    assert again == made
    changed = done.registry.update_deployment("heart", "graph", {"component": pipeline()}, log)
    assert isinstance(changed, PipelineDeployment)
    assert changed.job_definition is None
    back = done.registry.update_deployment("heart", "graph", {"job_definition": "tried"}, log)
    assert isinstance(back, PipelineDeployment)
    assert back.component == made.component


def test_one_of_both_is_meant(done: ControlPlane) -> None:
    error = refused(done, component=pipeline(), job_definition="tried")
    assert (error.code, error.where) == ("field_invalid", "job_definition")


def test_only_pipeline_jobs_that_completed_are_deployed(
    plane: ControlPlane, tmp_path: Path
) -> None:
    values = {"raw": folder(data_folder(tmp_path / "data")), "rate": 1}
    deployed(plane)
    job = invoked(plane, {"inputs": values})
    ended(plane, job, JobState.FAILED)
    document = {"name": "again", "endpoint_name": "heart", "job_definition": job.name}
    with pytest.raises(Conflict, match="is Failed"):
        plane.registry.put_deployment(deployment(document), log)
    document["job_definition"] = f"{job.name}-train"
    with pytest.raises(Invalid) as caught:
        plane.registry.put_deployment(deployment(document), log)
    assert caught.value.code == "job_type_wrong"
    document["job_definition"] = "nothing"
    with pytest.raises(NotFound) as missing:
        plane.registry.put_deployment(deployment(document), log)
    assert (missing.value.code, missing.value.where) == ("job_not_found", "job_definition")


# --- one endpoint, both kinds ---------------------------------------------------------------------


def test_callers_that_send_what_both_accept_notice_no_switch(
    plane: ControlPlane, tmp_path: Path
) -> None:
    deployed(plane)
    code = {"code": str(code_folder(tmp_path / "src")), "scoring_script": "score.py"}
    model = {"path": str(mlflow_model(tmp_path / "model")), "type": "mlflow_model"}
    document = {
        "name": "scorer",
        "endpoint_name": "heart",
        "model": model,
        "code_configuration": code,
    }
    plane.registry.put_deployment(ModelDeployment.model_validate(document), log)
    data = folder(data_folder(tmp_path / "data"))
    bodies: list[dict[str, Any]] = [
        {"input": data, "inputs": {"rate": 0.5}},
        {"inputs": {"raw": data, "rate": 0.5}, "outputs": {"model": {}}},
        {"inputs": {"raw": data, "rate": 0.5}, "output": {"uri": str(tmp_path / "out")}},
    ]
    for default, kind in (("graph", PipelineSpec), ("scorer", ScoreSpec)):
        patch = {"defaults": {"deployment_name": default}}
        plane.registry.update_endpoint("heart", patch)
        for body in bodies:
            assert isinstance(invoked(plane, body).spec, kind)
    job = invoked(plane, bodies[0])
    assert job.scoring.settings.parameters == {"rate": 0.5}
    # What only one of them takes is named, and so is what is missing.
    with pytest.raises(BatchpointError) as caught:
        invoked(plane, {"input": data, "force_rerun": True})
    assert told(caught.value) == {"force_rerun": "field_unsupported"}
    plane.registry.update_endpoint("heart", {"defaults": {"deployment_name": "graph"}})
    with pytest.raises(BatchpointError) as missing:
        invoked(plane, {"input": data, "overrides": {"mini_batch_size": 2}})
    assert told(missing.value) == {
        "overrides.mini_batch_size": "field_unsupported",
        "inputs.rate": "input_missing",
    }
