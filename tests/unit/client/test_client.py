"""The SDK, with and without a server: the same calls, the same answers, the same errors."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from batchpoint import (
    BatchEndpoint,
    Client,
    Code,
    CodeConfiguration,
    Compute,
    Credentials,
    Data,
    Datastore,
    Environment,
    Input,
    Job,
    JobState,
    Model,
    ModelDeployment,
)
from batchpoint.domain.errors import Conflict, Invalid, JobFailed, NotFound, Unavailable
from batchpoint.domain.job import ErrorInfo, JobStatus
from batchpoint.storage.locate import path_of
from tests.unit.client.conftest import Server
from tests.unit.control_plane import (
    ControlPlane,
    code_folder,
    data_folder,
    deployed_model,
    mlflow_model,
)

Either = tuple[Client, ControlPlane]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return mlflow_model(tmp_path / "model")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return data_folder(tmp_path / "data")


def finish(plane: ControlPlane, job: str, status: JobStatus) -> None:
    epoch = plane.ledger.acquire_lease(job, "me", 0.0, 15, force=True)
    assert epoch is not None
    plane.ledger.finish(job, epoch, status)


def publish(plane: ControlPlane, job: Job, files: dict[str, bytes]) -> None:
    """Leave results where a runner would, and end the job."""
    output = path_of(job.scoring.output.uri)
    for name, content in files.items():
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    status = JobStatus(state=JobState.COMPLETED, output_uri=job.scoring.output.uri)
    finish(plane, job.name, status)


# --- deploy ------------------------------------------------------------------------------------


def test_a_model_is_deployed_in_one_call(either: Either, model: Path) -> None:
    client, plane = either
    made = client.deploy(model, "heart", mini_batch_size=7, max_retries=0, timeout=9)
    assert (made.endpoint_name, made.name) == ("heart", "default")
    assert made.settings.mini_batch_size == 7
    assert made.settings.retry_settings.max_retries == 0
    endpoint = client.endpoints.get("heart")
    assert endpoint.defaults.deployment_name == "default"
    deployed = deployed_model(plane, "heart")
    stored = Path(deployed.resolution.model.path)
    assert (stored / "model.pkl").read_bytes() == b"weights"
    assert deployed.resolution.model.type == "mlflow_model"
    again = client.deploy(str(model), "heart", mini_batch_size=8)
    assert again.model == made.model
    assert again.settings.mini_batch_size == 8


def test_a_script_is_deployed_with_its_folder(either: Either, tmp_path: Path) -> None:
    client, plane = either
    code = code_folder(tmp_path / "code")
    (code / "lib").mkdir()
    (code / "lib" / "part.py").write_text("x = 1\n")
    (tmp_path / "m.pkl").write_bytes(b"weights")
    client.deploy(tmp_path / "m.pkl", "heart", scoring_script=str(code / "score.py"))
    resolved = deployed_model(plane, "heart").resolution.code
    assert resolved is not None
    assert sorted(p.name for p in Path(resolved.path).rglob("*.py")) == ["part.py", "score.py"]
    client.deploy(tmp_path / "m.pkl", "heart", code=code, scoring_script="score.py")
    with pytest.raises(Invalid, match="scoring_script: is needed"):
        client.deploy(tmp_path / "m.pkl", "heart", code=code)


def test_a_deployment_that_fails_leaves_no_endpoint(either: Either, tmp_path: Path) -> None:
    client, _ = either
    (tmp_path / "m.pkl").write_bytes(b"weights")
    with pytest.raises(Invalid) as caught:
        client.deploy(tmp_path / "m.pkl", "heart")
    assert caught.value.code == "model_invalid"
    assert list(client.endpoints.list()) == []
    with pytest.raises(Invalid) as missing:
        client.deploy(tmp_path / "nowhere", "heart")
    assert missing.value.code == "input_not_found"
    assert missing.value.where == "path"


def test_wrong_arguments_are_named(client: Client, model: Path) -> None:
    with pytest.raises(Invalid, match="mini_batch_size: input should be greater"):
        client.deploy(model, "heart", mini_batch_size=0)
    with pytest.raises(Invalid, match="name") as caught:
        client.deploy(model, "h")
    assert caught.value.code == "field_invalid"
    with pytest.raises(Invalid) as unknown:
        client.deploy(model, "heart", nonsense=1)  # pyright: ignore[reportCallIssue]
    assert unknown.value.code == "field_unknown"


# --- resources ---------------------------------------------------------------------------------


def test_every_noun_has_its_verbs(either: Either, model: Path, tmp_path: Path) -> None:
    client, _ = either
    client.endpoints.create_or_update(BatchEndpoint(name="heart", tags={"a": "1"}))
    registered = client.models.create_or_update(
        Model(name="m", path=str(model), type="mlflow_model")
    )
    assert registered.version == "1"
    (tmp_path / "conda.yml").write_text("dependencies:\n- python=3.11\n- pip: [numpy]\n")
    environment = client.environments.create_or_update(
        Environment(name="e", conda_file=str(tmp_path / "conda.yml"))
    )
    assert environment.conda_file == {"dependencies": ["python=3.11", {"pip": ["numpy"]}]}
    client.computes.create_or_update(Compute(name="cluster", max_instances=3))
    wanted = ModelDeployment(
        name="first",
        endpoint_name="heart",
        model="azureml:m@latest",
        environment="azureml:e:1",
        compute="azureml:cluster",
        code_configuration=CodeConfiguration(
            code=str(code_folder(tmp_path / "code")), scoring_script="score.py"
        ),
    )
    made = client.deployments.create_or_update(wanted, set_default=True)
    assert (made.model, made.environment, made.compute) == (
        "azureml:m:1",
        "azureml:e:1",
        "cluster",
    )
    assert made.code_configuration is not None
    assert made.code_configuration.code.startswith("upload:")
    assert client.deployments.create_or_update(made) == made
    assert client.endpoints.update("heart", {"description": "d"}).description == "d"
    changed = client.deployments.update("heart", "first", {"settings": {"error_threshold": 5}})
    assert changed == client.deployments.get("heart", "first")
    assert isinstance(changed, ModelDeployment)
    assert changed.settings.error_threshold == 5
    assert client.computes.update("cluster", {"tier": "LowPriority"}).tier == "low_priority"
    assert [e.name for e in client.endpoints.list()] == ["heart"]
    assert [d.name for d in client.deployments.list("heart")] == ["first"]
    assert [m.version for m in client.models.list("m")] == ["1"]
    assert [m.name for m in client.models.list()] == ["m"]
    assert client.models.get("m") == client.models.get("m", "1") == registered
    assert [e.name for e in client.environments.list()] == ["e"]
    assert [e.version for e in client.environments.list("e")] == ["1"]
    assert client.environments.get("e", "1") == environment
    assert [c.name for c in client.computes.list()] == ["cluster", "local"]
    assert client.computes.get("local").name == "local"
    with pytest.raises(Conflict) as caught:
        client.deployments.delete("heart", "first")
    assert caught.value.code == "deployment_in_use"
    client.deployments.delete("heart", "first", force=True)
    client.endpoints.delete("heart")
    client.models.delete("m")
    client.environments.delete("e", "1")
    client.computes.delete("cluster")
    for ask in (
        lambda: client.endpoints.get("heart"),
        lambda: client.models.get("m"),
        lambda: client.environments.get("e"),
        lambda: client.computes.get("cluster"),
    ):
        with pytest.raises(NotFound):
            ask()
    assert client.server_version() == "1.2.3"


def test_long_lists_are_read_to_their_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchpoint.client.connection.PAGE_ITEMS", 2)
    names = [f"endpoint-{number}" for number in range(5)]
    for name in names:
        client.endpoints.create_or_update(BatchEndpoint(name=name))
    assert [endpoint.name for endpoint in client.endpoints.list()] == names


def test_an_unchanged_folder_is_sent_once(
    server: object, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchpoint.client.connection import Connection
    from tests.unit.client.conftest import Server

    assert isinstance(server, Server)
    sent: list[str] = []
    put = Connection.put_bytes

    def counted(self: Connection, path: str, chunks, size: int) -> None:
        sent.append(path.rpartition("/")[2])
        put(self, path, chunks, size)

    monkeypatch.setattr(Connection, "put_bytes", counted)
    with Client(server.url) as client:
        client.deploy(model, "heart")
        client.deploy(model, "lung")
        assert sent == ["MLmodel", "model.pkl"]


def test_data_code_and_datastores(either: Either, data: Path, tmp_path: Path) -> None:
    client, _ = either
    folder = client.data.create_or_update(Data(name="d", path=str(data), tags={"a": "1"}))
    assert (folder.version, folder.type) == ("1", "uri_folder")
    if client.is_embedded:
        assert folder.path in (str(data), data.as_uri())
    else:
        assert folder.path.startswith("upload:")
    remote = client.data.create_or_update(
        Data(name="d", path="https://host/a.csv", type="uri_file")
    )
    assert (remote.version, remote.path) == ("2", "https://host/a.csv")
    client.data.archive("d", "2")
    assert client.data.get("d", label="latest") == client.data.get("d", "1")
    assert [found.version for found in client.data.list("d")] == ["1"]
    assert [found.version for found in client.data.list("d", include_archived=True)] == ["2", "1"]
    client.data.restore("d")
    assert client.data.get("d").version == "2"
    assert client.data.update("d", None, {"tags": {"b": "2"}}).tags == {"b": "2"}
    with pytest.raises(Invalid) as label:
        client.data.get("d", label="prod")
    assert label.value.code == "reference_invalid"
    code = client.codes.create_or_update(Code(name="c", path=str(code_folder(tmp_path / "code"))))
    assert code.path.startswith("upload:")
    assert [found.name for found in client.codes.list()] == ["c"]
    client.codes.delete("c")
    client.data.delete("d", "1")
    store = client.datastores.create_or_update(
        Datastore(
            name="lake",
            type="azure_blob",
            account_name="a",
            container_name="c",
            credentials=Credentials(account_key=SecretStr("geheim")),
        ),
        skip_validation=True,
    )
    assert (store.credentials, store.credentials_type) == (None, "account_key")
    assert client.datastores.update("lake", {"tags": {"a": "1"}}, skip_validation=True).tags
    assert "lake" in [found.name for found in client.datastores.list()]
    assert client.datastores.get("lake").credentials_type == "account_key"
    client.datastores.delete("lake")
    with pytest.raises(NotFound):
        client.datastores.get("lake")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that were uploaded."""
    from batchpoint.client.connection import Connection

    names: list[str] = []
    put = Connection.put_bytes

    def counted(self: Connection, path: str, chunks: Iterator[bytes], size: int) -> None:
        names.append(path.rpartition("/files/")[2])
        put(self, path, chunks, size)

    monkeypatch.setattr(Connection, "put_bytes", counted)
    return names


