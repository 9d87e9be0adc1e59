"""Datastores: who may open what, what is shown, what is kept, and what stands in the way."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from batchpoint.domain.asset import Data, Model
from batchpoint.domain.datastore import Datastore
from batchpoint.domain.datastore_urls import lies_inside
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.job import Invocation, JobState, JobStatus
from batchpoint.domain.job_pointers import JobInput, JobOutput
from batchpoint.domain.references import DatastorePath
from tests.unit.control_plane import ControlPlane, data_folder, mlflow_model

KEY = "c2VjcmV0LWtleS1vZi1teS1hY2NvdW50"
AZURE: dict[str, Any] = {
    "name": "blobs",
    "type": "azure_blob",
    "account_name": "mine",
    "container_name": "data",
}
S3: dict[str, Any] = {"name": "bucket", "type": "s3", "bucket": "rows", "region": "eu-west-1"}
ACCESS_KEY = {"access_key_id": "AKIA", "secret_access_key": "shh-shh-shh"}


def put(plane: ControlPlane, base: dict[str, Any], **fields: Any) -> Datastore:
    """Register a datastore that cannot be reached from here."""
    datastore = Datastore.model_validate(base | fields)
    return plane.services.datastores.put(datastore, skip_validation=True)[0]


def opened(plane: ControlPlane, uri: str) -> dict[str, dict[str, str]]:
    """What opens a URI: the datastores with their credentials in clear."""
    access = plane.services.datastores.access_for([uri])
    return {
        each.datastore.name: each.credentials.revealed() if each.credentials else {}
        for each in access.datastores
    }


# --- what is always there ------------------------------------------------------------------------


def test_two_are_built_in(plane: ControlPlane) -> None:
    datastores = plane.services.datastores
    found = datastores.list(10, None)
    assert [d.name for d in found] == ["workspaceartifactstore", "workspaceblobstore"]
    assert [d.is_default for d in found] == [False, True]
    place = DatastorePath("workspaceblobstore", "in/a.csv")
    assert datastores.local_path(place) == (
        plane.home / "datastores" / "workspaceblobstore" / "in" / "a.csv"
    )
    assert (plane.home / "datastores" / "workspaceblobstore").is_dir()
    for name in ("workspaceblobstore", "workspaceartifactstore"):
        with pytest.raises(Conflict, match="built in"):
            datastores.delete(name, force=True)


def test_a_built_in_one_may_be_replaced(plane: ControlPlane) -> None:
    put(plane, S3, name="workspaceblobstore", credentials=ACCESS_KEY)
    datastores = plane.services.datastores
    replaced = datastores.get("workspaceblobstore")
    assert (replaced.type, replaced.is_default) == ("s3", True)
    assert len(datastores.list(10, None)) == 2
    assert datastores.local_path(DatastorePath("workspaceblobstore", "x")) is None
    datastores.delete("workspaceblobstore")
    assert datastores.get("workspaceblobstore").type == "local"


def test_another_one_becomes_the_default(plane: ControlPlane) -> None:
    datastores = plane.services.datastores
    put(plane, S3, is_default=True)
    put(plane, AZURE)
    assert [d.name for d in datastores.list(10, None) if d.is_default] == ["bucket"]
    assert datastores.default_name() == "bucket"
    assert datastores.update("blobs", {"is_default": True}).is_default
    assert [d.name for d in datastores.list(10, None) if d.is_default] == ["blobs"]
    assert not datastores.update("blobs", {"is_default": False}).is_default
    assert datastores.default_name() == "workspaceblobstore"
    assert datastores.update("workspaceartifactstore", {"is_default": True}).is_default
    assert datastores.default_name() == "workspaceartifactstore"
    datastores.update("bucket", {"is_default": True})
    datastores.delete("bucket")
    assert datastores.default_name() == "workspaceblobstore"


def test_lists_come_in_pages(plane: ControlPlane) -> None:
    put(plane, S3)
    put(plane, AZURE)
    datastores = plane.services.datastores
    assert [d.name for d in datastores.list(2, None)] == ["blobs", "bucket"]
    assert [d.name for d in datastores.list(2, "bucket")] == [
        "workspaceartifactstore",
        "workspaceblobstore",
    ]


# --- credentials ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "credentials", "kind"),
    [
        (AZURE, {"account_key": KEY}, "account_key"),
        (AZURE, {"sas_token": "sv=1&sig=abcdef"}, "sas"),
        (
            AZURE,
            {"tenant_id": "t", "client_id": "c", "client_secret": "very-secret"},
            "service_principal",
        ),
        (S3, ACCESS_KEY, "access_key"),
        (S3, ACCESS_KEY | {"session_token": "temporary-one"}, "access_key"),
        (
            {"name": "gc", "type": "gcs", "bucket": "b"},
            {"service_account_key": '{"private_key": "p"}'},
            "service_account_key",
        ),
        ({"name": "web", "type": "http", "endpoint": "https://h/d"}, {"token": "bearer"}, "token"),
        (S3, {}, "none"),
        (S3, None, "none"),
    ],
)
def test_credentials_are_kept_and_never_shown(
    plane: ControlPlane, base: dict[str, Any], credentials: dict[str, str] | None, kind: str
) -> None:
    stored = put(plane, base, credentials=credentials)
    assert stored.credentials_type == kind
    record = plane.ledger.get_resource("datastore", base["name"])
    assert record is not None
    told = "".join(
        [
            stored.model_dump_json(),
            repr(stored),
            str(plane.services.datastores.list(10, None)),
            record.document,
            record.resolution or "",
            repr(plane.services.datastores.access_for([f"azureml://datastores/{base['name']}"])),
        ]
    )
    for field, secret in (credentials or {}).items():
        if field not in ("tenant_id", "client_id", "access_key_id"):
            assert secret not in told
            assert secret.encode() not in plane.ledger.path.read_bytes()
    found = opened(plane, f"azureml://datastores/{base['name']}/paths/x")
    assert found == {base["name"]: credentials or {}}


def test_an_update_without_credentials_keeps_them(plane: ControlPlane) -> None:
    put(plane, S3, credentials=ACCESS_KEY)
    assert put(plane, S3, description="d").credentials_type == "access_key"
    plane.services.datastores.update("bucket", {"tags": {"a": "1"}})
    assert opened(plane, "s3://rows/k") == {"bucket": ACCESS_KEY}
    other = {"access_key_id": "B", "secret_access_key": "new"}
    plane.services.datastores.update("bucket", {"credentials": other}, skip_validation=True)
    assert opened(plane, "s3://rows/k") == {"bucket": other}
    assert put(plane, S3, credentials={}).credentials_type == "none"
    assert opened(plane, "s3://rows/k") == {"bucket": {}}


def test_null_forgets_credentials(plane: ControlPlane) -> None:
    put(plane, S3, credentials=ACCESS_KEY)
    changed = plane.services.datastores.update(
        "bucket", {"credentials": None}, skip_validation=True
    )
    assert changed.credentials_type == "none"
    assert opened(plane, "s3://rows/k") == {"bucket": {}}


@pytest.mark.parametrize(
    "moved",
    [{"endpoint": "https://somebody.else"}, {"protocol": "http"}, {"region": "us-east-1"}],
)
def test_credentials_are_not_sent_to_another_place(
    plane: ControlPlane, moved: dict[str, str]
) -> None:
    put(plane, S3, credentials=ACCESS_KEY)
    with pytest.raises(Invalid, match="given again") as caught:
        plane.services.datastores.update("bucket", moved, skip_validation=True)
    assert caught.value.where == "credentials"
    with pytest.raises(Invalid):
        put(plane, S3, **moved)
    put(plane, S3, credentials=ACCESS_KEY, **moved)


@pytest.mark.parametrize(
    ("base", "credentials", "where"),
    [
        (S3, {"account_key": KEY}, "credentials"),
        (S3, {"access_key_id": "A"}, "credentials.secret_access_key"),
        (S3, {"secret_access_key": "s"}, "credentials.access_key_id"),
        (S3, ACCESS_KEY | {"token": "t"}, "credentials.token"),
        (S3, ACCESS_KEY | {"session_token": " "}, "credentials.session_token"),
        (AZURE, {"tenant_id": "t", "client_id": "c"}, "credentials.client_secret"),
        (AZURE, {"account_key": KEY, "sas_token": "s"}, "credentials.sas_token"),
        (AZURE, ACCESS_KEY, "credentials"),
        (AZURE, {"client_secret": "s", "client_id": "c"}, "credentials.tenant_id"),
    ],
)
def test_credentials_that_do_not_fit(
    plane: ControlPlane, base: dict[str, Any], credentials: dict[str, str], where: str
) -> None:
    with pytest.raises(Invalid) as caught:
        put(plane, base, credentials=credentials)
    assert (caught.value.code, caught.value.where) == ("field_invalid", where)
    assert "shh" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    ["https://u:shh@h", "https://h/d?sig=shh", "https://h/d#shh", "https://h/d\nshh", "shh://h"],
)
def test_endpoints_hold_no_secrets_and_messages_do_not_repeat_them(
    plane: ControlPlane, endpoint: str
) -> None:
    with pytest.raises(Invalid) as caught:
        put(plane, {"name": "w", "type": "http"}, endpoint=endpoint)
    assert (caught.value.code, caught.value.where) == ("field_invalid", "endpoint")
    assert "shh" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"type": "azure_file", "file_share_name": "f"}, "azure_file is not supported"),
        ({"type": "AzureDataLakeGen1"}, "gen1 is not supported"),
        ({"type": "one_lake"}, "one_lake is not supported"),
        ({"container_name": None}, "needs container_name"),
        ({"account_name": None}, "needs account_name"),
        ({"credentials": {"certificate": "pem"}}, "certificate is not supported"),
    ],
)
def test_what_azure_has_and_is_not_here(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        Datastore.model_validate(AZURE | fields)
    assert "pem" not in str(caught.value)


# --- which URLs it opens -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "uri", "inside"),
    [
        (AZURE, "https://mine.blob.core.windows.net/data/a.csv", True),
        (AZURE, "https://MINE.blob.core.windows.net:443/data", True),
        (AZURE, "wasbs://data@mine.blob.core.windows.net/a", True),
        (AZURE, "abfss://data@mine.dfs.core.windows.net/a", True),
        (AZURE, "https://mine.blob.core.windows.net/database/a.csv", False),
        (AZURE, "https://mine.blob.core.windows.net.evil.com/data/a.csv", False),
        (AZURE, "https://yours.blob.core.windows.net/data/a.csv", False),
        (AZURE, "abfss://other@mine.dfs.core.windows.net/a", False),
        (AZURE | {"endpoint": "http://127.0.0.1:1/mine"}, "http://127.0.0.1:1/mine/data/x", True),
        (AZURE | {"endpoint": "http://127.0.0.1:1"}, "http://127.0.0.1:1/mine/data/x", True),
        (S3, "s3://rows/a/b", True),
        (S3, "s3://rows", True),
        (S3, "s3://rows-2/a", False),
        (S3, "s3://ROWS/a", False),
        (S3 | {"endpoint": "http://h:9000/"}, "http://h:9000/rows/a", True),
        ({"name": "g", "type": "gcs", "bucket": "b"}, "gs://b/x", True),
        ({"name": "w", "type": "http", "endpoint": "https://h/data"}, "https://h/data/x?q=1", True),
        ({"name": "w", "type": "http", "endpoint": "https://h/data"}, "https://h/database", False),
        ({"name": "w", "type": "http", "endpoint": "https://h/data"}, "http://h/data/x", False),
        ({"name": "w", "type": "http", "endpoint": "https://h"}, "https://u@h/x", False),
        ({"name": "w", "type": "http", "endpoint": "https://h"}, "https://h@evil/x", False),
    ],
)
def test_urls_inside(base: dict[str, Any], uri: str, inside: bool) -> None:
    assert lies_inside(uri, Datastore.model_validate(base)) is inside


def test_only_what_is_needed_is_opened(plane: ControlPlane) -> None:
    put(plane, S3, credentials=ACCESS_KEY)
    put(plane, AZURE, credentials={"account_key": KEY})
    assert set(opened(plane, "s3://rows/x")) == {"bucket"}
    assert set(opened(plane, "s3://elsewhere/x")) == set()
    assert set(opened(plane, "azureml://datastores/blobs/paths/x")) == {"blobs"}
    assert set(opened(plane, "/some/path")) == set()
    both = plane.services.datastores.access_for(
        ["s3://rows/1", "s3://rows/2", "azureml://datastores/blobs/paths/x"]
    )
    assert [each.datastore.name for each in both.datastores] == ["blobs", "bucket"]
    with pytest.raises(NotFound) as caught:
        opened(plane, "azureml://datastores/ghost/paths/x")
    assert caught.value.code == "datastore_not_found"


def test_this_users_own_credentials_are_for_this_user(
    plane: ControlPlane, server: ControlPlane
) -> None:
    assert plane.services.datastores.access_for([]).ambient
    assert not server.services.datastores.access_for([]).ambient


# --- testing -------------------------------------------------------------------------------------


def test_a_local_one_is_tested(plane: ControlPlane, tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "share")
    datastore = Datastore(name="share", type="local", path=str(folder))
    stored, new = plane.services.datastores.put(datastore)
    assert new
    assert stored.findings is not None
    assert stored.findings.tested_at is not None
    assert stored.findings.readable
    assert stored.findings.writable
    assert stored.findings.put_if_absent
    assert sorted(p.name for p in folder.iterdir()) == ["a.csv"]
    described = plane.services.datastores.update("share", {"description": "d"})
    assert described.findings == stored.findings
    again = plane.services.datastores.test("share").findings
    assert again is not None
    assert again.tested_at is not None
    assert again.tested_at > stored.findings.tested_at
    assert plane.services.datastores.get("share").findings == again
    assert plane.services.datastores.test("workspaceblobstore").findings is not None


def test_a_folder_has_to_be_there(plane: ControlPlane, tmp_path: Path) -> None:
    for path in (str(tmp_path / "ghost"), "relative"):
        with pytest.raises(Invalid) as caught:
            plane.services.datastores.put(Datastore(name="share", type="local", path=path))
        assert (caught.value.code, caught.value.where) == ("uri_invalid", "path")


class Refusing(BaseHTTPRequestHandler):
    """A store that lets nobody in."""

    def _refuse(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _refuse  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as store:
        thread = threading.Thread(target=store.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{store.server_port}"
        store.shutdown()
        thread.join()


def test_one_that_denies_everything_is_refused_unless_told(
    plane: ControlPlane, refusing: str
) -> None:
    datastore = Datastore.model_validate(
        S3 | {"endpoint": refusing, "protocol": "http", "credentials": ACCESS_KEY}
    )
    with pytest.raises(Invalid, match="skip_validation") as caught:
        plane.services.datastores.put(datastore)
    assert (caught.value.code, caught.value.where) == ("storage_denied", "credentials")
    assert "shh" not in str(caught.value)
    assert len(plane.services.datastores.list(10, None)) == 2
    stored, _ = plane.services.datastores.put(datastore, skip_validation=True)
    assert stored.findings is None
    with pytest.raises(Invalid):
        plane.services.datastores.test("bucket")


# --- deleting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["azureml://datastores/bucket/paths/x", "s3://rows/x"])
def test_one_that_data_lies_in_stays(plane: ControlPlane, path: str) -> None:
    put(plane, S3)
    plane.assets.data.register(Data(name="rows", path=path))
    with pytest.raises(Conflict, match="rows:1") as caught:
        plane.services.datastores.delete("bucket")
    assert caught.value.code == "datastore_in_use"
    plane.services.datastores.delete("bucket", force=True)
    with pytest.raises(NotFound):
        plane.services.datastores.get("bucket")


def test_one_that_a_job_needs_stays_until_the_job_has_ended(
    plane: ControlPlane, tmp_path: Path
) -> None:
    put(plane, S3)
    model = Model(path=str(mlflow_model(tmp_path / "model")), type="mlflow_model")
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    plane.registry.put_deployment(
        ModelDeployment(name="first", endpoint_name="heart", model=model),
        lambda line: None,
        set_default=True,
    )
    here = JobInput(type="uri_folder", uri=str(data_folder(tmp_path / "data")))
    local = plane.invocations.invoke("heart", Invocation(input=here))
    for field, value in (
        ("input", JobInput(type="uri_folder", uris=("s3://other/x", "s3://rows/x"))),
        ("output", JobOutput(uri="azureml://datastores/bucket/paths/out")),
    ):
        spec = local.spec.model_copy(update={field: value})
        job = local.model_copy(update={"name": f"{local.name}-{field}", "spec": spec})
        plane.ledger.create_job(job, None, None)
        with pytest.raises(Conflict, match=job.name):
            plane.services.datastores.delete("bucket")
        epoch = plane.ledger.acquire_lease(job.name, "me", 0.0, 15)
        assert epoch is not None
        plane.ledger.finish(job.name, epoch, JobStatus(state=JobState.CANCELED))
    plane.services.datastores.delete("bucket")
