"""Listing what lies elsewhere: lazily, in order, going on after trouble, several sources."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchpoint.core.path_pattern import compile_pattern
from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.minibatch import Slice
from batchpoint.storage.listing import Listing
from tests.contracts.memory_store import MemoryLocations, MemoryStore, does_not_answer, etag_of


def listing(store: MemoryStore, **source: object) -> Listing:
    asked = JobInput.model_validate({"type": "uri_folder", **source})
    return Listing(asked, lambda: MemoryLocations(store))


def everything(found: Listing, count: int = 4) -> list[Slice]:
    items: list[Slice] = []
    while taken := found.take(count):
        items += taken
    return items


def test_a_folder_is_listed_with_size_and_etag() -> None:
    store = MemoryStore({"in/b.csv": b"22", "in/a/z.csv": b"1", "in2/x": b"", "in": b""})
    items = everything(listing(store, uri="memory://box/in"))
    assert items == [
        Slice(0, "memory://box/in/a/z.csv", "a/z.csv", 1, etag_of(b"1")),
        Slice(1, "memory://box/in/b.csv", "b.csv", 2, etag_of(b"22")),
    ]


def test_files_that_are_no_items_are_left_out_as_on_a_disk() -> None:
    store = MemoryStore({"in/.amlignore": b"", "in/x/.DS_Store": b"", "in/.hidden": b""})
    assert [item.name for item in everything(listing(store, uri="memory://box/in/"))] == [".hidden"]


def test_only_two_pages_are_ever_held() -> None:
    store = MemoryStore({f"in/{n:03}": b"" for n in range(100)}, page=10)
    found = listing(store, uri="memory://box/in")
    assert len(found.take(5)) == 5
    assert store.pages <= 2
    assert len(found.take(20)) == 20
    assert store.pages <= 4


KEYS = st.text("ab-.é𐀀￿/", min_size=1, max_size=6).map(lambda key: f"in/{key}")


@settings(deadline=None)
@given(st.sets(KEYS, max_size=12), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_order_is_that_of_the_keys(
    keys: set[str], page: int, count: int, with_pattern: bool
) -> None:
    store = MemoryStore(dict.fromkeys(keys, b""), page=page)
    pattern = "**/*a*" if with_pattern else None
    items = everything(listing(store, uri="memory://box/in", pattern=pattern), count)
    matches = compile_pattern("**/*a*") if with_pattern else lambda _: True
    expected = sorted((k[3:] for k in keys if matches(k[3:])), key=lambda k: k.encode())
    assert [item.name for item in items] == [name for name in expected if name]
    assert [item.item for item in items] == list(range(len(items)))


@pytest.mark.parametrize("broken", range(7))
def test_a_listing_that_breaks_off_goes_on_where_it_was(broken: int) -> None:
    store = MemoryStore({f"in/{n:02}": b"" for n in range(20)})
    asked = iter(range(100))

    def fail_once(what: str, path: str) -> None:
        if next(asked) == broken:
            raise does_not_answer(path)

    store.before = fail_once
    found = listing(store, uri="memory://box/in")
    items: list[Slice] = []
    failures = 0
    while True:
        try:
            taken = found.take(4)
        except Unavailable:
            failures += 1
            continue
        if not taken:
            break
        items += taken
    assert failures <= 1
    assert [item.name for item in items] == [f"{n:02}" for n in range(20)]
    assert [item.item for item in items] == list(range(20))


def test_several_sources_come_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "local.csv").write_text("1")
    store = MemoryStore({"b/2": b"", "b/1": b"", "a.csv": b"12"})
    uris = ["memory://box/b", (tmp_path / "local.csv").as_uri(), "memory://box/a.csv"]
    items = everything(listing(store, type="uri_file", uris=uris))
    local = f"file{tmp_path}/local.csv"
    assert [item.name for item in items] == ["memory/box/b/1", "memory/box/b/2", local,
                                             "memory/box/a.csv"]  # fmt: skip
    assert [item.item for item in items] == [0, 1, 2, 3]
    assert items[2].uri == str(tmp_path / "local.csv")


def test_a_file_of_a_list_that_is_not_there_is_an_item_that_fails(tmp_path: Path) -> None:
    store = MemoryStore({"1": b"x", "3": b"x"})
    uris = [f"memory://box/{n}" for n in (1, 2, 3)] + [str(tmp_path / "gone")]
    items = everything(listing(store, type="uri_file", uris=uris))
    assert [(item.size, item.etag != "") for item in items] == [
        (1, True), (0, False), (1, True), (0, False)
    ]  # fmt: skip


def test_files_of_a_list_are_looked_at_many_at_a_time() -> None:
    count = 40
    store = MemoryStore({str(n): b"" for n in range(count)})
    together = threading.Barrier(8)  # fewer at a time would never meet

    def meet(what: str, path: str) -> None:
        together.wait(10)

    store.before = meet
    uris = [f"memory://box/{n}" for n in range(count)]
    items = everything(listing(store, type="uri_file", uris=uris))
    assert [item.uri for item in items] == uris


def test_a_list_goes_on_after_trouble() -> None:
    store = MemoryStore({str(n): b"" for n in range(30)})
    down = threading.Event()
    down.set()

    def fail(what: str, path: str) -> None:
        if path == "17" and down.is_set():
            raise does_not_answer(path)

    store.before = fail
    found = listing(store, type="uri_file", uris=[f"memory://box/{n}" for n in range(30)])
    first = found.take(100)
    assert [item.name for item in first] == [str(n) for n in range(17)]
    with pytest.raises(Unavailable):
        found.take(100)
    down.clear()
    rest = found.take(100)
    assert [item.name for item in rest] == [str(n) for n in range(17, 30)]


def test_a_folder_of_a_list_is_never_cut_short_silently() -> None:
    store = MemoryStore({f"{folder}/{n}": b"" for folder in "ab" for n in range(7)})

    def deny(what: str, path: str) -> None:
        if (what, path) == ("list", "a/3"):
            raise Invalid("may not be listed any more", code="storage_denied")

    store.before = deny
    found = listing(store, type="uri_file", uris=["memory://box/a", "memory://box/b"])
    with pytest.raises(Invalid, match="any more"):
        everything(found)


def test_a_listing_that_nobody_waits_for_ends_soon() -> None:
    store = MemoryStore({f"in/{n:03}": b"" for n in range(300)})
    found = listing(store, uri="memory://box/in", pattern="none of them")

    def stop(what: str, path: str) -> None:
        if path > "in/010":
            found.stop()

    store.before = stop
    assert found.take(1) == []
    assert store.pages < 10


def test_one_file() -> None:
    store = MemoryStore({"in/x.csv": b"1", "in/x.csv.bak": b""})
    (item,) = everything(listing(store, type="uri_file", uri="memory://box/in/x.csv"))
    assert (item.name, item.size) == ("x.csv", 1)
    with pytest.raises(Invalid, match="nothing at memory://box/in/y") as caught:
        everything(listing(store, type="uri_file", uri="memory://box/in/y"))
    assert caught.value.code == "input_not_found"


def test_an_empty_folder_lists_to_nothing() -> None:
    assert everything(listing(MemoryStore(), uri="memory://box/in")) == []
