"""Invoking and everything about jobs, over the real control plane."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchpoint.domain.job import ErrorInfo, JobState, Progress
from tests.unit.cli.conftest import Cli, end_job
from tests.unit.control_plane import ControlPlane


def started(cli: Cli, *arguments: str) -> str:
    ended = cli("invoke", "heart", "--input", "data", "-o", "json", *arguments)
    assert ended.code == 0, ended.err
    return ended.json["name"]


def test_invoke_prints_the_job_and_goes(deployed: Cli, plane: ControlPlane, tmp_path: Path) -> None:
    ended = deployed("invoke", "heart", "--input", "./data")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("Started job heart-")
    [job] = plane.ledger.list_jobs(limit=10)
    assert job.scoring.input.uri == (tmp_path / "data").as_uri()
    assert plane.wakes


def test_invoke_as_az_spells_it(deployed: Cli, plane: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_text(
        "$schema: x\ninputs: {d: {type: uri_folder, path: data}}\n"
        "outputs: {score: {type: uri_file, path: out/scores.csv}}\nretry_settings: {timeout: 40}\n"
    )
    ended = deployed(
        "batch-endpoint", "invoke", "--name", "heart", "--deployment-name", "default", "--f",
        "job.yml", "--mini-batch-size", "3", "--set", "retry_settings.max_retries=1",
        "--set", "error_threshold=0", "--job-name", "my-job", "--query", "name", "-o", "tsv",
    )  # fmt: skip
    assert (ended.code, ended.out) == (0, "my-job\n"), ended.err
    spec = plane.ledger.get_job("my-job").scoring
    settings = spec.settings
    assert (settings.mini_batch_size, settings.max_retries, settings.timeout_seconds) == (3, 1, 40)
    assert settings.error_threshold == 0
    assert spec.output.uri == (tmp_path / "out").as_uri()
    assert settings.output_file_name == "scores.csv"


def test_the_same_idempotency_key_gives_the_same_job(deployed: Cli) -> None:
    assert started(deployed, "--idempotency-key", "k") == started(
        deployed, "--idempotency-key", "k"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["heart"], "input: is missing: say with --input"),
        (["heart", "--input", "nowhere"], "nowhere"),
        (["nope", "--input", "data"], "error[endpoint_not_found]"),
        (["heart", "--input", "data", "-d", "nope"], "error[deployment_not_found]"),
        (
            ["heart", "--input", "azureml:d@latest"],
            "error[data_not_found]: there is no data asset named 'd'",
        ),
        (
            ["heart", "-i", "data", "--input-type", "mltable"],
            "'mltable' cannot be scored",
        ),
        (["heart", "-i", "data", "--set", "mini_batch_size=x"], "--set mini_batch_size: expected"),
        (["heart", "-i", "data", "--mini-batch-size", "0"], "greater than or equal to 1"),
        (["heart", "--name", "other", "-i", "data"], "given twice"),
        (["-i", "data"], "the endpoint's name is missing"),
        (["heart", "--input", "a.csv", "b.csv"], "put quotes around wildcards"),
    ],
)
def test_an_invoke_that_is_refused(deployed: Cli, arguments: list[str], sentence: str) -> None:
    ended = deployed("invoke", *arguments)
    assert ended.code == 2
    assert sentence in ended.err
    assert ended.out == ""


def test_a_completed_job(deployed: Cli, plane: ControlPlane, tmp_path: Path) -> None:
    name = started(deployed)
    end_job(plane, name, JobState.COMPLETED)
    streamed = deployed("job", "stream", name)
    assert streamed.code == 0
    assert streamed.out.startswith(f"Job {name} completed in 0.0s: 2 files scored")
    assert "_file  _row  prediction" in streamed.out
    assert f"batchpoint job head {name}" in streamed.out
    assert "Results: file://" in streamed.out
    assert deployed("job", "head", "-n", name, "--rows", "1", "-o", "json").json == [
        {"_file": "a.csv", "_row": "0", "prediction": "0.5"}
    ]
    assert deployed("job", "failed-items", name).out == "No item failed.\n"
    downloaded = deployed("job", "download", name, "--download-path", "out")
    assert downloaded.out.split() == ["out/predictions.csv"]
    assert (tmp_path / "out" / "predictions.csv").is_file()


def test_download_as_az_lays_it_out(deployed: Cli, plane: ControlPlane, tmp_path: Path) -> None:
    name = started(deployed)
    end_job(plane, name, JobState.COMPLETED)
    assert deployed("job", "download", "-n", name, "--output-name", "score").code == 0
    assert (tmp_path / "named-outputs" / "score" / "predictions.csv").is_file()
    assert deployed("job", "download", "-n", name, "-p", "all", "--all").code == 0
    assert (tmp_path / "all" / "artifacts" / "logs" / "user" / "local-0.txt").is_file()
    wrong = deployed("job", "download", "-n", name, "--output-name", "other")
    assert (wrong.code, "error[output_not_found]" in wrong.err) == (2, True)


def test_a_job_with_failed_items_ends_with_three(deployed: Cli, plane: ControlPlane) -> None:
    name = started(deployed)
    progress = Progress(phase="done", listed=True, items_total=4, items_done=4, items_failed=2)
    end_job(plane, name, JobState.COMPLETED, progress=progress)
    streamed = deployed("job", "stream", name)
    assert streamed.code == 3
    assert "2 failed items:\n  c.csv, row 3  ValueError: bad\n" in streamed.out
    assert f"all of them: batchpoint job failed-items {name}" in streamed.out
    shown = deployed("job", "failed-items", name)
    assert "c.csv    3  ValueError  bad" in shown.out
    as_json = deployed("job", "failed-items", name, "-o", "json").json
    assert [item["name"] for item in as_json] == ["c.csv", "d.csv"]
    listed = deployed("job", "list", "-o", "table").out.split("\n")
    assert listed[0].split()[:4] == ["job", "type", "endpoint/deployment", "state"]
    assert listed[2].split()[0] == name
    assert [job["name"] for job in deployed("job", "list", "-o", "json").json] == [name]


def test_a_failed_job_says_why_wherever_it_is_shown(deployed: Cli, plane: ControlPlane) -> None:
    name = started(deployed)
    error = ErrorInfo(
        origin="user", code="nothing_scored", message="none of the 2 items could be scored",
        type="ValueError", line="score.py:3", file="a.csv", row=7, log="logs/user/local-0.txt",
    )  # fmt: skip
    end_job(plane, name, JobState.FAILED, error=error, output_uri=None)
    for verb, code in (("stream", 1), ("show", 0)):
        ended = deployed("job", verb, name)
        assert ended.code == code
        lines = ended.out.split("\n")
        assert lines[0] == f"Job {name} failed after 0.0s [nothing_scored]"
        assert lines[1] == "  none of the 2 items could be scored"
        assert "  file        a.csv, row 7" in lines
    assert deployed("job", "head", name).code == 2


def test_a_cancelled_job_ends_with_four(deployed: Cli, plane: ControlPlane) -> None:
    name = started(deployed)
    asked = deployed("job", "cancel", name)
    assert asked.code == 0, asked.err
    assert name in asked.out
    if plane.ledger.get_job(name).status.state != JobState.CANCELED:
        end_job(plane, name, JobState.CANCELED, output_uri=None)
    assert deployed("job", "stream", name).code == 4


def test_events_and_result_as_json(deployed: Cli, plane: ControlPlane) -> None:
    name = started(deployed)
    end_job(plane, name, JobState.COMPLETED)
    ended = deployed("job", "stream", name, "-o", "json")
    [event] = [json.loads(line) for line in ended.err.splitlines()]
    assert (event["event"], event["state"], event["job"]) == ("progress", "Completed", name)
    assert ended.json["status"]["state"] == "Completed"


def test_logs(deployed: Cli, plane: ControlPlane) -> None:
    name = started(deployed)
    end_job(plane, name, JobState.COMPLETED)
    assert deployed("job", "logs", name).out == (
        "==> job.log <==\njob began\n==> user/local-0.txt <==\nprinted\n"
    )
    followed = deployed("job", "logs", name, "--path", "user/local-0.txt", "--follow")
    assert followed.out == "printed\n"
    assert deployed("job", "logs", name, "--path", "../secret").code == 2
    listed = deployed("job", "logs", name, "--list", "-o", "json").json
    assert [log["path"] for log in listed] == ["job.log", "user/local-0.txt"]


def test_ctrl_c_lets_go_and_says_how_to_go_on(
    deployed: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchpoint.client.jobs import JobHandle

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JobHandle, "wait", interrupted)
    ended = deployed("invoke", "heart", "--input", "data", "--wait")
    assert ended.code == 130
    assert "The job goes on" in ended.err
    assert "batchpoint job stream heart-" in ended.err
    assert "batchpoint job cancel heart-" in ended.err


def test_lists_of_jobs(deployed: Cli, plane: ControlPlane) -> None:
    name = started(deployed)
    for command in (
        ["job", "list"],
        ["job", "list", "-e", "heart", "-d", "default"],
        ["batch-endpoint", "list-jobs", "-n", "heart"],
        ["batch-deployment", "list-jobs", "-n", "default", "-e", "heart"],
    ):
        assert name in deployed(*command).out
    assert deployed("job", "list", "-e", "nope").code == 2
    assert deployed("job", "list", "-e", "heart", "-d", "other").out == ""
    end_job(plane, name, JobState.COMPLETED)
    assert deployed("endpoint", "delete", "heart", "--yes").code == 0
    assert name in deployed("job", "list", "-e", "heart").out  # jobs stay
