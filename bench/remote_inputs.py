"""Inputs in object stores next to obstore by hand, and next to the same job on local files.

    python -m bench remote [--objects 5000] [--keys 100000] [--rounds 3]

Servers run on this machine and take their share of its cores; the one that is listed answers a page
in 20 ms, as a store nearby does. Prints medians and ratios; ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from batchpoint import Client, wiring
from batchpoint.core.messages import Assignment
from batchpoint.domain import limits
from batchpoint.domain.datastore import Datastore, DatastoreAccess, StorageAccess
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.minibatch import MiniBatch, Slice, Task
from batchpoint.node.parquet_footers import ParquetFooters
from batchpoint.node.remote_files import RemoteFiles
from batchpoint.node.staging_ahead import StagingAhead
from batchpoint.node.ticket import Ticket
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from batchpoint.storage.listing import Listing
from batchpoint.storage.object_locations import ObjectLocations
from batchpoint.storage.object_store_opening import open_client
from batchpoint.storage.store import Store
from bench import places
from tests.servers.store_servers import Azurite, MotoS3

OBJECT_BYTES = 4_096
PER_TASK = 10
LISTING_MAX, STAGING_MAX, JOB_MAX = 1.25, 1.25, 1.15
SCRIPT = """
import argparse
import hashlib
import time

def init():
    global waits
    parser = argparse.ArgumentParser()
    parser.add_argument("--waits", default="false")
    waits = parser.parse_known_args()[0].waits == "true"

