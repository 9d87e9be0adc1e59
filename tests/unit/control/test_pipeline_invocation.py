"""Invoking pipelines: everything is decided and checked before the first step runs."""

from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain.asset import Data, Model
from batchpoint.domain.compute import Compute
from batchpoint.domain.datastore import Datastore
from batchpoint.domain.errors import BatchpointError, Conflict
from batchpoint.domain.job import Job, JobState, PublishedOutput
from batchpoint.domain.job_spec import CommandSpec, PipelineSpec, ScoreSpec, StepPlace
from tests.unit.control.pipeline_cases import (
    created,
    deployed,
    ended,
    invoked,
    pipeline,
    prepare,
    told,
    train,
)
from tests.unit.control_plane import ControlPlane, code_folder, data_folder, mlflow_model


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return data_folder(tmp_path / "data")


@pytest.fixture
def ready(plane: ControlPlane) -> ControlPlane:
    deployed(plane)
    return plane


def folder(path: Path) -> dict[str, Any]:
    return {"type": "uri_folder", "uri": str(path)}


def refused(plane: ControlPlane, body: dict[str, Any]) -> BatchpointError:
    with pytest.raises(BatchpointError) as caught:
        invoked(plane, body)
    assert plane.ledger.list_jobs() == []
    return caught.value


def children(plane: ControlPlane, job: Job) -> dict[str, CommandSpec]:
    found: dict[str, CommandSpec] = {}
    for child in plane.ledger.child_jobs(job.name):
        assert isinstance(child.spec, CommandSpec)
        assert child.spec.step is not None
        found[child.spec.step.name] = child.spec
    return found


def place(spec: CommandSpec) -> StepPlace:
    assert spec.step is not None
    return spec.step


def test_a_job_and_its_steps_are_decided_and_recorded(ready: ControlPlane, data: Path) -> None:
    body: dict[str, Any] = {
        "inputs": {"raw": folder(data), "rate": "0.25"},
        "tags": {"who": "me"},
        "experiment_name": "tries",
        "display_name": "first try",
    }
    job = invoked(ready, body)
    assert ready.ledger.get_job(job.name) == job
    assert ready.wakes == ["woken"]
    spec = job.spec
    assert isinstance(spec, PipelineSpec)
    assert (spec.endpoint_name, spec.deployment_name) == ("heart", "graph")
    assert spec.component.startswith("azureml:anonymous:")
    assert spec.inputs["rate"] == 0.25
    assert spec.steps == {"prepare": f"{job.name}-prepare", "train": f"{job.name}-train"}
    assert spec.outputs["model"].model_dump() == {"step": "train", "output": "model"}
    assert (spec.tags, spec.display_name) == ({"who": "me"}, "first try")
    assert (spec.continue_on_step_failure, spec.force_rerun) == (True, False)
    steps = children(ready, job)
    assert list(steps) == ["prepare", "train"]
    first, second = place(steps["prepare"]), place(steps["train"])
    assert (first.parent, first.needs, second.needs) == (job.name, (), ("prepare",))
    assert first.inputs["rate"].value == 0.25
    assert first.inputs["data"].data is not None
    assert first.inputs["data"].data.uri == data.as_uri()
    assert second.inputs["data"].output is not None
    assert second.inputs["data"].output.model_dump() == {"step": "prepare", "output": "clean"}
    outputs = ready.home / "outputs"
    assert first.outputs["clean"].uri == (outputs / f"{job.name}-prepare" / "clean").as_uri()
    assert second.outputs["model"].uri == (outputs / job.name / "model").as_uri()
    assert steps["train"].experiment_name == "tries"
    assert steps["train"].environment.name == "running"


