"""A scoring URI speaks Azure's words to who speaks them first, and ours to everybody else."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchpoint.domain.job import ErrorInfo, Job, JobState, JobStatus
from tests.unit.control_plane import ControlPlane

STATUSES = {
    "NotStarted",
    "Starting",
    "Provisioning",
    "Preparing",
    "Queued",
    "Running",
    "Finalizing",
    "CancelRequested",
    "Completed",
    "Failed",
    "Canceled",
    "NotResponding",
    "Paused",
    "Unknown",
}


def body(tmp_path: Path, **more: Any) -> dict[str, Any]:
    data = {"jobInputType": "UriFolder", "uri": str(tmp_path / "data")}
    return {"properties": {"inputData": {"data": data}} | more}


def end(plane: ControlPlane, job: str, status: JobStatus) -> None:
    epoch = plane.ledger.acquire_lease(job, "me", 0.0, 15)
    assert epoch is not None
    plane.ledger.finish(job, epoch, status)


def test_every_state_has_a_word_that_azure_knows() -> None:
    assert {state.value for state in JobState} <= STATUSES


def test_an_invoke_is_answered_in_azures_shape(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    answer = http.post(
        "/endpoints/heart/jobs",
        json=body(
            tmp_path,
            outputData={"s": {"jobOutputType": "UriFile", "uri": f"{tmp_path}/out/x.csv"}},
            retrySettings={"maxRetries": 1, "timeout": "PT40S"},
            properties={"experimentName": "exp"},
            name="mine",
        ),
        headers={"azureml-model-deployment": "first", "repeatability_request-id": "r-1"},
    )
    assert answer.status_code == 201
    told = answer.json()
    assert told["id"].endswith("/batchEndpoints/heart/jobs/mine")
    assert told["id"].startswith("/subscriptions/")
    assert (told["name"], told["status"]) == ("mine", "Queued")
    assert told["type"] == "Microsoft.MachineLearningServices/workspaces/batchEndpoints/jobs"
    assert told["systemData"]["createdAt"]
    properties = told["properties"]
    assert (properties["status"], properties["provisioningState"]) == ("Queued", "InProgress")
    assert properties["interactionEndpoints"]["Studio"]["endpoint"].endswith("/jobs/mine")
    assert properties["inputData"]["input"] == {
        "jobInputType": "UriFolder",
        "uri": (tmp_path / "data").as_uri(),
    }
    assert properties["outputData"]["score"] == {
        "jobOutputType": "UriFile",
        "uri": f"{(tmp_path / 'out').as_uri()}/x.csv",
    }
    assert properties["retrySettings"] == {"maxRetries": 1, "timeout": "PT40S"}
    assert properties["properties"] == {"experimentName": "exp"}
    assert properties["output"] is None
    last = told["id"].rpartition("/")[2]
    shown = http.get(f"/endpoints/heart/jobs/{last}").json()
    assert shown == told
    assert http.get(answer.headers["location"]).json() == told
    again = http.post(
        "/endpoints/heart/jobs",
        json=body(
            tmp_path,
            outputData={"s": {"jobOutputType": "UriFile", "uri": f"{tmp_path}/out/x.csv"}},
            retrySettings={"maxRetries": 1, "timeout": "PT40S"},
            properties={"experimentName": "exp"},
            name="mine",
        ),
        headers={"azureml-model-deployment": "first", "repeatability_request-id": "r-1"},
    )
    assert (again.status_code, again.json()["name"]) == (201, "mine")
    assert len(deployed.ledger.list_jobs()) == 1


@pytest.mark.parametrize(
    ("state", "provisioning"),
    [
        (JobState.COMPLETED, "Succeeded"),
        (JobState.FAILED, "Failed"),
        (JobState.CANCELED, "Canceled"),
    ],
)
def test_how_a_job_ended(
    http: httpx.Client, deployed: ControlPlane, job: Job, state: JobState, provisioning: str
) -> None:
    error = ErrorInfo(origin="user", code="init_failed", message="init() raised")
    ended = JobStatus(state=state, error=error if state == JobState.FAILED else None)
    end(deployed, job.name, ended)
    told = http.get(f"/endpoints/heart/jobs/{job.name}").json()
    assert told["status"] == told["properties"]["status"] == state.value
    assert told["properties"]["provisioningState"] == provisioning
    assert ("error" in told["properties"]) == (state == JobState.FAILED)
    assert (told["properties"]["output"] is not None) == (state == JobState.COMPLETED)


def test_a_job_is_cancelled_below_the_scoring_uri(http: httpx.Client, job: Job) -> None:
    told = http.post(f"/endpoints/heart/jobs/{job.name}/cancel")
    assert (told.status_code, told.json()["status"]) == (200, "CancelRequested")
    assert told.json()["properties"]["provisioningState"] == "InProgress"


def test_lists_are_azures_when_asked_with_an_api_version(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    for name in ("a-1", "a-2", "a-3"):
        http.post("/endpoints/heart/jobs", json=body(tmp_path, name=name)).raise_for_status()
    ours = http.get("/endpoints/heart/jobs").json()
    assert ours["value"][0]["spec"]["endpoint_name"] == "heart"
    link: str | None = "/endpoints/heart/jobs?api-version=2020-09-01-dataplanepreview&limit=2"
    names: list[str] = []
    while link:
        some = http.get(link).json()
        assert set(some) == {"value", "nextLink"}
        names += [job["name"] for job in some["value"]]
        link = some["nextLink"]
    assert names == ["a-3", "a-2", "a-1"]
    assert len(deployed.ledger.list_jobs()) == 3


def test_jobs_of_other_endpoints_are_not_there(http: httpx.Client, job: Job) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel")):
        answer = http.request(method, f"/endpoints/lung/jobs/{job.name}{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "job_not_found"


@pytest.mark.parametrize(
    ("path", "sent", "status", "code"),
    [
        ("/endpoints/heart/jobs", {"properties": {}}, 400, "field_invalid"),
        ("/endpoints/heart/jobs", {"properties": {"partitionKeys": ["a"]}}, 400, None),
        ("/endpoints/heart/jobs", {"Properties": {"x": 1}}, 400, None),
        ("/endpoints/heart/jobs", [1], 400, "field_invalid"),
        ("/endpoints/heart/jobs", {"input": {"type": "uri_file"}}, 400, "field_invalid"),
        ("/endpoints/heart/jobs/x/y/z", {}, 404, "not_found"),
    ],
)
@pytest.mark.usefixtures("deployed")
def test_errors_are_both_a_problem_document_and_azures_envelope(
    http: httpx.Client, path: str, sent: Any, status: int, code: str | None
) -> None:
    answer = http.post(path, json=sent)
    told = answer.json()
    assert (answer.status_code, told["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["error"]["code"] == told["code"]
    assert [part["target"] for part in told["error"]["details"]] == [
        part["where"] for part in told["errors"]
    ]
    assert told["detail"] in told["error"]["message"]
    if code is not None:
        assert told["code"] == code


@pytest.mark.parametrize(
    ("properties", "where"),
    [
        ({"inputData": {"d": {"jobInputType": "UriFolder", "uri": "/no"}}}, "inputData.d.uri"),
        ({"dataset": {"dataInputType": "DataUrl", "Path": "/no"}}, "dataset.path"),
        ({"OutputFileName": "p.txt"}, "outputFileName"),
        ({"outputData": {"s": {"jobOutputType": "UriFolder", "uri": "{tmp}/data"}}}, "s.uri"),
    ],
)
@pytest.mark.usefixtures("deployed")
def test_what_is_found_later_is_named_as_the_caller_wrote_it(
    http: httpx.Client, tmp_path: Path, properties: dict[str, Any], where: str
) -> None:
    text = json.dumps(properties).replace("{tmp}", str(tmp_path))
    sent = json.loads(text)
    if "inputData" not in sent and "dataset" not in sent:
        sent |= body(tmp_path)["properties"]
    told = http.post("/endpoints/heart/jobs", json={"properties": sent}).json()
    assert told["where"].startswith("properties.")
    assert told["where"].endswith(where)
    assert told["where"] in told["error"]["message"]


def test_an_endpoint_that_is_not_there_says_so_in_both_ways(http: httpx.Client) -> None:
    told = http.post("/endpoints/ghost/jobs", json={"properties": {}}).json()
    assert set(told["error"]) == {"code", "message", "details"}
    assert "error" not in http.get("/endpoints/ghost").json()


def test_our_own_bodies_are_named_as_before(http: httpx.Client, deployed: ControlPlane) -> None:
    told = http.post("/endpoints/heart/jobs", json={"input": {"type": "uri_file", "x": 1}}).json()
    assert told["where"] == "input.x"
    told = http.post("/endpoints/heart/jobs", json={"input": {"type": "x", "uri": "/"}}).json()
    assert told["where"] == "input.type"
    assert deployed.ledger.list_jobs() == []


def test_the_oldest_form_looks_whether_it_is_a_file(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "data" / "noext").write_text("x")
    for path, kind in (("data", "uri_folder"), ("data/a.csv", "uri_file"), ("data/noext", None)):
        dataset = {"dataInputType": "DataUrl", "Path": str(tmp_path / path)}
        answer = http.post("/endpoints/heart/jobs", json={"properties": {"dataset": dataset}})
        job = deployed.ledger.get_job(answer.json()["name"])
        assert job.scoring.input.type == (kind or "uri_file")
