"""The self-test leaves nothing behind, however it ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import Unavailable
from batchpoint.storage.store_findings import examine_store
from tests.contracts.memory_store import MemoryStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("turn", [0, 1])  # later requests come from threads
def test_a_store_that_stops_answering_keeps_no_probe(turn: int) -> None:
    store = MemoryStore()
    asked = 0

    def fail(operation: str, key: str) -> None:
        nonlocal asked
        if operation in ("stream", "find", "put"):
            asked += 1
            if asked == turn + 2:  # after the first object was written
                raise Unavailable("no answer", code="storage_unavailable")

    store.before = fail
    with pytest.raises(Unavailable):
        examine_store(store, unique="u", now=NOW)
    assert store.objects == {}


def test_a_broken_access_is_told_without_its_secrets() -> None:
    given = {
        "datastores": [{"datastore": 3, "credentials": {"token": ["hush"]}}],
        "ambient": "hush",
    }
    with pytest.raises(ValueError) as caught:
        StorageAccess.model_validate(given)
    assert "hush" not in str(caught.value)
