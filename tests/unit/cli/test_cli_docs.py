"""The reference pages say what the code says: commands, options, YAML fields, settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from batchpoint.cli import invocation_file
from batchpoint.cli.command_tree import COMMANDS, load_command
from batchpoint.cli.resource_view import SERVER_FIELDS
from batchpoint.domain.asset import Code, Data, Environment, Model
from batchpoint.domain.component import (
    CommandComponent,
    ComponentInput,
    ComponentOutput,
    ParallelComponent,
    PipelineComponent,
    Step,
)
from batchpoint.domain.compute import Compute
from batchpoint.domain.datastore import Credentials, Datastore
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.pipeline import PipelineDeployment, PipelineJob
from batchpoint.settings import Settings, setting_keys

DOCS = Path(__file__).resolve().parents[3] / "docs"


def sections(page: str, level: str) -> dict[str, str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for part in re.split(rf"^{level} ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        found[title.strip()] = re.split(r"^#{1,3} ", body, flags=re.MULTILINE)[0]
    return found


def commands() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, place in COMMANDS.items():
        command = load_command(place)
        below = getattr(command, "commands", None) or {"": command}
        found |= {f"batchpoint {name} {verb}".strip(): leaf for verb, leaf in below.items()}
    return found


def test_every_command_has_its_heading_and_every_option_its_row() -> None:
    told = sections("cli.md", "###")
    code = commands()
    assert set(told) == set(code), "docs/cli.md: a heading `### batchpoint …` for each command"
    for name, command in code.items():
        if name == "batchpoint batch-endpoint invoke":
            continue  # it points at the other one
        rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", told[name], flags=re.MULTILINE)
        shown = {option for row in rows for option in re.findall(r"`([^`]+)`", row)}
        options = {
            option
            for param in command.params
            for option in (
                [param.metavar]
                if param.param_type_name == "argument"
                else [*param.opts, *param.secondary_opts]
            )
        }
        assert shown == options, f"docs/cli.md: options of {name}"


def test_the_help_of_invoke_speaks_of_pipelines() -> None:
    for name in ("batchpoint invoke", "batchpoint batch-endpoint invoke"):
        command = commands()[name]
        told = " ".join(command.help.split())
        for words in ("run its pipeline", "inputs.NAME.path=DATA", "inputs.NAME=0.5"):
            assert words in told, name
        file = next(each for each in command.params if "--file" in each.opts)
        assert "inputs and outputs by name" in file.help


def test_every_exit_code_is_told() -> None:
    text = sections("cli.md", "##")["Exit codes"]
    assert re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE) == [
        "0", "1", "2", "3", "4", "5", "130",
    ]  # fmt: skip


def fields(model: type[BaseModel], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, info in model.model_fields.items():
        below = info.annotation
        if isinstance(below, type) and issubclass(below, BaseModel):
            found |= fields(below, f"{prefix}{name}.")
        elif name not in SERVER_FIELDS:
            found.add(f"{prefix}{name}")
    return found


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("Batch endpoint", BatchEndpoint),
        ("Batch deployment", ModelDeployment),
        ("Compute", Compute),
        ("Model", Model),
        ("Environment", Environment),
        ("Data asset", Data),
        ("Code asset", Code),
        ("Datastore", Datastore),
    ],
)
def test_every_field_has_its_row(title: str, model: type[BaseModel]) -> None:
    code = fields(model)
    if model is ModelDeployment:
        code.remove("code_configuration")
        code |= {"code_configuration.code", "code_configuration.scoring_script"}
    if model is Datastore:
        code.remove("credentials")
        code |= fields(Credentials, "credentials.")
    assert rows(title) == code, f"docs/yaml.md: fields of {title}"


@pytest.mark.parametrize("model", [PipelineJob, PipelineDeployment])
def test_every_field_of_pipelines_has_its_row(model: type[BaseModel]) -> None:
    title = "Pipeline job" if model is PipelineJob else "Pipeline deployment"
    assert rows(title) == fields(model), f"docs/yaml.md: fields of {title}"


def test_every_field_of_components_has_its_row() -> None:
    code: set[str] = set()
    for model in (CommandComponent, ParallelComponent, PipelineComponent):
        code |= fields(model)
    for side, entry in (("inputs", ComponentInput), ("outputs", ComponentOutput)):
        code = (code - {side}) | fields(entry, f"{side}.NAME.")
    step = fields(Step, "jobs.STEP.")
    members = ("resources", "limits", "retry_settings")
    step = {f for f in step if f.split(".")[2] not in members}
    step |= {f"jobs.STEP.{member}" for member in members}
    sides = {"jobs.STEP.inputs", "jobs.STEP.outputs"}
    step = (step - sides) | {f"{side}.NAME" for side in sides}
    assert rows("Component") | rows("Steps", "###") == (code - {"jobs"}) | step


def rows(title: str, level: str = "##") -> set[str]:
    body = sections("yaml.md", level)[title]
    found = re.findall(r"^\| ((?:`[^`]+`(?:, | \(or )?)+)\)? \|", body, flags=re.MULTILINE)
    return {name for row in found for name in re.findall(r"`([^`]+)`", row)}


def test_every_key_of_a_job_file_has_its_row() -> None:
    assert rows("Job file") == {*invocation_file.JOB_FILE_KEYS, "retry_settings.max_retries",
                                "retry_settings.timeout", "name"} - {"retry_settings"}  # fmt: skip


def test_every_setting_has_its_heading_variable_and_default() -> None:
    told = sections("settings.md", "###")
    code = setting_keys()
    assert list(told) == [".".join(keys) for keys in code], "docs/settings.md: a heading each"
    for keys, variable in code.items():
        body = told[".".join(keys)]
        assert f"`{variable}` · " in body
        default: object = Settings(home=Path("~/.batchpoint"))
        for key in keys:
            default = getattr(default, key)
        if isinstance(default, (int, float, str)):
            assert f"default `{default}`" in body, keys
