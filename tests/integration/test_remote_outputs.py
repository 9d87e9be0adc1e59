"""Whole jobs that publish into object stores: killed while they do, raced, cancelled, read back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
import psutil
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pydantic import SecretStr
from werkzeug.serving import make_server

from batchpoint import Client, JobHandle, wiring
from batchpoint.domain.datastore import Credentials, Datastore, DatastoreAccess
from batchpoint.domain.errors import Conflict
from batchpoint.formats import receipt as receipts
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from batchpoint.storage.object_locations import open_store
from tests.integration.conftest import Place
from tests.servers.store_servers import Azurite

BUCKET = "results"
ITEMS = 6
SCRIPT = """
import os

def init():
    pass

def run(mini_batch):
    for path in mini_batch:
        name = os.path.basename(path)
        with open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], "notes-" + name), "w") as file:
            file.write("seen " + name)
    return ["scored " + os.path.basename(path) for path in mini_batch]
"""
NAMES = {
    "predictions.csv",
    "_failed_items.jsonl",
    "_receipt.json",
    *(f"notes-{number}.txt" for number in range(ITEMS)),
}

Answer = Iterable[bytes]


class Gate:
    """Stands before a server: holds one request back until somebody has been killed."""

    def __init__(self, app: Callable[[WSGIEnvironment, StartResponse], Answer]) -> None:
        self._app = app
        self.reached = threading.Event()
        self.passed = threading.Event()
        self._wanted: Callable[[str, str], bool] | None = None
        self._carried_out = False

    def hold(self, wanted: Callable[[str, str], bool], *, carried_out: bool) -> None:
        """Hold the first request (method, path) back that is wanted, before or after it counts."""
        self.reached.clear()
        self.passed.clear()
        self._wanted, self._carried_out = wanted, carried_out

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Answer:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        wanted = self._wanted
        if wanted is None or not wanted(method, path):
            return self._app(environ, start)
        self._wanted = None
        answer = list(self._app(environ, start)) if self._carried_out else []
        self.reached.set()
        assert self.passed.wait(60)
        if not self._carried_out:
            start("503 Service Unavailable", [])
        return answer


class S3:
    """moto behind a gate, with one bucket."""

    def __init__(self) -> None:
        self.gate = Gate(DomainDispatcherApplication(create_backend_app))
        self._server = make_server("127.0.0.1", 0, self.gate, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.client.create_bucket(Bucket=BUCKET)

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Return everything below a folder."""
        listed: list[Any] = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get(
            "Contents", []
        )
        return {
            each["Key"].removeprefix(prefix): self.client.get_object(
                Bucket=BUCKET, Key=each["Key"]
            )["Body"].read()
            for each in listed
        }

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.client.close()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.close()


KEYS = Credentials(access_key_id="test", secret_access_key=SecretStr("s3cret-key"))


def lake_on(s3: S3) -> Datastore:
    return Datastore(name="lake", type="s3", bucket=BUCKET, endpoint=s3.url)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[Place]:
    """A home of its own, since its processes are killed; with a datastore and a deployment."""
    folder = tmp_path_factory.mktemp("remote")
    data = folder / "data"
    data.mkdir()
    for number in range(ITEMS):
        (data / f"{number}.txt").write_text(str(number))
    link = SupervisorLink(folder / "home")
    with Client(app=wiring.embedded_app(Settings(home=folder / "home"))) as client:
        place = Place(folder / "home", client, link)
        client.datastores.create_or_update(lake_on(s3).model_copy(update={"credentials": KEYS}))
        place.deploy_script(folder / "score", "remote", SCRIPT, mini_batch_size=2)
        yield place
    status = link.ask("status")
    if status is not None:
        family = processes(link)
        link.down()
        psutil.wait_procs(family, timeout=10)


def processes(link: SupervisorLink) -> list[psutil.Process]:
    """The supervisor and all its descendants."""
    status = link.ask("status")
    if status is None:
        return []
    supervisor = psutil.Process(status["pid"])
    return [supervisor, *supervisor.children(recursive=True)]


def kill_all(link: SupervisorLink) -> None:
    """kill -9 to everything, the supervisor first so that it can mend nothing."""
    family = processes(link)
    assert len(family) > 2
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it died with its parent
            process.kill()
    psutil.wait_procs(family, timeout=20)


def lake(path: str) -> str:
    return f"azureml://datastores/lake/paths/{path}"


