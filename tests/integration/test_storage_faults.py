"""Servers and networks that fail: the exact bytes or a clear error, within a bounded time."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

import pytest

from batchpoint.domain import limits
from batchpoint.domain.datastore import DatastoreAccess, StorageAccess
from batchpoint.domain.errors import BatchpointError, Unavailable
from batchpoint.storage.object_locations import ObjectLocations
from batchpoint.storage.store import Store
from tests.servers.fault_proxy import FAULTS, FaultProxy
from tests.servers.fixtures import ProxyMaker
from tests.servers.store_servers import StoreServer

TIMEOUT_SECONDS = 3.0


@pytest.fixture(params=["moto_s3", "azurite"])
def server(request: pytest.FixtureRequest) -> StoreServer:
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries come soon: what is tested is that they come, and that they end."""
    monkeypatch.setattr(limits, "STORAGE_BACKOFF_SECONDS_MAX", 0.2)


def behind(proxy: FaultProxy, timeout_seconds: float = TIMEOUT_SECONDS) -> tuple[Store, Store]:
    """Return one container as seen through the proxy and past it."""
    datastore, credentials = proxy.datastore("test")
    direct = datastore.model_copy(
        update={
            "endpoint": str(datastore.endpoint).replace(str(proxy.port), str(proxy.server.port))
        }
    )
    stores: list[Store] = []
    for each in (datastore, direct):
        access = DatastoreAccess(datastore=each, credentials=credentials)
        locations = ObjectLocations(
            StorageAccess(datastores=(access,)), timeout_seconds=timeout_seconds
        )
        stores.append(locations.at("azureml://datastores/test/paths/").store)
    return stores[0], stores[1]


def read(store: Store, path: str) -> bytes:
    return b"".join(store.stream(path))


def test_everything_is_exact_in_bad_weather(
    server: StoreServer, fault_proxy: ProxyMaker, tmp_path: Path
):
    """R7: errors, throttling, lost replies, conflicts, cut bodies and broken connections."""
    weather(server, fault_proxy, tmp_path, seed=1, objects=25)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 15))
def test_everything_is_exact_in_bad_weather_that_lasts(
    server: StoreServer, fault_proxy: ProxyMaker, tmp_path: Path, seed: int
):
    weather(server, fault_proxy, tmp_path, seed=seed, objects=150)


def weather(
    server: StoreServer, fault_proxy: ProxyMaker, folder: Path, *, seed: int, objects: int
) -> None:
    """Write, list, read and fetch objects through a proxy that fails one request in four."""
    proxy = fault_proxy(
        server, seed=seed, error=0.1, throttled=0.05, lost_reply=0.02, conflict=0.02, cut=0.03,
        reset=0.02,
    )  # fmt: skip
    store, direct = behind(proxy, timeout_seconds=20)
    drawn = random.Random(seed)
    bodies = {
        f"in/{number:03d}": drawn.randbytes(drawn.randrange(20_000)) for number in range(objects)
    }
    for path, body in bodies.items():
        assert store.put(path, body, create=drawn.random() < 0.5)
    found = [each for page in store.list("in/") for each in page]
    assert [each.path for each in found] == list(bodies)
    for number, each in enumerate(found):
        target = folder / str(number)
        store.fetch(each, target)
        assert target.read_bytes() == bodies[each.path]
        assert read(store, each.path) == bodies[each.path]
    listed = [each.path for page in direct.list("") for each in page]
    assert {path: read(direct, path) for path in listed} == bodies
    assert sum(proxy.counters[kind] for kind in FAULTS) > objects / 5


def test_a_big_object_is_exact_in_bad_weather(
    server: StoreServer, fault_proxy: ProxyMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "STORAGE_BIG_BYTES_MIN", 4 << 20)
    monkeypatch.setattr(limits, "STORAGE_RANGE_BYTES", 1 << 20)
    monkeypatch.setattr(limits, "STORAGE_PART_BYTES_MIN", 5 << 20)
    proxy = fault_proxy(server, seed=3, error=0.1, throttled=0.05, cut=0.1, reset=0.03)
    store, direct = behind(proxy, timeout_seconds=20)
    body = random.Random(3).randbytes((16 << 20) + 77)
    (tmp_path / "source").write_bytes(body)
    store.put_file(tmp_path / "source", "big")
    assert hashlib.sha256(read(direct, "big")).digest() == hashlib.sha256(body).digest()
    [[found]] = list(store.list(""))
    for number in range(3):
        store.fetch(found, tmp_path / f"whole{number}")
        assert (tmp_path / f"whole{number}").read_bytes() == body
        assert read(store, "big") == body


