"""Results in an object store over HTTP: listed, ranged, streamed, shown in part."""

from __future__ import annotations

import json

import httpx
import pytest

from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import Job, JobState
from batchpoint.formats import receipt as receipts
from batchpoint.formats.receipt import ReceiptFile, ReceiptItems
from batchpoint.storage import object_locations
from batchpoint.storage.store import Location
from tests.contracts.memory_store import MemoryStore
from tests.unit.api.conftest import finish
from tests.unit.control_plane import ControlPlane

ROWS = b"_file,_row,prediction\n" + b"".join(b"a.csv,%d,1\n" % row for row in range(50_000))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore()

    class Locations:
        def __init__(self, access: object) -> None:
            pass

        def at(self, uri: str) -> Location:
            return Location(store, uri.removeprefix("s3://b/"))

    monkeypatch.setattr(object_locations, "ObjectLocations", Locations)
    return store


@pytest.fixture
def remote(plane: ControlPlane, job: Job, store: MemoryStore) -> Job:
    """A job that has left its results in a store."""
    bodies = {
        "predictions.csv": ROWS,
        "files/x y%.txt": b"made by the script",
        "_failed_items.jsonl": b'{"name":"b"}\n',
    }
    receipt = receipts.Receipt(
        job=job.name,
        batchpoint_version="0",
        assembly="a",
        source={},
        settings={},
        items=ReceiptItems(planned=1, scored=1, failed=0),
        mini_batches=1,
        rows=1,
        failed_rows=0,
        unattributed=0,
        retries=0,
        files=[ReceiptFile(path=n, size=len(b), sha256="") for n, b in bodies.items()],
        failures=[],
        timings={},
    )
    for name, body in {**bodies, "_receipt.json": receipts.encode(receipt)}.items():
        store.put(f"out/{name}", body)
    spec = job.spec.model_copy(
        update={"output": job.scoring.output.model_copy(update={"uri": URI})}
    )
    finish(plane, job.model_copy(update={"spec": spec}), JobState.COMPLETED)
    return plane.ledger.get_job(job.name)


URI = "s3://b/out"


def test_results_are_listed_and_downloaded(http: httpx.Client, remote: Job) -> None:
    assert remote.status.output_uri == URI
    place = f"/jobs/{remote.name}/outputs/score"
    files = http.get(place, params={"limit": 3}).json()
    assert [f["path"] for f in files["value"]] == [
        "_failed_items.jsonl",
        "_receipt.json",
        "files/x y%.txt",
    ]
    rest = http.get(place, params={"after": files["next_after"]}).json()["value"]
    assert [(f["path"], f["size"]) for f in rest] == [("predictions.csv", len(ROWS))]
    whole = http.get(f"{place}/predictions.csv")
    assert whole.content == ROWS
    assert whole.headers["content-length"] == str(len(ROWS))
    assert http.get(f"{place}/files/x%20y%25.txt").text == "made by the script"
    assert http.get(f"/jobs/{remote.name}/failed-items").content == b'{"name":"b"}\n'


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=10-19", 206, 10, 20),
        ("bytes=-5", 206, len(ROWS) - 5, len(ROWS)),
        ("bytes=100-", 206, 100, len(ROWS)),
        ("bytes=0-99999999999", 206, 0, len(ROWS)),
        ("bytes=9-3", 200, 0, len(ROWS)),
        ("bytes=1-2,5-6", 200, 0, len(ROWS)),
        ("rows=1-2", 200, 0, len(ROWS)),
    ],
)
def test_ranges(
    http: httpx.Client, remote: Job, asked: str, status: int, start: int, stop: int
) -> None:
    place = f"/jobs/{remote.name}/outputs/score/predictions.csv"
    answer = http.get(place, headers={"range": asked})
    assert (answer.status_code, answer.content) == (status, ROWS[start:stop])
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(ROWS)}"


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
def test_a_range_outside_is_refused(http: httpx.Client, remote: Job, asked: str) -> None:
    place = f"/jobs/{remote.name}/outputs/score/predictions.csv"
    answer = http.get(place, headers={"range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(ROWS)}"


def test_a_range_of_another_version_is_not_mixed(http: httpx.Client, remote: Job) -> None:
    place = f"/jobs/{remote.name}/outputs/score/predictions.csv"
    etag = http.get(place, headers={"range": "bytes=0-1"}).headers["etag"]
    same = http.get(place, headers={"range": "bytes=0-1", "if-range": etag})
    other = http.get(place, headers={"range": "bytes=0-1", "if-range": '"other"'})
    assert (same.status_code, other.status_code) == (206, 200)


def test_only_the_output_is_served(http: httpx.Client, remote: Job, store: MemoryStore) -> None:
    store.put("out/theirs", b"secret")
    store.put("secret", b"secret")
    for path in ("theirs", "..%2fsecret", "%00", "ghost", ""):
        answer = http.get(f"/jobs/{remote.name}/outputs/score/{path}")
        assert answer.status_code == 404


def test_the_head_and_a_store_that_is_away(
    http: httpx.Client, remote: Job, store: MemoryStore
) -> None:
    answer = http.get(f"/jobs/{remote.name}/head", params={"rows": 1}).json()
    assert answer["rows"] == [["a.csv", "0", "1"]]

    def away(what: str, key: str) -> None:
        raise Unavailable("the store is away", code="storage_unavailable")

    store.before = away
    for what in ("head", "outputs/score", "outputs/score/predictions.csv", "failed-items"):
        answer = http.get(f"/jobs/{remote.name}/{what}")
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")


def test_results_that_were_deleted_are_told(
    http: httpx.Client, remote: Job, store: MemoryStore
) -> None:
    store.delete("out/predictions.csv")
    place = f"/jobs/{remote.name}/outputs/score"
    assert http.get(f"{place}/predictions.csv").json()["code"] == "output_not_found"
    store.delete("out/_receipt.json")
    gone = http.get(place)
    assert (gone.status_code, gone.json()["code"]) == (404, "output_not_found")
    assert URI in json.dumps(gone.json())