@pytest.fixture
def elsewhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of a server that is taken for one on another machine."""
    monkeypatch.setattr("batchpoint.client.connection.is_this_machine", lambda _: False)
    with Client(server.url) as client:
        yield client


def test_local_data_is_sent_to_a_server_elsewhere_and_once(
    elsewhere: Client, model: Path, data: Path, sent: list[str]
) -> None:
    elsewhere.deploy(model, "heart")
    sent.clear()
    (data / "b.txt").write_text("no")
    (data / ".amlignore").write_text("*.txt\n.amlignore\n")
    first = elsewhere.invoke("heart", data)
    assert sent == ["data/a.csv"]
    read = path_of(first.job.scoring.input.sources[0])
    assert [path.name for path in read.iterdir()] == ["a.csv"]
    assert read != data
    again = elsewhere.invoke("heart", data)
    assert again.job.scoring.input == first.job.scoring.input
    assert sent == ["data/a.csv"]
    (data / "c.csv").write_text("x\n2\n")
    elsewhere.invoke("heart", str(data / "*.csv"))
    assert sorted(sent[1:]) == ["data/a.csv", "data/c.csv"]


def test_only_what_matches_the_pattern_is_sent(
    elsewhere: Client, model: Path, data: Path, sent: list[str]
) -> None:
    elsewhere.deploy(model, "heart")
    sent.clear()
    (data / "big.bin").write_text("never sent")
    job = elsewhere.invoke("heart", Input(data, pattern="*.csv"))
    assert sent == ["data/a.csv"]
    assert job.job.scoring.input.pattern == "*.csv"
    with pytest.raises(Invalid, match="no file that matches the pattern"):
        elsewhere.invoke("heart", Input(data, pattern="*.tsv"))


def test_several_files_are_sent_one_by_one(
    elsewhere: Client, model: Path, data: Path, sent: list[str]
) -> None:
    elsewhere.deploy(model, "heart")
    sent.clear()
    (data / "b.csv").write_text("x\n2\n")
    job = elsewhere.invoke("heart", [data / "b.csv", data / "a.csv"])
    assert sent == ["b.csv", "a.csv"]
    assert [path_of(uri).read_text() for uri in job.job.scoring.input.sources] == [
        "x\n2\n", "x\n1\n",
    ]  # fmt: skip


def test_a_server_elsewhere_is_not_told_of_local_folders(
    elsewhere: Client, model: Path, data: Path, tmp_path: Path
) -> None:
    elsewhere.deploy(model, "heart")
    with pytest.raises(Invalid, match="batchpoint job download") as caught:
        elsewhere.invoke("heart", data, output=tmp_path / "out")
    assert (caught.value.code, caught.value.where) == ("uri_invalid", "output.uri")
    with pytest.raises(Invalid, match="there is no file or folder") as missing:
        elsewhere.invoke("heart", tmp_path / "nowhere")
    assert missing.value.code == "input_not_found"
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid, match="empty is an empty folder") as empty:
        elsewhere.invoke("heart", tmp_path / "empty")
    assert (empty.value.code, empty.value.where) == ("input_unreadable", "input.uri")
    own = elsewhere.invoke("heart", data.as_uri(), output=(tmp_path / "out").as_uri())
    assert own.job.scoring.input.uri == data.as_uri()
    assert own.job.scoring.output.uri == (tmp_path / "out").as_uri()


def test_without_a_server_nothing_is_copied(
    client: Client, plane: ControlPlane, model: Path, data: Path
) -> None:
    client.deploy(model, "heart")
    before = sorted((plane.home / "store").iterdir())
    job = client.invoke("heart", data)
    client.data.create_or_update(Data(name="d", path=str(data)))
    assert job.job.scoring.input.uri == data.as_uri()
    assert sorted((plane.home / "store").iterdir()) == before


def test_a_registered_folder_is_stored_without_what_is_ignored(
    either: Either, tmp_path: Path
) -> None:
    client, plane = either
    code = code_folder(tmp_path / "code")
    (code / "venv").mkdir()
    (code / "venv" / "x.py").touch()
    (code / ".gitignore").write_text("venv/\n")
    made = client.codes.create_or_update(Code(name="c", path=str(code)))
    stored, _ = plane.services.trees.open_tree(made.path)
    assert sorted(path.name for path in stored.iterdir()) == [".gitignore", "score.py"]


def test_a_data_asset_is_scored_as_what_it_is(either: Either, model: Path, data: Path) -> None:
    client, _ = either
    client.deploy(model, "heart")
    client.data.create_or_update(Data(name="f", path=str(data / "a.csv"), type="uri_file"))
    job = client.invoke("heart", "azureml:f@latest")
    assert (job.job.scoring.input.type, job.job.scoring.input.asset) == ("uri_file", "azureml:f:1")
    (data / "b.csv").write_text("x\n2\n")
    both = client.invoke("heart", ["azureml:f:1", data / "b.csv"])
    assert both.job.scoring.input.type == "uri_file"
    with pytest.raises(Invalid, match="all files or all folders"):
        client.invoke("heart", ["azureml:f:1", data])
    with pytest.raises(NotFound) as caught:
        client.invoke("heart", "azureml:ghost:1")
    assert caught.value.code == "data_not_found"


@pytest.mark.parametrize(
    ("url", "this"),
    [
        ("http://localhost:8080", True),
        ("http://127.0.0.7", True),
        ("http://[::1]:80/x", True),
        ("http://0.0.0.0:8080", True),
        ("http://batch.localhost", True),
        ("http://192.168.0.1", False),
        ("https://localhost.example.com", False),
        ("https://batch.example.com", False),
    ],
)
def test_which_servers_are_on_this_machine(url: str, this: bool) -> None:
    from batchpoint.client.connection import is_this_machine

    assert is_this_machine(url) is this


# --- jobs --------------------------------------------------------------------------------------


def test_a_job_from_invoke_to_download(
    either: Either, model: Path, data: Path, tmp_path: Path
) -> None:
    client, plane = either
    client.deploy(model, "heart")
    job = client.invoke(
        "heart",
        data,
        output=tmp_path / "out",
        tags={"a": "1"},
        experiment_name="e",
        error_threshold=0,
        environment_variables={"A": "b"},
    )
    assert job.status.state is JobState.QUEUED
    assert job.job.scoring.settings.error_threshold == 0
    assert job.job.scoring.output.uri == (tmp_path / "out").as_uri()
    assert [found.name for found in client.jobs.list("heart", "default")] == [job.name]
    assert client.job(job.name).job == job.job
    with pytest.raises(Conflict):
        job.head()
    files = {
        "predictions.csv": b"_file,_row,p\n" + b"a.csv,0,1\n" * 300_000,
        "x/y z.bin": os.urandom(70_000),
        "_failed_items.jsonl": b'{"name": "b.csv"}\n{"name": "\xc3\xa9"}\n',
    }
    publish(plane, job.job, files)
    assert job.wait().status.state is JobState.COMPLETED
    assert job.head(1).rows == [["a.csv", "0", "1"]]
    written = job.download(tmp_path / "copy")
    copied = {p.relative_to(tmp_path / "copy").as_posix(): p.read_bytes() for p in written}
    assert copied == files
    assert sorted(p for p in (tmp_path / "copy").rglob("*") if p.is_file()) == sorted(written)
    assert [item["name"] for item in job.failed_items()] == ["b.csv", "é"]


def test_waiting_shows_progress_until_the_end(
    client: Client, plane: ControlPlane, model: Path, data: Path
) -> None:
    client.deploy(model, "heart")
    job = client.invoke("heart", Input(data))
    shown: list[JobState] = []
    begun = threading.Event()

    def run() -> None:
        epoch = plane.ledger.acquire_lease(job.name, "me", 0.0, 15)
        assert epoch is not None
        assert begun.wait(10)
        begun.clear()
        plane.ledger.renew(job.name, epoch, 0.0, 15, status=JobStatus(state=JobState.RUNNING))
        assert begun.wait(10)
        plane.ledger.finish(job.name, epoch, JobStatus(state=JobState.COMPLETED))

    def progress(now: Job) -> None:
        shown.append(now.status.state)
        begun.set()

    runner = threading.Thread(target=run)
    runner.start()
    job.wait(progress)
    runner.join()
    assert shown == [JobState.QUEUED, JobState.RUNNING, JobState.COMPLETED]


def test_waiting_raises_what_the_job_failed_with(
    client: Client, plane: ControlPlane, model: Path, data: Path
) -> None:
    client.deploy(model, "heart")
    job = client.invoke("heart", data)
    with pytest.raises(Conflict, match="it goes on") as late:
        job.wait(timeout_seconds=0.05)
    assert late.value.code == "job_not_finished"
    error = ErrorInfo(origin="user", code="init_failed", message="no such file", file="s.py")
    finish(plane, job.name, JobStatus(state=JobState.FAILED, error=error))
    with pytest.raises(JobFailed, match="no such file") as caught:
        job.wait()
    assert (caught.value.code, caught.value.where) == ("init_failed", "s.py")
    assert job.wait(check=False).status.error == error
    other = client.invoke("heart", data)
    other.cancel()
    assert other.job.status.state is JobState.CANCEL_REQUESTED
    finish(plane, other.name, JobStatus(state=JobState.CANCELED))
    with pytest.raises(JobFailed, match="was cancelled"):
        other.wait()


def test_logs_are_read_from_any_place(
    client: Client, plane: ControlPlane, model: Path, data: Path
) -> None:
    client.deploy(model, "heart")
    job = client.invoke("heart", data)
    assert job.logs() == []
    folder = plane.home / "jobs" / job.name / "logs"
    folder.mkdir(parents=True)
    (folder / "job.log").write_text("one\ntwo\n")
    assert [(log.path, log.size) for log in job.logs()] == [("job.log", 8)]
    assert b"".join(job.log()) == b"one\ntwo\n"
    assert b"".join(job.log("job.log", offset=4)) == b"two\n"
    with pytest.raises(NotFound):
        list(job.log("ghost"))


def test_the_same_key_is_the_same_job(either: Either, model: Path, data: Path) -> None:
    client, _ = either
    client.deploy(model, "heart")
    first = client.invoke("heart", data, idempotency_key="k")
    assert client.invoke("heart", data, idempotency_key="k").name == first.name
    assert client.invoke("heart", data).name != first.name
    with pytest.raises(Conflict) as caught:
        client.invoke("heart", data, idempotency_key="k", mini_batch_size=1)
    assert caught.value.code == "idempotency_conflict"


def test_inputs_are_found_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_folder(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    folder = Input("data").resolved()
    assert (folder.type, folder.uri) == ("uri_folder", str(tmp_path / "data"))
    assert Input(Path("data/a.csv")).resolved().type == "uri_file"
    assert Input("s3://bucket/x").resolved().uri == "s3://bucket/x"
    assert Input("data", type="uri_file").resolved().type == "uri_file"
    several = Input(["data/a.csv", Path("data/a.csv")]).resolved()
    assert several.uris == (str(tmp_path / "data" / "a.csv"),) * 2
    wild = Input("data/*.csv").resolved()
    assert (wild.uri, wild.pattern) == (str(tmp_path / "data"), "*.csv")
    assert Input("azureml:d@latest").resolved().uri == "azureml:d@latest"
    with pytest.raises(Invalid, match="point at some data"):
        Input([]).resolved()


# --- trouble -----------------------------------------------------------------------------------


def test_errors_are_what_was_raised_there(either: Either, model: Path) -> None:
    client, _ = either
    with pytest.raises(NotFound) as caught:
        client.invoke("ghost", "/x")
    assert caught.value.code == "endpoint_not_found"
    client.deploy(model, "heart")
    with pytest.raises(Invalid) as missing:
        client.invoke("heart", "/nowhere/at all")
    assert (missing.value.code, missing.value.where) == ("input_not_found", "input.uri")
    with pytest.raises(Invalid, match="mini_batch_size"):
        client.invoke("heart", "/x", mini_batch_size=0)
    with pytest.raises(NotFound) as job:
        client.job("ghost/../../x")
    assert job.value.code in {"job_not_found", "not_found"}


def test_a_server_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchpoint.client.connection.FIRST_PAUSE_SECONDS", 0.001)
    with (
        Client("http://127.0.0.1:9") as client,
        pytest.raises(
            Unavailable, match=r"cannot reach the server at http://127.0.0.1:9"
        ) as caught,
    ):
        client.endpoints.get("heart")
    assert caught.value.code == "server_unreachable"


def test_the_address_comes_from_the_environment(
    server: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.client.conftest import Server

    assert isinstance(server, Server)
    monkeypatch.setenv("BATCHPOINT_URL", server.url + "/")
    with Client() as client:
        assert not client.is_embedded
        assert client.server_version() == "1.2.3"
