"""What lies on a node's disk after fetching: whole objects, header and range, some row groups."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.domain.minibatch import Slice
from batchpoint.node.parquet_footers import ParquetFooters
from batchpoint.node.remote_files import RemoteFiles
from batchpoint.node.slicing import cut_csv_stream
from batchpoint.node.ticket import Part
from tests.contracts.memory_store import MemoryLocations, MemoryStore, etag_of

CSV = b"a,b\n1,2\n3,4\n5,6\n"


def files(store: MemoryStore, folder: Path) -> RemoteFiles:
    footers = ParquetFooters(sys.executable, folder / "footers", folder / "scratch")
    return RemoteFiles(lambda: MemoryLocations(store), footers)


def item(store: MemoryStore, key: str, unit: str = "", start: int = 0, stop: int = 0) -> Slice:
    body = store.objects[key]
    name = key.rpartition("/")[2]
    return Slice(0, f"memory://box/{key}", name, len(body), etag_of(body), unit, start, stop)


def test_a_whole_object(tmp_path: Path) -> None:
    store = MemoryStore({"in/a.csv": CSV})
    assert files(store, tmp_path).bring(item(store, "in/a.csv"), tmp_path / "x") is None
    assert (tmp_path / "x").read_bytes() == CSV


def test_an_object_of_unknown_size_is_read_to_its_end(tmp_path: Path) -> None:
    store = MemoryStore({"a": CSV})
    one = item(store, "a")._replace(size=0, etag="")
    assert files(store, tmp_path).bring(one, tmp_path / "x") is None
    assert (tmp_path / "x").read_bytes() == CSV


def test_a_slice_of_csv_comes_with_its_header(tmp_path: Path) -> None:
    store = MemoryStore({"a.csv": CSV})
    one = item(store, "a.csv", "bytes", 8, 12)
    brought = files(store, tmp_path)
    assert brought.bring(one, tmp_path / "x") == Part("bytes", 4, 8)
    assert (tmp_path / "x").read_bytes() == b"a,b\n3,4\n"
    store.asked.clear()
    brought.bring(one._replace(start=12, stop=16), tmp_path / "y")
    assert store.asked == [("stream", "a.csv")]  # the header is known by now


def test_a_slice_of_json_lines_has_none(tmp_path: Path) -> None:
    store = MemoryStore({"a.jsonl": b'{"a":1}\n{"a":2}\n'})
    one = item(store, "a.jsonl", "bytes", 8, 16)
    assert files(store, tmp_path).bring(one, tmp_path / "x") == Part("bytes", 0, 8)
    assert (tmp_path / "x").read_bytes() == b'{"a":2}\n'


@pytest.mark.parametrize("unit", ["", "bytes"])
@pytest.mark.parametrize(("body", "code"), [(b"a,b\n9,9\n", "input_changed"),
                                            (None, "input_unreadable")])  # fmt: skip
def test_what_changed_or_went_is_never_mixed(
    tmp_path: Path, unit: str, body: bytes | None, code: str
) -> None:
    store = MemoryStore({"a.csv": CSV})
    one = item(store, "a.csv", unit, 4, 8)
    if body is None:
        del store.objects["a.csv"]
    else:
        store.objects["a.csv"] = body
    with pytest.raises(Invalid) as caught:
        files(store, tmp_path).bring(one, tmp_path / "x")
    assert caught.value.code == code
    assert not (tmp_path / "x").exists()


def test_an_object_is_cut_as_it_streams(tmp_path: Path) -> None:
    store = MemoryStore({"a.csv": CSV})
    with files(store, tmp_path).open(item(store, "a.csv")) as stream:
        cuts = list(cut_csv_stream(stream, len(CSV), 5))
    assert [(cut.start, cut.stop, cut.row) for cut in cuts] == [(4, 8, 0), (8, 12, 1), (12, 16, 2)]


@pytest.fixture
def parquet(tmp_path: Path) -> bytes:
    table = pa.table({"x": list(range(4_000)), "s": [f"text {n}" for n in range(4_000)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1_000)
    return (tmp_path / "t.parquet").read_bytes()


def test_row_groups_of_a_parquet_object(tmp_path: Path, parquet: bytes) -> None:
    store = MemoryStore({"t.parquet": parquet})
    brought = files(store, tmp_path)
    whole = item(store, "t.parquet")
    groups = brought.row_groups(whole)
    assert [group.rows for group in groups] == [1_000] * 4
    # They lie one after the other, between the magic and the footer.
    assert groups[0].start == 4
    assert all(a.stop <= b.start for a, b in pairwise(groups))
    part = brought.bring(whole._replace(unit="row_groups", start=1, stop=3), tmp_path / "x")
    assert part == Part("row_groups", 1, 3)
    assert (tmp_path / "x").stat().st_size == len(parquet)
    with pq.ParquetFile(tmp_path / "x") as file:
        assert file.read_row_groups([1, 2])["x"].to_pylist() == list(range(1_000, 3_000))
    body = (tmp_path / "x").read_bytes()
    assert not any(body[groups[3].start + 200 : groups[3].stop])
    # Another node finds the footer where the first one has put it.
    store.asked.clear()
    again = files(store, tmp_path)
    again.bring(whole._replace(unit="row_groups", start=0, stop=1), tmp_path / "y")
    assert store.asked == [("stream", "t.parquet")]


def test_a_footer_longer_than_the_first_guess(
    tmp_path: Path, parquet: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchpoint.node.parquet_footers._FIRST_GUESS_BYTES", 64)
    store = MemoryStore({"t.parquet": parquet})
    assert len(files(store, tmp_path).row_groups(item(store, "t.parquet"))) == 4


def test_what_is_no_parquet_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore({"t.parquet": b"PAR1" + b"\xff" * 50})
    with pytest.raises(Invalid, match="does not end as a Parquet file"):
        files(store, tmp_path).row_groups(item(store, "t.parquet"))
    store = MemoryStore({"t.parquet": b"PAR1" * 50})
    monkeypatch.setattr(limits, "PARQUET_FOOTER_BYTES_MAX", 100)
    with pytest.raises(Invalid, match="does not end as a Parquet file"):
        files(store, tmp_path).row_groups(item(store, "t.parquet"))
