"""Parallel components: Azure's defaults, what a step replaces, and what is refused by name."""

from typing import Any

import pytest

from batchpoint.control.parallel_settings import ScoringAssets, check_parallel, parallel_spec
from batchpoint.domain.component import ParallelComponent, Step
from batchpoint.domain.compute import Compute
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import (
    ResolvedCode,
    ResolvedEnvironment,
    ScoreSpec,
    StepOutput,
    StepPlace,
)

TASK = {"code": "./src", "entry_script": "score.py", "append_row_to": "${{outputs.rows}}"}
ASSETS = ScoringAssets(
    ResolvedCode(path="/c", scoring_script="score.py", hash="b" * 64),
    None,
    ResolvedEnvironment(name="e", version="1", hash="c" * 64, python="/usr/bin/python3"),
)


def component(task: dict[str, Any] | None = None, **fields: Any) -> ParallelComponent:
    document: dict[str, Any] = {
        "type": "parallel",
        "inputs": {"data": {"type": "uri_folder"}, "label": {"type": "string"}},
        "outputs": {"rows": {"type": "uri_file"}},
        "input_data": "${{inputs.data}}",
        "task": TASK | (task or {}),
    }
    return ParallelComponent.model_validate(document | fields)


def step(**fields: Any) -> Step:
    return Step.model_validate({"component": "azureml:score:1"} | fields)


def spec(
    given: ParallelComponent, used: Step | None = None, rows: str = "file:///o/rows"
) -> ScoreSpec:
    kind = given.outputs["rows"].type
    place = StepPlace(
        parent="p-1",
        name="score",
        component="azureml:score:1",
        identity="i",
        outputs={"rows": StepOutput(type=kind, uri=rows)},
    )
    return parallel_spec(
        given,
        used or step(),
        place=place,
        source=JobInput(type="uri_folder", uri="file:///in"),
        results_uri="file:///home/jobs/p-1-score/results",
        assets=ASSETS,
        compute=Compute(name="cpu", max_instances=7),
    )


def told(given: ParallelComponent, used: Step | None = None) -> list[tuple[str, str]]:
    return [(finding.where, finding.code) for finding in check_parallel(given, used)]


def test_defaults_are_those_of_parallel_jobs() -> None:
    found = spec(component())
    settings = found.settings
    assert (settings.max_retries, settings.timeout_seconds) == (2, 60)
    assert (settings.mini_batch_size, settings.mini_batch_bytes) == (1, None)
    assert (settings.instance_count, settings.max_concurrency_per_instance) == (1, 1)
    assert (settings.error_threshold, settings.mini_batch_error_threshold) == (None, None)
    assert settings.allowed_failed_percent is None
    assert (settings.output_action, settings.output_file_name) == ("append_row", "predictions.csv")
    assert (settings.split_files, settings.coalesce_files) == (False, False)
    assert (found.input_data, found.append_row_to) == ("data", "rows")
    assert (found.compute, found.max_instances, found.idle_seconds) == ("cpu", 7, 120)
    assert found.model is None


def test_what_the_component_says_and_the_step_replaces() -> None:
    given = component(
        mini_batch_size="100",
        error_threshold=5,
        mini_batch_error_threshold=3,
        logging_level="DEBUG",
        max_concurrency_per_instance=2,
        retry_settings={"max_retries": 0, "timeout": 10},
        resources={"instance_count": 2},
        environment_variables={"A": "1", "B": "1"},
    )
    own = spec(given).settings
    assert (own.max_retries, own.timeout_seconds, own.mini_batch_size) == (0, 10, 100)
    assert (own.error_threshold, own.mini_batch_error_threshold) == (5, 3)
    assert (own.logging_level, own.max_concurrency_per_instance) == ("debug", 2)
    used = step(
        mini_batch_size=7,
        error_threshold=-1,
        mini_batch_error_threshold=0,
        logging_level="warning",
        max_concurrency_per_instance=4,
        retry_settings={"max_retries": 9},
        resources={"instance_count": 3},
        environment_variables={"B": "2"},
    )
    replaced = spec(given, used).settings
    assert (replaced.max_retries, replaced.timeout_seconds) == (9, 10)
    assert (replaced.mini_batch_size, replaced.instance_count) == (7, 3)
    assert (replaced.error_threshold, replaced.mini_batch_error_threshold) == (-1, 0)
    assert (replaced.logging_level, replaced.max_concurrency_per_instance) == ("warning", 4)
    assert replaced.environment_variables == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("text", "files", "size"),
    [
        ("1", 1, None),
        (" 20 ", 20, None),
        ("10kb", 1, 10_240),
        ("100 mb", 1, 100 * 1024**2),
        ("1GB", 1, 1024**3),
        ("512 b", 1, 512),
    ],
)
def test_sizes(text: str, files: int, size: int | None) -> None:
    settings = spec(component(mini_batch_size=text)).settings
    assert (settings.mini_batch_size, settings.mini_batch_bytes) == (files, size)


