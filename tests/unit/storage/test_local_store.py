import os
import stat
from pathlib import Path

import pytest

from batchpoint.domain.errors import BatchpointError
from batchpoint.storage.local_store import LocalStore


def names(store: LocalStore, prefix: str = "") -> list[str]:
    return [found.path for page in store.list(prefix) for found in page]


def test_links_are_followed_and_loops_are_not(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_text("x")
    root = tmp_path / "in"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "broken").symlink_to(tmp_path / "nothing")
    os.mkfifo(root / "pipe")
    store = LocalStore(root)
    assert names(store) == ["link/a"]
    assert store.find("broken") is None
    assert store.find("pipe") is None
    assert b"".join(store.stream("link/a")) == b"x"


def test_names_that_are_not_utf_8_come_back(tmp_path: Path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.csv", "wb") as file:  # noqa: PTH123
        file.write(b"x")
    store = LocalStore(tmp_path)
    [name] = names(store)
    assert os.fsencode(name) == b"caf\xe9.csv"
    assert b"".join(store.stream(name)) == b"x"


def test_what_is_being_written_is_not_listed(tmp_path: Path):
    store = LocalStore(tmp_path)
    with store._beside(tmp_path / "a") as temporary:
        assert temporary.parent == tmp_path
        assert names(store) == []
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path):
    store = LocalStore(tmp_path)
    store.put("a", b"before")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(BatchpointError):
        store.put("folder", b"x")
    with pytest.raises(BatchpointError):
        store.put("a/b", b"x")
    assert names(store) == ["a"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "folder"]


def test_files_have_the_rights_that_new_files_have(tmp_path: Path):
    (tmp_path / "usual").write_text("x")
    LocalStore(tmp_path).put("a", b"x")
    rights = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "usual")]
    assert rights[0] == rights[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0)
    with pytest.raises(BatchpointError) as caught:
        list(LocalStore(tmp_path).stream("a"))
    assert caught.value.code == "storage_denied"


def test_links_that_lead_nowhere_are_passed_over(tmp_path: Path):
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "a").write_text("x")
    assert names(LocalStore(tmp_path)) == ["a"]
