"""The command line from YAML to results, with jobs that really run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from batchpoint.cli.main import run
from batchpoint.domain.errors import Conflict
from tests.integration.conftest import Place
from tests.integration.user_files import SCRIPT, write_files


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ended]


@pytest.fixture(scope="module")
def files(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_files(folder, "typed")
    return folder


@pytest.fixture
def cli(
    place: Place, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    """Run a command line as if typed in the folder of the files."""
    monkeypatch.chdir(files)
    monkeypatch.setenv("BATCHPOINT_HOME", str(place.home))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("BATCHPOINT_URL", raising=False)

    def typed(line: str) -> Ended:
        capsys.readouterr()
        code = run(line.split())
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    if not any(endpoint.name == "typed" for endpoint in place.client.endpoints.list()):
        for line in (
            "batch-endpoint create -f endpoint.yml",
            "batch-deployment create -f current.yml --set-default",
            "deployment create --file legacy.yml --set max_concurrency_per_instance=2",
        ):
            ended = typed(line)
            assert ended.code == 0, ended.err
    return typed


def done(cli: Cli, line: str, code: int = 0) -> Any:
    """Invoke, wait, and return the job; checks the exit code."""
    ended = cli(f"batch-endpoint invoke -n typed {line} --wait -o json")
    assert ended.code == code, ended.err
    return ended.json


def test_both_layouts_of_a_deployment_mean_the_same(place: Place, cli: Cli) -> None:
    shown = cli("batch-deployment show -n blue -e typed -o json").json
    assert shown["settings"]["mini_batch_size"] == 3
    assert shown["settings"]["retry_settings"] == {"max_retries": 0, "timeout": 300}
    assert shown["resources"]["instance_count"] == 1
    legacy = cli("batch-deployment show --name green --endpoint typed -o json").json
    assert legacy["settings"]["mini_batch_size"] == 2
    assert legacy["settings"]["max_concurrency_per_instance"] == 2
    assert legacy["settings"]["output_file_name"] == "predictions.csv"
    job = done(cli, "--input good")
    rows = place.predictions(place.client.jobs.get(job["name"]), "scores.csv").splitlines()
    assert rows == [
        "_file,prediction",
        *(f"{n}.txt,blue of {3 if n < 3 else 2}" for n in range(5)),
    ]
    job = done(cli, "--input good -d green")
    head = cli(f"job head -n {job['name']} --rows 2 -o json").json
    assert head == [{"_file": f"{n}.txt", "prediction": "blue of 2"} for n in (0, 1)]
    job = done(cli, "--input good -d green --mini-batch-size 4 --set output_file_name=x.jsonl")
    assert job["spec"]["settings"]["mini_batch_size"] == 4
    assert "blue of 4" in place.predictions(place.client.jobs.get(job["name"]), "x.jsonl")


def test_forms_and_queries(cli: Cli) -> None:
    assert cli("endpoint show -n typed --query defaults.deployment_name -o tsv").out == "blue\n"
    assert json.loads(cli("endpoint show -n typed --query tags").out) == {"team": "vision"}
    assert yaml.safe_load(cli("endpoint show typed -o yaml").out)["description"] == "scores"
    assert cli("endpoint show -n typed -o none").out == ""
    names = cli("deployment list -e typed --query [].name -o tsv").out.split()
    assert names == ["blue", "green"]
    table = cli("deployment list -e typed -o table").out
    assert "blue" in table
    assert "green" in table
    wrong = cli("endpoint show -n typed --query a..[")
    assert wrong.code == 2
    assert "query_invalid" in wrong.err
    nothing = cli("endpoint show -n nothing -o json")
    assert nothing.code == 2
    assert "endpoint_not_found" in nothing.err
    assert nothing.out == ""


@pytest.mark.parametrize(
    ("data", "threshold", "code", "failed"),
    [
        ("good", None, 0, 0),
        ("good", 0, 0, 0),
        ("mixed", None, 3, 1),
        ("mixed", -1, 3, 1),
        ("mixed", 1, 3, 1),
        ("mixed", 0, 1, 1),
        ("bad", -1, 1, None),
        ("bad", None, 1, None),
    ],
)
def test_exit_codes_follow_threshold_and_failed_items(
    cli: Cli, data: str, threshold: int | None, code: int, failed: int | None
) -> None:
    more = "" if threshold is None else f" --set error_threshold={threshold}"
    job = done(cli, f"-d green --input {data}{more}", code)
    assert job["status"]["state"] == ("Failed" if code == 1 else "Completed")
    if failed is not None:
        assert job["status"]["progress"]["items_failed"] == failed
    assert cli(f"job stream -n {job['name']} -o none").code == code


def test_what_is_said_of_a_job_with_failed_items(place: Place, cli: Cli, tmp_path: Path) -> None:
    ended = cli("invoke typed --input mixed -d green --wait")
    assert ended.code == 3
    assert "1 failed item" in ended.out
    assert "told to raise by 1.txt" in ended.out
    assert "0.txt" in ended.out
    name = cli("job list -e typed --max-results 1 --query [0].name -o tsv").out.strip()
    shown = cli(f"job show {name}").out
    assert "1 of 4 files with failures" in shown
    [item] = cli(f"job failed-items -n {name} -o json").json
    assert (item["name"], item["type"]) == ("1.txt", "ValueError")
    assert "score.py" in item["traceback"]
    assert "told to raise" in cli(f"job failed-items {name}").out
    assert "failed for good" in cli(f"job logs -n {name}").out
    logs = cli(f"job logs -n {name} --list -o tsv").out
    user = re.search(r"user/\S+", logs)
    assert user is not None
    assert "looking at 1.txt" in cli(f"job logs -n {name} --path {user[0]}").out
    target = tmp_path / "out"
    assert cli(f"job download {name} --download-path {target}").code == 0
    job = place.client.jobs.get(name)
    assert {p.name for p in target.iterdir()} == {p.name for p in place.output(job).iterdir()}
    text = (target / "predictions.csv").read_text()
    assert text == place.predictions(job)
    assert [line.split(",")[0] for line in text.splitlines()] == [
        "_file",
        "0.txt",
        "2.txt",
        "3.txt",
    ]
    assert cli(f"job download -n {name} --output-name score -p {target / 'az'}").code == 0
    assert (target / "az" / "named-outputs" / "score" / "predictions.csv").read_text() == text


def test_a_failed_job_leads_with_its_cause(cli: Cli) -> None:
    ended = cli("invoke typed --input bad -d green --wait")
    assert ended.code == 1
    lines = [line.strip() for line in ended.out.splitlines() if line.strip()]
    assert re.match(r"Job \S+ failed after .* \[nothing_scored\]", lines[0])
    assert "ValueError: told to raise by" in " ".join(lines[1:4])
    assert "your code, model or data" in ended.out
    name = lines[0].split()[1]
    shown = cli(f"job show {name}").out
    assert "[nothing_scored]" in shown.splitlines()[0]
    assert "score.py" in shown
    head = cli(f"job head {name}")
    assert head.code == 2
    assert cli(f"job download {name} -p out").code == 2


def test_the_default_is_switched_while_a_job_runs(place: Place, cli: Cli, files: Path) -> None:
    name = cli("invoke typed --input waits --query name -o tsv").out.strip()
    assert cli("endpoint update -n typed --set defaults.deployment_name=green").code == 0
    (files / "code" / "score.py").write_text(SCRIPT.replace("blue", "azure"))
    assert cli("deployment create -f current.yml --set settings.mini_batch_size=1").code == 0
    refused = cli("deployment delete -n blue -e typed --yes")
    assert (refused.code, "deployment_in_use" in refused.err) == (2, True)
    refused = cli("endpoint delete -n typed --yes")
    assert (refused.code, "endpoint_in_use" in refused.err) == (2, True)
    (files / "gate").touch()
    assert cli(f"job stream -n {name} -o none").code == 0
    job = place.client.jobs.get(name)
    assert place.predictions(job, "scores.csv").count("blue of 2") == 2
    after = done(cli, "--input good")
    assert after["spec"]["deployment_name"] == "green"
    updated = place.client.jobs.get(done(cli, "--input good -d blue")["name"])
    assert place.predictions(updated, "scores.csv").count("azure of 1") == 5
    refused = cli("deployment delete -n green -e typed --yes")
    assert (refused.code, "deployment_in_use" in refused.err) == (2, True)
    of_blue = cli("deployment list-jobs -n blue -e typed --query [].name -o tsv").out.split()
    of_all = cli("endpoint list-jobs -n typed --query [].name -o tsv").out.split()
    assert name in of_blue
    assert after["name"] not in of_blue
    assert {name, after["name"]} <= set(of_all)


def test_a_job_is_canceled(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text(f"wait {tmp_path}/never")
    name = cli(f"invoke typed --input {tmp_path} -d green --query name -o tsv").out.strip()
    assert cli(f"job cancel -n {name}").code == 0
    ended = cli(f"job stream -n {name}")
    assert ended.code == 4
    assert "was canceled" in ended.out


def test_one_key_is_one_job(place: Place, cli: Cli) -> None:
    line = "invoke typed --input good -d green --idempotency-key monday --query name -o tsv"
    assert cli(line).out == cli(line).out != ""
    once = place.client.invoke("typed", "good", deployment="green", idempotency_key="tuesday")
    again = place.client.invoke("typed", "good", deployment="green", idempotency_key="tuesday")
    assert once.name == again.name
    with pytest.raises(Conflict):
        place.client.invoke("typed", "bad", deployment="green", idempotency_key="tuesday")
    assert once.wait().status.progress.items_done == 5


def test_results_of_another_job_are_not_touched(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "results"
    line = f"invoke typed --input good -d green --output-path {target} --wait -o none"
    assert cli(line).code == 0
    before = {path: path.stat().st_mtime_ns for path in target.iterdir()}
    refused = cli(line)
    assert refused.code == 2
    assert "output_exists" in refused.err
    assert {path: path.stat().st_mtime_ns for path in target.iterdir()} == before


def test_warnings_and_missing_rows_are_shown(place: Place, cli: Cli) -> None:
    ended = cli("invoke typed --input odd -d green --mini-batch-size 2 --wait")
    assert ended.code == 3
    said = " ".join(ended.out.split())
    assert "Warning: run() returned more rows than it was given files" in said
    assert "None" not in said
    [name] = re.findall(r"Job (\S+) completed", ended.out)
    shown = cli(f"job show {name}").out
    assert "run() returned more rows than" in shown
    assert "timeout adaptive" in shown
    [line] = cli(f"job failed-items {name} -o json").json
    assert line["type"] == "missing_rows"
    assert place.client.jobs.get(name).status.progress.items_failed == 1
