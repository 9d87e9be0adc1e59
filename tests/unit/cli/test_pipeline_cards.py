"""What is said about pipeline jobs and their steps: the cause first, then graph and values."""

from __future__ import annotations

from datetime import timedelta

from batchpoint.cli.job_cards import headline, jobs_table, next_commands
from batchpoint.cli.pipeline_cards import guilty_step, pipeline_card, started_text, step_card
from batchpoint.domain.job import ErrorInfo, JobState, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import OutputOf
from batchpoint.domain.results import NamedOutput
from tests.unit.cli.pipeline_jobs import MISTAKE, pipeline_job, step_job
from tests.unit.resolved_jobs import NOON, new_job

LATER = NOON + timedelta(seconds=60)
STEP_FAILED = ErrorInfo(origin="user", code="step_failed", message="step train: bad")


def test_the_step_that_failed_first_leads() -> None:
    prep = step_job("prep")
    train = step_job("train", ("prep",), JobState.FAILED, error=MISTAKE)
    later = step_job("z", (), JobState.FAILED, error=MISTAKE, ended_after_seconds=20)
    steps = [later, prep, train]
    assert guilty_step(steps) is train
    job = pipeline_job(steps, JobState.FAILED, error=STEP_FAILED)
    assert pipeline_card(job, steps, {}, 80, LATER).split("\n")[:8] == [
        "Job heart-1 failed after 30s [step_failed]",
        "  step        train (and 1 more step failed)",
        "  ValueError: bad (the command exited with code 1)",
        "",
        "  cause       your code, model or data",
        "  exception   ValueError",
        "  line        train.py:7",
        "  log         batchpoint job logs heart-1-train",
    ]


def test_a_failure_without_a_guilty_step_tells_its_own_cause() -> None:
    job = pipeline_job([step_job("a", state=JobState.QUEUED)], JobState.FAILED, error=STEP_FAILED)
    assert "step train: bad" in pipeline_card(job, [], {}, 80, LATER)


def test_a_pipeline_shows_graph_inputs_and_outputs() -> None:
    steps = [step_job("prep"), step_job("train", ("prep",), JobState.RUNNING)]
    job = pipeline_job(
        steps,
        JobState.RUNNING,
        inputs={"rate": 0.5, "raw": JobInput(type="uri_folder", uri="s3://b/d"), "fast": True},
        outputs={"model": OutputOf(step="train", output="model")},
        endpoint="heart",
    )
    model = NamedOutput(name="model", type="custom_model", uri="file:///out/m", complete=False)
    assert pipeline_card(job, steps, {"model": model}, 80, LATER).split("\n") == [
        "Job heart-1 is running",
        "  state       Running",
        "  endpoint    heart / blue",
        "  component   azureml:graph:1",
        "  created     2026-05-04 12:00:00Z",
        "  took        1m00s",
        "  settings    steps beside one that failed go on",
        "",
        "Steps: 1 of 2 done",
        "  ✓  prep   completed        12s  cpu-cluster",
        "  ●  train  running        1m00s  cpu-cluster  ← prep",
        "",
        "Inputs",
        "  rate              0.5",
        "  raw   uri_folder  s3://b/d",
        "  fast              True",
        "",
        "Outputs",
        "  model  custom_model  file:///out/m (not complete)",
    ]


def test_a_step_shows_its_command_as_it_was_run() -> None:
    published = PublishedOutput(type="custom_model", uri="file:///there", asset="azureml:m:1")
    job = step_job(
        "train", ("prep",), outputs={"model": published}, exit_code=0, attempts=1
    )  # fmt: skip
    shown = step_card(job, 80, LATER)
    assert shown.split("\n")[0] == "Job heart-1-train completed in 12s"
    for line in (
        "  pipeline    heart-1",
        "  step        train",
        "  needs       prep",
        "  exit code   0",
        "  attempts    1 of 1",
        "  run --rate 0.5 prep.y /d /out/train",
        "  raw   uri_folder  file:///d",
        "  model  custom_model  file:///there → azureml:m:1",
    ):
        assert line in shown.split("\n")


def test_a_failed_step_leads_with_its_cause() -> None:
    shown = step_card(step_job("a", state=JobState.FAILED, error=MISTAKE), 80, LATER).split("\n")
    assert shown[:2] == ["Job heart-1-a failed after 12s [command_failed]", f"  {MISTAKE.message}"]


def test_headlines() -> None:
    assert headline(pipeline_job([step_job("a")])) == "Job heart-1 completed in 30s: 1 step"
    reused = step_job("a", reused_from="heart-0-a")
    assert headline(reused).endswith("outputs taken over from heart-0-a")


def test_what_to_do_next() -> None:
    assert next_commands(pipeline_job([step_job("a")])) == "  batchpoint job show heart-1"
    outputs = {"m": OutputOf(step="a", output="model")}
    with_outputs = next_commands(pipeline_job([step_job("a")], outputs=outputs))
    assert with_outputs == "  batchpoint job download heart-1 --download-path ./out"
    assert started_text(pipeline_job([step_job("a"), step_job("b")])) == (
        "Started job heart-1\n  2 steps: a, b\n"
    )


def test_jobs_of_all_types_in_one_table() -> None:
    lines = jobs_table([pipeline_job([step_job("a")]), new_job()], 120, LATER).split("\n")
    assert lines[0].split()[:4] == ["job", "type", "endpoint/deployment", "state"]
    assert lines[2].split()[:6] == ["heart-1", "pipeline", "-", "Completed", "1/1", "0"]
    assert lines[3].split()[1:3] == ["score", "heart/first"]
    steps = jobs_table([step_job("a")], 120, LATER).split("\n")
    assert steps[0].split()[:3] == ["job", "type", "step"]
    assert steps[2].split()[:3] == ["heart-1-a", "command", "a"]
    assert steps[0].split()[3:] == ["state", "created", "took"]  # commands count nothing


def test_places_of_outputs_are_never_broken() -> None:
    uri = f"s3://bucket/{'a' * 120}"
    outputs = {"model": PublishedOutput(type="custom_model", uri=uri)}
    shown = step_card(step_job("a", outputs=outputs), 60, LATER)
    assert any(line.endswith(uri) for line in shown.split("\n"))
