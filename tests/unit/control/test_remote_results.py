"""Results in an object store: listed, read by ranges, shown in part."""

from __future__ import annotations

import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchpoint.control.remote_results import RemoteFile, RemoteResults
from batchpoint.control.results_head import head
from batchpoint.domain.errors import NotFound, Unavailable
from batchpoint.formats import receipt as receipts
from batchpoint.formats.receipt import ReceiptFile
from batchpoint.node.output_assembly import assemble
from batchpoint.storage.store import Location
from tests.contracts.memory_store import MemoryStore
from tests.unit.node.output_jobs import OutputJob
from tests.unit.resolved_jobs import new_job


def stored(tmp_path, bodies: dict[str, bytes], store: MemoryStore | None = None) -> RemoteResults:
    """The output of a job, with some files in it."""
    store = store or MemoryStore()
    job = OutputJob(tmp_path)
    job.add(b"0.csv,0,1\n")
    request = replace(job.seal(), output_uri=(tmp_path / "out").as_uri())
    assemble(request)
    receipt = receipts.decode((tmp_path / "out" / "_receipt.json").read_bytes())
    files = [ReceiptFile(path=n, size=len(b), sha256="") for n, b in bodies.items()]
    receipt = receipt.model_copy(update={"files": files})
    for name, body in {**bodies, "_receipt.json": receipts.encode(receipt)}.items():
        store.put(f"out/{name}", body)
    return RemoteResults(finished(), "s3://b/out", Location(store, "out"))


def finished(**settings):
    job = new_job()
    environment = job.scoring.environment.model_copy(update={"python": sys.executable})
    spec = job.spec.model_copy(
        update={
            "environment": environment,
            "settings": job.scoring.settings.model_copy(update=settings),
        }
    )
    return job.model_copy(update={"spec": spec})


def test_files_are_listed_page_by_page_in_order(tmp_path):
    results = stored(tmp_path, {"b/x.bin": b"123", "a.csv": b"1", "predictions.csv": b""})
    first = results.files(2, None)
    assert [(file.path, file.size) for file in first][1:] == [("a.csv", 1)]
    assert [file.path for file in results.files(10, first[-1].path)] == [
        "b/x.bin",
        "predictions.csv",
    ]


def test_only_what_the_receipt_names_can_be_read(tmp_path):
    store = MemoryStore()
    results = stored(tmp_path, {"a.csv": b"one\n"}, store)
    store.put("out/theirs.txt", b"secret")
    assert b"".join(results.file("a.csv").chunks(1, 3)) == b"ne"
    for name in ("theirs.txt", "../out/a.csv", "", "a.csv/"):
        with pytest.raises(NotFound) as caught:
            results.file(name)
        assert caught.value.code == "output_not_found"


@pytest.mark.parametrize("body", [None, b"{}", b"no receipt"])
def test_an_output_without_its_receipt_is_gone(body):
    store = MemoryStore()
    if body is not None:
        store.put("out/_receipt.json", body)
    with pytest.raises(NotFound, match="no longer at s3://b/out") as caught:
        RemoteResults(finished(), "s3://b/out", Location(store, "out"))
    assert caught.value.code == "output_not_found"


def test_a_file_that_was_replaced_meanwhile_is_not_mixed(tmp_path):
    store = MemoryStore()
    results = stored(tmp_path, {"a.csv": b"one\n"}, store)
    file = results.file("a.csv")
    store.put("out/a.csv", b"two\n")
    with pytest.raises(NotFound):
        file.chunks()


class CountingStore(MemoryStore):
    """Counts the bytes that are taken from it, piece by piece."""

    taken = 0

    def stream(self, path, *, start=0, stop=None, etag=""):
        for chunk in super().stream(path, start=start, stop=stop, etag=etag):
            self.taken += len(chunk)
            yield chunk


def test_the_head_of_a_text_reads_no_more_than_its_beginning(tmp_path):
    store = CountingStore()
    rows = b"".join(b"%d.csv,0,1\n" % number for number in range(200_000))
    results = stored(tmp_path, {"predictions.csv": b"_file,_row,y\n" + rows}, store)
    file = results.file("predictions.csv")
    store.taken = 0
    shown = head(file, finished(), 2)
    assert shown.columns == ["_file", "_row", "y"]
    assert shown.rows == [["0.csv", "0", "1"], ["1.csv", "0", "1"]]
    assert store.taken <= 65_536
    lines = b'{"y":1}\n{"z":2}\n' + b'{"y":3}\n' * 100_000
    file = stored(tmp_path / "b", {"predictions.jsonl": lines}, store).file("predictions.jsonl")
    store.taken = 0
    shown = head(file, finished(), 2)
    assert (shown.columns, shown.rows) == (["y", "z"], [[1, None], [None, 2]])
    assert store.taken <= 65_536
    file = stored(tmp_path / "c", {"predictions.csv": b"a 1\nb 2\n"}, store).file("predictions.csv")
    assert head(file, finished(output_format="azure"), 5).rows == [["a", "1"], ["b", "2"]]


def parquet(tmp_path) -> bytes:
    numbers = list(range(400_000))
    table = pa.table({"x": numbers, "y": [float(n) * 1.37 for n in numbers]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=40_000, compression="none")
    return (tmp_path / "p.parquet").read_bytes()


def test_the_head_of_a_parquet_file_reads_its_footer_and_what_it_shows(tmp_path):
    store = CountingStore()
    body = parquet(tmp_path)
    file = stored(tmp_path, {"p.parquet": body}, store).file("p.parquet")
    store.taken = 0
    shown = head(file, finished(), 2)
    assert (shown.columns, shown.rows) == (["x", "y"], [[0, 0.0], [1, 1.37]])
    assert store.taken < len(body) / 3


def test_a_store_that_fails_while_parquet_is_read_is_told(tmp_path):
    store = MemoryStore()
    file = stored(tmp_path, {"p.parquet": parquet(tmp_path)}, store).file("p.parquet")

    def fail(what: str, key: str) -> None:
        if what == "stream":
            raise Unavailable("the store is away", code="storage_unavailable")

    store.before = fail
    with pytest.raises(Unavailable, match="the store is away"):
        head(file, finished(), 2)


def test_what_is_no_parquet_file_is_told(tmp_path):
    file = stored(tmp_path, {"p.parquet": b"PAR1 or not"}).file("p.parquet")
    assert isinstance(file, RemoteFile)
    with pytest.raises(Unavailable, match="download it instead"):
        head(file, finished(), 2)
