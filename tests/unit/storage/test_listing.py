"""Listing: order of UTF-8 paths, links, loops, and clear errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.minibatch import Slice
from batchpoint.storage.listing import Listing, Locations


def nowhere() -> Locations:
    raise AssertionError("a store is asked for data on this machine")


def list_items(
    source: JobInput, left_out: Callable[[str], None] = lambda _: None
) -> Iterator[Slice]:
    listing = Listing(source, nowhere, left_out)
    while taken := listing.take(1):
        yield from taken


def names_at(uri: str) -> list[str]:
    return [item.name for item in list_items(JobInput(type="uri_folder", uri=uri))]


def names(root: Path) -> list[str]:
    return [item.name for item in list_items(JobInput(type="uri_folder", uri=str(root)))]


def test_a_folder_is_listed_in_byte_order_of_whole_paths(tmp_path: Path) -> None:
    for name in ("b.csv", "a/z.csv", "a.csv", "a-b.csv", "ä.csv", "Z.csv", "a/b/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    listed = names(tmp_path)
    assert listed == sorted(listed, key=os.fsencode)
    assert len(listed) == 7


@given(st.sets(st.text("ab-./", min_size=1, max_size=6), max_size=12))
def test_order_is_that_of_the_paths(
    tmp_path_factory: pytest.TempPathFactory, raw: set[str]
) -> None:
    root = tmp_path_factory.mktemp("input")
    for name in raw:
        parts = [part for part in name.split("/") if part.strip(".")]
        path = root.joinpath(*parts)
        if parts and not path.exists() and not any(p.is_file() for p in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
    listed = names(root)
    assert listed == sorted(
        (p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()), key=os.fsencode
    )


def test_one_file_is_one_item_with_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("12345")
    (item,) = list_items(JobInput(type="uri_file", uri=path.as_uri()))
    assert (item.item, item.name, item.size, item.uri) == (0, "one.csv", 5, str(path))


def test_links_to_files_are_items_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("x")
    (tmp_path / "link.csv").symlink_to("real.csv")
    (tmp_path / "loop").symlink_to(".")
    assert names(tmp_path) == ["link.csv", "real.csv"]


def test_links_that_lead_nowhere_are_items_without_size(tmp_path: Path) -> None:
    (tmp_path / "gone.csv").symlink_to("never-there.csv")
    (tmp_path / "self.csv").symlink_to("self.csv")
    (tmp_path / "real.csv").write_text("x")
    listed = list(list_items(JobInput(type="uri_folder", uri=str(tmp_path))))
    assert [(item.name, item.size) for item in listed] == [
        ("gone.csv", 0),
        ("real.csv", 1),
        ("self.csv", 0),
    ]


def test_pipes_and_sockets_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    os.mkfifo(tmp_path / "deep" / "pipe")
    (tmp_path / "real.csv").write_text("x")
    left_out: list[str] = []
    source = JobInput(type="uri_folder", uri=str(tmp_path))
    assert [item.item for item in list_items(source, left_out.append)] == [0]
    assert left_out == ["deep/pipe"]


def test_what_vanishes_while_it_is_listed_is_passed_over(tmp_path: Path) -> None:
    for name in ("a/1.csv", "b/2.csv", "c.csv", "d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    listing = list_items(JobInput(type="uri_folder", uri=str(tmp_path)))
    assert next(listing).name == "a/1.csv"
    (tmp_path / "b" / "2.csv").unlink()
    (tmp_path / "b").rmdir()
    (tmp_path / "c.csv").unlink()
    assert [item.name for item in listing] == ["d.csv"]


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\n.csv")).write_text("x")
    (item,) = list_items(JobInput(type="uri_folder", uri=str(tmp_path)))
    assert os.fsencode(item.name) == b"\xff\n.csv"


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nothing-here does not exist") as caught:
        names(tmp_path / "nothing-here")
    assert caught.value.code == "input_not_found"


@pytest.mark.parametrize("uri", ["file://host/path", "relative"])
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(Invalid, match="expected an absolute path"):
        names_at(uri)


def test_percent_escapes_are_undone(tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_text("x")
    assert names_at(tmp_path.as_uri() + "/a%20b.csv") == ["a b.csv"]