def run(mini_batch):
    rows = []
    for path in mini_batch:
        with open(path, "rb") as file:
            body = file.read()
        if waits:  # as for a GPU: the cores are free meanwhile
            time.sleep(0.002)
        for _ in range(1 if waits else 400):  # about two milliseconds for each file
            digest = hashlib.sha256(body).hexdigest()
        rows.append(digest)
    return rows
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and compare with the goals."""
    parser = argparse.ArgumentParser(prog="python -m bench remote", description=__doc__)
    parser.add_argument("--objects", type=int, default=5_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    work = places.emptied(places.WORK / "remote")
    # A store nearby takes some 20 ms for a page; one that answers at once shows what ours costs.
    listed = [_listing(asked.keys, asked.rounds, milliseconds) for milliseconds in (20, 0)]
    missed = not all(listed)
    for server in (MotoS3, Azurite):
        (work / server.__name__).mkdir()
        running = server(work / server.__name__)
        try:
            datastore, credentials = running.datastore("bench")
            access = DatastoreAccess(datastore=datastore, credentials=credentials)
            missed |= not _objects(access, server.__name__, work, asked)
        finally:
            running.end()
    shutil.rmtree(work)
    return int(missed)


def _median(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Time several works in turn; return the median seconds of each."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for seconds, work in zip(taken, works, strict=True):
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in taken]


def _told(what: str, ours: float, limit: float, most: float) -> bool:
    ratio = ours / limit
    print(f"{what}: {ours:.2f} s, by hand {limit:.2f} s: {ratio:.2f} x (goal <= {most} x)")
    return ratio <= most


def _listing(keys: int, rounds: int, page_milliseconds: int) -> bool:
    command = [sys.executable, "-m", "bench.s3_stub", str(keys), "64", str(page_milliseconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stub:
        try:
            assert stub.stdout is not None
            url = f"http://127.0.0.1:{stub.stdout.readline().strip()}"
            datastore = Datastore(name="bench", type="s3", bucket="bench", endpoint=url)
            access = StorageAccess(datastores=(DatastoreAccess(datastore=datastore),))
            source = JobInput(type="uri_folder", uri="azureml://datastores/bench/paths/data")

            def ours() -> None:
                listing = Listing(source, lambda: ObjectLocations(access))
                count = 0
                while taken := listing.take(4_000):
                    count += len(taken)
                assert count == keys, count

            def bare() -> None:
                client: Any = open_client(datastore, None, ambient=False).client
                assert sum(len(page) for page in client.list("data", chunk_size=1_000)) == keys

            taken, limit = _median(rounds, ours, bare)
            what = f"listing {keys:,} keys, a page in {page_milliseconds} ms"
            return _told(what, taken, limit, LISTING_MAX)
        finally:
            stub.terminate()


def _objects(access: DatastoreAccess, name: str, work: Path, asked: argparse.Namespace) -> bool:
    locations = ObjectLocations(StorageAccess(datastores=(access,)))
    store = locations.at("azureml://datastores/bench/paths/in").store
    names = [f"{number:06d}.bin" for number in range(asked.objects)]
    local = places.emptied(work / name / "in")
    for each in names:
        (local / each).write_bytes(os.urandom(OBJECT_BYTES))
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda each: store.put(f"in/{each}", (local / each).read_bytes()), names))
    client: Any = open_client(access.datastore, access.credentials, ambient=False).client
    staged, by_hand = work / name / "staged", work / name / "by-hand"
    slices = list(_slices(store))
    ours, bare = _median(
        asked.rounds,
        lambda: asyncio.run(_stage(locations, slices, places.emptied(staged))),
        lambda: _fetch(client, names, places.emptied(by_hand)),
    )
    good = _told(f"{name}: staging {asked.objects:,} objects", ours, bare, STAGING_MAX)
    return _job(access, name, local, work / name, asked.rounds, bare) and good


def _slices(store: Store) -> Iterator[Slice]:
    found = (each for page in store.list("in/") for each in page)
    for number, each in enumerate(found):
        uri = f"azureml://datastores/bench/paths/{each.path}"
        yield Slice(number, uri, each.path[3:], each.size, each.etag)


async def _stage(locations: ObjectLocations, slices: list[Slice], folder: Path) -> None:
    arrived = asyncio.Event()
    files = RemoteFiles(lambda: locations, ParquetFooters(sys.executable, folder, folder))
    ahead = StagingAhead(
        files, folder, script=True, arrived=arrived.set, given_up=print, no_room=print
    )
    tickets = [
        Ticket(
            number,
            MiniBatch(number, 0, first, first + PER_TASK),
            Assignment(Task(number, 0, PER_TASK), 1, 60.0),
            slices[first : first + PER_TASK],
        )
        for number, first in enumerate(range(0, len(slices), PER_TASK))
    ]
    ahead.offer(tickets)
    left = len(tickets)
    while left:
        arrived.clear()
        while ahead.take() is not None:
            left -= 1
        if left:
            await arrived.wait()
    ahead.stop()


def _fetch(client: Any, names: list[str], folder: Path) -> None:
    def one(name: str) -> None:
        body = client.get(f"in/{name}").bytes()
        with (folder / name).open("wb") as file:
            file.write(body)

    with ThreadPoolExecutor(limits.FETCHES_AT_ONCE_MAX) as threads:
        list(threads.map(one, names))


def _job(
    access: DatastoreAccess, name: str, local: Path, work: Path, rounds: int, transfer: float
) -> bool:
    home = work / "home"
    link = SupervisorLink(home)
    (work / "model.txt").write_text("a model")
    (work / "score.py").write_text(SCRIPT)
    try:
        with contextlib.closing(Client(app=wiring.embedded_app(Settings(home=home)))) as client:
            client.datastores.create_or_update(
                access.datastore.model_copy(update={"credentials": access.credentials}),
                skip_validation=True,
            )
            client.deploy(
                work / "model.txt",
                "bench",
                scoring_script=str(work / "score.py"),
                max_concurrency_per_instance=places.cores(),
                mini_batch_size=PER_TASK,
            )

            def run(source: str | Path, *, waits: bool) -> None:
                client.invoke("bench", source, parameters={"waits": waits}).wait()

            stored = "azureml://datastores/bench/paths/in"
            good = True
            for waits in (True, False):
                run(local, waits=waits)  # the workers have loaded from here on
                on_disk, remote = _median(
                    rounds,
                    partial(run, local, waits=waits),
                    partial(run, stored, waits=waits),
                )
                what = f"{name}: a job whose files {'wait' if waits else 'compute'} 2 ms each"
                print(f"{what}: {on_disk:.2f} s over a folder, bare transfer {transfer:.2f} s")
                # What waits leaves the cores to client and server: transfer and job can go on at
                # the same time. Where all cores compute, nothing can be hidden.
                limit = max(on_disk, transfer) if waits else on_disk + transfer
                good &= _told(what, remote, limit, JOB_MAX)
    finally:
        link.down()
    return good
