"""A runner whose job publishes into an object store: it waits for the store, and takes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import JobState
from batchpoint.formats.receipt import Receipt, decode
from batchpoint.node import output_assembly
from batchpoint.node.output_publish_remote import RemotePublication, RemoteTarget
from batchpoint.node.output_request import AssembleRequest
from batchpoint.runner import patience
from batchpoint.storage.store import Location
from tests.contracts.memory_store import MemoryStore
from tests.unit.runner.test_runner_resumes import World, never, new_world, run_once

NAMES = {"predictions.csv", "_failed_items.jsonl", "_receipt.json"}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore()

    def opened(
        request: AssembleRequest, access: StorageAccess, step: Callable[[str], None]
    ) -> RemotePublication[Receipt]:
        return RemotePublication(RemoteTarget.of(request), Location(store, "out"), step, decode)

    monkeypatch.setattr(output_assembly, "publication_for", opened)
    monkeypatch.setattr(patience, "_BACKOFF_SECONDS", (0.01,))
    return store


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path, "s3://bucket/out")


async def test_it_waits_for_the_store_and_says_so(world: World, store: MemoryStore) -> None:
    failures = 0

    def away(what: str, key: str) -> None:
        nonlocal failures
        if what == "put_file" and key.endswith("predictions.csv") and failures < 3:
            failures += 1
            raise Unavailable("the store is away", code="storage_unavailable")

    store.before = away
    assert await run_once(world, never) == JobState.COMPLETED
    assert any("storage: the store is away" in status.warnings for status in world.told)
    status = world.ledger.get_job(world.job.name).status
    assert (status.warnings, status.output_uri) == ([], "s3://bucket/out")
    assert store.objects.keys() == {f"out/{name}" for name in NAMES}


async def test_a_cancel_while_it_waits_takes_back_what_was_uploaded(
    world: World, store: MemoryStore
) -> None:
    def away(what: str, key: str) -> None:
        if what == "put" and key.endswith("_receipt.json"):
            assert "out/predictions.csv" in store.objects
            world.ledger.request_cancel(world.job.name)
            raise Unavailable("the store is away", code="storage_unavailable")

    store.before = away
    assert await run_once(world, never) == JobState.CANCELED
    assert store.objects == {}
    assert not world.folder.publication.exists()


async def test_somebody_elses_object_fails_the_job_and_stays(
    world: World, store: MemoryStore
) -> None:
    store.put("out/predictions.csv", b"theirs")
    assert await run_once(world, never) == JobState.FAILED
    error = world.ledger.get_job(world.job.name).status.error
    assert error is not None
    assert error.code == "output_exists"
    assert store.objects == {"out/predictions.csv": b"theirs"}
