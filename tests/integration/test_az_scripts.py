"""A script of `az ml` commands runs unchanged, with the `az` that is installed on request."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from batchpoint.cli.az_shim import install
from batchpoint.domain.errors import Conflict
from batchpoint.runner.supervisor_link import SupervisorLink

DRIVER = """
def init():
    pass

def run(mini_batch):
    return [len(open(path).read()) for path in mini_batch]
"""
ENDPOINT = """
$schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json
name: counter
auth_mode: aad_token
"""
DEPLOYMENT = """
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
name: {name}
endpoint_name: counter
type: model
model: azureml:counter-model@latest
code_configuration:
  code: code
  scoring_script: driver.py
compute: azureml:batch-cluster
settings:
  mini_batch_size: 2
  output_action: append_row
"""
SCRIPT = """
set -e
az account set --subscription 0
az configure --defaults group=g workspace=w location=l
ENDPOINT=counter-ab1
az ml model create --name counter-model --type "custom_model" --path "model"
az ml compute create -n batch-cluster --type amlcompute --min-instances 0 --max-instances 5
az ml batch-endpoint create --f endpoint.yml --name $ENDPOINT -g group
az ml batch-deployment create --file first.yml --endpoint $ENDPOINT --set-default
az ml batch-deployment create --file second.yml --endpoint-name $ENDPOINT
JOB=$(az ml batch-endpoint invoke --name $ENDPOINT --input data --input-type uri_folder \
    --set output_file_name=mine.csv --query name -o tsv)
az ml job show -n $JOB --web
az ml job stream -n $JOB
echo "status: $(az ml job show -n $JOB --query status -o tsv)"
az ml job download --name $JOB --output-name score --download-path ./
echo "jobs: $(az ml batch-deployment list-jobs --name first --endpoint-name $ENDPOINT \
    --query "length([])")"
az ml batch-endpoint update --name $ENDPOINT --set defaults.deployment_name=second
echo "default: $(az ml batch-endpoint show --name $ENDPOINT \
    --query "{D:defaults.deployment_name}" -o tsv)"
az ml batch-deployment delete --name first --endpoint-name $ENDPOINT --yes
az ml batch-endpoint delete --name $ENDPOINT --yes
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder as the field's examples have it."""
    work = tmp_path / "work"
    for folder in ("code", "data", "model"):
        (work / folder).mkdir(parents=True)
    (work / "code" / "driver.py").write_text(DRIVER)
    (work / "model" / "weights.txt").write_text("w")
    for length in (1, 2, 3):
        (work / "data" / f"{length}.txt").write_text("x" * length)
    (work / "endpoint.yml").write_text(ENDPOINT)
    for name in ("first", "second"):
        (work / f"{name}.yml").write_text(DEPLOYMENT.format(name=name))
    return work


def _az(tmp_path: Path, work: Path, script: str) -> subprocess.CompletedProcess[str]:
    install(tmp_path / "bin", force=False)
    environ = {key: value for key, value in os.environ.items() if key != "BATCHPOINT_URL"} | {
        "BATCHPOINT_HOME": str(tmp_path / "home"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    }
    try:
        return subprocess.run(
            ["bash", "-c", script],
            cwd=work,
            env=environ,
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )
    finally:
        SupervisorLink(tmp_path / "home").down()


def test_a_script_of_az_commands_runs_to_its_end(tmp_path: Path, work: Path) -> None:
    ran = _az(tmp_path, work, SCRIPT)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    assert "status: Completed" in said
    assert "jobs: 1" in said
    assert "default: second" in said
    assert "batchpoint serve" in ran.stderr  # what --web says where no server is
    scores = work / "named-outputs" / "score" / "mine.csv"
    assert scores.read_text() == "_file,prediction\n1.txt,1\n2.txt,2\n3.txt,3\n"


def test_a_script_stops_where_az_fails(tmp_path: Path, work: Path) -> None:
    ran = _az(tmp_path, work, "set -e\naz ml job show -n no-such-job\necho went on")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "error[job_not_found]" in ran.stderr


def test_another_az_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "az").write_text("#!/bin/sh\necho azure\n")
    with pytest.raises(Conflict, match="another program"):
        install(tmp_path, force=False)
    assert "azure" in (tmp_path / "az").read_text()
    installed = install(tmp_path, force=True)
    assert installed.stat().st_mode & stat.S_IXUSR
    assert sys.executable in installed.read_text()
    assert install(tmp_path, force=False) == installed  # our own is brought up to date
