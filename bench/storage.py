"""What our stores cost next to obstore used by hand, in the same run: listing, and staging.

python -m bench storage            S3 (a stub, so that the client is what is measured) and Azurite
python -m bench storage --quick    fewer rounds, without Azurite
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

from batchpoint.domain.datastore import Credentials, Datastore, DatastoreAccess
from batchpoint.storage.object_locations import open_store
from batchpoint.storage.store import Found, Store

GOAL = 1.25
KEYS = 100_000
OBJECTS = 5_000
OBJECT_BYTES = 4_096
THREADS = 8
ROUNDS = 5


class Server(NamedTuple):
    """A server with objects in it: how to reach it, and how many it lists and stages."""

    name: str
    access: DatastoreAccess
    keys: int


def main(arguments: list[str]) -> int:
    """Measure; 1 when something is slower than the goal allows."""
    parser = argparse.ArgumentParser(prog="python -m bench storage", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args(arguments).quick
    missed = 0
    print(f"{'':32}{'by hand':>10}{'batchpoint':>12}{'ratio':>8}   goal {GOAL}")
    with tempfile.TemporaryDirectory() as folder:
        for opened in (_s3_stub,) if quick else (_s3_stub, _azurite):
            with opened(Path(folder)) as server:
                missed += _measured(server, Path(folder), 2 if quick else ROUNDS)
    return int(missed > 0)


def _measured(server: Server, folder: Path, rounds: int) -> int:
    store = open_store(server.access)
    client = _by_hand(server.access)
    found = [each for page in store.list("") for each in page]
    assert len(found) == server.keys, f"{len(found)} keys are listed, not {server.keys}"
    staged = found[:OBJECTS]
    work = folder / "staged"
    contests: list[tuple[str, Callable[[], int], Callable[[], int]]] = [
        (
            f"{server.name}: list {server.keys:,} keys",
            lambda: _list_by_hand(client),
            lambda: _list(store),
        ),
        (
            f"{server.name}: stage {len(staged):,} objects",
            lambda: _stage_by_hand(client, staged, work),
            lambda: _stage(store, staged, work),
        ),
    ]
    missed = 0
    for name, by_hand, ours in contests:
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds):
            order = ((0, by_hand), (1, ours)) if number % 2 == 0 else ((1, ours), (0, by_hand))
            for which, contender in order:
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir()
                begun = time.perf_counter()
                assert contender() in (server.keys, len(staged))
                times[which].append(time.perf_counter() - begun)
        hand, own = (statistics.median(each) for each in times)
        missed += own / hand > GOAL
        print(f"{name:32}{hand:9.2f}s{own:11.2f}s{own / hand:8.2f}")
    return missed


def _list(store: Store) -> int:
    return sum(len(page) for page in store.list(""))


def _list_by_hand(client: Any) -> int:
    found: list[tuple[str, int, str]] = []
    for chunk in client.list(chunk_size=1_000):
        found += [(meta["path"], meta["size"], meta["e_tag"]) for meta in chunk]
    return len(found)


def _stage(store: Store, found: list[Found], folder: Path) -> int:
    def stage(numbered: tuple[int, Found]) -> None:
        store.fetch(numbered[1], folder / str(numbered[0]))

    with ThreadPoolExecutor(THREADS) as pool:
        return len(list(pool.map(stage, enumerate(found))))


def _stage_by_hand(client: Any, found: list[Found], folder: Path) -> int:
    def stage(numbered: tuple[int, Found]) -> None:
        body = client.get(numbered[1].path).bytes()
        with (folder / str(numbered[0])).open("wb") as file:
            file.write(body)

    with ThreadPoolExecutor(THREADS) as pool:
        return len(list(pool.map(stage, enumerate(found))))


def _by_hand(access: DatastoreAccess) -> Any:
    """Open obstore as its documentation shows it."""
    from obstore.store import AzureStore, S3Store

    datastore = access.datastore
    secrets = access.credentials.revealed() if access.credentials else {}
    if datastore.type == "s3":
        return S3Store(
            datastore.bucket,
            endpoint=datastore.endpoint or "",
            region="us-east-1",
            access_key_id=secrets["access_key_id"],
            secret_access_key=secrets["secret_access_key"],
            client_options={"allow_http": True},
        )
    return AzureStore(
        datastore.container_name,
        account_name=datastore.account_name or "",
        account_key=secrets["account_key"],
        endpoint=datastore.endpoint or "",
        client_options={"allow_http": True},
    )


@contextmanager
def _s3_stub(folder: Path) -> Generator[Server]:
    command = [sys.executable, str(Path(__file__).with_name("s3_stub.py"))]
    with subprocess.Popen(
        [*command, str(KEYS), str(OBJECT_BYTES)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        credentials = Credentials(access_key_id="a", secret_access_key=SecretStr("b"))
        datastore = Datastore(
            name="stub", type="s3", bucket="b", endpoint=f"http://127.0.0.1:{port}"
        )
        try:
            access = DatastoreAccess(datastore=datastore, credentials=credentials)
            yield Server("S3", access, KEYS)
        finally:
            process.kill()


@contextmanager
def _azurite(folder: Path) -> Generator[Server]:
    from tests.servers.store_servers import Azurite

    server = Azurite(folder)
    try:
        datastore, credentials = server.datastore("azurite")
        access = DatastoreAccess(datastore=datastore, credentials=credentials)
        store = open_store(access)
        body = b"x" * OBJECT_BYTES
        with ThreadPoolExecutor(THREADS) as pool:
            names = [f"data/{number:09d}.csv" for number in range(OBJECTS)]
            assert all(pool.map(lambda name: store.put(name, body), names))
        yield Server("Azure Blob", access, OBJECTS)
    finally:
        server.end()