@pytest.mark.parametrize("text", ["", "0", "0kb", "-1", "ten", "1.5mb", "10 kib", "1000001", "1tb"])
def test_sizes_that_are_none(text: str) -> None:
    given = component(mini_batch_size="5")
    wanted = [("mini_batch_size", "field_invalid")]
    assert told(given, step(mini_batch_size=text)) == wanted
    assert told(component(mini_batch_size=text)) == wanted


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("file:///o/x.parquet", "predictions.parquet"),
        ("s3://b/x.JSONL", "predictions.jsonl"),
        ("file:///o/x.txt", "predictions.csv"),
        ("file:///o/rows", "predictions.csv"),
    ],
)
def test_the_file_that_gets_the_rows_says_their_format(uri: str, name: str) -> None:
    assert spec(component(), rows=uri).settings.output_file_name == name


def test_rows_for_a_folder_or_for_nobody() -> None:
    folder = component(outputs={"rows": {"type": "uri_folder"}})
    assert spec(folder, rows="file:///o/x.parquet").settings.output_file_name == "predictions.csv"
    nobody = spec(component({"append_row_to": None}))
    assert nobody.append_row_to is None
    assert nobody.settings.output_action == "summary_only"


def test_driver_arguments_are_thresholds() -> None:
    template = "--error_threshold 5 --allowed_failed_count 2 --allowed_failed_percent 30 --x y"
    settings = spec(component({"program_arguments": template})).settings
    assert settings.error_threshold == 5
    assert settings.mini_batch_error_threshold == 2
    assert settings.allowed_failed_percent == 30
    both = component({"program_arguments": "--error_threshold 5"}, error_threshold=5)
    assert spec(both, step(error_threshold=1)).settings.error_threshold == 1


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ({"program_arguments": "--error_threshold 5"}, {"error_threshold": 6}),
        ({"program_arguments": "--allowed_failed_count 5"}, {"mini_batch_error_threshold": 6}),
        ({"program_arguments": "--error_threshold ${{inputs.label}}"}, {}),
        ({"program_arguments": "--allowed_failed_percent 101"}, {}),
        ({"program_arguments": "--error_threshold"}, {}),
        ({"program_arguments": "--error_threshold 1e3"}, {}),
    ],
)
def test_driver_arguments_that_cannot_be(task: dict[str, Any], fields: dict[str, Any]) -> None:
    assert told(component(task, **fields)) == [("task.program_arguments", "field_invalid")]


@pytest.mark.parametrize(
    ("task", "places"),
    [
        ({"entry_script": None}, ["task.entry_script"]),
        ({"code": None, "entry_script": None}, ["task.code", "task.entry_script"]),
        ({"type": "function", "code": None}, ["task.code"]),
        ({"type": "model"}, ["task.code", "task.entry_script", "task.model"]),
        (
            {
                "type": "model",
                "code": None,
                "entry_script": None,
                "model": "azureml:m:1",
                "program_arguments": "--x y",
            },
            ["task.program_arguments"],
        ),
    ],
)
def test_tasks(task: dict[str, Any], places: list[str]) -> None:
    assert [where for where, _ in told(component(task))] == places


def test_a_model_as_it_is_is_split_and_joined() -> None:
    task = {"type": "model", "code": None, "entry_script": None, "model": "azureml:m:1"}
    given = component(task | {"program_arguments": "--error_threshold 4"})
    assert told(given) == []
    settings = spec(given).settings
    assert (settings.split_files, settings.coalesce_files) == (True, True)


@pytest.mark.parametrize("kind", ["mltable", "custom_model", "string"])
def test_only_files_are_scored(kind: str) -> None:
    given = component(inputs={"data": {"type": kind}})
    assert told(given) == [("inputs.data.type", "field_unsupported")]
    with pytest.raises(Invalid, match=f"type {kind}"):
        spec(given)


def test_rows_go_to_files_and_folders_only() -> None:
    given = component(outputs={"rows": {"type": "mlflow_model"}})
    assert told(given) == [("outputs.rows.type", "field_unsupported")]


@pytest.mark.parametrize("text", ["${{inputs.nobody}}", "data", "${{outputs.rows}}"])
def test_what_is_scored_is_an_input(text: str) -> None:
    assert told(component(input_data=text)) == [("input_data", "binding_invalid")]


def test_a_step_answers_for_its_own_fields() -> None:
    used = step(limits={"timeout": 5}, environment_variables={"1A": "x"})
    assert told(component(mini_batch_size="no"), used) == [
        ("environment_variables", "field_invalid"),
        ("limits.timeout", "field_unsupported"),
    ]


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        spec(component({"entry_script": None}, mini_batch_size="no"), step(mini_batch_size="no"))
    assert len(refused.value.findings) == 3
