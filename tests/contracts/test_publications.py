"""The contract of publications on local folders and on stores in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import Conflict, Invalid, Unavailable
from batchpoint.formats.layout import CLAIM, JobFolder
from batchpoint.formats.receipt import Receipt, decode
from batchpoint.node import output_assembly
from batchpoint.node.output_publish_remote import RemotePublication, RemoteTarget
from batchpoint.node.output_request import AssembleRequest
from batchpoint.storage.store import Location
from tests.contracts.memory_store import MemoryStore
from tests.contracts.publication_contract import (
    NAMES,
    RECEIPT,
    Ground,
    Killed,
    PublicationContract,
    RaceContract,
    make_job,
)


class LocalGround(Ground):
    """Folders of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fresh(self, name: str) -> str:
        return (self.root / name / "out").as_uri()

    def objects(self, uri: str) -> dict[str, bytes]:
        parent = Path(uri.removeprefix("file://")).parent
        return {
            path.relative_to(parent).as_posix().removeprefix("out/"): path.read_bytes()
            for path in parent.rglob("*")
            if path.is_file()
        }

    def put(self, uri: str, name: str, body: bytes) -> None:
        path = Path(uri.removeprefix("file://")) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


class MemoryGround(Ground):
    """A store in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def fresh(self, name: str) -> str:
        return f"s3://memory/{name}/out"

    def location(self, uri: str) -> Location:
        return Location(self.store, uri.removeprefix("s3://memory/"))

    def objects(self, uri: str) -> dict[str, bytes]:
        prefix = self.location(uri).path + "/"
        return {
            key.removeprefix(prefix): body
            for key, body in self.store.objects.items()
            if key.startswith(prefix)
        }

    def put(self, uri: str, name: str, body: bytes) -> None:
        self.store.put(f"{self.location(uri).path}/{name}", body)

    def open(
        self, request: AssembleRequest, _: StorageAccess, step: Callable[[str], None]
    ) -> RemotePublication[Receipt]:
        return RemotePublication(
            RemoteTarget.of(request), self.location(request.output_uri), step, decode
        )


class TestLocalPublication(PublicationContract):
    @pytest.fixture
    def ground(self, tmp_path: Path) -> Ground:
        return LocalGround(tmp_path / "ground")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryGround:
    ground = MemoryGround(MemoryStore())
    remote = output_assembly.publication_for

    def opened(order: AssembleRequest, access: StorageAccess, step: Callable[[str], None]):
        into_memory = order.output_uri.startswith("s3://memory/")
        return (ground.open if into_memory else remote)(order, access, step)

    monkeypatch.setattr(output_assembly, "publication_for", opened)
    return ground


class TestRemotePublication(PublicationContract):
    @pytest.fixture
    def ground(self, memory: MemoryGround) -> Ground:
        return memory


class TestPublicationIntoAStoreThatIgnoresConditions(RaceContract):
    @pytest.fixture
    def ground(self, memory: MemoryGround) -> Ground:
        memory.store.lies = True
        return memory


@pytest.fixture
def request_(tmp_path: Path) -> AssembleRequest:
    return replace(make_job(tmp_path / "home"), output_uri="s3://memory/out")


def test_the_receipt_is_the_last_object_and_the_claim_the_first(memory, request_):
    memory.assemble(request_)
    puts = [key for operation, key in memory.store.asked if operation in ("put", "put_file")]
    assert puts[0] == f"out/{CLAIM}"
    assert puts[-1] == f"out/{RECEIPT}"
    assert {key.removeprefix("out/") for key in puts} == NAMES | {CLAIM}
    deleted = [key for operation, key in memory.store.asked if operation == "delete"]
    assert deleted == [f"out/{CLAIM}"]
    assert not JobFolder(request_.job_dir).publication.exists()


def test_what_was_uploaded_before_a_kill_is_not_uploaded_again(memory, request_):
    with pytest.raises(Killed):
        memory.assemble(request_, lambda name: stop_before(name, "verify"))
    memory.store.asked.clear()
    memory.assemble(request_)
    assert [key for operation, key in memory.store.asked if operation == "put_file"] == []


def stop_before(name: str, last: str) -> None:
    if name == last:
        raise Killed


def test_an_object_that_was_replaced_after_a_kill_is_neither_overwritten_nor_deleted(
    memory, request_
):
    with pytest.raises(Killed):
        memory.assemble(request_, lambda name: stop_before(name, "verify"))
    size = len(memory.store.objects["out/predictions.csv"])
    memory.store.put("out/predictions.csv", b"x" * size)
    with pytest.raises(Conflict, match=r"predictions\.csv"):
        memory.assemble(request_)
    assert memory.objects("s3://memory/out") == {"predictions.csv": b"x" * size}


@pytest.mark.parametrize(
    ("operation", "when"),
    [
        *((operation, "before") for operation in ("find", "list", "stream", "put", "put_file")),
        *((operation, "after") for operation in ("put", "put_file", "delete")),
    ],
)
def test_a_store_that_fails_at_any_request_is_asked_again(memory, tmp_path, operation, when):
    """Also when the request was carried out and only its answer was lost."""
    for number in range(6):
        request = replace(
            make_job(tmp_path / f"home-{number}"), output_uri=f"s3://memory/{number}/out"
        )
        asked = 0

        def fail(what: str, key: str, number: int = number) -> None:
            nonlocal asked
            asked += what == operation
            if what == operation and asked == number + 1:
                raise Unavailable(f"{what} {key} failed", code="storage_unavailable")

        setattr(memory.store, when, fail)
        try:
            memory.assemble(request)
        except Unavailable:
            memory.assemble(request)
        setattr(memory.store, when, lambda what, key: None)
        assert memory.objects(request.output_uri).keys() == NAMES


def test_a_store_that_denies_is_told_and_left_clean(memory, request_):
    def deny(what: str, key: str) -> None:
        if what == "put_file" and key.endswith("x.bin"):
            raise Invalid("not allowed", code="storage_denied")

    memory.store.before = deny
    with pytest.raises(Invalid) as caught:
        memory.assemble(request_)
    assert caught.value.code == "storage_denied"
    assert memory.objects("s3://memory/out") == {}


def test_what_cannot_be_deleted_is_told_and_withdrawn_later(memory, request_):
    def deny(what: str, key: str) -> None:
        if what == "delete" or key.endswith("x.bin"):
            raise Invalid(f"{what} {key} is not allowed", code="storage_denied")

    memory.store.before = deny
    with pytest.raises(Invalid, match="what was uploaded until then could not be deleted"):
        memory.assemble(request_)
    memory.store.before = lambda what, key: None
    memory.withdraw(request_)
    assert memory.objects("s3://memory/out") == {}


def test_a_claim_that_may_not_be_deleted_does_not_fail_a_complete_output(memory, request_):
    def deny(what: str, key: str) -> None:
        if what == "delete":
            raise Invalid("not allowed", code="storage_denied")

    memory.store.before = deny
    memory.assemble(request_)
    assert memory.objects("s3://memory/out").keys() == NAMES | {CLAIM}


def test_an_object_that_vanishes_before_the_receipt_is_noticed(memory, request_):
    def step(name: str) -> None:
        if name == "verify":
            memory.store.delete("out/notes.txt")

    with pytest.raises(Unavailable, match=r"notes\.txt"):
        memory.assemble(request_, step)
    assert f"out/{RECEIPT}" not in memory.store.objects
    memory.assemble(request_)
    assert memory.objects("s3://memory/out").keys() == NAMES


def test_a_claim_of_a_job_that_is_gone_is_named(memory, request_, tmp_path):
    other = replace(
        make_job(tmp_path / "other", "heart-batch-00000000", says=b"x"),
        output_uri=request_.output_uri,
    )
    with pytest.raises(Killed):
        memory.assemble(other, lambda name: stop_before(name, "record"))
    with pytest.raises(Conflict, match=r"heart-batch-00000000.*\.batchpoint-claim"):
        memory.assemble(request_)
    assert memory.objects("s3://memory/out").keys() == {CLAIM}


def test_files_written_before_a_kill_are_not_written_again(memory, request_):
    with pytest.raises(Killed):
        memory.assemble(request_, lambda name: stop_before(name, "upload:predictions.csv"))
    steps: list[str] = []
    memory.assemble(request_, steps.append)
    assert "begin" not in steps
    assert not (JobFolder(request_.job_dir).work / "output").exists()