def test_a_cut_body_is_gone_on_with_and_not_read_again(
    server: StoreServer, fault_proxy: ProxyMaker
):
    proxy = fault_proxy(server, seed=5, only=lambda method, path: method == "GET")
    store, _ = behind(proxy)
    body = random.Random(5).randbytes(8 << 20)
    store.put("a", body)
    proxy.counters.clear()
    proxy.script(["cut", "cut", "cut"])
    assert read(store, "a") == body
    assert proxy.counters["cut"] == 3
    assert proxy.counters["bytes"] < 1.6 * len(body)


def test_a_lost_reply_to_a_create_is_our_own_success(server: StoreServer, fault_proxy: ProxyMaker):
    """R8: the server has stored it, the reply is lost, and a retry meets its own object."""
    proxy = fault_proxy(server, only=lambda method, path: method == "PUT")
    store, direct = behind(proxy)
    proxy.script(["lost_reply"])
    assert store.put("a", b"mine", create=True) is True
    assert read(direct, "a") == b"mine"
    proxy.script(["lost_reply"])
    assert store.put("a", b"other", create=True) is False
    assert read(direct, "a") == b"mine"


def test_a_conflict_with_nothing_stored_is_tried_again(
    server: StoreServer, fault_proxy: ProxyMaker
):
    proxy = fault_proxy(server, only=lambda method, path: method == "PUT")
    store, direct = behind(proxy)
    proxy.script(["conflict", "conflict"])
    assert store.put("a", b"mine", create=True) is True
    assert read(direct, "a") == b"mine"
    assert proxy.counters["conflict"] == 2


def test_conflicts_without_end_are_told(server: StoreServer, fault_proxy: ProxyMaker):
    proxy = fault_proxy(server, conflict=1.0, only=lambda method, path: method == "PUT")
    store, direct = behind(proxy)
    with pytest.raises(Unavailable) as caught:
        store.put("a", b"mine", create=True)
    assert caught.value.code == "storage_unavailable"
    assert direct.find("a") is None


@pytest.mark.parametrize("fault", ["hang", "error", "throttled", "reset"])
@pytest.mark.parametrize("operation", ["find", "list", "stream", "fetch", "put", "create"])
def test_no_call_takes_longer_than_twice_the_timeout(
    moto_s3: StoreServer, fault_proxy: ProxyMaker, tmp_path: Path, fault: str, operation: str
):
    proxy = fault_proxy(moto_s3)
    store, direct = behind(proxy, timeout_seconds=0.6)
    direct.put("a", b"x")
    [[found]] = list(direct.list(""))
    setattr(proxy.faults, fault, 1.0)
    calls = {
        "find": lambda: store.find("a"),
        "list": lambda: list(store.list("")),
        "stream": lambda: read(store, "a"),
        "fetch": lambda: store.fetch(found, tmp_path / "f"),
        "put": lambda: store.put("b", b"x"),
        "create": lambda: store.put("b", b"x", create=True),
    }
    begun = time.monotonic()
    with pytest.raises(BatchpointError) as caught:
        calls[operation]()
    assert time.monotonic() - begun < 2 * 0.6 + 0.3  # and what a busy machine needs
    assert caught.value.code == "storage_unavailable"
    assert "test-secret" not in str(caught.value)


def test_a_stall_is_waited_for(server: StoreServer, fault_proxy: ProxyMaker):
    proxy = fault_proxy(server, stall_seconds=0.4)
    store, _ = behind(proxy)
    proxy.script(["stall", "stall", "stall"])
    assert store.put("a", b"x")
    assert read(store, "a") == b"x"
    assert store.find("a") is not None
    assert proxy.counters["stall"] == 3


def test_a_page_of_a_listing_that_fails_is_asked_for_again(
    moto_s3: StoreServer, fault_proxy: ProxyMaker
):
    proxy = fault_proxy(moto_s3, only=lambda method, path: "list-type" in path)
    store, direct = behind(proxy)
    for number in range(5):
        direct.put(f"n/{number}", b"x")
    proxy.script(["error", "cut", "reset"])
    assert len([each for page in store.list("n/") for each in page]) == 5
