"""The self-test of a store: what works there, found out with small objects that are deleted again.

"S3 compatible" may silently mean that conditional writes are ignored; two writers could then not be
told apart. Who relies on them asks here, once, when a datastore is registered.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

from batchpoint.domain import limits
from batchpoint.domain.datastore import DatastoreAccess, DatastoreFindings
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.storage.object_locations import open_store
from batchpoint.storage.object_store import ObjectStore
from batchpoint.storage.store import Store

_PROBE = ".batchpoint-probe-"
_WRITERS = 8


def examine(access: DatastoreAccess, *, unique: str, now: datetime) -> DatastoreFindings:
    """Test a datastore: list, read, write, and whether conditional writes are honoured.

    Args:
        access: the datastore and what opens it.
        unique: goes into the names of the objects that the test writes and deletes; nobody else
            uses it.
        now: the time of the test.

    Returns:
        what was found; `readable` is False where the credentials open nothing or the container is
        not there, `writable` is False for a store that can only be read. `notes` has one sentence
        about each thing that is not as it should be.

    Raises:
        Unavailable: the store cannot be reached (`storage_unavailable`).
        Invalid: the datastore cannot be opened as it is described (`field_invalid`).
    """
    # What an earlier test found must not keep this one from finding out anew.
    datastore = access.datastore.model_copy(update={"findings": None})
    return examine_store(
        open_store(
            access.model_copy(update={"datastore": datastore}),
            timeout_seconds=limits.STORAGE_TEST_SECONDS_MAX,
        ),
        listable=datastore.type != "http",
        unique=unique,
        now=now,
    )


def examine_store(
    store: Store, *, unique: str, now: datetime, listable: bool = True
) -> DatastoreFindings:
    """Test an open store, as `examine`; `listable`: whether its protocol can list at all."""
    if not listable:
        return DatastoreFindings(
            tested_at=now,
            writable=False,
            notes=("HTTP cannot list and is not written to: give the URL of each file as input",),
        )
    notes: list[str] = []
    readable = _readable(store, unique, notes)
    if readable is False:
        return DatastoreFindings(tested_at=now, readable=False, writable=False, notes=tuple(notes))
    probe = _PROBE + unique
    conditional = None
    writable = _writable(store, probe, notes)
    if writable:
        with _deleted(store, (probe, _race(probe)), notes):
            writable = _gives_back(store, probe, notes)
            conditional = _conditional(store, probe, notes) if writable else None
    return DatastoreFindings(
        tested_at=now,
        readable=readable,
        writable=writable,
        put_if_absent=conditional,
        notes=tuple(notes),
    )


def _readable(store: Store, unique: str, notes: list[str]) -> bool:
    try:
        next(store.list("", ordered=False), None)
        return True
    except Invalid as error:
        refused = error
    try:
        # Single objects may be readable where listing is not allowed.
        store.find(_PROBE + unique)
    except Invalid:
        notes.append(refused.message)
        return False
    if refused.code == "input_unreadable":
        notes.append(refused.message)
        return False
    notes.append(
        "these credentials may not list, so that only single files can be inputs, no folders"
    )
    return True


def _writable(store: Store, probe: str, notes: list[str]) -> bool:
    try:
        store.put(probe, b"first")
    except Invalid as error:
        notes.append(f"results cannot be written here: {error.message}")
        return False
    return True


def _gives_back(store: Store, probe: str, notes: list[str]) -> bool:
    if b"".join(store.stream(probe)) != b"first":
        notes.append("this server gives back other bytes than it was given; do not use it")
        return False
    return True


def _conditional(store: Store, probe: str, notes: list[str]) -> bool:
    honoured = True
    if store.put(probe, b"second", create=True):
        honoured = False
        notes.append(
            "this server ignores conditional writes (put if absent replaced an object), so that "
            "only the ledger keeps two jobs from writing to one place"
        )
    elif _winners(store, probe) != 1:
        honoured = False
        notes.append(
            "this server lets several writers create one object at the same time, so that only "
            "the ledger keeps two jobs from writing to one place"
        )
    if isinstance(store, ObjectStore):
        found = store.find(probe)
        store.put(probe, b"third")
        if found is not None and store.put_if_match(probe, b"fourth", found.etag):
            notes.append(
                "this server ignores conditional writes (an outdated etag was accepted); "
                "batchpoint does not rely on them"
            )
    return honoured


def _winners(store: Store, probe: str) -> int:
    """Have several writers create one object; return how many were told that they did."""
    name = _race(probe)

    def write(number: int) -> bool:
        return store.put(name, f"writer {number}".encode(), create=True)

    with ThreadPoolExecutor(_WRITERS) as pool:
        return sum(pool.map(write, range(_WRITERS)))


def _race(probe: str) -> str:
    return f"{probe}-race"


@contextmanager
def _deleted(store: Store, paths: Sequence[str], notes: list[str]) -> Generator[None]:
    """Delete the test's own objects, however it goes."""
    try:
        yield
    finally:
        for path in paths:
            try:
                store.delete(path)
            except BatchpointError as error:
                if "may not be deleted" not in " ".join(notes):
                    notes.append(f"what is written may not be deleted here: {error.message}")
