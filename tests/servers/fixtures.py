"""Fixtures: real servers of object stores, one of each for the whole run, and a faulty proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers.fault_proxy import FaultProxy, Faults
from tests.servers.store_servers import Azurite, MotoS3, RcloneS3, StoreServer

ProxyMaker = Callable[..., FaultProxy]


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Azure Blob Storage on this machine."""
    server = Azurite(tmp_path_factory.mktemp("azurite"))
    yield server
    server.end()


@pytest.fixture(scope="session")
def moto_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoS3]:
    """S3 on this machine, with conditional writes."""
    server = MotoS3(tmp_path_factory.mktemp("moto"))
    yield server
    server.end()


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneS3]:
    """S3 on this machine that ignores conditional writes."""
    server = RcloneS3(tmp_path_factory.mktemp("rclone"))
    yield server
    server.end()


@pytest.fixture
def fault_proxy() -> Iterator[ProxyMaker]:
    """Make proxies: `fault_proxy(server, seed=1, error=0.1, …)`, see `Faults`."""
    made: list[FaultProxy] = []

    def make(server: StoreServer, *, seed: int = 0, **faults: object) -> FaultProxy:
        proxy = FaultProxy(server, Faults(**faults), seed)  # type: ignore[arg-type]
        made.append(proxy)
        return proxy

    yield make
    for proxy in made:
        proxy.end()
