"""Components and pipelines in files: what they mention, what is wrong in them, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchpoint.cli.yaml_component import load_component
from batchpoint.cli.yaml_deployment import load_deployment
from batchpoint.cli.yaml_fields import FieldErrors
from batchpoint.cli.yaml_pipeline import load_pipeline_job
from batchpoint.cli.yaml_places import Places, told_at_places
from batchpoint.domain.component import CommandComponent, PipelineComponent, StepData
from batchpoint.domain.errors import Conflict, Finding, Invalid, NotFound
from batchpoint.domain.findings import all_of
from batchpoint.domain.pipeline import PipelineDeployment, PipelineJob

TRAIN = """name: train
type: command
code: ./src
command: python train.py ${{inputs.data}} ${{outputs.model}}
inputs:
  data: {type: uri_folder}
outputs:
  model: {type: mlflow_model}
"""
GRAPH = """type: pipeline
inputs:
  raw: {type: uri_file}
  rate: {type: number, optional: true}
outputs:
  model: {type: custom_model}
jobs:
  train:
    component: ./train.yml
    inputs: {data: "${{parent.inputs.raw}}"}
  use:
    type: command
    command: use ${{inputs.model}} $[[--rate ${{inputs.rate}}]] ${{outputs.best}}
    code: ./src
    display_name: Use it
    compute: azureml:big
    inputs:
      model: ${{parent.jobs.train.outputs.model}}
      raw: ${{parent.inputs.raw}}
      rate: ${{parent.inputs.rate}}
      times: 3
      share: 0.5
      fast: true
      word: x
      table: {type: mltable, path: ./table}
    outputs:
      best: ${{parent.outputs.model}}
      file: {type: uri_file, mode: upload}
      rest:
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts" / "src").mkdir(parents=True)
    (tmp_path / "parts" / "train.yml").write_text(TRAIN)
    (tmp_path / "parts" / "graph.yml").write_text(GRAPH)
    return tmp_path


def graph(path: str = "parts/graph.yml") -> PipelineComponent:
    found = load_component(Path(path)).noun
    assert isinstance(found, PipelineComponent)
    return found


def job(text: str, sets: list[str] | None = None) -> tuple[PipelineJob, Places]:
    Path("job.yml").write_text(text)
    found = load_pipeline_job(Path("job.yml"), sets or [])
    return found.noun, found.places


def mistakes(text: str, sets: list[str] | None = None) -> list[str]:
    with pytest.raises(FieldErrors) as caught:
        job(text, sets)
    return str(caught.value).split("\n")


def test_paths_in_a_file_are_found_from_its_own_folder(folder: Path) -> None:
    found = graph()
    train, use = (step.component for step in found.jobs.values())
    assert isinstance(train, CommandComponent)
    assert isinstance(use, CommandComponent)
    assert train.code == use.code == str(folder / "parts" / "src")
    table = StepData(type="mltable", path=str(folder / "parts" / "table"))
    assert found.jobs["use"].inputs["table"] == table


def test_a_step_without_a_component_is_one() -> None:
    step = graph().jobs["use"]
    found = step.component
    assert isinstance(found, CommandComponent)
    assert {name: each.type for name, each in found.inputs.items()} == {
        "model": "mlflow_model", "raw": "uri_file", "rate": "number", "times": "integer",
        "share": "number", "fast": "boolean", "word": "string", "table": "mltable",
    }  # fmt: skip
    assert [name for name, each in found.inputs.items() if each.optional] == ["rate"]
    assert {name: each.type for name, each in found.outputs.items()} == {
        "best": "custom_model", "file": "uri_file", "rest": "uri_folder",
    }  # fmt: skip
    assert (step.display_name, step.compute) == ("Use it", "big")
    assert step.inputs["times"] == 3
    assert step.outputs["best"] == "${{parent.outputs.model}}"


def test_types_of_a_jobs_own_inputs_reach_its_steps() -> None:
    text = (
        "inputs: {m: {type: mlflow_model, path: 'azureml:m:1'}, n: 3, f: {path: job.yml}}\n"
        "outputs: {o: {type: uri_file}, p: }\n"
        "jobs: {a: {command: x, inputs: {m: '${{parent.inputs.m}}', n: '${{parent.inputs.n}}',"
        " f: '${{parent.inputs.f}}'}, outputs: {o: '${{parent.outputs.o}}',"
        " p: '${{parent.outputs.p}}'}}}\n"
    )
    found, _ = job(text)
    assert found.jobs is not None
    component = found.jobs["a"].component
    assert isinstance(component, CommandComponent)
    types = [each.type for each in (*component.inputs.values(), *component.outputs.values())]
    assert types == ["mlflow_model", "integer", "uri_file", "uri_file", "uri_folder"]


