"""A job file, `--set` and flags become one invocation, or every mistake in the author's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchpoint.cli.invocation_file import load_invocation
from batchpoint.cli.yaml_fields import FieldErrors
from batchpoint.cli.yaml_files import Flags
from batchpoint.domain.job import Invocation


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").touch()
    return tmp_path


def loaded(text: str = "", sets: list[str] | None = None, flags: Flags | None = None) -> Invocation:
    path = None
    if text:
        path = Path("jobs/job.yml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return load_invocation(path, sets or [], flags or {}).noun


def mistakes(
    text: str = "", sets: list[str] | None = None, flags: Flags | None = None
) -> list[str]:
    with pytest.raises(FieldErrors) as caught:
        loaded(text, sets, flags)
    return str(caught.value).split("\n")


def test_azures_job_file(folder: Path) -> None:
    found = loaded(
        "$schema: https://x\nexperiment_name: e\ndescription: d\n"
        "inputs:\n  heart:\n    type: uri_folder\n    path: ../data\n    mode: ro_mount\n"
        "outputs:\n  score: {type: uri_file, path: out}\n"
        "compute: {instance_count: 3}\nretry_settings: {max_retries: 1, timeout: PT40S}\n"
        "mini_batch_size: 5\nsettings: {environment_variables: {A: 1}}\n"
    )
    assert found.input.model_dump() == {"type": "uri_folder", "uri": str(folder / "data")}
    assert found.output is not None
    assert found.output.uri == str(folder / "jobs" / "out")
    overrides = found.overrides
    assert (overrides.instance_count, overrides.mini_batch_size) == (3, 5)
    assert (overrides.max_retries, overrides.timeout) == (1, 40)
    assert overrides.environment_variables == {"A": "1"}
    assert found.experiment_name == "e"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("data", "uri_folder"),
        ("data/a.csv", "uri_file"),
        ("s3://bucket/folder", "uri_folder"),
        ("https://host/data.csv?sig=a/b", "uri_file"),
        ("https://host/folder/", "uri_folder"),
        ("nowhere", "uri_folder"),
    ],
)
def test_the_type_of_the_input_is_found(data: str, kind: str) -> None:
    assert loaded(flags={"input.uri": ("--input", data)}).input.type == kind


def test_flags_win_over_sets_and_sets_over_the_file() -> None:
    text = (
        "inputs: {d: {type: uri_folder, path: ../data}}\nmini_batch_size: 1\nerror_threshold: 1\n"
    )
    found = loaded(
        text,
        ["mini_batch_size=2", "error_threshold=2"],
        {"overrides.mini_batch_size": ("--mini-batch-size", 3)},
    )
    assert (found.overrides.mini_batch_size, found.overrides.error_threshold) == (3, 2)


def test_mistakes_are_told_as_they_were_written() -> None:
    found = mistakes(
        "inputs: {d: {type: uri_folder, path: ../data}}\nretry_settings: {max_retries: x}\n"
        "compute: {target: c, instance_count: 0}\n",
        ["mini_batch_size=no"],
        {"overrides.instance_count": ("--instance-count", 0)},
    )
    assert found == [
        "--instance-count: expected a whole number >= 1, got 0",
        "--set mini_batch_size: expected a whole number >= 1, got False",
        "jobs/job.yml:2:31: retry_settings.max_retries: expected a whole number >= 0, got 'x'",
        (
            "jobs/job.yml:3:1: compute: is not supported: "
            "a job runs on its deployment's compute; only compute.instance_count can be set"
        ),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mini_batch_size: 1", "1:1: input: is missing: say with --input"),
        ("inputs: {}", "inputs: has 0 entries: a model deployment takes exactly one"),
        ("inputs: {a: {path: x}, b: {path: y}}", "inputs: has 2 entries"),
        ("inputs: [a]", "inputs: expected a mapping of names to data, got a list"),
        ("inputs: {a: x}", "inputs.a: expected a mapping with type and path, got 'x'"),
        ("inputs: {a: {type: string, default: x}}", "literal inputs belong to pipelines"),
        ("inputs: {a: {type: mltable, path: x}}", "tables are not supported"),
        ("inputs: {a: {type: mlflow_model, path: x}}", "the model belongs to the deployment"),
        ("inputs: {a: {type: uri_folder, path: 3}}", "input: expected a path or URI, got 3"),
        ("inputs: {a: {path: 'azureml:d:1'}}", "names a data asset, which is not supported yet"),
        ("inputs: {a: {path: x}}\njobs: {}", "jobs: is not supported: pipeline jobs"),
        ("inputs: {a: {path: x}}\nlogging_level: info", "it is a setting of the deployment"),
        ("inputs: {a: {path: x}}\nfoo: 1", "foo: unknown field; a job file has inputs, outputs"),
    ],
)
def test_what_is_refused(text: str, sentence: str) -> None:
    assert sentence in mistakes(text)[0]
    assert mistakes(text)[0].startswith("jobs/job.yml")
