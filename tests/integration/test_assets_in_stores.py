"""Datastores over real servers: tested when registered, and models fetched out of them once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from batchpoint.client.embedded_transport import EmbeddedTransport
from batchpoint.domain.datastore import Credentials, Datastore
from batchpoint.domain.datastore_urls import urls_of
from batchpoint.domain.upload import TreeEntry, TreeManifest
from batchpoint.ledger.ledger import Ledger
from batchpoint.settings import Settings
from batchpoint.storage.object_locations import ObjectLocations
from batchpoint.wiring import datastores_of, ledger_path, server_app
from tests.servers.store_servers import Azurite, RcloneS3, StoreServer

FILES = {
    "MLmodel": b"flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n",
    "data/weights.bin": bytes(range(256)) * 4_000,
    "data/empty": b"",
    "a name.txt": b"with a space",
}


@pytest.fixture(params=["azurite", "moto_s3", "rclone_s3"])
def store(request: pytest.FixtureRequest) -> StoreServer:
    server: StoreServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def http(settings: Settings) -> Iterator[httpx.Client]:
    """A server's app: its callers have no files and no credentials there."""
    app = server_app(settings, "http://test")
    with httpx.Client(transport=EmbeddedTransport(lambda: app), base_url="http://test") as client:
        yield client


def body_of(datastore: Datastore, credentials: Credentials) -> dict[str, object]:
    told: dict[str, object] = datastore.model_dump(mode="json", exclude_none=True)
    return {**told, "credentials": credentials.revealed()}


def put_files(settings: Settings, prefix: str) -> None:
    """Write a model's files below an `azureml://` folder, with what is registered."""
    ledger = Ledger(ledger_path(settings.home))
    access = datastores_of(settings, ledger, embedded=False).access_for([prefix])
    for name, body in FILES.items():
        place = ObjectLocations(access).at(f"{prefix}/{name}")
        place.store.put(place.path, body)
    ledger.close()


def tree_of(root: str) -> str:
    """The hash that the model's files have as an upload."""
    entries = [
        TreeEntry(path=f"{root}/{name}", size=len(body), sha256=hashlib.sha256(body).hexdigest())
        for name, body in sorted(FILES.items())
    ]
    return TreeManifest(entries=tuple(sorted(entries, key=lambda entry: entry.path))).hash


def test_models_are_fetched_out_of_datastores(
    store: StoreServer, settings: Settings, http: httpx.Client
) -> None:
    datastore, credentials = store.datastore("lake")
    answer = http.put("/datastores/lake", json=body_of(datastore, credentials))
    assert answer.status_code == 201, answer.text
    findings = answer.json()["findings"]
    assert (findings["readable"], findings["writable"]) == (True, True)
    assert findings["put_if_absent"] is not isinstance(store, RcloneS3)
    assert bool(findings["notes"]) is isinstance(store, RcloneS3)

    put_files(settings, "azureml://datastores/lake/paths/models/heart")
    spellings = [
        "azureml://datastores/lake/paths/models/heart",
        "azureml://datastores/lake/paths/models/heart/",
        "/subscriptions/s/resourceGroups/r/workspaces/w/datastores/lake/paths/models/heart",
        *(f"{url}models/heart" for url in urls_of(datastore)),
    ]
    for number, path in enumerate(spellings, start=1):
        body = {"name": "heart", "type": "mlflow_model", "path": path}
        answer = http.post("/models", json=body)
        assert answer.status_code == 201, (path, answer.text)
        model = answer.json()
        assert (model["version"], model["properties"]) == (str(number), {"source_uri": path})
        assert model["path"] == f"upload:{tree_of('heart')}/heart"
    stored = settings.home / "store" / tree_of("heart") / "heart"
    found = {
        file.relative_to(stored).as_posix(): file.read_bytes()
        for file in stored.rglob("*")
        if file.is_file()
    }
    assert found == FILES
    assert list((settings.home / "store" / "incoming").iterdir()) == []

    one = {"name": "one", "path": "azureml://datastores/lake/paths/models/heart/data/weights.bin"}
    model = http.post("/models", json=one).json()
    assert model["path"].endswith("/weights.bin")
    missing = http.post(
        "/models", json={"name": "x", "path": "azureml://datastores/lake/paths/models/ghost"}
    )
    assert (missing.status_code, missing.json()["code"]) == (400, "input_not_found")

    secrets = [text for field, text in credentials.revealed().items() if field != "access_key_id"]
    told = http.get("/datastores").text + http.get("/models").text
    for file in settings.home.rglob("*"):
        if file.is_file():
            assert not any(secret.encode() in file.read_bytes() for secret in secrets), file
    assert not any(secret in told for secret in secrets)


def test_a_wrong_key_is_told_when_it_is_registered(azurite: Azurite, http: httpx.Client) -> None:
    datastore, _ = azurite.datastore("lake")
    wrong = {"account_key": "d3Jvbmcga2V5"}
    body = datastore.model_dump(mode="json", exclude_none=True) | {"credentials": wrong}
    answer = http.put("/datastores/lake", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "storage_denied"), answer.text
    assert "d3Jvbmcga2V5" not in answer.text
    assert http.get("/datastores/lake").status_code == 404


def test_a_container_that_is_not_there(azurite: Azurite, http: httpx.Client) -> None:
    datastore, credentials = azurite.datastore("lake")
    elsewhere = datastore.model_copy(update={"container_name": "ghost"})
    answer = http.put("/datastores/lake", json=body_of(elsewhere, credentials))
    assert (answer.status_code, answer.json()["code"]) == (400, "storage_denied"), answer.text


@pytest.mark.slow  # the time that a store is given to answer
def test_a_store_that_cannot_be_reached(azurite: Azurite, http: httpx.Client) -> None:
    datastore, credentials = azurite.datastore("lake", port=9)
    answer = http.put("/datastores/lake", json=body_of(datastore, credentials), timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable"), answer.text
    later = http.put(
        "/datastores/lake",
        json=body_of(datastore, credentials),
        params={"skip_validation": True},
    )
    assert (later.status_code, later.json()["findings"]) == (201, None)
