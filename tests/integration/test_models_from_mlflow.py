"""Models that an MLflow server keeps, fetched from a real one on this machine."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from batchpoint.client.embedded_transport import EmbeddedTransport
from batchpoint.settings import Settings
from batchpoint.wiring import embedded_app

# Runs in a process of its own: mlflow warns of much, and warnings are errors here.
_LOG_MODELS = """
import json, pathlib, sys
from mlflow.tracking import MlflowClient
tracking, folder = sys.argv[1:]
client = MlflowClient(tracking_uri=tracking, registry_uri=tracking)
run = client.create_run(client.create_experiment("heart"))
client.log_artifacts(run.info.run_id, folder, "deep/model")
client.set_terminated(run.info.run_id)
source = f"{run.info.artifact_uri}/deep/model"
client.create_registered_model("heart")
version = client.create_model_version("heart", source, run.info.run_id).version
client.set_registered_model_alias("heart", "champion", version)
print(json.dumps({"run": run.info.run_id, "version": version}))
"""
_STARTED_SECONDS_MAX = 90.0


class Logged(NamedTuple):
    """A model that was logged: the server, the run, the version and its files."""

    tracking: str
    run: str
    version: str
    files: dict[str, bytes]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    transport = httpx.HTTPTransport(retries=0)
    deadline = _STARTED_SECONDS_MAX
    with httpx.Client(transport=transport) as client:
        while deadline > 0 and server.poll() is None:
            try:
                return client.get(url).status_code == 200
            except httpx.TransportError:
                try:
                    server.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    deadline -= 0.2
    return False


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A running MLflow server that keeps one model."""
    folder = tmp_path_factory.mktemp("mlflow")
    files = {
        "MLmodel": b"flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n",
        "data/weights.bin": os.urandom(300_000),
    }
    for name, body in files.items():
        file = folder / "model" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--serve-artifacts"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        tracking = f"http://127.0.0.1:{port}"
        assert _answers(f"{tracking}/health", server), (folder / "log").read_text()
        told = subprocess.run(
            [sys.executable, "-c", _LOG_MODELS, tracking, str(folder / "model")],
            check=True,
            capture_output=True,
        )
        found = json.loads(told.stdout.splitlines()[-1])
        yield Logged(tracking, found["run"], str(found["version"]), files)
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _register(
    home: Path, path: str, monkeypatch: pytest.MonkeyPatch, tracking: str | None
) -> httpx.Response:
    if tracking is None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    app = embedded_app(Settings(home=home))
    with httpx.Client(transport=EmbeddedTransport(lambda: app), base_url="http://test") as http:
        body = {"name": "heart", "type": "mlflow_model", "path": path}
        return http.post("/models", json=body, timeout=120)


@pytest.mark.filterwarnings("ignore")  # of mlflow's own making
@pytest.mark.parametrize(
    "path", ["models:/heart/VERSION", "models:/heart@champion", "runs:/RUN/deep/model"]
)
def test_models_are_fetched_and_stored(
    tmp_path: Path, logged: Logged, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = path.replace("VERSION", logged.version).replace("RUN", logged.run)
    answer = _register(tmp_path / "home", named, monkeypatch, logged.tracking)
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert model["properties"] == {"source_uri": named}
    tree, _, name = model["path"].removeprefix("upload:").partition("/")
    stored = tmp_path / "home" / "store" / tree / name
    found = {
        file.relative_to(stored).as_posix(): file.read_bytes()
        for file in stored.rglob("*")
        if file.is_file()
    }
    assert found == logged.files
    assert list((tmp_path / "home" / "store" / "incoming").iterdir()) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "path", ["models:/ghost/1", "models:/heart/99", "models:/heart@nobody", "runs:/nobody/model"]
)
def test_models_that_the_server_does_not_have(
    tmp_path: Path, logged: Logged, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = _register(tmp_path / "home", path, monkeypatch, logged.tracking)
    assert (answer.status_code, answer.json()["code"]) == (400, "reference_invalid"), answer.text
    assert path in answer.json()["detail"]


@pytest.mark.filterwarnings("ignore")
def test_a_path_that_a_run_did_not_log(
    tmp_path: Path, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"runs:/{logged.run}/nothing"
    answer = _register(tmp_path / "home", path, monkeypatch, logged.tracking)
    assert answer.status_code == 400, answer.text
    assert path in answer.json()["detail"]


def test_without_a_server_the_message_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = _register(tmp_path / "home", "models:/heart/1", monkeypatch, None)
    assert answer.status_code == 400
    assert "MLFLOW_TRACKING_URI" in answer.json()["detail"]
    assert answer.json()["where"] == "path"


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking = f"http://127.0.0.1:{_free_port()}"
    answer = _register(tmp_path / "home", "models:/heart/1", monkeypatch, tracking)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable"), answer.text
