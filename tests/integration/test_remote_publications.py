"""The contract of publications on real servers, and through a proxy that breaks things."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from batchpoint.domain.datastore import Credentials, Datastore, DatastoreAccess, StorageAccess
from batchpoint.domain.errors import Unavailable
from batchpoint.storage.object_locations import open_store
from tests.contracts.publication_contract import (
    NAMES,
    RECEIPT,
    Ground,
    Killed,
    PublicationContract,
    make_job,
    stop_at,
)
from tests.servers.fixtures import ProxyMaker
from tests.servers.store_servers import StoreServer

SERVERS = ("moto_s3", "azurite", "rclone_s3")
PREFIX = "azureml://datastores/lake/paths/"


class StoreGround(Ground):
    """A datastore on a real server; what is there is looked at past any proxy."""

    def __init__(
        self, datastore: Datastore, credentials: Credentials, direct: Datastore | None = None
    ) -> None:
        given = DatastoreAccess(datastore=datastore, credentials=credentials)
        self.access = StorageAccess(datastores=(given,))
        beside = given.model_copy(update={"datastore": direct or datastore})
        self.store = open_store(beside)

    def fresh(self, name: str) -> str:
        return f"{PREFIX}{name}/out"

    def objects(self, uri: str) -> dict[str, bytes]:
        prefix = f"{uri.removeprefix(PREFIX)}/"
        return {
            found.path.removeprefix(prefix): b"".join(self.store.stream(found.path))
            for page in self.store.list(prefix)
            for found in page
        }

    def put(self, uri: str, name: str, body: bytes) -> None:
        self.store.put(f"{uri.removeprefix(PREFIX)}/{name}", body)


def server_of(request: pytest.FixtureRequest, name: str) -> StoreServer:
    return cast("StoreServer", request.getfixturevalue(name))


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
class TestPublicationIntoServers(PublicationContract):
    @pytest.fixture
    def ground(self, request: pytest.FixtureRequest, server: str) -> Ground:
        return StoreGround(*server_of(request, server).datastore("lake"))


@pytest.mark.parametrize("server", SERVERS)
def test_kills_at_every_step_in_a_row(
    request: pytest.FixtureRequest, server: str, tmp_path: Path
) -> None:
    ground = StoreGround(*server_of(request, server).datastore("lake"))
    order = replace(make_job(tmp_path), output_uri=f"{PREFIX}out")
    for number in range(100):
        try:
            ground.assemble(order, stop_at(number, Killed()))
            break
        except Killed:
            continue
    assert ground.objects(order.output_uri).keys() == NAMES


def faulty(
    request: pytest.FixtureRequest, fault_proxy: Callable[..., object], server: str, seed: int
) -> StoreGround:
    """A ground whose server is reached through a proxy with a tenth of all requests disturbed."""
    behind = server_of(request, server)
    proxy = cast("ProxyMaker", fault_proxy)(
        behind, seed=seed, error=0.03, lost_reply=0.03, conflict=0.02, reset=0.02, cut=0.02
    )
    datastore, credentials = proxy.datastore("lake")
    assert datastore.endpoint is not None
    endpoint = datastore.endpoint.replace(str(proxy.port), str(behind.port))
    direct = datastore.model_copy(update={"endpoint": endpoint})
    return StoreGround(datastore, credentials, direct)


@pytest.mark.parametrize("server", ["moto_s3", "azurite"])
@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]
)
def test_a_bad_connection_changes_nothing(
    request: pytest.FixtureRequest,
    fault_proxy: ProxyMaker,
    server: str,
    seed: int,
    tmp_path: Path,
) -> None:
    ground = faulty(request, fault_proxy, server, seed)
    for number in range(6):
        order = replace(make_job(tmp_path / str(number)), output_uri=ground.fresh(str(number)))
        with contextlib.suppress(Killed, Unavailable):
            ground.assemble(order, stop_at(number + 3, Killed()))
        while RECEIPT not in ground.objects(order.output_uri):
            with contextlib.suppress(Unavailable):
                ground.assemble(order)
        ground.assemble(order)
        assert ground.objects(order.output_uri).keys() == NAMES, (seed, number)
