"""Nouns and verbs of the command line, over the real control plane."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.cli.conftest import Cli
from tests.unit.control_plane import ControlPlane, code_folder, mlflow_model


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_long_form_of_azures_examples(cli: Cli, tmp_path: Path) -> None:
    write(
        tmp_path / "endpoint.yml", "$schema: x\nname: heart\ndescription: d\nauth_mode: aad_token\n"
    )
    mlflow_model(tmp_path / "sub" / "model")
    write(
        tmp_path / "sub" / "deployment.yml",
        "name: blue\nendpoint_name: heart\ntype: model\nmodel: {name: hm, path: model}\n"
        "compute: azureml:batch-cluster\nsettings: {mini_batch_size: 2}\n",
    )
    steps = [
        "compute create -n batch-cluster --type amlcompute --min-instances 0 --max-instances 5",
        "batch-endpoint create --file endpoint.yml",
        "batch-deployment create --file sub/deployment.yml --endpoint heart --set-default",
    ]
    said: list[str] = []
    for step in steps:
        ended = cli(*step.split())
        assert ended.code == 0, ended.err
        said.append(ended.out)
    assert said[-1].split("\n")[:4] == [
        "Deployment blue of heart is ready",
        "  endpoint    heart",
        "  deployment  blue (the endpoint's default)",
        "  model       azureml:hm:1",
    ]
    tried = cli("deployment", "create", "-f", "sub/deployment.yml", "-n", "green").out
    assert "\n  deployment  green\n" in tried
    assert tried.endswith(
        "\n\n  batchpoint invoke heart --deployment-name green --input DATA --wait\n"
    )
    assert cli("deployment", "delete", "-n", "green", "-e", "heart", "--yes").code == 0
    shown = cli("batch-endpoint", "show", "--name", "heart", "--query", "defaults.deployment_name",
                "-o", "tsv")  # fmt: skip
    assert shown.out == "blue\n"
    listed = cli("batch-deployment", "list", "-e", "heart", "-o", "json").json
    assert [(d["name"], d["model"], d["compute"]) for d in listed] == [
        ("blue", "azureml:hm:1", "batch-cluster")
    ]
    assert cli("model", "show", "hm", "-o", "json").json["version"] == "1"
    deleted = cli("batch-deployment", "delete", "-n", "blue", "-e", "heart", "--yes")
    assert deleted.code == 2
    assert "error[deployment_in_use]" in deleted.err
    assert cli("batch-endpoint", "delete", "-n", "heart", "-y").code == 0
    assert cli("endpoint", "list", "-o", "json").json == []


def test_what_is_shown_makes_the_same_again(deployed: Cli, tmp_path: Path) -> None:
    for noun, owner in (("endpoint", []), ("deployment", ["-e", "heart"])):
        name = "heart" if noun == "endpoint" else "default"
        shown = deployed(noun, "show", name, *owner)
        assert shown.code == 0, shown.err
        write(tmp_path / "again.yml", shown.out)
        again = deployed(noun, "create", "-f", "again.yml")
        assert again.code == 0, again.err
        before, after = (
            yaml.safe_load(shown.out),
            yaml.safe_load(deployed(noun, "show", name, *owner).out),
        )
        assert {k: v for k, v in before.items() if k != "created_at"} == {
            k: v for k, v in after.items() if k != "created_at"
        }


def test_update_by_set_changes_one_field(deployed: Cli) -> None:
    ended = deployed("endpoint", "update", "heart", "--set", "description=new", "--set", "tags.a=1")
    assert ended.code == 0, ended.err
    shown = deployed("endpoint", "show", "heart", "-o", "json").json
    assert shown["description"] == "new"
    assert shown["tags"] == {"a": "1"}
    assert shown["defaults"] == {"deployment_name": "default"}
    deployed("endpoint", "update", "heart", "--set", "tags={}", "--set", "description=")
    shown = deployed("endpoint", "show", "heart", "-o", "json").json
    assert shown["tags"] == {}
    assert shown["description"] is None


def test_update_of_a_deployment_keeps_the_rest(deployed: Cli) -> None:
    ended = deployed(
        "deployment", "update", "default", "-e", "heart", "--set", "settings.mini_batch_size=7",
        "--set", "error_threshold=1",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    settings = deployed("deployment", "show", "default", "-e", "heart", "-o", "json").json[
        "settings"
    ]
    assert (settings["mini_batch_size"], settings["error_threshold"]) == (7, 1)
    assert settings["max_concurrency_per_instance"] >= 1


def test_update_of_nothing_and_of_what_is_not_there(deployed: Cli, tmp_path: Path) -> None:
    assert deployed("endpoint", "update", "heart").code == 2
    write(tmp_path / "e.yml", "name: other\n")
    ended = deployed("endpoint", "update", "-f", "e.yml")
    assert (ended.code, "error[endpoint_not_found]" in ended.err) == (2, True)


def test_models_environments_and_computes(cli: Cli, tmp_path: Path) -> None:
    mlflow_model(tmp_path / "m")
    write(tmp_path / "conda.yml", "dependencies: [python=3.11]\n")
    assert cli("model", "create", "--name", "hm", "--path", "m", "-o", "json").json["type"] == (
        "mlflow_model"
    )
    assert cli("model", "create", "--name", "hm", "--path", "m").code == 0
    assert [m["version"] for m in cli("model", "list", "-n", "hm", "-o", "json").json] == ["2", "1"]
    made = cli("environment", "create", "-n", "env", "--conda-file", "conda.yml", "-o", "json").json
    assert made["conda_file"] == {"dependencies": ["python=3.11"]}
    assert "env" in cli("environment", "list").out
    assert cli("environment", "show", "env", "--version", "1").code == 0
    assert cli("environment", "delete", "env", "-y").code == 0
    cluster = cli("compute", "create", "cluster", "--max-instances", "2", "-o", "json").json
    assert (cluster["type"], cluster["max_instances"]) == ("local", 2)
    changed = cli("compute", "update", "cluster", "--max-instances", "3", "-o", "json").json
    assert changed["max_instances"] == 3
    assert cli("compute", "show", "cluster").code == 0
    assert cli("compute", "delete", "cluster", "-y").code == 0
    assert [c["name"] for c in cli("compute", "list", "-o", "json").json] == ["local"]
    assert cli("model", "delete", "hm", "--version", "1", "--yes").code == 0


def test_deploy_tells_what_it_chose_and_again_is_an_update(deployed: Cli, tmp_path: Path) -> None:
    code_folder(tmp_path / "code")
    again = deployed(
        "deploy", "model", "-n", "heart", "--scoring-script", "code/score.py",
        "--mini-batch-size", "3", "--max-concurrency-per-instance", "2",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert "endpoint    heart (was there)" in again.out
    assert "scored by   score.py" in again.out
    assert "local: 1 instance × 2 workers" in again.out
    assert "mini-batch  3 files" in again.out


def test_deploy_takes_one_worker_per_core(deployed: Cli) -> None:
    from batchpoint.cli.deploy_step import cores

    shown = deployed("deployment", "show", "default", "-e", "heart", "-o", "json").json
    assert shown["settings"]["max_concurrency_per_instance"] == cores()


def test_deploy_of_a_deployment_file(cli: Cli, tmp_path: Path) -> None:
    mlflow_model(tmp_path / "sub" / "model")
    write(tmp_path / "sub" / "d.yml", "name: blue\nendpoint_name: heart\nmodel: ./model\n")
    ended = cli("deploy", "sub/d.yml", "--set", "settings.mini_batch_size=5")
    assert ended.code == 0, ended.err
    assert cli("endpoint", "show", "heart", "-o", "json").json["defaults"] == {
        "deployment_name": "blue"
    }
    assert cli("deploy", "sub/d.yml", "--code", ".").code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere", "--name", "heart"], "nothing is at"),
        (["model"], "give it with --name"),
        (["model", "--name", "x"], "3 to 32 letters"),
        (["model", "--name", "heart", "--code", "."], "--code needs --scoring-script"),
        (["model", "--name", "heart", "--set", "compute=nope"], "there is no compute named 'nope'"),
        (["azureml:nope:1", "--name", "heart"], "nope"),
    ],
)
def test_a_deploy_that_fails_leaves_nothing(
    cli: Cli, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    mlflow_model(tmp_path / "model")
    ended = cli("deploy", *arguments)
    assert ended.code == 2
    assert sentence in ended.err
    assert cli("endpoint", "list", "-o", "json").json == []


def test_a_bad_file_is_told_with_all_its_places(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "endpoint.yml", "name: 1\nauth_mode: key\nfoo: bar\n")
    ended = cli("endpoint", "create", "-f", "endpoint.yml")
    assert ended.code == 2
    assert ended.err.count("endpoint.yml:") == 3
    assert ended.out == ""


def test_deleting_asks(deployed: Cli) -> None:
    ended = deployed("endpoint", "delete", "heart")
    assert ended.code == 2
    assert "give --yes" in ended.err
    assert deployed("endpoint", "show", "heart").code == 0


def test_warnings_go_to_stderr(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "c.yml", "name: cluster\ntype: amlcompute\nssh_settings: {a: b}\n")
    ended = cli("compute", "create", "-f", "c.yml", "-o", "json")
    assert ended.json["name"] == "cluster"
    assert ended.err.startswith("batchpoint: warning: c.yml:3:1: ssh_settings has no effect")


@pytest.mark.parametrize("form", ["json", "yaml", "table", "tsv", "none"])
def test_every_form_of_output(deployed: Cli, form: str) -> None:
    ended = deployed("endpoint", "list", "-o", form, "--query", "[].{name: name, tags: tags}")
    assert ended.code == 0
    assert (
        ended.out
        == {
            "json": '[\n  {\n    "name": "heart",\n    "tags": {}\n  }\n]\n',
            "yaml": "- name: heart\n  tags: {}\n",
            "table": "name\n-----\nheart\n",
            "tsv": "heart\t{}\n",
            "none": "",
        }[form]
    )


def test_a_query_that_is_none(deployed: Cli) -> None:
    ended = deployed("endpoint", "list", "--query", "[?")
    assert ended.code == 2
    assert "error[query_invalid]" in ended.err


def test_server_of_the_settings_is_used(
    deployed: Cli, monkeypatch: pytest.MonkeyPatch, plane: ControlPlane
) -> None:
    (plane.home / "settings.toml").write_text('url = "http://127.0.0.1:1"\n')
    ended = deployed("endpoint", "list")
    assert ended.code == 5
    assert "error[server_unreachable]" in ended.err
