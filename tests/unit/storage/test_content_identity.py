"""Names of contents: the same wherever the same lies, another one for whatever differs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.datastore import Datastore, DatastoreAccess, StorageAccess
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput
from batchpoint.storage import object_locations
from batchpoint.storage.content_identity import content_identity
from batchpoint.storage.store import Found, Location
from tests.contracts.memory_store import MemoryStore

NONE = StorageAccess()


def identity(place: Path | str) -> str:
    return content_identity(str(place), NONE)


def write(root: Path, files: dict[str, bytes]) -> Path:
    root.mkdir()
    for name, body in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return root


FILES = {"a": b"1", "deep/b": b"2", "deep/er/c": b"3" * 3_000_000}


def test_the_place_and_the_times_do_not_count(tmp_path):
    one = write(tmp_path / "one", FILES)
    other = write(tmp_path / "other", dict(reversed(FILES.items())))
    os.utime(other / "a", (1, 1))
    (other / "_receipt.json").write_text("whatever")
    assert identity(one) == identity(other)
    assert identity(one) == identity(one.as_uri())
    store = Datastore(name="disk", type="local", path=str(tmp_path))
    access = StorageAccess(datastores=(DatastoreAccess(datastore=store),))
    assert content_identity("azureml://datastores/disk/paths/one", access) == identity(one)


@pytest.mark.parametrize(
    "files",
    [
        FILES | {"a": b"2"},
        FILES | {"d": b""},
        {"a": b"1", "deep/b": b"2"},
        FILES | {"deep/er/c": b"3" * 2_999_999 + b"4"},
        {"a": b"2", "deep/b": b"1", "deep/er/c": FILES["deep/er/c"]},
        {"A": b"1", "deep/b": b"2", "deep/er/c": FILES["deep/er/c"]},
        FILES | {"deep/_receipt.json": b""},
    ],
)
def test_names_and_contents_count(tmp_path, files):
    assert identity(write(tmp_path / "one", FILES)) != identity(write(tmp_path / "other", files))


def test_what_commands_see_besides_counts(tmp_path):
    first = identity(write(tmp_path / "one", FILES))
    run = write(tmp_path / "run", FILES)
    (run / "deep" / "b").chmod(0o755)
    assert identity(run) != first
    hollow = write(tmp_path / "hollow", FILES)
    (hollow / "deep" / "class-3").mkdir()
    assert identity(hollow) not in (first, identity(run))
    again = write(tmp_path / "again", FILES)
    (again / "deep" / "class-3").mkdir()
    assert identity(again) == identity(hollow)
    (again / "deep" / "class-3").rmdir()
    (again / "class-3").mkdir()
    assert identity(again) != identity(hollow)
    odd = write(tmp_path / "odd", FILES)
    (odd / os.fsdecode(b"\xff\n")).mkdir()
    assert identity(odd) not in (first, identity(hollow), identity(again))


def test_a_time_that_is_put_back_hides_nothing(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"1" * 2_000_000)
    first, before = identity(path), path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # clocks of file systems are coarse
        path.write_bytes(b"2" * 2_000_000)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert identity(path) != first


def test_a_file_is_not_a_folder_with_that_file(tmp_path):
    root = write(tmp_path / "root", {"a": b"1"})
    assert identity(root) != identity(root / "a")
    other = write(tmp_path / "other", {"a": b"1", "b": b"1"})
    assert identity(root / "a") == identity(other / "a")
    assert identity(other / "a") != identity(other / "b")
    file = JobInput(type="uri_file", uri=str(root / "a"))
    assert content_identity(file, NONE) == identity(root / "a")


def test_a_big_file_that_is_rewritten_is_read_again(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"1" * 2_000_000)
    first = identity(path)
    assert identity(path) == first
    path.write_bytes(b"2" * 2_000_000)
    os.utime(path, ns=(5, 5))
    assert identity(path) != first


def test_links_count_as_what_they_lead_to(tmp_path):
    one = write(tmp_path / "one", {"a": b"1", "b": b"1"})
    other = write(tmp_path / "other", {"a": b"1"})
    (other / "b").symlink_to("a")
    assert identity(one) == identity(other)
    (other / "round").symlink_to(other)
    assert identity(one) == identity(other)
    (other / "nowhere").symlink_to("missing")
    assert identity(one) != identity(other)


def test_patterns_and_several_places_count_as_what_they_find(tmp_path):
    one = write(tmp_path / "one", {"a.csv": b"1", "b.txt": b"2"})
    only = write(tmp_path / "only", {"a.csv": b"1"})
    chosen = JobInput(type="uri_folder", uri=str(one), pattern="*.csv")
    assert content_identity(chosen, NONE) == identity(only)
    both = JobInput(type="uri_folder", uris=(str(one), str(only)))
    before = content_identity(both, NONE)
    (only / "a.csv").write_bytes(b"3")
    assert content_identity(both, NONE) != before


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(Invalid) as caught:
        identity(tmp_path / "missing")
    assert caught.value.code == "input_not_found"


@given(st.lists(st.tuples(st.text("ab\n 0", min_size=1, max_size=4), st.binary(max_size=3)),
                min_size=1, max_size=3, unique_by=lambda each: each[0]))  # fmt: skip
def test_no_two_trees_have_one_name(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("trees")
    one = write(root / "one", dict(files))
    changed = [(files[0][0], files[0][1] + b"x"), *files[1:]]
    assert identity(one) != identity(write(root / "other", dict(changed)))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    made = MemoryStore()

    def at(_: object, uri: str, *, where: str | None = None) -> Location:
        assert where is None
        return Location(made, uri.removeprefix("s3://box/"))

    monkeypatch.setattr(object_locations.ObjectLocations, "at", at)
    return made


def test_objects_count_with_size_and_etag_and_are_not_read(store):
    store.objects |= {"x/a": b"1", "x/b/c": b"2", "y/a": b"1", "y/b/c": b"2", "z/a": b"1"}
    assert identity("s3://box/x") == identity("s3://box/y") != identity("s3://box/z")
    before = identity("s3://box/x")
    store.objects["x/_receipt.json"] = b"{}"
    store.objects["x/.batchpoint-claim"] = b"{}"
    assert identity("s3://box/x") == before
    store.objects["x/a"] = b"3"
    assert identity("s3://box/x") != before
    assert "stream" not in {operation for operation, _ in store.asked}


def test_a_store_that_tells_no_etags_leaves_it_unknown(store, monkeypatch):
    store.objects["x/a"] = b"1"
    monkeypatch.setattr(store, "list", lambda *_, **__: iter([[Found("x/a", 1, "")]]))
    assert identity("s3://box/x") == ""