def test_an_input_and_an_output_without_names_are_the_only_ones(
    ready: ControlPlane, data: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    body: dict[str, Any] = {
        "input": folder(data),
        "inputs": {"rate": 1},
        "output": {"uri": str(target)},
    }
    steps = children(ready, invoked(ready, body))
    assert place(steps["train"]).outputs["model"].uri == target.as_uri()
    source = place(steps["prepare"]).inputs["data"].data
    assert source is not None
    assert source.uri == data.as_uri()


def test_everything_wrong_is_told_at_once(ready: ControlPlane, data: Path) -> None:
    body: dict[str, Any] = {
        "inputs": {"raw": folder(Path("/no/such")), "rate": 7, "rat": 1},
        "outputs": {"modell": {"uri": "/tmp/x"}, "model": {"uri": str(data), "version": "1"}},
        "default_compute": "ghost",
        "overrides": {"mini_batch_size": 4, "parameters": {"rate": 1}, "max_retries": 0},
    }
    assert told(refused(ready, body)) == {
        "overrides.max_retries": "field_unsupported",
        "overrides.mini_batch_size": "field_unsupported",
        "overrides.parameters": "field_unsupported",
        "inputs.rat": "field_unknown",
        "inputs.raw.uri": "input_not_found",
        "inputs.rate": "field_invalid",
        "outputs.modell": "field_unknown",
        "outputs.model.uri": "output_exists",
        "outputs.model.version": "field_invalid",
        "default_compute": "compute_not_found",
    }


@pytest.mark.parametrize(
    ("body", "where", "words"),
    [
        ({"inputs": {"rate": 1}}, "inputs.raw", "is missing"),
        ({"inputs": {"raw": "text", "rate": 1}}, "inputs.raw", "not the literal"),
        ({"inputs": {"rate": {"type": "uri_folder", "uri": "/"}}}, "inputs.rate", "a number"),
        ({"inputs": {"rate": "fast"}}, "inputs.rate", "expected a number"),
        ({"inputs": {"rate": True}}, "inputs.rate", "expected a number"),
    ],
)
def test_values_are_checked(
    ready: ControlPlane, body: dict[str, Any], where: str, words: str
) -> None:
    error = refused(ready, body)
    found = {finding.where: finding.message for finding in error.findings}
    assert words in found[where]


def test_names_that_cannot_be_guessed_are_asked_for(plane: ControlPlane, data: Path) -> None:
    two = {"a": {"type": "uri_folder"}, "b": {"type": "uri_folder"}}
    command = "cat ${{inputs.a}} ${{inputs.b}} > ${{outputs.x}} > ${{outputs.y}}"
    use: dict[str, Any] = {"command": command, "inputs": two, "outputs": {"x": {}, "y": {}}}
    step = {
        "component": use,
        "inputs": {name: f"${{{{parent.inputs.{name}}}}}" for name in two},
        "outputs": {name: f"${{{{parent.outputs.{name}}}}}" for name in ("x", "y")},
    }
    graph = {"inputs": two, "outputs": {"x": {}, "y": {}}, "jobs": {"one": step}}
    deployed(plane, component=graph)
    error = refused(plane, {"input": folder(data), "output": {"uri": "/tmp/never"}})
    found = {finding.where: finding.message for finding in error.findings}
    assert "could be each of a, b" in found["input"]
    assert "x, y" in found["output"]
    assert invoked(plane, {"input": folder(data), "inputs": {"b": folder(data)}})


def test_an_input_for_a_pipeline_that_reads_nothing_is_refused(
    plane: ControlPlane, data: Path
) -> None:
    deployed(plane, component={"jobs": {"one": {"component": {"command": "true"}}}})
    assert told(refused(plane, {"input": folder(data)})) == {"input": "field_invalid"}
    assert invoked(plane, {})


def test_types_of_data_have_to_fit(ready: ControlPlane, tmp_path: Path, data: Path) -> None:
    file = {"type": "uri_file", "uri": str(data / "a.csv")}
    body: dict[str, Any] = {"inputs": {"raw": file, "rate": 1}}
    assert told(refused(ready, body)) == {"inputs.raw": "field_invalid"}
    body["inputs"]["raw"] = {"type": "uri_folder", "uri": str(data / "a.csv")}
    assert told(refused(ready, body)) == {"inputs.raw.type": "field_invalid"}
    asset = Data(name="one", type="uri_file", path=str(data / "a.csv"))
    ready.assets.data.register(asset)
    body["inputs"]["raw"] = {"type": "uri_folder", "uri": "azureml:one:1"}
    assert told(refused(ready, body)) == {"inputs.raw.type": "field_invalid"}
    body["inputs"]["raw"] = {"type": "uri_folder", "uri": f"{data}/*.csv"}
    error = refused(ready, body)
    assert "neither several nor a pattern" in str(error)


def test_models_and_tables_are_inputs(plane: ControlPlane, tmp_path: Path, data: Path) -> None:
    model = Model(name="net", type="mlflow_model", path=str(mlflow_model(tmp_path / "model")))
    plane.assets.models.register(model)
    (data / "MLTable").write_text("paths: []\n")
    plane.assets.data.register(Data(name="table", type="mltable", path=str(data)))
    inputs = {"net": {"type": "mlflow_model"}, "rows": {"type": "mltable"}}
    step = {
        "component": {"command": "cat ${{inputs.net}} ${{inputs.rows}}", "inputs": inputs},
        "inputs": {name: f"${{{{parent.inputs.{name}}}}}" for name in inputs},
    }
    deployed(plane, component={"inputs": inputs, "jobs": {"one": step}})
    body: dict[str, Any] = {
        "inputs": {
            "net": {"type": "mlflow_model", "uri": "azureml:net@latest"},
            "rows": {"type": "mltable", "uri": "azureml:table:1"},
        }
    }
    given = place(children(plane, invoked(plane, body))["one"]).inputs
    net, rows = given["net"].data, given["rows"].data
    assert net is not None
    assert rows is not None
    assert (net.asset, net.type) == ("azureml:net:1", "mlflow_model")
    assert net.uri is not None
    assert net.uri.startswith((plane.home / "store").as_uri())
    assert (rows.asset, rows.uri) == ("azureml:table:1", data.as_uri())
    (data / "MLTable").unlink()
    body["inputs"]["net"]["uri"] = str(data)
    error = None
    with pytest.raises(BatchpointError) as caught:
        invoked(plane, body)
    error = caught.value
    assert told(error) == {"inputs.net.uri": "field_invalid", "inputs.rows.uri": "field_invalid"}


def test_outputs_must_not_meet(plane: ControlPlane, tmp_path: Path) -> None:
    outputs = {"x": {}, "y": {}, "z": {"type": "uri_file"}}
    command = "touch ${{outputs.x}} ${{outputs.y}} ${{outputs.z}}"
    step = {
        "component": {"command": command, "outputs": outputs},
        "outputs": {name: f"${{{{parent.outputs.{name}}}}}" for name in outputs},
    }
    deployed(plane, component={"outputs": outputs, "jobs": {"one": step}})

    def given(x: str, y: str, z: str) -> dict[str, Any]:
        named = {"x": x, "y": y, "z": z}
        return {"outputs": {key: {"uri": f"{tmp_path}/{text}"} for key, text in named.items()}}

    same = refused(plane, given("out", "out", "file.txt"))
    assert told(same) == {"outputs.y.uri": "field_invalid"}
    assert "also where outputs.x.uri goes" in str(same)
    nested = refused(plane, given("out", "out/deep/er", "out/file.txt"))
    assert told(nested) == {"outputs.y.uri": "field_invalid", "outputs.z.uri": "field_invalid"}
    (tmp_path / "link").symlink_to(tmp_path / "aim")
    linked = refused(plane, given("link/a", "aim/a", "file.txt"))
    assert told(linked) == {"outputs.y.uri": "field_invalid"}
    assert told(refused(plane, given("a", "b", "file/"))) == {"outputs.z.uri": "uri_invalid"}
    (tmp_path / "there.txt").write_text("")
    assert told(refused(plane, given("a", "b", "there.txt"))) == {"outputs.z.uri": "output_exists"}
    job = invoked(plane, given("a", "a-b", "file.txt"))
    found = place(children(plane, job)["one"]).outputs
    assert found["z"].uri == (tmp_path / "file.txt").as_uri()


def test_an_output_in_the_input_is_refused(ready: ControlPlane, data: Path) -> None:
    body: dict[str, Any] = {
        "inputs": {"raw": folder(data), "rate": 1},
        "outputs": {"model": {"uri": f"{data}/m"}},
    }
    error = refused(ready, body)
    assert (error.where, error.code) == ("outputs.model.uri", "uri_invalid")
    assert "would become input" in error.message


def test_outputs_are_registered_under_names(ready: ControlPlane, data: Path) -> None:
    body: dict[str, Any] = {
        "inputs": {"raw": folder(data), "rate": 1},
        "outputs": {"model": {"name": "trained", "version": 3, "mode": "upload"}},
    }
    output = place(children(ready, invoked(ready, body))["train"]).outputs["model"]
    assert (output.register_as, output.register_version, output.mode) == ("trained", "3", "upload")
    body["outputs"]["model"]["name"] = "no name"
    with pytest.raises(BatchpointError) as caught:
        invoked(ready, body)
    assert told(caught.value) == {"outputs.model.name": "field_invalid"}


def test_a_version_that_is_taken_is_refused_before_anything_runs(
    ready: ControlPlane, data: Path
) -> None:
    output: dict[str, Any] = {"name": "trained", "version": "1"}
    body = {"inputs": {"raw": folder(data), "rate": 1}, "outputs": {"model": output}}
    assert place(children(ready, invoked(ready, body))["train"]).outputs["model"].register_as
    ready.assets.models.register(Model(name="trained", version="1", path=str(data)))
    with pytest.raises(BatchpointError) as caught:
        invoked(ready, body)
    assert (caught.value.where, caught.value.code) == ("outputs.model.version", "asset_immutable")
    output["version"] = "2"
    invoked(ready, body)


def test_the_default_datastore_takes_what_has_no_place(ready: ControlPlane, data: Path) -> None:
    settings = {
        "default_datastore": "azureml:workspaceblobstore",
        "continue_on_step_failure": False,
    }
    ready.registry.update_deployment("heart", "graph", {"settings": settings}, lambda line: None)
    job = invoked(ready, {"inputs": {"raw": folder(data), "rate": 1}, "force_rerun": True})
    root = "azureml://datastores/workspaceblobstore/paths/azureml"
    steps = children(ready, job)
    assert place(steps["prepare"]).outputs["clean"].uri == f"{root}/{job.name}-prepare/clean"
    assert place(steps["train"]).outputs["model"].uri == f"{root}/{job.name}/model"
    assert isinstance(job.spec, PipelineSpec)
    assert (job.spec.continue_on_step_failure, job.spec.force_rerun) == (False, True)


def test_places_of_outputs_may_have_the_names_of_the_job_and_its_datastore(
    plane: ControlPlane, data: Path, tmp_path: Path
) -> None:
    share = {"name": "lake", "type": "local", "path": str(tmp_path)}
    plane.services.datastores.put(Datastore.model_validate(share))
    body: dict[str, Any] = {
        "jobs": pipeline()["jobs"],
        "inputs": {"raw": folder(data), "rate": 1},
        "outputs": {"model": {"uri": "azureml://datastores/workspaceblobstore/paths/m/${{name}}"}},
    }
    place_of = "azureml://datastores/${{default_datastore}}/paths/clean/${{ name }}"
    body["jobs"]["prepare"]["outputs"] = {"clean": {"path": place_of}}
    for settings, store in ({}, "workspaceblobstore"), ({"default_datastore": "lake"}, "lake"):
        job = created(plane, {**body, "settings": settings})
        steps = children(plane, job)
        clean = f"azureml://datastores/{store}/paths/clean/{job.name}-prepare"
        assert place(steps["prepare"]).outputs["clean"].uri == clean
        model = f"azureml://datastores/workspaceblobstore/paths/m/{job.name}"
        assert place(steps["train"]).outputs["model"].uri == model


def _on_chosen_computes() -> dict[str, Any]:
    """A pipeline whose steps run where its inputs say, one of them in a pipeline of its own."""
    graph = pipeline()
    data, node = {"type": "uri_folder"}, {"type": "string"}
    inner = {
        "name": "inner",
        "type": "pipeline",
        "inputs": {"raw": data, "node": node, "other": {**node, "default": "small"}},
        "outputs": {"clean": data},
        "jobs": {
            "first": {
                "component": prepare(),
                "inputs": {"data": "${{parent.inputs.raw}}"},
                "outputs": {"clean": "${{parent.outputs.clean}}"},
                "compute": "${{parent.inputs.node}}",
            },
            "second": {
                "component": prepare(),
                "inputs": {"data": "${{parent.inputs.raw}}"},
                "compute": "${{parent.inputs.other}}",
            },
        },
    }
    prepared = {"raw": "${{parent.inputs.raw}}", "node": "${{parent.inputs.place}}"}
    graph["jobs"]["prepare"] = {"component": inner, "inputs": prepared}
    graph["jobs"]["train"]["compute"] = "${{parent.inputs.place}}"
    graph["inputs"] = {"raw": data, "place": {**node, "default": "small"}}
    return graph


def test_an_input_may_name_the_compute_of_steps(plane: ControlPlane, data: Path) -> None:
    for name in ("small", "big"):
        plane.registry.put_compute(Compute(name=name, max_instances=2))
    deployed(plane, component=_on_chosen_computes())
    for given, expected in ({"place": "big"}, "big"), ({}, "small"):
        job = invoked(plane, {"inputs": {"raw": folder(data), **given}})
        computes = {name: spec.compute for name, spec in children(plane, job).items()}
        assert computes == {
            "prepare/first": expected,
            "prepare/second": "small",
            "train": expected,
        }
    with pytest.raises(BatchpointError) as caught:
        invoked(plane, {"inputs": {"raw": folder(data), "place": "none"}})
    assert told(caught.value) == {"inputs.place": "compute_not_found"}


@pytest.mark.parametrize(
    ("bound", "code"),
    [
        ("${{parent.inputs.rate}}", "pipeline_invalid"),
        ("${{parent.inputs.nowhere}}", "pipeline_invalid"),
        ("${{parent.outputs.model}}", "binding_invalid"),
        ("${{place}}", "binding_invalid"),
    ],
)
def test_a_compute_is_bound_to_a_text(plane: ControlPlane, bound: str, code: str) -> None:
    graph = pipeline()
    graph["jobs"]["train"]["compute"] = bound
    with pytest.raises(BatchpointError) as caught:
        deployed(plane, component=graph)
    assert [found.code for found in caught.value.findings] == [code]
    assert caught.value.findings[0].where.endswith("jobs.train.compute")


def test_a_nested_pipeline_binds_the_computes_of_its_own_steps(plane: ControlPlane) -> None:
    graph = _on_chosen_computes()
    graph["jobs"]["prepare"]["compute"] = "${{parent.inputs.place}}"
    with pytest.raises(BatchpointError, match="own steps"):
        deployed(plane, component=graph)


def test_what_the_invoke_says_counts_before_the_deployment(ready: ControlPlane, data: Path) -> None:
    ready.registry.put_compute(Compute(name="big", max_instances=2, idle_time_before_scale_down=9))
    settings = {"continue_on_step_failure": False, "force_rerun": True}
    ready.registry.update_deployment("heart", "graph", {"settings": settings}, lambda line: None)
    values = {"raw": folder(data), "rate": 1}
    body: dict[str, Any] = {
        "inputs": values,
        "continue_on_step_failure": True,
        "force_rerun": False,
    }
    job = invoked(ready, {**body, "default_compute": "azureml:big"})
    assert isinstance(job.spec, PipelineSpec)
    assert (job.spec.continue_on_step_failure, job.spec.force_rerun) == (True, False)
    spec = children(ready, job)["train"]
    assert (spec.compute, spec.max_instances, spec.idle_seconds) == ("big", 2, 9)


def test_the_same_key_is_the_same_job(ready: ControlPlane, data: Path) -> None:
    from batchpoint.domain.job import Invocation

    values = {"inputs": {"raw": folder(data), "rate": 1}}
    body = Invocation.model_validate(values)
    job = ready.invocations.invoke("heart", body, "key")
    assert ready.invocations.invoke("heart", body, "key").name == job.name
    assert len(ready.ledger.list_jobs()) == 1
    other = Invocation.model_validate({**values, "tags": {"a": "b"}})
    with pytest.raises(Conflict) as caught:
        ready.invocations.invoke("heart", other, "key")
    assert caught.value.code == "idempotency_conflict"


def test_names_of_jobs_are_bounded(ready: ControlPlane, data: Path) -> None:
    values = {"raw": folder(data), "rate": 1}
    assert invoked(ready, {"job_name": "x" * 247, "inputs": values})
    with pytest.raises(BatchpointError) as caught:
        invoked(ready, {"job_name": "x" * 248, "inputs": values})
    assert told(caught.value) == {"jobs.prepare": "field_invalid"}


# --- identity: what a step computes ---------------------------------------------------------------


def identities(plane: ControlPlane, data: Path, **fields: Any) -> dict[str, str]:
    graph = pipeline(**fields)
    body: dict[str, Any] = {**graph, "inputs": {"raw": folder(data), "rate": 0.5}}
    body.pop("name")
    body["outputs"] = {"model": None}
    return {
        name: place(spec).identity for name, spec in children(plane, created(plane, body)).items()
    }


def test_a_step_that_computes_the_same_has_the_same_identity(
    plane: ControlPlane, data: Path
) -> None:
    first = identities(plane, data)
    graph = pipeline()
    graph["jobs"]["train"]["component"] = train(
        name="other", version="9", description="words", tags={"a": "b"}, display_name="shown",
        retry_settings={"max_retries": 3}, limits={"timeout": 9},
        outputs={"model": {"type": "custom_model", "mode": "upload"}},
    )  # fmt: skip
    graph["jobs"]["train"]["display_name"] = "a use"
    assert identities(plane, data, jobs=graph["jobs"]) == first


@pytest.mark.parametrize(
    "changed",
    [
        {"command": "cat ${{inputs.data}}/b.csv > ${{outputs.model}}/weights"},
        {"environment_variables": {"SEED": "1"}},
        {"inputs": {"data": {"type": "uri_folder", "mode": "direct"}}},
        {"outputs": {"model": {"type": "custom_model", "mode": "direct"}}},
        {"code": "src"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_step_that_computes_something_else_has_another_identity(
    plane: ControlPlane, data: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    first = identities(plane, data)
    graph = pipeline()
    if "code" in changed:
        changed = {"code": str(code_folder(tmp_path / "src"))}
    graph["jobs"]["train"]["component"] = train(**changed)
    second = identities(plane, data, jobs=graph["jobs"])
    assert second["prepare"] == first["prepare"]
    assert second["train"] != first["train"]


def test_variables_of_the_use_count(plane: ControlPlane, data: Path) -> None:
    first = identities(plane, data)
    graph = pipeline()
    graph["jobs"]["train"]["environment_variables"] = {"SEED": "2"}
    assert identities(plane, data, jobs=graph["jobs"])["train"] != first["train"]


# --- jobs without an endpoint ---------------------------------------------------------------------


def test_steps_may_be_given_with_the_job(plane: ControlPlane, data: Path) -> None:
    body: dict[str, Any] = {
        "name": "mine",
        "jobs": pipeline()["jobs"],
        "inputs": {"raw": folder(data), "rate": 0.25},
        "outputs": {"model": None},
        "compute": "local",
        "settings": {"continue_on_step_failure": False},
    }
    job = created(plane, body)
    spec = job.spec
    assert isinstance(spec, PipelineSpec)
    assert (job.name, spec.endpoint_name, spec.continue_on_step_failure) == ("mine", None, False)
    found = plane.assets.components.found(spec.component)[1]
    assert found.outputs["model"].type == "custom_model"
    assert found.inputs["rate"].type == "number"
    with pytest.raises(Conflict) as caught:
        created(plane, body)
    assert caught.value.where == "name"


def test_a_job_of_a_registered_component(plane: ControlPlane, data: Path) -> None:
    from tests.unit.control.pipeline_cases import component

    plane.assets.components.register(component(pipeline()))
    body: dict[str, Any] = {
        "component": "azureml:train-on-data@latest",
        "inputs": {"raw": folder(data), "rate": 1},
    }
    job = created(plane, body)
    assert isinstance(job.spec, PipelineSpec)
    assert job.spec.component == "azureml:train-on-data:1"
    assert job.name.startswith("pipeline-")


def test_what_is_wrong_with_a_jobs_steps_is_told_at_their_places(plane: ControlPlane) -> None:
    jobs = pipeline()["jobs"]
    jobs["train"]["compute"] = "ghost"
    jobs["prepare"]["component"] = prepare(environment="azureml:nowhere:1")
    jobs["prepare"]["inputs"].pop("data")
    with pytest.raises(BatchpointError) as caught:
        created(plane, {"jobs": jobs, "inputs": {"rate": 1}})
    found = told(caught.value)
    assert found["jobs.train.compute"] == "compute_not_found"
    assert found["jobs.prepare.component.environment"] == "environment_not_found"
    assert found["jobs.prepare.inputs.data"] == "input_missing"
    assert plane.ledger.list_jobs() == []


def test_a_parallel_step_scores(plane: ControlPlane, tmp_path: Path, data: Path) -> None:
    use: dict[str, Any] = {
        "type": "parallel",
        "inputs": {"rows": {"type": "uri_folder"}},
        "outputs": {"scores": {"type": "uri_file"}},
        "input_data": "${{inputs.rows}}",
        "mini_batch_size": 3,
        "task": {
            "code": str(code_folder(tmp_path / "src")),
            "entry_script": "score.py",
            "append_row_to": "${{outputs.scores}}",
        },
    }
    jobs = pipeline()["jobs"]
    jobs["score"] = {
        "component": use,
        "inputs": {"rows": "${{parent.jobs.prepare.outputs.clean}}"},
        "resources": {"instance_count": 2},
    }
    values = {"raw": folder(data), "rate": 1}
    body: dict[str, Any] = {"jobs": jobs, "inputs": values, "outputs": {"model": None}}
    job = created(plane, body)
    spec = plane.ledger.get_job(f"{job.name}-score").spec
    assert isinstance(spec, ScoreSpec)
    assert spec.step is not None
    assert (spec.settings.mini_batch_size, spec.settings.instance_count) == (3, 2)
    assert spec.input.uri == (plane.home / "outputs" / f"{job.name}-prepare" / "clean").as_uri()
    assert spec.code is not None
    assert Path(spec.code.path, "score.py").is_file()
    plane.registry.put_compute(Compute(name="small", max_instances=1))
    jobs["score"]["compute"] = "small"
    with pytest.raises(BatchpointError) as caught:
        created(plane, body)
    assert told(caught.value) == {"jobs.score.resources.instance_count": "field_invalid"}
    use["task"]["entry_script"] = "other.py"
    with pytest.raises(BatchpointError) as missing:
        created(plane, body)
    assert missing.value.findings[0].where == "jobs.score.component.task.entry_script"


# --- outputs of steps as data ---------------------------------------------------------------------


def test_outputs_of_pipelines_and_steps_are_data(ready: ControlPlane, data: Path) -> None:
    values = {"rate": 1}
    job = invoked(ready, {"inputs": {"raw": folder(data), **values}})
    parent = f"azureml://jobs/{job.name}/outputs/model"

    def reading(uri: str) -> dict[str, Any]:
        return {"inputs": {"raw": {"type": "uri_folder", "uri": uri}, **values}}

    with pytest.raises(BatchpointError) as early:
        invoked(ready, reading(parent))
    assert told(early.value) == {"inputs.raw.uri": "job_not_finished"}
    written = ready.home / "outputs" / job.name / "model"
    written.mkdir(parents=True)
    (written / "weights").write_text("w")
    step = ready.ledger.get_job(f"{job.name}-train")
    ended(ready, step, model=PublishedOutput(type="custom_model", uri=written.as_uri()))
    # The pipeline's own job still runs, and what is complete can be read.
    for uri in (parent, f"azureml://jobs/{step.name}/outputs/model/paths/"):
        again = invoked(ready, reading(uri))
        source = place(children(ready, again)["prepare"]).inputs["data"].data
        assert source is not None
        assert source.uri == written.as_uri()
    model = ready.assets.models.register(Model(name="net", path=f"{parent}/paths/weights"))
    assert model.path.endswith("/weights")
    with pytest.raises(BatchpointError, match="its outputs are model"):
        invoked(ready, reading(f"azureml://jobs/{job.name}/outputs/nothing"))


def test_outputs_of_failed_steps_are_none(ready: ControlPlane, data: Path) -> None:
    job = invoked(ready, {"inputs": {"raw": folder(data), "rate": 1}})
    ended(ready, ready.ledger.get_job(f"{job.name}-train"), JobState.FAILED)
    source = {"type": "uri_folder", "uri": f"azureml://jobs/{job.name}/outputs/model"}
    with pytest.raises(BatchpointError, match="is Failed and left no output") as caught:
        invoked(ready, {"inputs": {"raw": source, "rate": 1}})
    assert caught.value.code == "output_not_found"


@pytest.mark.parametrize("said_by", ["step", "deployment"])
def test_a_datastore_stays_while_a_step_writes_to_it(
    plane: ControlPlane, tmp_path: Path, data: Path, said_by: str
) -> None:
    share = {"name": "share", "type": "local", "path": str(data_folder(tmp_path / "share"))}
    plane.services.datastores.put(Datastore.model_validate(share))
    document = pipeline()
    settings = {"default_datastore": "azureml:share"} if said_by == "deployment" else {}
    if said_by == "step":
        place = {"path": "azureml://datastores/share/paths/out"}
        document["jobs"]["prepare"]["outputs"] = {"clean": place}
    deployed(plane, component=document, settings=settings)
    job = invoked(plane, {"inputs": {"raw": folder(data), "rate": 0.5}})
    with pytest.raises(Conflict, match=job.name) as caught:
        plane.services.datastores.delete("share")
    assert caught.value.code == "datastore_in_use"
    ended(plane, job)
    plane.services.datastores.delete("share")


@pytest.mark.parametrize("mistake", ["binding", "compute", "data"])
def test_a_refused_job_registers_nothing_that_was_inline_in_it(
    plane: ControlPlane, tmp_path: Path, data: Path, mistake: str
) -> None:
    document = pipeline()
    named = {"name": "inline", "version": "1", "requirements": ["six"]}
    jobs = document["jobs"]
    jobs["prepare"]["component"]["environment"] = named
    inputs: dict[str, Any] = {"raw": folder(data), "rate": 0.5}
    body = {"inputs": inputs, "outputs": {"model": None}, "jobs": jobs}
    if mistake == "binding":
        jobs["train"]["inputs"]["data"] = "${{parent.jobs.prepare.outputs.nothing}}"
    elif mistake == "compute":
        jobs["train"]["compute"] = "azureml:nowhere"
    else:
        inputs["raw"] = folder(tmp_path / "nothing")
    with pytest.raises(BatchpointError):
        created(plane, body)
    assert plane.assets.environments.list(10, None) == []
    assert plane.assets.components.list(10, None) == []
    # What is inline may be changed until it was taken.
    named["requirements"] = ["six", "toml"]
    jobs["train"]["inputs"]["data"] = "${{parent.jobs.prepare.outputs.clean}}"
    jobs["train"].pop("compute", None)
    inputs["raw"] = folder(data)
    created(plane, body)
    assert [each.name for each in plane.assets.environments.list(10, None)] == ["inline"]


def test_data_that_is_missing_is_told_with_what_is_wrong_with_the_steps(
    plane: ControlPlane, tmp_path: Path
) -> None:
    jobs = pipeline()["jobs"]
    jobs["train"]["compute"] = "azureml:nowhere"
    inputs = {"raw": folder(tmp_path / "nothing"), "rate": 0.5}
    with pytest.raises(BatchpointError) as caught:
        created(plane, {"inputs": inputs, "outputs": {"model": None}, "jobs": jobs})
    assert told(caught.value) == {
        "inputs.raw.uri": "input_not_found",
        "jobs.train.compute": "compute_not_found",
    }
