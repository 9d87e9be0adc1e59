"""Graphs of pipelines: what is accepted and where it leads, and what is refused at which place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from batchpoint.core.graph import (
    Graph,
    GraphInput,
    InlineData,
    LiteralValue,
    OutputOf,
    flatten,
    step_inputs,
)
from batchpoint.core.job_component import component_of_job
from batchpoint.domain import limits
from batchpoint.domain.component import CommandComponent, Component, PipelineComponent, StepData
from batchpoint.domain.errors import Finding, Invalid, NotFound
from batchpoint.domain.job_pointers import JobInput, PipelineOutput

Body = dict[str, object]
_COMPONENT: TypeAdapter[Component] = TypeAdapter(Component)


def command(text: str = "run", *, inputs: Body | None = None, outputs: Body | None = None) -> Body:
    return {"type": "command", "command": text, "inputs": inputs or {}, "outputs": outputs or {}}


PREP = command(
    "prep ${{inputs.data}} $[[--n ${{inputs.n}}]] ${{outputs.out}}",
    inputs={"data": {"type": "uri_folder"}, "n": {"type": "integer", "optional": True, "max": 9}},
    outputs={"out": {"type": "uri_folder"}},
)
TRAIN = command(
    "train ${{inputs.data}} --rate ${{inputs.rate}} ${{outputs.model}}",
    inputs={"data": {"type": "uri_folder"}, "rate": {"type": "number", "default": 0.5}},
    outputs={"model": {"type": "mlflow_model"}, "report": {"type": "uri_file"}},
)
KNOWN = {"prep": PREP, "train": TRAIN}


def lookup(reference: str) -> tuple[str, Component]:
    if reference not in KNOWN:
        raise NotFound(f"there is no component {reference!r}", code="component_not_found")
    return f"azureml:{reference}:1", _COMPONENT.validate_python(KNOWN[reference])


def pipeline(jobs: Body, *, inputs: Body | None = None, outputs: Body | None = None) -> Body:
    return {"type": "pipeline", "jobs": jobs, "inputs": inputs or {}, "outputs": outputs or {}}


def graph_of(body: Body, find: Callable[[str], tuple[str, Component]] = lookup) -> Graph:
    graph = flatten(PipelineComponent.model_validate(body), find)
    assert Graph.model_validate_json(graph.model_dump_json()) == graph
    return graph


def findings_of(body: Body) -> tuple[Finding, ...]:
    with pytest.raises(Invalid) as caught:
        flatten(PipelineComponent.model_validate(body), lookup)
    return caught.value.findings


def wrong_at(body: Body) -> list[tuple[str, str]]:
    return [(each.where, each.code) for each in findings_of(body)]


DATA = {"data": {"type": "uri_folder"}}
BOTH = pipeline(
    {
        "train": {
            "component": "train",
            "inputs": {"data": "${{parent.jobs.prep.outputs.out}}", "rate": "${{parent.inputs.r}}"},
            "outputs": {"model": "${{parent.outputs.model}}", "report": None},
        },
        "prep": {"component": "prep", "inputs": {"data": "${{ parent.inputs.data }}", "n": "3"}},
    },
    inputs={**DATA, "r": {"type": "integer", "optional": True}},
    outputs={"model": {"type": "mlflow_model"}},
)


# --- where bindings lead ----------------------------------------------------------------------


def test_a_plain_graph() -> None:
    graph = graph_of(BOTH)
    assert list(graph.steps) == ["train", "prep"]
    train, prep = graph.steps.values()
    assert train.needs == ("prep",)
    assert prep.needs == ()
    assert train.reference == "azureml:train:1"
    assert train.inputs["data"].source == OutputOf(step="prep", output="out")
    assert train.inputs["rate"].source == GraphInput(name="r")
    assert prep.inputs["n"].source == LiteralValue(value=3)
    assert train.outputs["model"].graph_output == "model"
    assert train.outputs["report"].graph_output is None
    assert graph.outputs["model"].written_by == OutputOf(step="train", output="model")


NESTED = pipeline(
    {
        "outer": {
            "component": pipeline(
                {
                    "last": {
                        "component": "train",
                        "inputs": {"data": "${{parent.jobs.inner.outputs.z}}",
                                   "rate": "${{parent.inputs.rate}}"},
                        "outputs": {"model": {"path": "${{parent.outputs.m}}", "mode": "upload"}},
                    },
                    "inner": {
                        "component": pipeline(
                            {"leaf": {"component": "prep",
                                      "inputs": {"data": "${{parent.inputs.d}}"},
                                      "outputs": {"out": "${{parent.outputs.z}}"},
                                      "environment_variables": {"A": "leaf"}}},
                            inputs={"d": {"type": "uri_folder"}},
                            outputs={"z": {"type": "uri_folder"}},
                        ),
                        "inputs": {"d": "${{parent.inputs.d}}"},
                    },
                },
                inputs={"d": {"type": "uri_folder"},
                        "rate": {"type": "number", "default": 0.25, "max": 1}},
                outputs={"m": {"type": "mlflow_model"}},
            ),
            "inputs": {"d": {"path": "${{parent.inputs.data}}", "mode": "download"},
                       "rate": "${{parent.inputs.r}}"},
            "outputs": {"m": {"path": "${{parent.outputs.model}}", "name": "best", "version": "7"}},
            "compute": "gpu",
            "environment_variables": {"A": "outer", "B": "outer"},
        },
        "user": {"component": "prep", "inputs": {"data": "${{parent.jobs.outer.outputs.m}}"}},
    },
    inputs={**DATA, "r": {"type": "string", "optional": True}},
    outputs={"model": {"type": "custom_model"}},
)  # fmt: skip


def test_nested_pipelines_are_dissolved() -> None:
    graph = graph_of(NESTED)
    assert list(graph.steps) == ["outer/last", "outer/inner/leaf", "user"]
    last, leaf, user = graph.steps.values()
    assert last.needs == ("outer/inner/leaf",)
    assert user.needs == ("outer/last",)
    assert leaf.inputs["data"].source == GraphInput(name="data")
    assert leaf.inputs["data"].declared.mode == "download"
    assert last.outputs["model"].graph_output == "model"
    assert last.outputs["model"].mode == "upload"
    assert last.outputs["model"].register_as == "best"
    assert last.outputs["model"].register_version == "7"
    assert graph.outputs["model"].written_by == OutputOf(step="outer/last", output="model")
    assert leaf.step.compute == "gpu"
    assert leaf.step.environment_variables == {"A": "leaf", "B": "outer"}
    assert leaf.where == "jobs.outer.component.jobs.inner.component.jobs.leaf"


@pytest.mark.parametrize(
    ("given", "rate", "wrong"),
    [
        ({}, 0.25, 0),
        ({"r": "0.75"}, 0.75, 0),
        ({"r": "2"}, None, 1),  # above the maximum of the pipeline in between
        ({"r": "fast"}, None, 1),
    ],
)
def test_values_pass_the_bounds_and_defaults_on_their_way(
    given: dict[str, str], rate: float | None, wrong: int
) -> None:
    step = graph_of(NESTED).steps["outer/last"]
    data = JobInput(type="uri_folder", uri="file:///d")
    values, findings = step_inputs(step, {"data": data, **given})
    assert values.get("rate") == rate
    assert [each.where for each in findings] == ["inputs.r"] * wrong
    assert values["data"] == OutputOf(step="outer/inner/leaf", output="out")


def test_a_command_takes_one_file_or_folder() -> None:
    step = graph_of(BOTH).steps["prep"]
    one = JobInput(type="uri_folder", uri="file:///d")
    assert step_inputs(step, {"data": one})[0] == {"data": one, "n": 3}
    for several in (
        JobInput(type="uri_folder", uris=("file:///a", "file:///b")),
        JobInput(type="uri_folder", uri="file:///a", pattern="*.csv"),
    ):
        findings = step_inputs(step, {"data": several})[1]
        assert [(each.where, each.code) for each in findings] == [
            ("inputs.data", "field_unsupported")
        ]


def test_data_named_in_the_pipeline() -> None:
    body = pipeline({
        "a": {"component": "prep", "inputs": {"data": {"path": "azureml:d@latest"}}},
        "b": {"component": "prep", "inputs": {"data": "azureml:d:1"}},
        "c": {"component": "prep", "inputs": {"data": {"type": "mltable", "path": "./d"}}},
    })  # fmt: skip
    sources = [each.inputs["data"].source for each in graph_of(body).steps.values()]
    assert sources == [
        InlineData(data=StepData(type="uri_folder", path="azureml:d@latest")),
        InlineData(data=StepData(type="uri_folder", path="azureml:d:1")),
        InlineData(data=StepData(type="mltable", path="./d")),
    ]


def test_an_output_may_have_a_place_of_its_own() -> None:
    uri = "azureml://datastores/ds/paths/x"
    body = pipeline(
        {"a": {"component": "prep", "inputs": {"data": "./d"}, "outputs": {"out": uri}}}
    )
    assert graph_of(body).steps["a"].outputs["out"].uri == uri


# --- what is refused, and where ---------------------------------------------------------------


def use(**fields: object) -> Body:
    """A sound pipeline of two steps, of which the second is changed."""
    step = {"component": "prep", "inputs": {"data": "${{parent.inputs.data}}"}, **fields}
    return pipeline(
        {"first": {"component": "prep", "inputs": {"data": "${{parent.inputs.data}}"}}, "s": step},
        inputs={**DATA, "text": {"type": "string"}, "flag": {"type": "boolean"},
                "file": {"type": "uri_file"}, "maybe": {"type": "uri_folder", "optional": True}},
    )  # fmt: skip


def data(value: object) -> Body:
    return use(inputs={"data": value})


def more(**inputs: object) -> Body:
    return use(inputs={"data": "${{parent.inputs.data}}", **inputs})


@pytest.mark.parametrize(
    ("body", "where", "code"),
    [
        (use(component="nothing"), "jobs.s.component", "component_not_found"),
        (use(inputs={}), "jobs.s.inputs.data", "input_missing"),
        (data(None), "jobs.s.inputs.data", "input_missing"),
        (data("${{parent.inputs.maybe}}"), "jobs.s.inputs.data", "input_missing"),
        (more(dta=1), "jobs.s.inputs.dta", "pipeline_invalid"),
        (data("${{parent.inputs.none}}"), "jobs.s.inputs.data", "pipeline_invalid"),
        (data("${{parent.jobs.none.outputs.out}}"), "jobs.s.inputs.data", "pipeline_invalid"),
        (data("${{parent.jobs.first.outputs.none}}"), "jobs.s.inputs.data", "pipeline_invalid"),
        (data("${{parent.jobs.s.outputs.out}}"), "jobs.s.inputs.data", "pipeline_invalid"),
        (data("${{parent.outputs.z}}"), "jobs.s.inputs.data", "binding_invalid"),
        (data("${{inputs.data}}"), "jobs.s.inputs.data", "binding_invalid"),
        (data("a ${{parent.inputs.data}}"), "jobs.s.inputs.data", "binding_invalid"),
        (data({"path": "${{parent.inputs"}), "jobs.s.inputs.data", "binding_invalid"),
        (data("${{parent.inputs.file}}"), "jobs.s.inputs.data", "pipeline_invalid"),
        (data("${{parent.inputs.text}}"), "jobs.s.inputs.data", "pipeline_invalid"),
        (data({"type": "uri_file", "path": "./x"}), "jobs.s.inputs.data", "pipeline_invalid"),
        (data(3), "jobs.s.inputs.data", "pipeline_invalid"),
        (more(n="many"), "jobs.s.inputs.n", "field_invalid"),
        (more(n=True), "jobs.s.inputs.n", "field_invalid"),
        (more(n=10), "jobs.s.inputs.n", "field_invalid"),
        (more(n={"path": "./x"}), "jobs.s.inputs.n", "pipeline_invalid"),
        (more(n="${{parent.inputs.flag}}"), "jobs.s.inputs.n", "pipeline_invalid"),
        (more(n="${{parent.inputs.data}}"), "jobs.s.inputs.n", "pipeline_invalid"),
        (use(outputs={"none": None}), "jobs.s.outputs.none", "pipeline_invalid"),
        (use(outputs={"out": "${{parent.outputs.z}}"}), "jobs.s.outputs.out", "pipeline_invalid"),
        (use(outputs={"out": "${{parent.inputs.data}}"}), "jobs.s.outputs.out", "binding_invalid"),
        (use(outputs={"out": {"type": "uri_file"}}), "jobs.s.outputs.out.type", "pipeline_invalid"),
        (use(outputs={"out": {"version": "1"}}), "jobs.s.outputs.out.version", "field_invalid"),
        (use(type="parallel"), "jobs.s.type", "pipeline_invalid"),
        (use(mini_batch_size="10"), "jobs.s.mini_batch_size", "field_invalid"),
        (use(resources={"instance_count": 2}), "jobs.s.resources.instance_count",
         "field_unsupported"),
        (use(component=command("${{inputs.y}}")), "jobs.s.component.command", "component_invalid"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_with_its_place(body: Body, where: str, code: str) -> None:
    found = wrong_at(body)
    if isinstance(body["jobs"]["s"]["component"], dict):  # type: ignore[index,call-overload]
        assert (where, code) in found
    else:
        assert found == [(where, code)]


def test_everything_is_found_at_once() -> None:
    body = use(inputs={"data": "${{parent.inputs.none}}", "n": "x", "m": 1}, outputs={"o": None})
    assert {where for where, _ in wrong_at(body)} == {
        "jobs.s.inputs.data",
        "jobs.s.inputs.n",
        "jobs.s.inputs.m",
        "jobs.s.outputs.o",
    }


def test_misspelled_names_get_a_suggestion() -> None:
    assert "did you mean 'data'?" in findings_of(more(dat="x"))[0].message


def test_faults_inside_of_nested_pipelines_have_their_whole_path() -> None:
    inner = pipeline({"leaf": {"component": "prep", "inputs": {"data": "${{parent.inputs.x}}"}}})
    assert wrong_at(pipeline({"outer": {"component": inner}})) == [
        ("jobs.outer.component.jobs.leaf.inputs.data", "pipeline_invalid")
    ]


def test_one_output_of_the_pipeline_is_written_by_one_step() -> None:
    outputs = {"out": "${{parent.outputs.z}}"}
    body = use(outputs=outputs)
    body["outputs"] = {"z": {}, "never": {}}
    body["jobs"]["first"]["outputs"] = outputs  # type: ignore[index]
    found = findings_of(body)
    assert [each.where for each in found] == ["jobs.s.outputs.out", "outputs.never"]
    assert "step 'first'" in found[0].message


def test_a_cycle_is_told_with_all_its_steps() -> None:
    def after(step: str) -> Body:
        return {"component": "prep", "inputs": {"data": f"${{{{parent.jobs.{step}.outputs.out}}}}"}}

    found = findings_of(
        pipeline({"a": after("c"), "b": after("a"), "c": after("b"), "d": after("a")})
    )
    assert len(found) == 1
    assert found[0].where == "jobs.b.inputs.data"
    assert "a → c → b → a" in found[0].message


@pytest.mark.parametrize("name", ["a b", "../x", "a-b", "1a", "", "é", "a" * 101, "$(x)", "a/b"])
def test_hostile_names_are_refused(name: str) -> None:
    step = {"component": "prep", "inputs": {"data": "./d"}}
    assert (f"jobs.{name}", "component_invalid") in wrong_at(pipeline({name: step}))
    of_input = pipeline({"a": step}, inputs={name: {"type": "string"}})
    assert (f"inputs.{name}", "component_invalid") in wrong_at(of_input)


def test_depth_is_bounded() -> None:
    def deep(levels: int) -> Body:
        body = pipeline({"s": {"component": "prep", "inputs": {"data": "./d"}}})
        for _ in range(levels - 1):
            body = pipeline({"s": {"component": body}})
        return body

    assert len(graph_of(deep(limits.PIPELINE_DEPTH_MAX)).steps) == 1
    assert "deeper" in findings_of(deep(limits.PIPELINE_DEPTH_MAX + 1))[0].message


def test_a_bomb_of_nested_pipelines_does_not_explode() -> None:
    leaf = CommandComponent(command="x")

    def find(reference: str) -> tuple[str, Component]:
        level = int(reference)
        if not level:
            return reference, leaf
        inner: Body = {f"s{at}": {"component": str(level - 1)} for at in range(100)}
        return reference, PipelineComponent.model_validate(pipeline(inner))

    with pytest.raises(Invalid, match="more than 5,000 steps"):
        graph_of(pipeline({"s": {"component": "8"}}), find)


def test_a_pipeline_that_holds_itself_is_refused() -> None:
    body = PipelineComponent.model_validate(pipeline({"s": {"component": "me"}}))
    with pytest.raises(Invalid, match="deeper"):
        flatten(body, lambda reference: (reference, body))


@settings(max_examples=60, deadline=None)
@given(needs=st.lists(st.sets(st.integers(0, 7), max_size=3), min_size=1, max_size=8))
def test_a_graph_is_flat_or_has_a_cycle(needs: list[set[int]]) -> None:
    count = len(needs)
    names = [f"i{at}" for at in range(8)]
    step = command(
        inputs={name: {"type": "uri_folder", "optional": True} for name in names},
        outputs={"o": {}},
    )
    jobs: Body = {
        f"s{at}": {
            "component": step,
            "inputs": {
                f"i{each}": f"${{{{parent.jobs.s{each}.outputs.o}}}}" for each in of if each < count
            },
        }
        for at, of in enumerate(needs)
    }
    known = [{each for each in of if each < count} for of in needs]
    done: set[int] = set()
    while fresh := {at for at in range(count) if at not in done and known[at] <= done}:
        done |= fresh
    if len(done) == count:
        graph = graph_of(pipeline(jobs))
        found = [{int(each[1:]) for each in step.needs} for step in graph.steps.values()]
        assert found == known
    else:
        assert all("wait for each other" in each.message for each in findings_of(pipeline(jobs)))


# --- jobs as components -----------------------------------------------------------------------


def test_the_component_of_a_job_has_the_types_of_its_values() -> None:
    shape = PipelineComponent.model_validate(BOTH)
    component = component_of_job(
        {"data": JobInput(type="mltable", uri="./d"), "r": 3, "b": True, "f": 0.5, "t": "x"},
        shape.jobs,
        {"model": None, "said": PipelineOutput(type="uri_file")},
        lookup,
    )
    told = {name: each.type for name, each in component.inputs.items()}
    assert told == {"data": "mltable", "r": "integer", "b": "boolean", "f": "number", "t": "string"}
    assert component.outputs["model"].type == "mlflow_model"
    assert component.outputs["said"].type == "uri_file"
    assert component_of_job({}, shape.jobs, {"model": None}).outputs["model"].type == "uri_folder"