def invoke(home: Place, path: str) -> JobHandle:
    return home.client.invoke("remote", home.home.parent / "data", output=lake(path))


def check(found: dict[str, bytes], job: str) -> None:
    """The output is exactly what it has to be, and nothing else."""
    assert found.keys() == NAMES
    assert found["predictions.csv"].decode().split("\n") == [
        "_file,prediction",
        *(f"{number}.txt,scored {number}.txt" for number in range(ITEMS)),
        "",
    ]
    receipt = receipts.decode(found["_receipt.json"])
    assert receipt.job == job
    assert {file.path: file.size for file in receipt.files} == {
        name: len(body) for name, body in found.items() if name != "_receipt.json"
    }


def test_results_go_to_a_datastore_and_come_back(home: Place, s3: S3, tmp_path: Path) -> None:
    job = invoke(home, "plain/out/")
    ended = job.wait()
    assert ended.status.output_uri == lake("plain/out")
    found = s3.objects("plain/out/")
    check(found, job.name)
    assert {file.path: file.size for file in job.files()} == {n: len(b) for n, b in found.items()}
    job.download(tmp_path / "down")
    for name, body in found.items():
        assert (tmp_path / "down" / name).read_bytes() == body
    assert job.head(1).rows == [["0.txt", "scored 0.txt"]]
    assert list(job.failed_items()) == []
    with pytest.raises(Conflict) as caught:
        invoke(home, "plain/out")
    assert caught.value.code == "output_exists"


@pytest.mark.parametrize(
    ("name", "carried_out"),
    [
        (".batchpoint-claim", True),
        ("predictions.csv", False),
        ("_receipt.json", True),
        pytest.param(".batchpoint-claim", False, marks=pytest.mark.slow),
        pytest.param("predictions.csv", True, marks=pytest.mark.slow),
        pytest.param("notes-3.txt", False, marks=pytest.mark.slow),
        pytest.param("notes-3.txt", True, marks=pytest.mark.slow),
        pytest.param("_receipt.json", False, marks=pytest.mark.slow),
    ],
)
def test_killed_while_it_publishes(home: Place, s3: S3, name: str, carried_out: bool) -> None:
    folder = f"killed/{name}-{carried_out}".replace("/.", "/")
    place = f"/{BUCKET}/{folder}/{name}"
    s3.gate.hold(lambda method, path: method == "PUT" and path == place, carried_out=carried_out)
    job = invoke(home, folder)
    assert s3.gate.reached.wait(60)
    kill_all(home.link)
    s3.gate.passed.set()
    job.wait()
    check(s3.objects(f"{folder}/"), job.name)


def test_killed_between_the_receipt_and_the_end(home: Place, s3: S3) -> None:
    s3.gate.hold(
        lambda method, path: method == "DELETE" and path.endswith("late/.batchpoint-claim"),
        carried_out=False,
    )
    job = invoke(home, "late")
    assert s3.gate.reached.wait(60)
    kill_all(home.link)
    s3.gate.passed.set()
    job.wait()
    check(s3.objects("late/"), job.name)


def test_of_two_jobs_with_one_output_one_fails_cleanly(home: Place, s3: S3) -> None:
    s3.gate.hold(
        lambda method, path: method == "PUT" and path.endswith("both/.batchpoint-claim"),
        carried_out=False,
    )
    late = invoke(home, "both")
    assert s3.gate.reached.wait(60)
    early = invoke(home, "both")
    early.wait()
    s3.gate.passed.set()
    late.wait(check=False)
    error = late.status.error
    assert error is not None
    assert error.code == "output_exists"
    check(s3.objects("both/"), early.name)


def test_results_go_to_azure(home: Place, azurite: Azurite) -> None:
    datastore, credentials = azurite.datastore("azure")
    home.client.datastores.create_or_update(
        datastore.model_copy(update={"credentials": credentials})
    )
    output = "azureml://datastores/azure/paths/out"
    job = home.client.invoke("remote", home.home.parent / "data", output=output)
    assert job.wait().status.output_uri == output
    access = DatastoreAccess(datastore=datastore, credentials=credentials)
    store = open_store(access)
    found = {
        each.path.removeprefix("out/"): b"".join(store.stream(each.path))
        for page in store.list("")
        for each in page
    }
    check(found, job.name)
    assert job.head(1).rows == [["0.txt", "scored 0.txt"]]
