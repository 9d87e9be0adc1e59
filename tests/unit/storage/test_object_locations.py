import threading
from typing import Any

import pytest
from pydantic import SecretStr

from batchpoint.domain.datastore import Credentials, Datastore, DatastoreAccess, StorageAccess
from batchpoint.domain.errors import BatchpointError, NotFound
from batchpoint.domain.job_pointers import JobInput
from batchpoint.storage.local_store import LocalStore
from batchpoint.storage.locate import shown_of
from batchpoint.storage.object_locations import ObjectLocations, is_remote, open_store, uri_of

LONG = "azureml://subscriptions/s/resourcegroups/g/providers/Microsoft.MachineLearningServices"
SHORT = "azureml://subscriptions/s/resourcegroups/g"
IN = "https://acme.blob.core.windows.net/in"
FS = "https://acme.blob.core.windows.net/fs"
CHINA = "https://other.blob.core.chinacloudapi.cn/c"
SIGNED = "https://acme2.blob.core.windows.net/c"
SECRET = "sv=2022&sig=hush%2Fhush"


def access(**fields: Any) -> DatastoreAccess:
    fields = {"name": "lake", **fields}
    return DatastoreAccess(datastore=Datastore(**fields))


BLOB = access(name="blob", type="azure_blob", account_name="acme", container_name="in")
LAKE = access(name="lake", type="azure_data_lake_gen2", account_name="acme", filesystem="fs")
S3 = access(name="s3", type="s3", bucket="b1", region="eu-west-1")
MINIO = access(name="minio", type="s3", bucket="b2", endpoint="http://127.0.0.1:9000")
GCS = access(name="gcs", type="gcs", bucket="g1")
WEB = access(name="web", type="http", endpoint="https://127.0.0.1:8443/open")
INNER = access(name="inner", type="http", endpoint="https://127.0.0.1:8443/open/inner")
ALL = (BLOB, LAKE, S3, MINIO, GCS, WEB, INNER)


def at(uri: str, *datastores: DatastoreAccess):
    return ObjectLocations(StorageAccess(datastores=datastores or ALL)).at(uri)


@pytest.mark.parametrize(
    ("uri", "url", "path"),
    [
        ("azureml://datastores/blob/paths/a/b.csv", IN, "a/b.csv"),
        ("azureml://datastores/blob/paths/a/", IN, "a"),
        ("azureml://datastores/blob/paths/", IN, ""),
        ("azureml://datastores/s3/paths/50%25 #1?.csv", "s3://b1", "50%25 #1?.csv"),
        (f"{LONG}/workspaces/w/datastores/lake/paths/x", FS, "x"),
        (f"{SHORT}/workspaces/w/datastores/gcs/paths/x/y", "gs://g1", "x/y"),
        ("s3://b1/a%20b c#d?e/f", "s3://b1", "a%20b c#d?e/f"),
        ("s3://other/key", "s3://other", "key"),
        ("s3://other", "s3://other", ""),
        ("gs://g1/k", "gs://g1", "k"),
        ("http://127.0.0.1:9000/b2/a%20b", "s3://b2", "a b"),
        (f"{IN}/a%20b%23c", IN, "a b#c"),
        ("https://ACME.blob.core.windows.net:443/in/A", IN, "A"),
        ("https://acme.dfs.core.windows.net/fs/p", FS, "p"),
        ("abfss://fs@acme.dfs.core.windows.net/a b#c?d%20", FS, "a b#c?d%20"),
        ("wasbs://in@acme.blob.core.windows.net/a/", IN, "a"),
        ("wasbs://c@other.blob.core.windows.net/a", "https://other.blob.core.windows.net/c", "a"),
        (f"{CHINA}/a%2Bb", CHINA, "a+b"),
        ("https://127.0.0.1:8443/open/x%20y", "https://127.0.0.1:8443/open", "x y"),
        ("https://127.0.0.1:8443/open/inner/x", "https://127.0.0.1:8443/open/inner", "x"),
        ("https://127.0.0.1:8443/opener/x", "https://127.0.0.1:8443", "opener/x"),
        (f"{SIGNED}/k?{SECRET}", SIGNED, "k"),
    ],
)
def test_where_a_uri_points(uri: str, url: str, path: str):
    location = at(uri)
    assert (location.store.url, location.path) == (url, path)
    assert "hush" not in f"{location!r} {location.store!r}"


def test_folders_of_this_machine(tmp_path):
    (tmp_path / "a b.csv").write_text("x")
    for uri in (str(tmp_path / "a b.csv"), (tmp_path / "a b.csv").as_uri()):
        location = at(uri)
        assert isinstance(location.store, LocalStore)
        assert b"".join(location.store.stream(location.path)) == b"x"
    local = access(name="disk", type="local", path=str(tmp_path))
    location = at("azureml://datastores/disk/paths/a b.csv", local)
    assert location.store.url == tmp_path.as_uri()
    assert location.path == "a b.csv"
    assert location.store.find(location.path) is not None


