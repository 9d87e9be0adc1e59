"""Components, pipelines, their steps and their outputs over HTTP."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from batchpoint.domain.endpoint import BatchEndpoint
from batchpoint.domain.job import ErrorInfo, Job, JobState, JobStatus
from batchpoint.storage import object_locations
from batchpoint.storage.locate import path_of
from batchpoint.storage.store import Location
from tests.contracts.memory_store import MemoryStore
from tests.unit.control_plane import ControlPlane, data_folder
from tests.unit.pipeline_documents import COPY, completed_step, graph, published, step_of

REPORT = b"all is well, and this is how it went"


@pytest.fixture
def flow(http: httpx.Client, plane: ControlPlane, tmp_path: Path) -> ControlPlane:
    """An endpoint `flow` whose default deployment is a pipeline, and data."""
    plane.registry.put_endpoint(BatchEndpoint(name="flow"))
    assert http.post("/components", json=COPY).status_code == 201
    assert http.post("/components", json=graph()).status_code == 201
    deployed = http.put(
        "/endpoints/flow/deployments/nightly",
        params={"set_default": True},
        json={"name": "nightly", "endpoint_name": "flow", "component": "azureml:graph@latest"},
    )
    assert deployed.status_code == 201, deployed.text
    data_folder(tmp_path / "patients")
    return plane


def data(tmp_path: Path) -> dict[str, Any]:
    return {"type": "uri_folder", "uri": str(tmp_path / "patients")}


@pytest.fixture
def running(http: httpx.Client, flow: ControlPlane, tmp_path: Path) -> Job:
    """A pipeline job whose first step has completed."""
    body = {"inputs": {"data": data(tmp_path)}, "job_name": "p"}
    assert http.post("/endpoints/flow/jobs", json=body).status_code == 201
    job = flow.ledger.get_job("p")
    one = step_of(flow, job, "one")
    status = completed_step(one, {"copied/a.csv": b"x", "report": REPORT})
    epoch = flow.ledger.acquire_lease("p", "me", 0.0, 15)
    assert epoch is not None
    going = JobStatus(state=JobState.RUNNING)
    children = {one.name: status}
    flow.ledger.renew_pipeline("p", epoch, 1.0, 15, status=going, children=children, results={})
    return job


# --- components --------------------------------------------------------------------------------


def test_components_are_registered_listed_and_shown(http: httpx.Client) -> None:
    made = http.post("/components", json=COPY)
    assert made.status_code == 201, made.text
    told = made.json()
    assert (told["name"], told["version"], told["type"]) == ("copy", "1", "command")
    assert http.get("/components/copy/versions/1").json() == told
    assert http.get("/components/copy").json() == told
    nested = http.post("/components", json=graph(COPY)).json()
    assert nested["type"] == "pipeline"
    assert nested["jobs"]["one"]["component"].startswith("azureml:")
    listed = http.get("/components").json()["value"]
    assert {each["name"] for each in listed} >= {"copy", "graph"}
    changed = http.patch("/components/copy/versions/1", json={"description": "copies"})
    assert changed.json()["description"] == "copies"
    assert http.put("/components/copy/versions/7", json=COPY).json()["version"] == "7"
    assert http.post("/components/copy/versions/7/archive").json()["archived"] is True
    assert http.get("/components/copy").json()["version"] == "1"
    assert http.post("/components/copy/versions/7/restore").json()["archived"] is False
    assert http.delete("/components/copy/versions/7").status_code == 204
    assert http.get("/components/copy/versions/7").json()["code"] == "component_not_found"
    for verb in ("archive", "restore"):
        assert http.post(f"/components/copy/{verb}").status_code == 204


def test_all_that_is_wrong_with_a_component_is_told_with_its_field(http: httpx.Client) -> None:
    wrong = graph({**COPY, "inputs": {"data": {"type": "uri_folder", "colour": 1}}})
    wrong["jobs"]["two"]["depth"] = 3
    told = http.post("/components", json=wrong).json()
    assert {part["where"]: part["code"] for part in told["errors"]} == {
        "jobs.one.component.inputs.data.colour": "field_unknown",
        "jobs.two.component.inputs.data.colour": "field_unknown",
        "jobs.two.depth": "field_unknown",
    }
    told = http.post("/components", json={"type": "sweep", "name": "a"}).json()
    assert told["where"] == "body"
    assert "'sweep' is none of 'command', 'parallel', 'pipeline'" in told["detail"]
    wrong = graph("azureml:ghost:1")
    told = http.post("/components", json=wrong).json()
    assert [part["where"] for part in told["errors"]] == [
        "jobs.one.component",
        "jobs.two.component",
    ]
    assert http.get("/components").json()["value"] == []


# --- deployments -------------------------------------------------------------------------------


def test_deployments_of_both_kinds_live_behind_one_endpoint(
    http: httpx.Client, flow: ControlPlane, deployed: ControlPlane
) -> None:
    shown = http.get("/endpoints/flow/deployments/nightly").json()
    assert (shown["type"], shown["component"]) == ("pipeline", "azureml:graph:1")
    patched = http.patch(
        "/endpoints/flow/deployments/nightly",
        json={"settings": {"continue_on_step_failure": False}, "description": "at night"},
    )
    assert patched.status_code == 200, patched.text
    assert patched.json()["settings"]["continue_on_step_failure"] is False
    assert patched.json()["component"] == "azureml:graph:1"
    model = http.get("/endpoints/heart/deployments/first").json()
    body = {"name": "first", "endpoint_name": "flow", "model": model["model"]}
    assert http.put("/endpoints/flow/deployments/first", json=body).status_code == 201
    both = http.get("/endpoints/flow/deployments").json()["value"]
    assert [(each["name"], each["type"]) for each in both] == [
        ("first", "model"),
        ("nightly", "pipeline"),
    ]
    for kind in ("model", "pipeline"):
        wrong = {"name": "extra", "endpoint_name": "flow", "type": kind, "colour": 1}
        told = http.put("/endpoints/flow/deployments/extra", json=wrong).json()
        wheres = [part["where"] for part in told["errors"]]
        assert wheres == (["model", "colour"] if kind == "model" else ["colour"]), told


# --- jobs --------------------------------------------------------------------------------------


def test_a_pipeline_is_run_without_an_endpoint(
    http: httpx.Client, flow: ControlPlane, tmp_path: Path
) -> None:
    body = {"jobs": graph()["jobs"], "display_name": "Once"}
    body["inputs"] = {"data": data(tmp_path), "rate": 0.3}
    # The outputs of a job that has its steps in it are those which they are bound to.
    body["outputs"] = {"scores": None, "report": None}
    first, again = (
        http.post("/jobs", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
    )
    assert first.status_code == again.status_code == 201, first.text
    job = first.json()
    assert again.json() == job
    assert first.headers["location"] == f"/jobs/{job['name']}"
    assert (job["spec"]["type"], job["spec"]["endpoint_name"]) == ("pipeline", None)
    assert job["spec"]["inputs"]["rate"] == 0.3
    assert list(job["spec"]["steps"]) == ["one", "two"]
    other = http.post("/jobs", json={**body, "tags": {"a": "b"}}, headers={"Idempotency-Key": "k"})
    assert other.json()["code"] == "idempotency_conflict"


def test_everything_wrong_with_a_pipeline_job_is_told_at_once(
    http: httpx.Client, flow: ControlPlane
) -> None:
    body = {"component": "azureml:graph:1", "inputs": {"rate": "fast", "speed": 1}}
    told = http.post("/jobs", json=body).json()
    assert {part["where"] for part in told["errors"]} == {
        "inputs.data",
        "inputs.rate",
        "inputs.speed",
    }
    assert http.post("/jobs", json={}).json()["where"] == "body"
    assert flow.ledger.list_jobs() == []


def test_jobs_are_found_by_parent_state_tag_and_type(
    http: httpx.Client, running: Job, job: Job, tmp_path: Path
) -> None:
    body = {"inputs": {"data": data(tmp_path)}, "job_name": "q", "tags": {"night": "1", "a": "x"}}
    assert http.post("/endpoints/flow/jobs", json=body).status_code == 201

    def names(**query: Any) -> list[str]:
        answer = http.get("/jobs", params=query)
        assert answer.status_code == 200, answer.text
        return [each["name"] for each in answer.json()["value"]]

    assert names() == ["q", job.name, "p"]
    assert names(parent="p") == ["p-one", "p-two"]
    assert names(parent="p", status="Completed") == ["p-one"]
    assert names(parent="p", status=["Completed", "Queued"]) == ["p-one", "p-two"]
    assert names(type="pipeline") == ["q", "p"]
    assert names(type="score") == [job.name]
    assert names(tag="night") == names(tag=["night=1", "a"]) == ["q"]
    assert names(tag="night=2") == names(tag=["night=1", "b"]) == []
    assert names(tag=["night=1", "night=2"]) == names(tag="") == []
    assert names(endpoint="flow", limit=1) == ["q"]
    assert names(endpoint="flow", limit=1, after="q") == ["p"]
    assert http.get("/jobs", params={"parent": "ghost"}).json()["code"] == "job_not_found"
    wrong = http.get("/jobs", params={"status": "Done"})
    assert (wrong.status_code, wrong.json()["where"]) == (400, "query.status.0")


# --- outputs -----------------------------------------------------------------------------------


def test_outputs_are_there_as_soon_as_their_step_has_completed(
    http: httpx.Client, running: Job, flow: ControlPlane
) -> None:
    listed = {each["name"]: each for each in http.get("/jobs/p/outputs").json()["value"]}
    assert {name: each["complete"] for name, each in listed.items()} == {
        "report": True,
        "scores": False,
    }
    assert listed["report"]["type"] == "uri_file"
    assert path_of(listed["report"]["uri"]).read_bytes() == REPORT
    name = path_of(listed["report"]["uri"]).name
    files = http.get("/jobs/p/outputs/report").json()["value"]
    assert [(file["path"], file["size"]) for file in files] == [(name, len(REPORT))]
    ranged = http.get(f"/jobs/p/outputs/report/{name}", headers={"range": "bytes=0-2"})
    assert (ranged.status_code, ranged.content) == (206, REPORT[:3])
    assert http.get("/jobs/p/outputs/report/other").json()["code"] == "output_not_found"
    early = http.get("/jobs/p/outputs/scores").json()
    assert early["code"] == "job_not_finished"
    assert "step 'two'" in early["detail"]
    # The step has it too, and one that the pipeline has not.
    assert http.get(f"/jobs/p-one/outputs/report/{name}").content == REPORT
    files = http.get("/jobs/p-one/outputs/copied").json()["value"]
    assert [file["path"] for file in files] == ["a.csv"]
    assert http.get("/jobs/p-one/outputs/copied/a.csv").content == b"x"
    for path in ("..%2Freport", "%2e%2e%2freport", "b.csv", ""):
        assert http.get(f"/jobs/p-one/outputs/copied/{path}").status_code in (404, 405)
    ghost = http.get("/jobs/p/outputs/ghost").json()
    assert ghost["code"] == "output_not_found"
    assert "it has report, scores" in ghost["detail"]


def test_a_pipeline_that_failed_keeps_what_is_complete(
    http: httpx.Client, running: Job, flow: ControlPlane
) -> None:
    error = ErrorInfo(origin="user", code="step_failed", message="step two failed")
    epoch = flow.ledger.acquire_lease("p", "me", 0.0, 15, force=True)
    assert epoch is not None
    ended = JobStatus(state=JobState.FAILED, error=error)
    flow.ledger.finish("p", epoch, ended, children={"p-two": JobStatus(state=JobState.FAILED)})
    assert http.get("/jobs/p/outputs/report").status_code == 200
    told = http.get("/jobs/p/outputs/scores").json()
    assert (told["code"], told["status"]) == ("output_not_found", 404)
    path = path_of(http.get("/jobs/p/outputs").json()["value"][0]["uri"])
    path.unlink()
    assert "no longer at" in http.get("/jobs/p/outputs/report").json()["detail"]


def test_a_job_that_scores_has_one_output(http: httpx.Client, completed: Job) -> None:
    [only] = http.get(f"/jobs/{completed.name}/outputs").json()["value"]
    assert (only["name"], only["type"], only["complete"]) == ("score", "uri_folder", True)
    ghost = http.get(f"/jobs/{completed.name}/outputs/ghost").json()
    assert "it has score" in ghost["detail"]


@pytest.mark.parametrize("path", ["head", "failed-items"])
def test_what_only_scoring_jobs_have(http: httpx.Client, running: Job, path: str) -> None:
    told = http.get(f"/jobs/{running.name}/{path}")
    assert (told.status_code, told.json()["code"]) == (409, "job_type_wrong")


def test_outputs_in_object_stores(
    http: httpx.Client,
    running: Job,
    flow: ControlPlane,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()

    class Locations:
        def __init__(self, access: object) -> None:
            pass

        def at(self, uri: str) -> Location:
            return Location(store, uri.removeprefix("s3://b/").rstrip("/"))

    monkeypatch.setattr(object_locations, "ObjectLocations", Locations)
    bodies = {"out/b/c.csv": b"12345", "out/a.csv": b"1", "out/_receipt.json": b"{}", "one": b"1"}
    for name, body in bodies.items():
        store.put(name, body)
    outputs = {
        "scores": published("uri_folder", "s3://b/out/", asset="azureml:s:1"),
        "report": published("uri_file", "s3://b/one"),
    }
    epoch = flow.ledger.acquire_lease("p", "me", 0.0, 15, force=True)
    assert epoch is not None
    flow.ledger.finish("p", epoch, JobStatus(state=JobState.COMPLETED, outputs=outputs))
    listed = {each["name"]: each for each in http.get("/jobs/p/outputs").json()["value"]}
    assert listed["scores"]["asset"] == "azureml:s:1"
    page = http.get("/jobs/p/outputs/scores", params={"limit": 1}).json()
    assert [file["path"] for file in page["value"]] == ["a.csv"]
    page = http.get("/jobs/p/outputs/scores", params={"after": page["next_after"]}).json()
    assert [(file["path"], file["size"]) for file in page["value"]] == [("b/c.csv", 5)]
    place = "/jobs/p/outputs/scores/b/c.csv"
    ranged = http.get(place, headers={"range": "bytes=1-2"})
    assert (ranged.status_code, ranged.content) == (206, b"23")
    assert http.get("/jobs/p/outputs/scores/_receipt.json").status_code == 404
    assert http.get("/jobs/p/outputs/report/one").content == b"1"
    assert [f["path"] for f in http.get("/jobs/p/outputs/report").json()["value"]] == ["one"]
    assert http.get("/jobs/p/outputs/report/two").status_code == 404
    for name in bodies:
        store.delete(name)
    for output in ("scores", "report"):
        told = http.get(f"/jobs/p/outputs/{output}").json()
        assert "moved or deleted" in told["detail"]


# --- Azure's shape -----------------------------------------------------------------------------


def test_a_pipeline_is_invoked_and_told_in_azures_shape(
    http: httpx.Client, flow: ControlPlane, tmp_path: Path
) -> None:
    body = {
        "properties": {
            "inputData": {
                "data": {"jobInputType": "UriFolder", "uri": str(tmp_path / "patients")},
                "rate": {"jobInputType": "Literal", "value": "0.3"},
            },
            "outputData": {"scores": {"jobOutputType": "UriFolder", "uri": f"{tmp_path}/out"}},
            "properties": {"experimentName": "exp"},
            "name": "p",
        }
    }
    answer = http.post("/endpoints/flow/jobs", json=body)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["name"], told["status"]) == ("p", "Queued")
    properties = told["properties"]
    assert properties["jobType"] == "Pipeline"
    assert properties["inputData"]["rate"] == {"jobInputType": "Literal", "value": "0.3"}
    assert properties["inputData"]["data"]["uri"] == (tmp_path / "patients").as_uri()
    assert properties["outputData"]["scores"] == {
        "jobOutputType": "UriFolder",
        "uri": (tmp_path / "out").as_uri(),
    }
    assert properties["outputData"]["report"]["jobOutputType"] == "UriFile"
    assert properties["properties"] == {"experimentName": "exp"}
    assert http.get("/endpoints/flow/jobs/p").json() == told
    [listed] = http.get("/endpoints/flow/jobs", params={"api-version": "1"}).json()["value"]
    assert listed == told
    child = http.get("/endpoints/flow/jobs/p-one").json()["properties"]
    assert (child["jobType"], child["inputData"]["rate"]["value"]) == ("Command", "0.3")
    finish_pipeline(flow, "p")
    ended = http.get("/endpoints/flow/jobs/p").json()["properties"]
    assert ended["provisioningState"] == "Failed"
    assert ended["error"]["code"] == "step_failed"


def finish_pipeline(plane: ControlPlane, name: str) -> None:
    epoch = plane.ledger.acquire_lease(name, "me", 0.0, 15)
    assert epoch is not None
    error = ErrorInfo(origin="user", code="step_failed", message="no")
    plane.ledger.finish(name, epoch, JobStatus(state=JobState.FAILED, error=error))


def test_the_one_input_without_a_name_and_errors_in_azures_words(
    http: httpx.Client, flow: ControlPlane, tmp_path: Path
) -> None:
    unnamed = {"UriFolder": {"jobInputType": "UriFolder", "uri": str(tmp_path / "patients")}}
    answer = http.post("/endpoints/flow/jobs", json={"properties": {"inputData": unnamed}})
    assert answer.status_code == 201, answer.text
    wrong = {
        "inputData": {
            "data": {"jobInputType": "UriFolder", "uri": "/no/where"},
            "rate": {"jobInputType": "Literal", "value": "fast"},
            "speed": {"jobInputType": "Literal", "value": "1"},
        },
        "miniBatchSize": 3,
    }
    told = http.post("/endpoints/flow/jobs", json={"properties": wrong}).json()
    wheres = {part["where"] for part in told["errors"]} or {told["where"]}
    assert wheres, told
    assert all(where.startswith("properties.") for where in wheres), wheres
    del wrong["miniBatchSize"]
    told = http.post("/endpoints/flow/jobs", json={"properties": wrong}).json()
    assert {part["where"] for part in told["errors"]} >= {
        "properties.inputData.rate.value",
        "properties.inputData.speed.value",
    }
    targets = {detail["target"] for detail in told["error"]["details"]}
    assert targets == {part["where"] for part in told["errors"]}


def test_a_model_refuses_what_is_for_pipelines_in_azures_words(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    folder = {"jobInputType": "UriFolder", "uri": str(tmp_path / "data")}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"inputData": {"a": folder, "b": folder}}, "properties.inputData.b"),
        ({"inputData": {}}, "properties.inputData"),
        ({}, "properties.inputData"),
        ({"inputData": {"a": folder}, "compute": {"target": "x"}}, "properties.compute.target"),
        (
            {"inputData": {"m": {"jobInputType": "MLFlowModel", "uri": "azureml:m:1"}}},
            "properties.inputData.m.jobInputType",
        ),
        (
            {
                "inputData": {"a": folder},
                "outputData": {
                    name: {"jobOutputType": "UriFolder", "uri": f"{tmp_path}/{name}"}
                    for name in ("s", "t")
                },
            },
            "properties.outputData.t",
        ),
        (
            {
                "inputData": {"a": folder},
                "outputData": {"s": {"jobOutputType": "UriFile", "uri": f"{tmp_path}/o/a.csv"}},
                "outputFileName": "b.csv",
            },
            "properties.outputData.s.uri",
        ),
    ]
    for properties, where in cases:
        told = http.post("/endpoints/heart/jobs", json={"properties": properties}).json()
        assert (told["status"], told["where"]) == (400, where), told
    assert deployed.ledger.list_jobs() == []
