"""Whole jobs over data in object stores and on the web come to what they come to on a disk."""

from __future__ import annotations

import csv
import http.server
import io
import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pydantic import SecretStr
from werkzeug.serving import make_server

from batchpoint import Input
from batchpoint.client.client import InputKind
from batchpoint.domain import limits
from batchpoint.domain.datastore import Credentials, Datastore, DatastoreAccess
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.domain.job import Job, JobState
from batchpoint.storage.object_locations import open_store
from tests.integration.conftest import Place
from tests.servers.fault_proxy import FaultProxy
from tests.servers.fixtures import ProxyMaker
from tests.servers.store_servers import Azurite, StoreServer

SCRIPT = """
import os

def init():
    pass

def run(mini_batch):
    rows = []
    for path in mini_batch:
        folder, name = os.path.split(path)
        with open(path) as file:
            rows.append(os.path.basename(folder) + "/" + name + "=" + file.read())
    return rows
"""
MODEL = """
class Halving:
    def predict(self, frame):
        return frame.x / 2
"""
SIGNATURE = [{"type": "long", "name": "x"}, {"type": "string", "name": "note"}]
MLMODEL = {
    "flavors": {
        "python_function": {
            "loader_module": "mlflow.sklearn",
            "model_path": "model.pkl",
            "code": "code",
        },
        "sklearn": {"pickled_model": "model.pkl", "serialization_format": "pickle"},
    },
    "signature": {"inputs": json.dumps(SIGNATURE), "outputs": None, "params": None},
}
BIG_ROWS = 700_000


class RemoteStore(Protocol):
    """Where tests put objects."""

    def filled(self, folder: str, files: dict[str, bytes]) -> str:
        """Put files below a folder; return the URI of the folder."""
        ...


