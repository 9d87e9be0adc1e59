"""Environments on disk: whole or absent, removed in order of use, rebuilt from what is kept."""

import os
import threading
from pathlib import Path

import pytest

from batchpoint.node.environment_store import EnvironmentRecord, EnvironmentStore
from batchpoint.node.uv_command import locked_entries, unhashed

RECORD = EnvironmentRecord(
    lock="six==1.17.0 --hash=sha256:00\n",
    executable="/usr/bin/python3.11",
    version="3.11.7",
    platform="linux-x86_64",
    requirements=("six",),
)


def silent() -> None:
    pass


def build(store: EnvironmentStore, digest: str, used_at: int = 0) -> None:
    store.save_record(digest, RECORD)
    with store.guard(digest, silent):
        folder = store.fresh_folder(digest)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to("/bin/sh")
        store.publish(digest)
    os.utime(store.folder / digest / "READY", (used_at, used_at))


@pytest.fixture
def store(tmp_path: Path) -> EnvironmentStore:
    return EnvironmentStore(tmp_path)


def test_it_is_ready_when_whole(store: EnvironmentStore) -> None:
    assert not store.is_ready("aa")
    build(store, "aa")
    assert store.is_ready("aa")
    python = store.python("aa")
    python.unlink()
    assert not store.is_ready("aa")
    python.symlink_to("/gone/python")
    assert not store.is_ready("aa")


def test_lock_and_record_come_back_and_are_private(store: EnvironmentStore) -> None:
    assert store.read_record("aa") is None
    store.save_record("aa", RECORD)
    assert store.read_record("aa") == RECORD
    modes = {path.stat().st_mode & 0o777 for path in store.folder.iterdir()}
    assert modes == {0o600}


def test_the_longest_unused_go_first_and_references_stay(store: EnvironmentStore) -> None:
    for number, digest in enumerate(["aa", "bb", "cc", "dd"]):
        build(store, digest, used_at=1_000 + number)
    assert store.collect({"bb"}, unused_kept=1) == ["cc", "aa"]
    assert [digest for digest in ("aa", "bb", "cc", "dd") if store.is_ready(digest)] == ["bb", "dd"]
    assert store.read_record("aa") == RECORD
    build(store, "aa")
    store.mark_used("aa")
    assert store.collect({"bb"}, unused_kept=1) == ["dd"]


def test_collecting_where_nothing_is(store: EnvironmentStore) -> None:
    assert store.collect(set(), 0) == []
    store.mark_used("aa")


def test_what_is_being_built_is_left_alone(store: EnvironmentStore) -> None:
    build(store, "aa")
    with store.guard("aa", silent), store.guard("bb", silent):
        half = store.fresh_folder("bb")
        half.mkdir()
        assert store.collect(set(), 0) == []
        assert half.exists()
    assert store.is_ready("aa")


def test_what_a_killed_builder_left_is_cleared(store: EnvironmentStore) -> None:
    with store.guard("aa", silent):
        half = store.fresh_folder("aa")
        (half / "bin").mkdir(parents=True)
    assert store.collect(set(), 5) == []
    assert not half.exists()
    assert not store.is_ready("aa")


def test_two_builders_take_turns(store: EnvironmentStore) -> None:
    waiting = threading.Event()
    entered = threading.Event()

    def second() -> None:
        with store.guard("aa", waiting.set):
            entered.set()

    thread = threading.Thread(target=second)
    with store.guard("aa", silent):
        thread.start()
        assert waiting.wait(10)
        assert not entered.is_set()
    assert entered.wait(10)
    thread.join(10)


def test_what_a_lock_installs_and_what_has_no_hash() -> None:
    lock = (
        "--find-links /wheels\n# a comment\nsix==1.17.0 \\\n    --hash=sha256:00 \\\n"
        "    --hash=sha256:11\n/wheels/tiny-1.0-py3-none-any.whl \\\n    --hash=sha256:22\n"
        "foo @ git+https://host/foo@abc\n    # via bar\n"
    )
    assert locked_entries(lock) == [
        "six==1.17.0",
        "/wheels/tiny-1.0-py3-none-any.whl",
        "foo @ git+https://host/foo@abc",
    ]
    assert unhashed(lock) == ["foo @ git+https://host/foo@abc"]
    assert locked_entries("--no-index\n") == []
