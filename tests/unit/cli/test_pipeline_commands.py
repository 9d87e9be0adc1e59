"""Components and pipeline jobs from the command line, over the real app."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchpoint.cli.az_shim import az_job
from batchpoint.domain.job import JobState
from batchpoint.domain.job_spec import PipelineSpec
from tests.unit.cli.conftest import Cli
from tests.unit.cli.pipeline_jobs import pipeline_job, step_job
from tests.unit.control_plane import ControlPlane

COMPONENT = """name: greet
type: command
inputs:
  who: {type: string, default: you}
outputs:
  said: {type: uri_folder}
command: echo ${{inputs.who}} > ${{outputs.said}}/x
"""
JOB = """type: pipeline
inputs: {who: me}
outputs: {said: }
tags: {team: heart}
jobs:
  first:
    component: ./greet.yml
    inputs: {who: "${{parent.inputs.who}}"}
  second:
    component: ./greet.yml
    outputs: {said: "${{parent.outputs.said}}"}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "greet.yml").write_text(COMPONENT)
    (tmp_path / "job.yml").write_text(JOB)
    return tmp_path


def test_components_have_all_verbs(cli: Cli, files: Path) -> None:
    assert files.is_dir()
    made = cli("component", "create", "-f", "greet.yml", "--set", "tags.a=b", "-o", "json")
    assert made.code == 0, made.err
    assert (made.json["name"], made.json["version"], made.json["tags"]) == (
        "greet",
        "1",
        {"a": "b"},
    )
    assert cli("component", "create", "-f", "greet.yml", "--version", "x").code == 0
    shown = cli("component", "show", "greet", "--version", "1").out
    assert "command: echo ${{inputs.who}}" in shown
    listed = cli("component", "list", "greet", "--query", "[].version", "-o", "json").json
    assert sorted(listed) == ["1", "x"]
    table = cli("component", "list").out.split("\n")
    assert table[0].split()[:3] == ["component", "version", "type"]
    changed = cli("component", "update", "greet", "--version", "1", "--description", "new")
    assert "description: new" in changed.out, changed.err
    assert cli("component", "archive", "greet", "--version", "x").code == 0
    assert cli("component", "list", "greet", "--query", "length(@)", "-o", "tsv").out == "1\n"
    assert cli("component", "restore", "greet", "--version", "x").code == 0
    assert cli("component", "delete", "greet", "--yes").code == 0
    gone = cli("component", "show", "greet")
    assert (gone.code, "error[component_not_found]" in gone.err) == (2, True)


def test_a_component_that_is_wrong_is_told_in_its_file(cli: Cli, files: Path) -> None:
    (files / "greet.yml").write_text(COMPONENT.replace("{{inputs.who}}", "{{inputs.whom}}"))
    ended = cli("component", "create", "-f", "greet.yml")
    assert ended.code == 2
    assert "greet.yml:7:10: command: there is no input 'whom'" in ended.err


def test_a_job_is_made_of_a_file(cli: Cli, files: Path, plane: ControlPlane) -> None:
    assert files.is_dir()
    ended = cli("job", "create", "-f", "job.yml", "--name", "mine", "--set", "inputs.who=all")
    assert ended.code == 0, ended.err
    assert ended.out == (
        "Started job mine\n  2 steps: first, second\n"
        "  batchpoint job stream mine\n  batchpoint job cancel mine\n"
    )
    spec = plane.ledger.get_job("mine").spec
    assert isinstance(spec, PipelineSpec)
    assert spec.inputs == {"who": "all"}
    assert spec.experiment_name == files.name
    shown = cli("job", "show", "mine").out
    assert "Job mine is queued" in shown
    assert "○    first" in shown or "○  first" in shown
    assert [line.split() for line in shown.split("\n") if "who" in line] == [["who", "all"]]
    step = cli("job", "show", "mine-first").out
    assert "pipeline    mine" in step
    assert "echo all >" in step


