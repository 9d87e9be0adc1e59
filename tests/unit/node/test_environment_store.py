"""Environments on disk: whole or absent, rebuilt from what is kept."""

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


def build(store: EnvironmentStore, digest: str) -> None:
    store.save_record(digest, RECORD)
    with store.guard(digest, silent):
        folder = store.fresh_folder(digest)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to("/bin/sh")
        store.publish(digest)


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


def test_what_a_killed_builder_left_is_cleared(store: EnvironmentStore) -> None:
    with store.guard("aa", silent):
        half = store.fresh_folder("aa")
        (half / "bin").mkdir(parents=True)
        assert store.fresh_folder("aa") == half
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
