"""Commands whose data lies in object stores: fetched, published whole, never over somebody's."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchpoint.domain.datastore import DatastoreAccess, StorageAccess
from batchpoint.domain.errors import Unavailable
from batchpoint.node.command_attempt import withdraw_attempt
from batchpoint.storage.object_locations import open_store
from batchpoint.storage.store import Store
from tests.integration.agent_harness import AgentProcess
from tests.integration.command_orders import data, log_of, order, output
from tests.servers.fixtures import ProxyMaker
from tests.servers.store_servers import MotoS3, RcloneS3, StoreServer

BASE = "azureml://datastores/far/paths"


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest, moto_s3: MotoS3, rclone_s3: RcloneS3) -> StoreServer:
    return moto_s3 if request.param == "moto" else rclone_s3


def access_to(server: StoreServer, port: int | None = None) -> StorageAccess:
    store, credentials = server.datastore("far", port=port)
    return StorageAccess(datastores=(DatastoreAccess(datastore=store, credentials=credentials),))


def objects(store: Store, prefix: str = "") -> dict[str, bytes]:
    return {
        found.path: b"".join(store.stream(found.path))
        for page in store.list(prefix)
        for found in page
    }


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    made = AgentProcess.start(tmp_path)
    yield made
    made.end()


async def test_data_comes_from_a_store_and_results_go_there(tmp_path, agent, server):
    access = access_to(server)
    store = open_store(access.datastores[0])
    for number in range(60):
        store.put(f"in/{number % 3}/{number}.txt", b"%d\n" % number)
    node = await agent.connect()
    given = order(
        tmp_path,
        "cat ${{inputs.rows}}/*/*.txt | sort -n > ${{outputs.model}}/all.txt\n"
        "mkdir ${{outputs.model}}/deep; wc -l < ${{outputs.model}}/all.txt > ${{outputs.count}}\n"
        "echo '${{outputs.count}}' '${{outputs.where}}'",
        inputs={"rows": data(f"{BASE}/in")},
        outputs={
            "model": output(f"{BASE}/out/model"),
            "count": output(f"{BASE}/out/count.txt", "uri_file"),
            "where": output(f"{BASE}/out/where", mode="direct"),
        },
        access=access,
    )
    end = await node.run_command(given)
    assert end.error is None
    found = objects(store, "out/")
    assert set(found) == {"out/model/all.txt", "out/model/_receipt.json", "out/count.txt"}
    assert found["out/count.txt"].strip() == b"60"
    assert found["out/model/all.txt"].split() == [b"%d" % number for number in range(60)]
    assert "count.txt" in log_of(given)
    assert log_of(given).strip().endswith(f"{BASE}/out/where")
    assert end.outputs["model"].hash
    assert end.outputs["where"].hash is None

    # What one step has published another one reads, without our own words about it.
    after = order(
        tmp_path, "ls -A ${{inputs.model}}", inputs={"model": data(f"{BASE}/out/model")},
        access=access,
    )  # fmt: skip
    assert (await node.run_command(after)).error is None
    assert log_of(after).split() == ["all.txt"]

    # A second job does not get in, and finds that out before it computes anything.
    second = order(
        tmp_path, "touch ${{outputs.model}}/x", outputs={"model": output(f"{BASE}/out/model")},
        access=access,
    )  # fmt: skip
    error = (await node.run_command(second)).error
    assert error is not None
    assert error.code == "output_exists"
    assert objects(store, "out/") == found
    await node.close()


async def test_a_node_that_dies_while_it_publishes_is_caught_up_with(
    tmp_path, moto_s3, fault_proxy: ProxyMaker
):
    """Killed while uploads are slow; another agent then publishes the same output whole."""
    proxy = fault_proxy(moto_s3, stall=1.0, stall_seconds=0.2)
    access = access_to(moto_s3, port=proxy.port)
    direct = access.datastores[0]
    store = open_store(
        direct.model_copy(
            update={
                "datastore": direct.datastore.model_copy(
                    update={"endpoint": f"http://127.0.0.1:{moto_s3.port}"}
                )
            }
        )
    )
    given = order(
        tmp_path,
        "for n in $(seq 20); do echo $n > ${{outputs.out}}/$n; done",
        outputs={"out": output(f"{BASE}/out")},
        access=access,
    )
    first = AgentProcess.start(_made(tmp_path / "first"))
    node = await first.connect()
    running = asyncio.create_task(node.run_command(given))
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(objects, store, "out/"):  # noqa: ASYNC110 - a server
            await asyncio.sleep(0.01)
    first.process.send_signal(signal.SIGKILL)
    with pytest.raises(Unavailable):
        await running
    first.process.wait()
    first.cut_lifeline()
    assert "out/_receipt.json" not in objects(store, "out/")
    await asyncio.to_thread(withdraw_attempt, given)
    assert objects(store) == {}
    second = AgentProcess.start(_made(tmp_path / "second"))
    try:
        node = await second.connect()
        end = await node.run_command(given)
        assert end.error is None
        names = {*(f"out/{number}" for number in range(1, 21)), "out/_receipt.json"}
        assert set(objects(store)) == names
        await node.close()
    finally:
        second.end()


async def test_a_store_that_refuses_or_lacks_the_data_is_the_inputs_fault(tmp_path, agent, moto_s3):
    access = access_to(moto_s3)
    node = await agent.connect()
    given = order(tmp_path, "true", inputs={"x": data(f"{BASE}/nothing")}, access=access)
    error = (await node.run_command(given)).error
    assert error is not None
    assert (error.origin, error.code) == ("input", "input_not_found")
    assert "input x" in error.message
    given = order(tmp_path, "true", inputs={"x": data("azureml://datastores/no/paths/a")})
    error = (await node.run_command(given)).error
    assert error is not None
    assert error.code == "datastore_not_found"
    await node.close()


async def test_a_stop_does_not_wait_for_a_store_that_does_not_answer(tmp_path, agent, moto_s3):
    access = access_to(moto_s3)
    store = open_store(access.datastores[0])
    store.put("in/a", b"x")
    server = await asyncio.start_server(_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    far = access.datastores[0]
    silent = far.datastore.model_copy(update={"endpoint": f"http://127.0.0.1:{port}"})
    access = StorageAccess(datastores=(far.model_copy(update={"datastore": silent}),))
    node = await agent.connect()
    given = order(tmp_path, "true", inputs={"x": data(f"{BASE}/in")}, access=access)
    running = asyncio.create_task(node.run_command(given))
    done, _ = await asyncio.wait({running}, timeout=0.5)
    assert not done
    await node.stop_command(given.job)
    async with asyncio.timeout(10):
        assert (await running).outcome == "stopped"
    agent.process.kill()  # threads of it still wait for that store
    server.close()
    with contextlib.suppress(Unavailable):
        await node.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
