"""The front door: what is imported, how errors look, which exit codes there are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchpoint.cli.command_tree import COMMANDS, completed, load_command
from batchpoint.cli.error_report import exit_code_of
from batchpoint.cli.main import run
from batchpoint.domain.errors import FAMILIES, BatchpointError
from tests.unit.cli.conftest import Cli

HEAVY = {"fastapi", "httpx", "rich", "sqlalchemy", "structlog", "uvicorn", "yaml", "jmespath"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["invoke", "--help"], ["job", "--help"], ["supervisor", "--help"]]
)
def test_help_imports_little(arguments: list[str]) -> None:
    code = (
        "import json, sys\nfrom batchpoint.cli.main import run\n"
        f"run({arguments!r})\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stderr)}
    assert not loaded & HEAVY


def test_who_invokes_a_model_reads_no_graphs(tmp_path: Path) -> None:
    code = (
        "import json, sys\nfrom batchpoint.cli.main import run\n"
        "code = run(['invoke', 'nobody', '--input', '.'])\n"
        "print(json.dumps([code, *sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "BATCHPOINT_HOME": str(tmp_path / "home")},
    )
    assert "endpoint_not_found" in done.stderr
    exit_code, *loaded = json.loads(done.stdout)
    assert exit_code == 2
    graphs = {"core.graph", "core.binding", "cli.job_graph", "cli.yaml_steps", "control.pipelines"}
    assert not {f"batchpoint.{name}" for name in graphs} & set(loaded)


def test_every_command_has_help_and_a_sentence_for_every_option() -> None:
    for name, place in COMMANDS.items():
        command = load_command(place)
        below = getattr(command, "commands", {})
        for verb, leaf in below.items() if below else [("", command)]:
            assert leaf.help, f"{name} {verb}"
            for option in leaf.params:
                if option.param_type_name == "option":
                    assert option.help, f"{name} {verb} {option.opts}"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["job"], ["job", "list", "-h"]])
def test_help_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert "Usage: batchpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["jop"], "No such command 'jop'. Did you mean 'job'?"),
        (["job", "shw"], "No such command 'shw'. Did you mean 'show'?"),
        (["job", "show", "--nam"], "requires an argument"),
        (["job", "show", "--x"], "No such option: --x"),
        (["job", "list", "--max-results", "0"], "greater than or equal to 1"),
        (["endpoint", "list", "-o", "xml"], "xml"),
        (["deploy"], "MODEL"),
    ],
)
def test_wrong_usage(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("batchpoint: error[invalid]: ")
    assert sentence in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "option", [["-o", "json"], ["--output", "json"], ["--output=json"], ["-ojson"]]
)
def test_errors_as_json(cli: Cli, option: list[str]) -> None:
    ended = cli("job", "show", "nope", *option)
    assert ended.code == 2
    assert json.loads(ended.err)["error"]["code"] == "job_not_found"


def test_a_mistake_of_ours_shows_no_traceback_unless_asked(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchpoint import wiring

    def broken(*_: object) -> None:
        raise RuntimeError("oh no")

    monkeypatch.setattr(wiring, "embedded_app", broken)
    ended = cli("job", "list")
    assert ended.code == 1
    assert "error[internal_error]: RuntimeError: oh no" in ended.err
    assert "Traceback" not in ended.err
    monkeypatch.setenv("BATCHPOINT_DEBUG", "1")
    assert "Traceback" in cli("job", "list").err


def test_every_family_has_its_exit_code() -> None:
    codes = {family.__name__: exit_code_of(family("x")) for family in FAMILIES}
    assert codes == {
        "Invalid": 2, "NotFound": 2, "Conflict": 2, "Denied": 5, "Unavailable": 5, "JobFailed": 1,
    }  # fmt: skip
    assert exit_code_of(BatchpointError("x")) == 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--f", "x"], ["--file", "x"]),
        (["--endpoint=x"], ["--endpoint-name=x"]),
        (["--set", "a=1"], ["--set", "a=1"]),
        (["--se", "a"], ["--se", "a"]),
        (["-f", "--", "--f"], ["-f", "--", "--f"]),
        (["--nothing"], ["--nothing"]),
    ],
)
def test_options_may_be_cut_short(typed: list[str], meant: list[str]) -> None:
    known = ["--file", "-f", "--endpoint-name", "--set", "--set-default"]
    assert completed(typed, known) == meant


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("batchpoint ")