def test_a_step_may_hold_a_pipeline() -> None:
    found, places = job(
        "inputs: {x: 3}\n"
        "jobs:\n"
        "  outer:\n"
        "    type: pipeline\n"
        "    inputs: {y: '${{parent.inputs.x}}'}\n"
        "    jobs:\n"
        "      inner: {command: 'echo ${{inputs.z}}', inputs: {z: '${{parent.inputs.y}}'}}\n"
    )
    assert found.jobs is not None
    outer = found.jobs["outer"].component
    assert isinstance(outer, PipelineComponent)
    inner = outer.jobs["inner"].component
    assert isinstance(inner, CommandComponent)
    assert inner.inputs["z"].type == "integer"
    for way in ("jobs.outer.component.jobs.inner.component.command", "jobs.outer/inner.command"):
        told = places.find(way)
        assert told is not None
        assert str(told[0]) == "job.yml:7:24"
        assert told[1] == "jobs.outer.jobs.inner.command"


def test_a_file_that_is_used_twice_is_read_once() -> None:
    found, _ = job(
        "jobs:\n  a: {component: parts/train.yml}\n  b: {component: ./parts/train.yml}\n"
    )
    assert found.jobs is not None
    assert found.jobs["a"].component is found.jobs["b"].component


def test_files_that_lead_back_to_themselves_are_refused(folder: Path) -> None:
    (folder / "a.yml").write_text("type: pipeline\njobs:\n  s: {component: parts/b.yml}\n")
    (folder / "parts" / "b.yml").write_text("type: pipeline\njobs:\n  t: {component: ../a.yml}\n")
    with pytest.raises(FieldErrors) as caught:
        load_component(Path("a.yml"))
    assert str(caught.value) == (
        "parts/b.yml:3:18: jobs.t.component: '../a.yml' leads back to itself: a.yml → b.yml → a.yml"
    )
    assert caught.value.code == "pipeline_invalid"


def test_pipelines_are_not_nested_for_ever(folder: Path) -> None:
    for number in range(20):
        below = f"type: pipeline\njobs:\n  s: {{component: ./p{number + 1}.yml}}\n"
        (folder / f"p{number}.yml").write_text(below)
    with pytest.raises(FieldErrors, match="nested deeper than 10 levels"):
        load_component(Path("p0.yml"))


def test_steps_that_multiply_are_refused(folder: Path) -> None:
    (folder / "p0.yml").write_text("type: pipeline\njobs: {a: {command: x}}\n")
    for number in range(1, 5):
        uses = "".join(f"  s{i}: {{component: ./p{number - 1}.yml}}\n" for i in range(10))
        (folder / f"p{number}.yml").write_text(f"type: pipeline\njobs:\n{uses}")
    with pytest.raises(FieldErrors, match="holds more than 5,000 steps") as caught:
        load_component(Path("p4.yml"))
    assert "p4.yml:2:1: jobs: " in str(caught.value)


def test_everything_wrong_is_told_file_by_file(folder: Path) -> None:
    (folder / "parts" / "train.yml").write_text(
        "type: command\ncomand: x\ninputs:\n  data: {type: uri_fold}\ncode: ./none\n"
    )
    found = mistakes(
        "type: pipeline\n"
        "inputs: {x: {path: 3}}\n"
        "jobs:\n"
        "  a: {component: parts/train.yml, inputz: {}}\n"
        "  b: {type: command}\n"
        "  c: {component: parts/nothing.yml}\n"
        "  d: {component: 'azureml:c'}\n"
        "  e: {component: 'azureml:c:1', command: x}\n"
        "  f: {command: x, task: {}}\n",
        ["jobs.a.compute=azureml:x:1"],
    )
    for line, beginning in zip(
        found,
        [
            "--set jobs.a.compute: 'azureml:x:1' is not a reference to a compute",
            "job.yml:2:20: inputs.x: expected a path or URI, got 3",
            "job.yml:4:35: jobs.a.inputz: unknown field; did you mean 'inputs'?",
            "job.yml:5:3: jobs.b: says not what to run: give `component`",
            "job.yml:6:18: jobs.c.component: 'parts/nothing.yml' does not exist",
            "job.yml:7:18: jobs.d.component: 'azureml:c' names a component without its version",
            "job.yml:8:33: jobs.e.command: stands beside `component`",
            "job.yml:9:3: jobs.f: holds `command` and `task`: a step is one of them",
            "parts/train.yml:1:1: command: is missing; expected text",
            "parts/train.yml:2:1: comand: unknown field; did you mean 'command'?",
            "parts/train.yml:4:16: inputs.data.type: expected one of number, integer",
            f"parts/train.yml:5:7: code: no folder is at {str(folder / 'parts' / 'none')!r}",
        ],
        strict=True,
    ):
        assert line.startswith(beginning)


