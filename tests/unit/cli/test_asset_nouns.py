"""The nouns `data`, `code` and `datastore`, and archiving, over the real control plane."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.cli.conftest import Cli
from tests.unit.control_plane import ControlPlane, code_folder, data_folder, mlflow_model

SECRET = "c2VjcmV0*:![{ %&|>"


def good(cli: Cli, *arguments: str) -> str:
    ended = cli(*arguments)
    assert ended.code == 0, ended.err
    return ended.out


def versions(cli: Cli, noun: str, *arguments: str) -> list[str]:
    ended = cli(noun, "list", *arguments, "-o", "json")
    assert ended.code == 0, ended.err
    return [asset["version"] for asset in ended.json]


def test_a_data_asset_from_registration_to_a_job(
    deployed: Cli, plane: ControlPlane, tmp_path: Path
) -> None:
    good(deployed, "data", "create", "--name", "unlabeled", "--path", "data")
    (tmp_path / "d.yml").write_text("name: one\npath: data/a.csv\ntags: {a: 1}\n")
    made = deployed("data", "create", "-f", "d.yml", "--set", "tags.b=2", "-o", "json").json
    assert (made["version"], made["type"], made["tags"]) == ("1", "uri_file", {"a": "1", "b": "2"})
    job = deployed("invoke", "heart", "--input", "azureml:unlabeled@latest", "-o", "json").json
    assert job["spec"]["input"]["type"] == "uri_folder"
    assert job["spec"]["input"]["asset"] == "azureml:unlabeled:1"
    file = deployed("invoke", "heart", "--input", "azureml:one:1", "-o", "json").json
    assert file["spec"]["input"]["type"] == "uri_file"
    shown = good(deployed, "job", "show", job["name"])
    assert "data asset  azureml:unlabeled:1" in shown
    assert "input       file://" in shown
    assert plane.ledger.get_job(job["name"]).scoring.input.asset == "azureml:unlabeled:1"


def test_parameters_and_what_else_one_job_may_say(deployed: Cli, tmp_path: Path) -> None:
    code_folder(tmp_path / "code")
    good(deployed, "deploy", "model", "-n", "heart", "--scoring-script", "code/score.py")
    ended = deployed(
        "invoke", "heart", "-i", "data", "--param", "threshold=0.7", "--param", "name=x",
        "--env", "A=b", "--max-retries", "0", "--timeout", "9", "--error-threshold", "2",
        "--output-file-name", "out.csv", "--webhook-url", "https://example.com/done", "-o", "json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    spec = ended.json["spec"]
    settings = spec["settings"]
    assert settings["parameters"] == {"threshold": 0.7, "name": "x"}
    assert settings["environment_variables"] == {"A": "b"}
    assert (settings["max_retries"], settings["timeout_seconds"]) == (0, 9)
    assert (settings["error_threshold"], settings["output_file_name"]) == (2, "out.csv")
    assert spec["webhook_url"] == "https://example.com/done"
    assert "parameters  threshold=0.7, name=x" in good(deployed, "job", "show", ended.json["name"])


@pytest.mark.parametrize("noun", ["model", "environment", "data", "code"])
def test_archive_hides_and_restore_brings_back(cli: Cli, tmp_path: Path, noun: str) -> None:
    mlflow_model(tmp_path / "model")
    data_folder(tmp_path / "data")
    code_folder(tmp_path / "code")
    (tmp_path / "environment").write_text("dependencies: [python=3.11]\n")
    flag = "--conda-file" if noun == "environment" else "--path"
    for name in ("a", "a", "b"):
        good(cli, noun, "create", "--name", name, flag, noun)
    assert versions(cli, noun, "-n", "a") == ["2", "1"]
    good(cli, noun, "archive", "a", "--label", "latest")
    assert versions(cli, noun, "-n", "a") == ["1"]
    assert cli(noun, "show", "a", "--label", "latest", "-o", "json").json["version"] == "1"
    assert versions(cli, noun, "-n", "a", "--include-archived") == ["2", "1"]
    assert versions(cli, noun, "-n", "a", "--archived-only") == ["2"]
    good(cli, noun, "archive", "--name", "a")
    listed = cli(noun, "list", "-o", "json").json
    assert [asset["name"] for asset in listed] == ["b"]
    good(cli, noun, "restore", "a", "--version", "1")
    assert versions(cli, noun, "-n", "a") == ["1"]
    good(cli, noun, "restore", "a")
    assert versions(cli, noun, "-n", "a") == ["2", "1"]
    changed = cli(noun, "update", "a", "--set", "tags.x=1", "--description", "d", "-o", "json")
    assert changed.code == 0, changed.err
    assert (changed.json["version"], changed.json["tags"]) == ("2", {"x": "1"})
    assert cli(noun, "show", "a", "--version", "1", "-o", "json").json["description"] is None
    refused = cli(noun, "show", "a", "--label", "best")
    assert (refused.code, "error[reference_invalid]" in refused.err) == (2, True)
    table = good(cli, noun, "list", "-n", "a", "--include-archived")
    assert table.splitlines()[0].startswith(noun)
    assert "archived" in table.splitlines()[0]
    assert cli(noun, "delete", "a").code == 2
    good(cli, noun, "delete", "a", "--yes")
    assert cli(noun, "show", "a").code == 2


def test_what_is_shown_of_an_asset_makes_the_same_again(cli: Cli, tmp_path: Path) -> None:
    data_folder(tmp_path / "data")
    code_folder(tmp_path / "code")
    for noun in ("data", "code"):
        shown = good(cli, noun, "create", "--name", "a", "--path", noun)
        (tmp_path / "again.yml").write_text(shown)
        again = good(cli, noun, "create", "-f", "again.yml")
        assert yaml.safe_load(shown) == yaml.safe_load(again)


def test_a_registered_code_asset_is_deployed(cli: Cli, tmp_path: Path) -> None:
    mlflow_model(tmp_path / "model")
    code_folder(tmp_path / "code")
    good(cli, "code", "create", "--name", "scoring", "--path", "code")
    good(cli, "deploy", "model", "--name", "heart", "--code", "azureml:scoring:1",
         "--scoring-script", "score.py")  # fmt: skip
    shown = cli("deployment", "show", "default", "-e", "heart", "-o", "json").json
    assert shown["code_configuration"]["scoring_script"] == "score.py"
    ended = cli("code", "create", "--name", "x", "--path", "code/score.py")
    assert "no folder is at" in ended.err


# --- datastores --------------------------------------------------------------------------------


def test_a_datastore_of_a_folder(deployed: Cli, tmp_path: Path) -> None:
    data_folder(tmp_path / "lake" / "in")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "ds.yml").write_text("name: lake\ntype: local\npath: ../lake\n")
    shown = good(deployed, "datastore", "create", "-f", "sub/ds.yml", "--set", "tags.a=b")
    assert yaml.safe_load(shown)["path"] == str(tmp_path / "lake")
    assert "# Tested on 2" in shown
    assert "can be read, can be written." in shown
    assert "# It honours conditional writes" in shown
    listed = good(deployed, "datastore", "list")
    assert listed.splitlines()[0].split() == [
        "datastore", "type", "default", "place", "credentials", "self-test",
    ]  # fmt: skip
    assert "good" in listed
    assert [d["name"] for d in deployed("datastore", "list", "-o", "json").json] == [
        "lake", "workspaceartifactstore", "workspaceblobstore",
    ]  # fmt: skip
    job = deployed("invoke", "heart", "-i", "azureml://datastores/lake/paths/in", "-o", "json")
    assert job.code == 0, job.err
    changed = deployed("datastore", "update", "lake", "--set", "is_default=true", "-o", "json")
    assert changed.json["is_default"] is True
    assert changed.json["tags"] == {"a": "b"}
    assert "Tested on" in good(deployed, "datastore", "test", "lake")
    (tmp_path / "again.yml").write_text(shown)
    good(deployed, "datastore", "update", "-f", "again.yml")
    assert deployed("datastore", "update", "lake").code == 2
    good(deployed, "datastore", "update", "lake", "--set", "is_default=false")
    good(deployed, "datastore", "delete", "lake", "--yes", "--force")
    assert deployed("datastore", "show", "lake").code == 2


def test_a_datastore_that_cannot_be_used_is_refused_or_taken_untested(
    cli: Cli, tmp_path: Path
) -> None:
    wanted = ["--set", "name=gone", "--set", "type=local", "--set", f"path={tmp_path / 'gone'}"]
    refused = cli("datastore", "create", *wanted)
    assert refused.code == 2
    assert "gone" in refused.err
    web = ["--set", "name=web", "--set", "type=http", "--set", "endpoint=http://127.0.0.1:9/x/"]
    assert "Not tested" in good(cli, "datastore", "create", *web, "--skip-validation")
    assert "not tested" in good(cli, "datastore", "list")


AZURE = "name: lake\ntype: azure_blob\naccount_name: acc\ncontainer_name: con\n"


def test_credentials_arrive_and_are_shown_nowhere(
    cli: Cli, plane: ControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "ds.yml").write_text(AZURE)
    key = f"credentials.account_key={SECRET}"
    ended = cli("datastore", "create", "-f", "ds.yml", "--set", key, "--skip-validation")
    assert ended.code == 0, ended.err
    access = plane.services.datastores.access_for(["azureml://datastores/lake/paths/x"])
    [found] = [a for a in access.datastores if a.datastore.name == "lake"]
    assert found.credentials is not None
    assert found.credentials.revealed() == {"account_key": SECRET}
    told = ended.out + ended.err
    for form in ("json", "yaml", "table", "tsv"):
        told += good(cli, "datastore", "show", "lake", "-o", form)
        told += good(cli, "datastore", "list", "-o", form)
    told += good(cli, "datastore", "list")
    assert "account_key" in told
    assert SECRET not in told
    changed = cli("datastore", "update", "lake", "--set", "description=d", "-o", "json")
    assert SECRET not in changed.out + changed.err
    stored = b"".join(path.read_bytes() for path in plane.home.rglob("*") if path.is_file())
    assert SECRET.encode() not in stored


@pytest.mark.parametrize(
    "text",
    [
        f"credentials: '{SECRET}'",
        f"credentials: ['{SECRET}']",
        f"credentials: {{account_key: ['{SECRET}']}}",
        f"credentials: {{account_key: {{a: '{SECRET}'}}}}",
        f"credentials: {{acount_key: '{SECRET}'}}",
        f"credentials: {{certificate: '{SECRET}'}}",
        f"credentials: {{service_account_key: '{SECRET}'}}",
        f"credentials: {{account_key: '{SECRET}', sas_token: x}}",
        f"credentials: {{access_key_id: a, secret_access_key: '{SECRET}'}}",
        f"credentials: {{account_key: *{SECRET.split('*', maxsplit=1)[0]}}}",
        f"credentials: {{account_key: !{SECRET.split('*', maxsplit=1)[0]} x}}",
        f"credentials: {{account_key: '{SECRET}'}}\ncredentials: {{}}",
    ],
)
def test_no_error_repeats_a_secret(cli: Cli, tmp_path: Path, text: str) -> None:
    (tmp_path / "ds.yml").write_text(AZURE + text + "\n")
    ended = cli("datastore", "create", "-f", "ds.yml", "--skip-validation")
    assert ended.code == 2
    assert SECRET.split("*", maxsplit=1)[0] not in ended.out + ended.err
    assert "credentials" in ended.err or "ds.yml:5:" in ended.err


@pytest.mark.parametrize(
    "option",
    [
        f"credentials.acount_key={SECRET}",
        f"credentials.account_key.x={SECRET}",
        f"credentials.account_key {SECRET}",
        f"credentials.access_key_id={SECRET}",
    ],
)
def test_no_error_of_set_repeats_a_secret(cli: Cli, tmp_path: Path, option: str) -> None:
    (tmp_path / "ds.yml").write_text(AZURE)
    ended = cli("datastore", "create", "-f", "ds.yml", "--skip-validation", "--set", option)
    assert ended.code == 2
    assert SECRET not in ended.out + ended.err


def test_a_key_of_a_service_account_is_read_from_its_file(
    cli: Cli, plane: ControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "key.json").write_text('{"type": "service_account"}')
    (tmp_path / "sub" / "ds.yml").write_text(
        "name: g\ntype: gcs\nbucket: b\ncredentials: {service_account_key: key.json}\n"
    )
    good(cli, "datastore", "create", "-f", "sub/ds.yml", "--skip-validation")
    access = plane.services.datastores.access_for(["gs://b/x"])
    [found] = [a for a in access.datastores if a.datastore.name == "g"]
    assert found.credentials is not None
    assert found.credentials.revealed() == {
        "service_account_key": '{"type": "service_account"}',
    }


@pytest.mark.parametrize("width", ["60", "200"])
def test_tables_fit_the_terminal(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    data_folder(tmp_path / "data")
    good(cli, "data", "create", "--name", "a" * 60, "--path", "data", "--set", "version=" + "1" * 9)
    for noun in ("data", "datastore"):
        lines = good(cli, noun, "list").splitlines()
        assert max(len(line) for line in lines) <= int(width)
        assert lines[0].startswith(noun[:6])


def test_a_datastore_tells_its_protocol_once(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "lake.yml").write_text("{name: lake, type: s3, bucket: b}")
    flags = ("-f", "lake.yml", "--skip-validation")
    said = good(cli, "datastore", "create", *flags, "--set", "endpoint=http://127.0.0.1:9")
    assert "endpoint: http://127.0.0.1:9\n" in said
    assert "protocol" not in said
    assert "protocol: https\n" in good(cli, "datastore", "create", *flags, "-n", "other")