def test_jobs_are_found_by_parent_state_tag_and_type(cli: Cli, files: Path) -> None:
    assert files.is_dir()
    assert cli("job", "create", "-f", "job.yml", "--name", "mine").code == 0

    def names(*arguments: str) -> list[str]:
        found = cli("job", "list", *arguments, "--query", "[].name", "-o", "json")
        assert found.code == 0, found.err
        return found.json

    assert names() == ["mine"]
    assert names("--parent-job-name", "mine") == ["mine-first", "mine-second"]
    assert names("--parent-job-name", "mine", "--max-results", "1") == ["mine-first"]
    assert names("--status", "queued", "--status", "Running") == ["mine"]
    assert names("--status", "failed") == []
    assert names("--tag", "team=heart") == names("--tag", "team") == ["mine"]
    assert names("--tag", "team=lung") == []
    assert names("--type", "pipeline") == ["mine"]
    assert names("--type", "score") == []
    for wrong, sentence in (
        (("--status", "gone"), "--status 'gone' is not one of Queued"),
        (("--type", "gone"), "--type 'gone' is not one of score, command, pipeline"),
        (("--tag", "=x"), "names no tag"),
        (("--parent-job-name", "nobody"), "error[job_not_found]"),
    ):
        ended = cli("job", "list", *wrong)
        assert (ended.code, sentence in ended.err) == (2, True), ended.err


def test_everything_wrong_with_a_job_is_told_at_once(cli: Cli, files: Path) -> None:
    (files / "job.yml").write_text(
        JOB.replace("parent.inputs.who", "parent.inputs.whom").replace("said: }", "told: }")
    )
    ended = cli("job", "create", "-f", "job.yml", "--set", "jobs.second.inputs.loud=1")
    assert ended.code == 2
    said = ended.err.split("\n")
    assert "--set jobs.second.inputs.loud: " in said[0]
    assert said[1].startswith("job.yml:3:17: outputs.told: no step writes this output")
    assert said[2].startswith("job.yml:8:19: jobs.first.inputs.who: there is no input of the pipel")
    assert any("jobs.second.outputs.said: " in line for line in said), said


def test_a_pipeline_behind_an_endpoint(cli: Cli, files: Path, plane: ControlPlane) -> None:
    (files / "graph.yml").write_text(
        "name: graph\ntype: pipeline\ninputs:\n  who: {type: string}\n"
        "outputs:\n  said: {type: uri_folder}\njobs:\n  only:\n    component: ./greet.yml\n"
        '    inputs: {who: "${{parent.inputs.who}}"}\n'
        '    outputs: {said: "${{parent.outputs.said}}"}\n'
    )
    (files / "deployment.yml").write_text(
        "name: blue\nendpoint_name: heart\ntype: pipeline\ncomponent: ./graph.yml\n"
    )
    made = cli("deploy", "deployment.yml")
    assert made.code == 0, made.err
    for line in (
        "  steps       1: only",
        "  inputs      who (string)",
        "  outputs     said (uri_folder)",
        "  batchpoint invoke heart --param who=VALUE --wait",
    ):
        assert line in made.out.split("\n")
    missing = cli("invoke", "heart")
    assert (missing.code, "inputs.who: is missing" in missing.err) == (2, True), missing.err
    wrong = cli("invoke", "heart", "--param", "who=x", "--set", "inputs.nope=3")
    assert (wrong.code, "--set inputs.nope: " in wrong.err) == (2, True), wrong.err
    began = cli("invoke", "heart", "--param", "who=x", "--query", "name", "-o", "tsv")
    assert began.code == 0, began.err
    spec = plane.ledger.get_job(began.out.strip()).spec
    assert isinstance(spec, PipelineSpec)
    assert spec.inputs == {"who": "x"}
    table = cli("batch-deployment", "list", "-e", "heart", "-o", "table").out
    assert "pipeline" in table


def test_logs_of_a_step_are_asked_for_by_its_name(cli: Cli, files: Path) -> None:
    assert files.is_dir()
    assert cli("job", "create", "-f", "job.yml", "--name", "mine").code == 0
    unknown = cli("job", "logs", "mine", "--step", "frist")
    assert (unknown.code, "did you mean 'first'?" in unknown.err) == (2, True)
    no_pipeline = cli("job", "logs", "mine-first", "--step", "x")
    assert (no_pipeline.code, "error[job_type_wrong]" in no_pipeline.err) == (2, True)


def test_az_tells_of_pipelines_as_azure_does() -> None:
    steps = [step_job("train", state=JobState.RUNNING)]
    told = az_job(json.loads(pipeline_job(steps, inputs={"rate": 0.5}).model_dump_json()), "")
    assert (told["type"], told["inputs"], told["outputs"]) == ("pipeline", {"rate": 0.5}, {})
    step = az_job(json.loads(steps[0].model_dump_json()), "https://host")
    assert (step["type"], step["display_name"]) == ("command", "train")
    assert step["inputs"]["data"] == "${{parent.jobs.prep.outputs.y}}"
    assert step["inputs"]["rate"] == 0.5
    assert step["outputs"] == {"model": {"type": "custom_model", "path": "file:///out/train"}}
    assert step["properties"]["parent_job_name"] == "heart-1"