@pytest.mark.parametrize(
    "uri",
    [
        "adl://store/x",
        "ftp://host/x",
        "hdfs://host/x",
        "models:/a/1",
        "relative/path",
        "s3:///key",
        "abfss://fs@host/p",
        "abfss://acme.dfs.core.windows.net/p",
        "azureml:data:1",
        "azureml://jobs/j/outputs/o/paths/p",
        "s3://b/a//b",
        "s3://b/../c",
        "s3://b/a/./c",
        "https://127.0.0.1:8443/open/%2e%2e/secret",
        "azureml://datastores/s3/paths/a/../../b",
        "http://169.254.169.254/latest/meta-data/iam",
        "http://[fe80::1]/x",
        "http://[::ffff:169.254.169.254]/x",
        "http://0xa9fea9fe/latest",
        "http://[fd00:ec2::254]/latest",
        "http://[64:ff9b::a9fe:a9fe]/latest",
        "https://user:password@127.0.0.1/x",
        "https://user@127.0.0.1/x",
    ],
)
def test_what_is_no_place_is_refused_in_one_sentence(uri: str):
    with pytest.raises(BatchpointError) as caught:
        at(uri)
    assert caught.value.code in ("uri_invalid", "reference_invalid")
    assert "\n" not in str(caught.value)


def test_a_datastore_of_this_machine_is_never_left(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("hush")
    local = access(name="disk", type="local", path=str(tmp_path / "in"))
    for path in ("../secret", "a/../../secret", "./../secret"):
        with pytest.raises(BatchpointError):
            at(f"azureml://datastores/disk/paths/{path}", local)
        with pytest.raises(BatchpointError):
            list(open_store(local).stream(path))
    absolute = at("azureml://datastores/disk/paths//etc/hostname", local)
    assert absolute.path == "etc/hostname"
    assert absolute.store.find(absolute.path) is None


def test_an_unknown_datastore_is_named():
    with pytest.raises(NotFound, match="'nowhere'") as caught:
        ObjectLocations(StorageAccess()).at("azureml://datastores/nowhere/paths/a", where="path")
    assert caught.value.code == "datastore_not_found"
    assert caught.value.where == "path"


def test_messages_hold_no_signature():
    with pytest.raises(BatchpointError) as caught:
        at(f"https://acme2.blob.core.windows.net/c/a//b?{SECRET}")
    assert "hush" not in str(caught.value)
    with pytest.raises(BatchpointError) as caught:
        at("https://user:hush@169.254.169.254/x")
    assert "hush" not in str(caught.value)
    signed = f"https://127.0.0.1/a.csv?{SECRET}"
    assert "hush" not in shown_of(signed)
    assert "hush" not in JobInput(type="uri_file", uri=signed).shown


def test_a_container_is_opened_once_however_many_ask():
    locations = ObjectLocations(StorageAccess(datastores=ALL))
    stores: list[object] = []

    def ask() -> None:
        uris = ("azureml://datastores/s3/paths/a", "s3://b1/c", "s3://other/x")
        stores.extend([locations.at(uri).store for uri in uris])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(store) for store in stores}) == 2


def test_a_datastore_that_cannot_be_opened_says_so_without_its_secrets():
    broken = DatastoreAccess(
        datastore=Datastore(name="g", type="gcs", bucket="b"),
        credentials=Credentials(service_account_key=SecretStr('{"private_key": "hush"')),
    )
    with pytest.raises(BatchpointError, match="'g'") as caught:
        ObjectLocations(StorageAccess(datastores=(broken,))).at("gs://b/x")
    assert caught.value.code == "field_invalid"
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "remote"),
    [
        ("/data/a://b", False),
        ("file:///data/x", False),
        ("FILE:///data/x", False),
        ("s3://b/k", True),
        ("azureml://datastores/a/paths/b", True),
        ("azureml:data:1", True),
        ("https://host/x", True),
    ],
)
def test_what_is_remote(uri: str, remote: bool):
    assert is_remote(uri) is remote


@pytest.mark.parametrize(
    ("base", "path", "uri"),
    [
        ("s3://b/f", "a b#?%.csv", "s3://b/f/a b#?%.csv"),
        ("s3://b/f/", "x", "s3://b/f/x"),
        ("azureml://datastores/d/paths/", "x y", "azureml://datastores/d/paths/x y"),
        ("https://h/f", "a b#?%é.csv", "https://h/f/a%20b%23%3F%25%C3%A9.csv"),
        ("https://h/f?sig=1", "x", "https://h/f/x?sig=1"),
        ("file:///d", "a b", "file:///d/a%20b"),
        ("/d/", "a b#", "/d/a b#"),
        ("s3://b/f", "", "s3://b/f"),
    ],
)
def test_uris_of_what_lies_below(base: str, path: str, uri: str):
    assert uri_of(base, path) == uri
    if not base.startswith(("/", "file")) and "sig" not in base and path:
        datastore = access(name="d", type="s3", bucket="dd")
        assert at(uri, datastore).path.endswith(path)