def test_what_a_server_finds_is_told_where_it_was_written() -> None:
    found = load_component(Path("parts/graph.yml"), ["jobs.use.inputs.times=4"])
    wrong = all_of(
        [
            Finding("jobs.use.inputs.times", "is too many", "field_invalid"),
            Finding("jobs.use.component.command", "there is no input 'q'", "binding_invalid"),
            Finding("jobs.train.component.inputs.data", "is odd", "component_invalid"),
            Finding("jobs.train.inputs.more", "is missing", "input_missing"),
            Finding("jobs.use.outputs.best", "is of another type", "pipeline_invalid"),
        ]
    )
    with pytest.raises(FieldErrors) as caught, told_at_places(found.places):
        raise wrong
    assert str(caught.value).split("\n") == [
        "--set jobs.use.inputs.times: is too many",
        "parts/graph.yml:10:5: jobs.train.inputs.more: is missing",
        "parts/graph.yml:13:14: jobs.use.command: there is no input 'q'",
        "parts/graph.yml:27:13: jobs.use.outputs.best: is of another type",
        "parts/train.yml:6:3: inputs.data: is odd",
    ]
    assert caught.value.code == "field_invalid"


def test_a_binding_without_its_dollar_is_told_so(tmp_path: Path) -> None:
    file = tmp_path / "odd.yml"
    file.write_text("type: pipeline\njobs:\n  a:\n    inputs: {d: {{parent.inputs.d}}}\n")
    with pytest.raises(Invalid, match=r"odd\.yml:4:18: .*a binding begins with '\$'") as caught:
        load_component(file)
    assert caught.value.code == "yaml_invalid"


def test_numbers_that_json_has_not_are_told_where_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "odd.yml"
    file.write_text("name: c\ntype: command\ncommand: x\ninputs: {r: {type: number, max: .nan}}\n")
    with pytest.raises(FieldErrors, match=r"got \.nan, which is not finite") as caught:
        load_component(file, ["inputs.r.default=-.inf"])
    assert [each.field for each in caught.value.problems] == ["inputs.r.default", "inputs.r.max"]


def test_a_lone_finding_is_told_where_it_was_written() -> None:
    found = load_component(Path("parts/train.yml"))
    with (
        pytest.raises(FieldErrors, match=r"^parts/train.yml:1:7: name: taken$") as caught,
        told_at_places(found.places),
    ):
        raise Conflict("taken", code="asset_immutable", where="name")
    assert caught.value.code == "asset_immutable"
    for other in (NotFound("x", where="https://host"), Invalid("no place")):
        with pytest.raises(type(other)) as same, told_at_places(found.places):
            raise other
        assert same.value is other


def test_a_deployment_holds_what_its_file_mentions(folder: Path) -> None:
    (folder / "deploy.yml").write_text(
        "name: blue\nendpoint_name: heart\ntype: pipeline\ncomponent: file:parts/graph.yml\n"
        "settings: {default_compute: azureml:cpu}\n"
    )
    found = load_deployment(Path("deploy.yml"), ["settings.force_rerun=true"])
    assert isinstance(found.noun, PipelineDeployment)
    assert isinstance(found.noun.component, PipelineComponent)
    assert found.noun.settings.default_compute == "cpu"
    assert found.noun.settings.force_rerun is True
    told = found.places.find("jobs.use.component.command")
    assert told is not None
    assert str(told[0]) == "parts/graph.yml:13:14"
    (folder / "deploy.yml").write_text("name: blue\nendpoint_name: heart\n")
    by_job = load_deployment(Path("deploy.yml"), ["job_definition=azureml:some-job"]).noun
    assert isinstance(by_job, PipelineDeployment)
    assert by_job.job_definition == "some-job"
    with pytest.raises(FieldErrors, match=r"component\.type: is one step, not a pipeline"):
        load_deployment(Path("deploy.yml"), ["type=pipeline", "component=./parts/train.yml"])


def test_a_component_that_is_wrong_is_told_once() -> None:
    Path("parts/train.yml").write_text("type: command\ninputs: 3\n")
    with pytest.raises(FieldErrors) as caught:
        load_component(Path("parts/graph.yml"))
    lines = str(caught.value).split("\n")
    assert [line.split(": ")[0] for line in lines] == ["parts/train.yml:1:1", "parts/train.yml:2:9"]


def test_what_a_step_leaves_out_is_missing_at_the_step(tmp_path: Path) -> None:
    (tmp_path / "made.yml").write_text("inputs:\n  data: {type: uri_folder}\ncommand: 'true'\n")
    graph = tmp_path / "graph.yml"
    graph.write_text("type: pipeline\njobs:\n  use:\n    component: made.yml\n")
    found = load_component(graph)
    with pytest.raises(FieldErrors) as caught, told_at_places(found.places):
        raise Invalid("is missing", code="input_missing", where="jobs.use.inputs.data")
    assert str(caught.value) == f"{graph}:3:3: jobs.use.inputs.data: is missing"
