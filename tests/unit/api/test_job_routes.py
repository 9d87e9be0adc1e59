"""Jobs over HTTP: started once, waited for, cancelled, and what they left read back."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchpoint.core.messages import Record
from batchpoint.domain.job import Job, JobState, JobStatus
from batchpoint.domain.minibatch import Task
from batchpoint.formats.layout import job_folder, part_name
from batchpoint.formats.parts import PartWriter
from batchpoint.runner.progress import pack
from batchpoint.storage.locate import path_of
from tests.unit.api.conftest import finish
from tests.unit.control_plane import ControlPlane


def invocation(tmp_path: Path, **fields: Any) -> dict[str, Any]:
    return {"input": {"type": "UriFolder", "uri": str(tmp_path / "data")}} | fields


# --- invoke ------------------------------------------------------------------------------------


def test_invoking_answers_201_with_the_job(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    answer = http.post("/endpoints/heart/jobs", json=invocation(tmp_path))
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['name']}"
    assert http.get(answer.headers["location"]).json() == job
    assert job["status"]["state"] == "Queued"
    assert [j["name"] for j in http.get("/endpoints/heart/jobs").json()["value"]] == [job["name"]]
    assert [j["name"] for j in http.get("/jobs").json()["value"]] == [job["name"]]
    assert http.get("/jobs", params={"endpoint": "lung"}).json()["value"] == []
    assert http.get("/endpoints/ghost/jobs").status_code == 404


@pytest.mark.parametrize("header", ["Idempotency-Key", "repeatability_request-id"])
def test_a_key_makes_it_one_job(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path, header: str
) -> None:
    first, second = (
        http.post("/endpoints/heart/jobs", json=invocation(tmp_path), headers={header: "k"})
        for _ in range(2)
    )
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    other = invocation(tmp_path, tags={"a": "b"})
    answer = http.post("/endpoints/heart/jobs", json=other, headers={header: "k"})
    assert answer.json()["code"] == "idempotency_conflict"
    assert len(http.get("/jobs").json()["value"]) == 1


def test_a_header_may_name_the_deployment(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    named = {"azureml-model-deployment": "ghost"}
    answer = http.post("/endpoints/heart/jobs", json=invocation(tmp_path), headers=named)
    assert answer.json()["code"] == "deployment_not_found"
    wins = invocation(tmp_path, deployment_name="first")
    assert http.post("/endpoints/heart/jobs", json=wins, headers=named).status_code == 201


# --- wait --------------------------------------------------------------------------------------


def test_a_long_poll_wakes_when_the_job_changes(
    http: httpx.Client, plane: ControlPlane, job: Job
) -> None:
    epoch = plane.ledger.acquire_lease(job.name, "me", 0.0, 15)
    assert epoch is not None
    delays: list[float] = []
    for turn in range(5):
        version = plane.ledger.job_version(job.name)
        changed: list[float] = []

        def change(turn: int = turn, changed: list[float] = changed) -> None:
            status = JobStatus(state=JobState.RUNNING, warnings=[str(turn)])
            plane.ledger.renew(job.name, epoch, 1.0, 15, status=status)
            changed.append(time.perf_counter())

        timer = threading.Timer(0.1, change)
        timer.start()
        asked = {"wait_seconds": 20, "after_version": version}
        answer = http.get(f"/jobs/{job.name}", params=asked).json()
        woken = time.perf_counter()
        timer.join()
        assert answer["version"] == version + 1
        assert answer["status"]["warnings"] == [str(turn)]
        delays.append(woken - changed[0])
    # The best of five: what it takes when the machine is not busy with something else.
    assert min(delays) <= 0.03


def test_a_long_poll_ends_in_time_and_at_the_end(
    http: httpx.Client, plane: ControlPlane, job: Job
) -> None:
    begin = time.perf_counter()
    asked = {"wait_seconds": 0.2, "after_version": job.version}
    assert http.get(f"/jobs/{job.name}", params=asked).json()["version"] == job.version
    assert 0.2 <= time.perf_counter() - begin < 5
    finish(plane, job, JobState.FAILED)
    begin = time.perf_counter()
    asked = {"wait_seconds": 30, "after_version": 99}
    answer = http.get(f"/jobs/{job.name}", params=asked).json()
    assert answer["status"]["state"] == "Failed"
    assert time.perf_counter() - begin < 10


def test_cancelling(http: httpx.Client, plane: ControlPlane, job: Job) -> None:
    answer = http.post(f"/jobs/{job.name}/cancel")
    assert answer.status_code == 200
    assert answer.json()["status"]["state"] == "CancelRequested"
    finish(plane, job, JobState.CANCELED)
    assert http.post(f"/jobs/{job.name}/cancel").json()["status"]["state"] == "Canceled"


# --- results -----------------------------------------------------------------------------------


def test_results_are_listed_and_downloaded(http: httpx.Client, completed: Job) -> None:
    place = f"/jobs/{completed.name}/outputs/score"
    files = http.get(place).json()["value"]
    assert [f["path"] for f in files] == [
        "_failed_items.jsonl",
        "files/x y%.txt",
        "predictions.csv",
    ]
    paths, after = [], None
    while True:
        page = http.get(place, params={"limit": 1} | ({"after": after} if after else {})).json()
        paths += [f["path"] for f in page["value"]]
        if (after := page["next_after"]) is None:
            break
    assert paths == [f["path"] for f in files]
    root = path_of(completed.scoring.output.uri)
    whole = (root / "predictions.csv").read_bytes()
    assert http.get(f"{place}/predictions.csv").content == whole
    assert http.get(f"{place}/files/x%20y%25.txt").text == "made by the script"
    part = http.get(f"{place}/predictions.csv", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    beyond = http.get(f"{place}/predictions.csv", headers={"range": "bytes=999999-"})
    assert beyond.status_code == 416


@pytest.mark.parametrize(
    "path",
    ["ghost", "..%2fscore%2fpredictions.csv%2f..", "..%2f..%2f..%2fledger.db", "link", "%00", ""],
)
def test_nothing_outside_is_served(
    http: httpx.Client, completed: Job, plane: ControlPlane, path: str
) -> None:
    root = path_of(completed.scoring.output.uri)
    (root / "link").symlink_to(plane.home / "ledger.db")
    answer = http.get(f"/jobs/{completed.name}/outputs/score/{path}")
    assert answer.status_code == 404
    logs = http.get(f"/jobs/{completed.name}/logs/..%2Fsecret")
    assert (logs.status_code, logs.json()["code"]) == (404, "output_not_found")


def test_logs_are_listed_and_followed(http: httpx.Client, completed: Job) -> None:
    place = f"/jobs/{completed.name}/logs"
    files = http.get(place).json()["value"]
    assert [f["path"] for f in files] == ["job.log", "user/node-0.txt"]
    assert http.get(f"{place}/job.log").text == "one\ntwo\n"
    assert http.get(f"{place}/job.log", params={"offset": 4}).text == "two\n"
    assert http.get(f"{place}/job.log", params={"offset": 99}).text == ""
    assert http.get(f"{place}/user/node-0.txt").text == "print\n"
    assert http.get(f"{place}/ghost").json()["code"] == "output_not_found"


def test_a_job_that_has_not_begun_has_no_logs(http: httpx.Client, job: Job) -> None:
    assert http.get(f"/jobs/{job.name}/logs").json() == {"value": [], "next_after": None}


def test_failed_items_are_streamed(http: httpx.Client, completed: Job) -> None:
    answer = http.get(f"/jobs/{completed.name}/failed-items")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    names = [json.loads(line)["name"] for line in answer.text.splitlines()]
    assert names == ["b-0.csv", "b-1.csv", "b-2.csv"]


def test_failed_items_of_an_unfinished_job_are_what_is_recorded(
    http: httpx.Client, plane: ControlPlane, job: Job
) -> None:
    place = f"/jobs/{job.name}/failed-items"
    assert http.get(place).text == ""
    folder = job_folder(plane.home, job.name)
    folder.make()
    records: list[Record] = []
    for number, mini_batch in enumerate((4, 0, 2)):
        path = folder.part(part_name(1, "node", number))
        with closing_part(PartWriter(path, job=job.name, epoch=1, node="node")) as part:
            frames = []
            for start in (5, 0):
                task = Task(mini_batch, start, start + 5)
                line = {"item": mini_batch * 10 + start, "name": "é", "message": "no"}
                line |= {"attempts": [{"outcome": "failed", "seconds": 1.0}]}
                failures = json.dumps(line).encode() + b"\n" if mini_batch != 2 else b""
                frame = part.add(
                    task,
                    b"row\n",
                    failures,
                    rows=1,
                    failed_rows=1,
                    columns=[("p", "string")],
                    encoding="csv",
                    items=5,
                )
                frames.append((frame, task))
        failed = () if mini_batch == 2 else (mini_batch,)
        records.append(Record(path.name, tuple(frames), 2, len(failed), failed))
    epoch = plane.ledger.acquire_lease(job.name, "me", 0.0, 15)
    assert epoch is not None
    running = JobStatus(state=JobState.RUNNING)
    plane.ledger.renew(job.name, epoch, 0.0, 15, status=running, records=pack(records))
    found = [json.loads(line) for line in http.get(place).text.splitlines()]
    assert [item["item"] for item in found] == [0, 5, 40, 45]
    assert {item["name"] for item in found} == {"é"}
    assert not any("attempts" in item for item in found)
    plane.ledger.finish(job.name, epoch, JobStatus(state=JobState.FAILED))
    assert len(http.get(place).text.splitlines()) == 4
    shutil.rmtree(folder.parts)
    gone = http.get(place)
    assert (gone.status_code, gone.json()["code"]) == (404, "output_not_found")


@contextmanager
def closing_part(part: PartWriter) -> Generator[PartWriter]:
    yield part
    part.seal()


@pytest.mark.parametrize("what", ["outputs/score", "outputs/score/x", "head"])
def test_results_appear_when_they_are_complete(
    http: httpx.Client, plane: ControlPlane, job: Job, what: str
) -> None:
    answer = http.get(f"/jobs/{job.name}/{what}")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_not_finished")
    finish(plane, job, JobState.FAILED)
    answer = http.get(f"/jobs/{job.name}/{what}")
    assert (answer.status_code, answer.json()["code"]) == (404, "output_not_found")


# --- head --------------------------------------------------------------------------------------


def test_the_first_rows_of_csv(http: httpx.Client, completed: Job) -> None:
    head = http.get(f"/jobs/{completed.name}/head", params={"rows": 2}).json()
    assert head == {
        "columns": ["_file", "_row", "prediction"],
        "rows": [["a.csv", "0", "0.0"], ["a.csv", "1", "0.5"]],
    }
    assert len(http.get(f"/jobs/{completed.name}/head").json()["rows"]) == 10
    assert http.get(f"/jobs/{completed.name}/head", params={"rows": 0}).status_code == 400


def done_with(
    plane: ControlPlane, http: httpx.Client, tmp_path: Path, name: str, data: bytes, **settings: Any
) -> str:
    """Run a job by hand whose output is one file; returns its name."""
    changes = {"settings": {"output_file_name": name} | settings}
    assert http.patch("/endpoints/heart/deployments/first", json=changes).status_code == 200
    job = http.post("/endpoints/heart/jobs", json=invocation(tmp_path)).json()
    output = path_of(job["spec"]["output"]["uri"])
    output.mkdir(parents=True)
    (output / name).write_bytes(data)
    finish(plane, Job.model_validate(job), JobState.COMPLETED)
    return job["name"]


def test_the_first_rows_of_other_formats(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    lines = b'{"a": 1, "b": "x"}\n{"a": null, "c": [1]}\n'
    job = done_with(deployed, http, tmp_path, "p.jsonl", lines)
    head = http.get(f"/jobs/{job}/head", params={"rows": 5}).json()
    assert head == {"columns": ["a", "b", "c"], "rows": [[1, "x", None], [None, None, [1]]]}
    azure = b"0,1,a.csv\n1,0,a.csv\n"
    job = done_with(deployed, http, tmp_path, "p.txt", azure, output_format="azure")
    head = http.get(f"/jobs/{job}/head", params={"rows": 1}).json()
    assert head == {"columns": None, "rows": [["0", "1", "a.csv"]]}
    empty = done_with(deployed, http, tmp_path, "p.csv", b"", output_format="batchpoint")
    assert http.get(f"/jobs/{empty}/head").json() == {"columns": [], "rows": []}


def test_the_first_rows_of_parquet(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    write = (
        "import pyarrow as pa, pyarrow.parquet as pq, sys;"
        "t = pa.table({'_file': ['a'] * 5, 'p': [0.5] * 5});"
        "pq.write_table(t, sys.argv[1])"
    )
    import subprocess

    path = tmp_path / "p.parquet"
    subprocess.run([sys.executable, "-c", write, str(path)], check=True)
    job = done_with(deployed, http, tmp_path, "p.parquet", path.read_bytes())
    head = http.get(f"/jobs/{job}/head", params={"rows": 2}).json()
    assert head == {"columns": ["_file", "p"], "rows": [["a", 0.5], ["a", 0.5]]}
    broken = done_with(deployed, http, tmp_path, "p.parquet", b"PAR1")
    answer = http.get(f"/jobs/{broken}/head")
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")


def test_a_job_without_predictions_has_no_first_rows(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    changes = {"settings": {"output_action": "summary_only", "output_file_name": None}}
    assert http.patch("/endpoints/heart/deployments/first", json=changes).status_code == 200
    job = http.post("/endpoints/heart/jobs", json=invocation(tmp_path)).json()
    finish(deployed, Job.model_validate(job), JobState.COMPLETED)
    answer = http.get(f"/jobs/{job['name']}/head")
    assert (answer.status_code, answer.json()["code"]) == (404, "output_not_found")
    assert "summary_only" in answer.json()["detail"]