class S3:
    """moto, registered as the datastore `moto`; refuses, breaks off and changes as it is told."""

    bucket = "moto-data"

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.chance: random.Random | None = None
        self.faults = 0
        self._lock = threading.Lock()
        self._reading = threading.Event()
        self._reading.set()
        self._once: tuple[Callable[[str, str], bool], Callable[[str, str], None]] | None = None
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
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
        self.client.create_bucket(Bucket=self.bucket)

    def filled(self, folder: str, files: dict[str, bytes]) -> str:
        """See `RemoteStore`."""
        for name, body in files.items():
            self.client.put_object(Bucket=self.bucket, Key=f"{folder}/{name}", Body=body)
        return f"azureml://datastores/moto/paths/{folder}"

    def once(self, wanted: Callable[[str, str], bool], then: Callable[[str, str], None]) -> None:
        """Do something before the first request that is wanted, by method and path."""
        self._once = (wanted, then)

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method == "GET":
            with self._lock:
                then = None
                if self._once is not None and self._once[0](method, path):
                    then, self._once = self._once[1], None
                    self._reading.clear()
            if then is not None:
                then(method, path)
                self._reading.set()
            self._reading.wait(30)  # whoever reads meanwhile waits for the change
        with self._lock:
            fault = "" if self.chance is None else self._fault(method)
        for prefix, status in self.refused.items():
            if path.startswith(prefix):
                start(f"{status} Refused", [("Content-Length", "0")])
                return []
        if fault == "503":
            start("503 Slow Down", [("Content-Length", "0")])
            return []
        answer = self._moto(environ, start)
        if fault == "cut":
            body = b"".join(answer)
            return iter([body[: len(body) // 2]])  # fewer bytes than were announced
        return answer

    def _fault(self, method: str) -> str:
        assert self.chance is not None
        found = self.chance.choices(["", "503", "cut"], weights=[80, 10, 10])[0]
        if found == "cut" and method != "GET":
            return ""
        self.faults += bool(found)
        return found

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.client.close()


@pytest.fixture(scope="module")
def s3(place: Place) -> Iterator[S3]:
    server = S3()
    place.client.datastores.create_or_update(
        Datastore(
            name="moto",
            type="s3",
            bucket=server.bucket,
            endpoint=server.url,
            region="us-east-1",
            credentials=Credentials(access_key_id="test", secret_access_key=SecretStr("test")),
        )
    )
    yield server
    server.close()


class Registered:
    """A server of the tests' own, or a proxy before one, registered as a datastore."""

    def __init__(self, place: Place, server: StoreServer | FaultProxy, name: str) -> None:
        datastore, credentials = server.datastore(name)
        self._name = name
        self._store = open_store(DatastoreAccess(datastore=datastore, credentials=credentials))
        # Tested on its own; through a proxy the test of a datastore would meet the faults, too.
        place.client.datastores.create_or_update(
            datastore.model_copy(update={"credentials": credentials}), skip_validation=True
        )

    def filled(self, folder: str, files: dict[str, bytes]) -> str:
        """See `RemoteStore`."""
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda name: self._put(f"{folder}/{name}", files[name]), files))
        return f"azureml://datastores/{self._name}/paths/{folder}"

    def _put(self, key: str, body: bytes) -> None:
        self._store.put(key, body)


@pytest.fixture(scope="module")
def azure(place: Place, azurite: Azurite) -> Registered:
    return Registered(place, azurite, "azurite")


@pytest.fixture(params=["s3", "azure"])
def store(request: pytest.FixtureRequest) -> RemoteStore:
    return request.getfixturevalue(request.param)


class Web:
    """A web server: `no-length` files come without a length, `no-head` ones know no HEAD."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                if "no-head" in self.path:
                    self.send_error(405)
                elif self.path.replace("%20", " ") not in web.files:
                    self.send_error(404)
                else:
                    self._head()

            def do_GET(self) -> None:
                body = web.files.get(self.path.replace("%20", " "))
                if body is None:
                    self.send_error(404)
                    return
                self._head()
                if "no-length" in self.path:
                    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
                self.wfile.write(body)

            def _head(self) -> None:
                self.send_response(200)
                if "no-length" in self.path:
                    self.send_header("Transfer-Encoding", "chunked")
                else:
                    length = len(web.files[self.path.replace("%20", " ")])
                    self.send_header("Content-Length", str(length))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture(scope="module", autouse=True)
def endpoints(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Deploy a script that reads files, and a model without code that reads tables."""
    folder = tmp_path_factory.mktemp("remote")
    place.deploy_script(
        folder / "script", "reading", SCRIPT, max_concurrency_per_instance=2, mini_batch_size=4
    )
    model = folder / "model"
    (model / "code").mkdir(parents=True)
    (model / "code" / "halving_of_remote.py").write_text(MODEL)
    (model / "model.pkl").write_bytes(b"chalving_of_remote\nHalving\n)\x81.")
    (model / "MLmodel").write_text(json.dumps(MLMODEL))  # JSON is YAML
    place.client.deploy(model, "tables", max_concurrency_per_instance=2)


def run(place: Place, endpoint: str, source: Any, **more: Any) -> Job:
    job = place.client.invoke(endpoint, source, **more).wait(check=False)
    assert job.status.state == JobState.COMPLETED, job.status.error
    return job


def failed(place: Place, job: Job) -> list[tuple[str, str]]:
    lines = (place.output(job) / "_failed_items.jsonl").read_text().splitlines()
    return [(line["name"], line["type"]) for line in map(json.loads, lines)]


def small_files(count: int = 60) -> dict[str, bytes]:
    return {f"d{n % 3}/f{n:03}.txt": f"content {n}".encode() for n in range(count)}


def tables(count: int = 12) -> dict[str, bytes]:
    return {
        f"part-{n:02}.csv": b"x,note\n" + b"".join(b"%d,n%d\n" % (r, n) for r in range(n * 5))
        for n in range(1, count)
    }


def on_disk(folder: Path, files: dict[str, bytes]) -> Path:
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


def test_small_files_score_as_on_a_disk(place: Place, store: RemoteStore, tmp_path: Path) -> None:
    files = small_files()
    uri = store.filled("small", files)
    job = run(place, "reading", uri)
    local = run(place, "reading", on_disk(tmp_path / "in", files))
    assert place.predictions(job) == place.predictions(local)
    assert job.status.progress.items_done == len(files)
    assert f"{len(files)} items" in (place.folder(job).job_log.read_text())


def test_tables_score_as_on_a_disk(place: Place, store: RemoteStore, tmp_path: Path) -> None:
    files = tables()
    job = run(place, "tables", store.filled("tables", files))
    local = run(place, "tables", on_disk(tmp_path / "in", files))
    assert place.predictions(job) == place.predictions(local)


def test_a_big_csv_is_cut_and_numbered_as_on_a_disk(
    place: Place, store: RemoteStore, tmp_path: Path
) -> None:
    text = io.StringIO()
    chance = random.Random(7)
    writer = csv.writer(text)
    writer.writerow(("x", "note"))
    notes = ["plain", 'quoted, "twice"', "over\ntwo lines", "é" * 9]
    while text.tell() < limits.SPLIT_BYTES_MIN + 500_000:
        writer.writerows((n, chance.choice(notes)) for n in range(5_000))
    files = {"big.csv": text.getvalue().encode()}
    job = run(place, "tables", store.filled("big", files))
    local = run(place, "tables", on_disk(tmp_path / "in", files))
    assert place.predictions(job) == place.predictions(local)
    assert job.status.progress.mini_batches_total > 2
    assert not list(place.home.rglob("task-*"))  # what was staged is gone


def test_a_big_parquet_file_is_read_by_row_groups(
    place: Place, store: RemoteStore, tmp_path: Path
) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = np.random.default_rng(3).integers(0, 1 << 62, BIG_ROWS)
    table = pa.table({"x": numbers >> 30, "note": numbers.astype(str), "unused": numbers})
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "big.parquet"
    pq.write_table(table, path, row_group_size=BIG_ROWS // 10, use_dictionary=False)
    body = path.read_bytes()
    assert len(body) > limits.SPLIT_BYTES_MIN
    uri = store.filled("parquet", {"big.parquet": body})
    job = run(place, "tables", uri)
    local = run(place, "tables", tmp_path / "in")
    assert place.predictions(job) == place.predictions(local)
    assert job.status.progress.mini_batches_total > 2


def test_a_pattern_chooses(place: Place, store: RemoteStore) -> None:
    uri = store.filled("small", small_files())
    job = run(place, "reading", f"{uri}/**/f00[0-3].txt")
    assert job.scoring.input.pattern == "**/f00[0-3].txt"
    assert place.predictions(job).splitlines()[1:] == [
        "d0/f000.txt,d0/f000.txt=content 0",
        "d0/f003.txt,d0/f003.txt=content 3",
        "d1/f001.txt,d1/f001.txt=content 1",
        "d2/f002.txt,d2/f002.txt=content 2",
    ]
    nothing = place.client.invoke("reading", f"{uri}/*.txt").wait(check=False)
    assert nothing.status.error is not None
    assert nothing.status.error.code == "no_input_items"
    assert "'*.txt'" in nothing.status.error.message
    assert uri in nothing.status.error.message


def test_urls_of_several_kinds_in_the_order_given(
    place: Place, store: RemoteStore, web: Web, tmp_path: Path
) -> None:
    uri = store.filled("few", small_files(6))
    web.files = {"/a b.txt": b"web 1", "/no-length.txt": b"web 2", "/no-head.txt": b"web 3"}
    on_disk(tmp_path, {"here.txt": b"disk"})
    uris = [
        f"{web.url}/no-length.txt",
        f"{uri}/d1/f001.txt",
        str(tmp_path / "here.txt"),
        f"{web.url}/no-head.txt",
        f"{uri}/d0",
        f"{web.url}/a%20b.txt",
    ]
    job = run(place, "reading", Input(uris, type="uri_file"), mini_batch_size=2)
    found = [line.partition(",")[2] for line in place.predictions(job).splitlines()[1:]]
    assert [line.partition("=")[2] for line in found] == [
        "web 2", "content 1", "disk", "web 3", "content 0", "content 3", "web 1"
    ]  # fmt: skip
    names = [line.partition(",")[0] for line in place.predictions(job).splitlines()[1:]]
    assert len(set(names)) == 7
    assert names[-1].endswith("/a b.txt")


def test_objects_that_change_or_go_meanwhile_are_failed_items(place: Place, s3: S3) -> None:
    files = small_files(30)
    uri = s3.filled("moving", files)

    def change(method: str, path: str) -> None:
        # The first object is being read: all are listed by now.
        s3.client.put_object(Bucket=s3.bucket, Key="moving/d0/f027.txt", Body=b"another one")
        s3.client.delete_object(Bucket=s3.bucket, Key="moving/d1/f028.txt")

    s3.once(lambda method, path: method == "GET" and path.endswith(".txt"), change)
    job = run(place, "reading", uri)
    assert failed(place, job) == [
        ("d0/f027.txt", "input_changed"),
        ("d1/f028.txt", "input_unreadable"),
    ]
    assert job.status.progress.items_failed == 2
    assert job.status.progress.items_done == 30
    rows = place.predictions(job).splitlines()[1:]
    assert rows == sorted(
        f"{name},{name}={body.decode()}"
        for name, body in files.items()
        if name not in ("d0/f027.txt", "d1/f028.txt")
    )
    assert job.status.progress.retries == 0  # nothing was scored twice to find them


def test_objects_that_may_not_be_read_are_failed_items(place: Place, s3: S3) -> None:
    uri = s3.filled("closed", small_files(9))
    s3.refused = {"/moto-data/closed/d2/f008.txt": 403}
    try:
        job = run(place, "reading", uri)
    finally:
        s3.refused = {}
    assert failed(place, job) == [("d2/f008.txt", "storage_denied")]


@pytest.mark.parametrize("endpoint", ["reading", "tables"])
def test_a_store_with_faults_loses_and_doubles_nothing(
    place: Place, s3: S3, tmp_path: Path, endpoint: str
) -> None:
    files = small_files() if endpoint == "reading" else tables()
    uri = s3.filled(f"faulty-{endpoint}", files)
    local = run(place, endpoint, on_disk(tmp_path / "in", files))
    s3.chance = random.Random(11)
    try:
        job = run(place, endpoint, uri)
    finally:
        s3.chance = None
    assert s3.faults >= 3
    assert place.predictions(job) == place.predictions(local)
    assert job.status.progress.items_failed == 0


def test_a_proxy_that_stalls_and_breaks_loses_and_doubles_nothing(
    place: Place, azurite: Azurite, fault_proxy: ProxyMaker, tmp_path: Path
) -> None:
    files = {**small_files(40), **tables(4)}
    proxy = fault_proxy(azurite, seed=5, error=0.1, cut=0.1, reset=0.05, stall=0.02)
    job = run(place, "reading", Registered(place, proxy, "proxied").filled("in", files))
    local = run(place, "reading", on_disk(tmp_path / "in", files))
    assert place.predictions(job) == place.predictions(local)
    assert job.status.progress.items_failed == 0


def test_what_is_not_there_is_said_at_invoke(place: Place, s3: S3, web: Web) -> None:
    uri = s3.filled("few", small_files(6))
    web.files = {"/there.txt": b"1"}
    refusals: list[tuple[str | list[str], InputKind, str]] = [
        (f"{uri}/nowhere", "uri_folder", "input_not_found"),
        (f"{uri}/nowhere.txt", "uri_file", "input_not_found"),
        (f"{uri}/d0", "uri_file", "field_invalid"),
        (f"{uri}/d0/f000.txt", "uri_folder", "field_invalid"),
        (f"{web.url}/gone.txt", "uri_file", "input_not_found"),
        ("http://127.0.0.1:1/x.txt", "uri_file", "storage_unavailable"),
        ([f"{uri}/d0", f"{uri}/d9"], "uri_folder", "input_not_found"),
        ([f"{uri}/d0", f"{uri}/d0/f000.txt"], "uri_file", "field_invalid"),
    ]
    for source, kind, code in refusals:
        with pytest.raises(BatchpointError) as caught:
            place.client.invoke("reading", Input(source, type=kind))
        assert caught.value.code == code, source
        wanted = source if isinstance(source, str) else source[1]
        assert wanted in str(caught.value)


def test_a_denied_place_names_the_datastore(place: Place, s3: S3) -> None:
    uri = s3.filled("denied", small_files(3))
    s3.refused = {"/moto-data": 403}
    try:
        with pytest.raises(Invalid, match="datastore moto") as caught:
            place.client.invoke("reading", uri)
    finally:
        s3.refused = {}
    assert caught.value.code == "storage_denied"
