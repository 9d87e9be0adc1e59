"""Object stores on real servers: what they do differently, and what must never get out of them."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from batchpoint.domain.datastore import (
    Credentials,
    Datastore,
    DatastoreAccess,
    DatastoreFindings,
    StorageAccess,
)
from batchpoint.domain.errors import BatchpointError, Unavailable
from batchpoint.storage.local_store import LocalStore
from batchpoint.storage.object_locations import ObjectLocations, open_store
from batchpoint.storage.store import Store
from batchpoint.storage.store_findings import examine, examine_store
from tests.servers.store_servers import AZURE_ACCOUNT, Azurite, MotoS3, RcloneS3, StoreServer

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SERVERS = ("moto_s3", "azurite", "rclone_s3")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> StoreServer:
    return request.getfixturevalue(request.param)


def access_to(server: StoreServer, **changes: object) -> DatastoreAccess:
    datastore, credentials = server.datastore("test")
    return DatastoreAccess(datastore=datastore.model_copy(update=changes), credentials=credentials)


def opened(server: StoreServer) -> Store:
    return open_store(access_to(server))


def names(store: Store, prefix: str = "") -> list[str]:
    return [found.path for page in store.list(prefix) for found in page]


# --- the self-test ------------------------------------------------------------------------------


def test_the_self_test_finds_what_a_server_does(server: StoreServer):
    access = access_to(server)
    found = examine(access, unique="1", now=NOW)
    assert (found.tested_at, found.readable, found.writable) == (NOW, True, True)
    if isinstance(server, RcloneS3):
        assert found.put_if_absent is False
        assert any("ignores conditional writes" in note for note in found.notes)
    else:
        assert found.put_if_absent is True
        assert found.notes == ()
    assert names(open_store(access)) == []


def test_the_self_test_of_a_folder(tmp_path: Path):
    found = examine_store(LocalStore(tmp_path), unique="1", now=NOW)
    assert found == DatastoreFindings(
        tested_at=NOW, readable=True, writable=True, put_if_absent=True
    )
    assert list(tmp_path.iterdir()) == []


def test_a_store_known_to_ignore_conditions_is_looked_at_before(rclone_s3: RcloneS3):
    access = access_to(rclone_s3)
    assert open_store(access).put("a", b"first", create=True)
    assert open_store(access).put("a", b"replaced it", create=True)
    found = examine(access, unique="1", now=NOW)
    told = access.datastore.model_copy(update={"findings": found})
    store = open_store(access.model_copy(update={"datastore": told}))
    assert store.put("a", b"other", create=True) is False
    assert store.put("a", b"replaced it", create=True) is True


def test_public_data_can_be_read_and_not_written(azurite: Azurite):
    access = access_to(azurite)
    open_store(access).put("a", b"x")
    path = f"/{AZURE_ACCOUNT}/{access.datastore.container_name}"
    public = {"x-ms-blob-public-access": "container"}
    azurite.request("PUT", path, {"comp": "acl", "restype": "container"}, public)
    anonymous = access.model_copy(update={"credentials": None})
    assert names(open_store(anonymous)) == ["a"]
    found = examine(anonymous, unique="1", now=NOW)
    assert (found.readable, found.writable, found.put_if_absent) == (True, False, None)
    assert any("cannot be written" in note for note in found.notes)


def test_a_signature_for_reading_reads(azurite: Azurite, tmp_path: Path):
    access = access_to(azurite)
    open_store(access).put("in/a b%#.csv", b"text")
    signed = access.model_copy(
        update={"credentials": Credentials(sas_token=SecretStr("?" + azurite.sas_token("rl")))}
    )
    store = open_store(signed)
    [[found]] = list(store.list("in/"))
    store.fetch(found, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"text"
    told = examine(signed, unique="1", now=NOW)
    assert (told.readable, told.writable) == (True, False)
    signed = access.model_copy(
        update={"credentials": Credentials(sas_token=SecretStr(azurite.sas_token("rwdlc")))}
    )
    told = examine(signed, unique="1", now=NOW)
    assert (told.readable, told.writable, told.put_if_absent) == (True, True, True)
    assert names(open_store(access)) == ["in/a b%#.csv"]


def test_wrong_credentials_and_missing_containers_are_found(server: StoreServer):
    access = access_to(server)
    wrong = (
        Credentials(account_key=SecretStr("aHVzaGh1c2g="))
        if isinstance(server, Azurite)
        else Credentials(access_key_id="nobody", secret_access_key=SecretStr("hushhush"))
    )
    if not isinstance(server, MotoS3):  # moto lets everybody in
        found = examine(access.model_copy(update={"credentials": wrong}), unique="1", now=NOW)
        assert (found.readable, found.writable) == (False, False)
        assert any("credentials" in note for note in found.notes)
        assert "hush" not in str(found).lower()
        assert "aHVza" not in str(found)
    field = "container_name" if isinstance(server, Azurite) else "bucket"
    elsewhere = access.datastore.model_copy(update={field: "not-there"})
    found = examine(access.model_copy(update={"datastore": elsewhere}), unique="1", now=NOW)
    assert found.readable is False
    assert any("not there" in note for note in found.notes)


def test_a_server_that_is_not_there_is_told_in_time(tmp_path: Path):
    datastore = Datastore(name="x", type="s3", bucket="b", endpoint="http://127.0.0.1:9")
    locations = ObjectLocations(
        StorageAccess(datastores=(DatastoreAccess(datastore=datastore),)), timeout_seconds=1
    )
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="refused") as caught:
        locations.at("s3://b/x").store.find("x")
    assert caught.value.code == "storage_unavailable"
    assert time.monotonic() - begun < 2


# --- listings -----------------------------------------------------------------------------------


def test_markers_of_folders_are_no_items(moto_s3: MotoS3):
    access = access_to(moto_s3)
    bucket = access.datastore.bucket
    for key in ("in/", "in/empty/", "in/full/", "in/full/a", "in/a", "in/none", "in/none/b"):
        moto_s3.raw("PUT", f"/{bucket}/{key}", b"")
    for key in ("in/a", "in/full/a"):
        moto_s3.raw("PUT", f"/{bucket}/{key}", b"x")
    store = open_store(access)
    # `in/none` is an empty object that has objects below its name: an item like any other.
    assert names(store, "in/") == ["in/a", "in/full/a", "in/none", "in/none/b"]
    assert names(store) == ["in/a", "in/full/a", "in/none", "in/none/b"]


def test_folders_of_azure_are_no_items(azurite: Azurite):
    access = access_to(azurite)
    store = open_store(access)
    store.put("dir/a", b"x")
    store.put("dir/empty", b"")
    path = f"/{AZURE_ACCOUNT}/{access.datastore.container_name}/dir"
    azurite.request(
        "PUT", path, headers={"x-ms-blob-type": "BlockBlob", "x-ms-meta-hdi_isfolder": "true"}
    )
    assert names(store) == ["dir/a", "dir/empty"]


@pytest.mark.parametrize("key", ["a//b", "a/%2E%2E/b"])
def test_a_key_that_nobody_could_read_is_told(moto_s3: MotoS3, key: str):
    access = access_to(moto_s3)
    moto_s3.raw("PUT", f"/{access.datastore.bucket}/{key}", b"x")
    with pytest.raises(BatchpointError) as caught:
        names(open_store(access))
    assert caught.value.code == "uri_invalid"


def test_a_backslash_in_azure_would_be_another_name(azurite: Azurite):
    store = opened(azurite)
    store.put("a/b", b"mine")
    with pytest.raises(BatchpointError) as caught:
        store.put("a\\b", b"other")
    assert caught.value.code == "uri_invalid"
    assert b"".join(store.stream("a/b")) == b"mine"


@pytest.mark.slow
def test_a_listing_longer_than_azures_own_pages(azurite: Azurite):
    store = opened(azurite)
    wanted = [f"n/{number:05d}" for number in range(5_100)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: store.put(name, b""), wanted))
    assert names(store, "n/") == wanted


# --- what must not get out ----------------------------------------------------------------------


def test_errors_of_signed_urls_hold_no_signature(azurite: Azurite):
    datastore, _ = azurite.datastore("test")
    token = "sv=2022-11-02&ss=b&srt=co&sp=rl&se=2030-01-01&sig=aHVzaGh1c2g%3D"
    signed = DatastoreAccess(
        datastore=datastore, credentials=Credentials(sas_token=SecretStr(token))
    )
    store = open_store(signed)
    calls = (
        lambda: names(store),
        lambda: store.find("a"),
        lambda: b"".join(store.stream("a")),
        lambda: store.put("a", b"x"),
        lambda: store.put("a", b"x", create=True),
        lambda: store.delete("a"),
    )
    for call in calls:
        with pytest.raises(BatchpointError) as caught:
            call()
        assert caught.value.code == "storage_denied"
        assert "aHVza" not in f"{caught.value} {caught.value!r}"
        # A traceback would show what an error was raised from.
        assert caught.value.__suppress_context__
        assert caught.value.__cause__ is None
    for shown in (signed, store, ObjectLocations(StorageAccess(datastores=(signed,)))):
        assert "aHVza" not in f"{shown!r} {shown!s}"


def test_credentials_of_whoever_runs_us_are_never_mixed_in(
    moto_s3: MotoS3, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
):
    asked: list[dict[str, str]] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append({key.lower(): value for key, value in self.headers.items()})
            self.send_error(403)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with serving(Recorder) as port:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "THEIRS",
            "AWS_SECRET_ACCESS_KEY": "theirs",
            "AWS_SESSION_TOKEN": "theirs",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
            "AZURE_STORAGE_ACCOUNT_KEY": "dGhlaXJz",
            "AZURE_STORAGE_SAS_TOKEN": "sig=theirs",
            "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9",
            "AZURE_STORAGE_TOKEN": "theirs",
            "GOOGLE_BEARER_TOKEN": "theirs",
        }.items():
            monkeypatch.setenv(name, value)
        url = f"http://127.0.0.1:{port}"
        mine = Credentials(access_key_id="MINE", secret_access_key=SecretStr("mine"))
        for datastore, credentials in (
            (Datastore(name="s", type="s3", bucket="b", endpoint=url), None),
            (Datastore(name="s", type="s3", bucket="b", endpoint=url), mine),
            (
                Datastore(
                    name="a",
                    type="azure_blob",
                    account_name="acc",
                    container_name="con",
                    endpoint=f"{url}/acc",
                ),
                None,
            ),
            (Datastore(name="g", type="gcs", bucket="b", endpoint=url), None),
        ):
            asked.clear()
            store = open_store(DatastoreAccess(datastore=datastore, credentials=credentials))
            with pytest.raises(BatchpointError) as caught:
                store.find("k")
            assert caught.value.code == "storage_denied"
            [headers] = asked
            assert "theirs" not in str(headers).lower()
            assert "x-amz-security-token" not in headers
            assert ("MINE" in headers.get("authorization", "")) is (credentials is not None)
            assert ("authorization" in headers) is (credentials is not None)


def test_a_session_token_is_sent(moto_s3: MotoS3):
    asked: list[str | None] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.headers["x-amz-security-token"])
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with serving(Recorder) as port:
        datastore = Datastore(name="s", type="s3", bucket="b", endpoint=f"http://127.0.0.1:{port}")
        credentials = Credentials(
            access_key_id="MINE",
            secret_access_key=SecretStr("mine"),
            session_token=SecretStr("for an hour"),
        )
        store = open_store(DatastoreAccess(datastore=datastore, credentials=credentials))
        assert store.find("k") is None
    assert asked == ["for an hour"]


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Generator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
