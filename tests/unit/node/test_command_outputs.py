"""Outputs of commands: killed at any step, in somebody's way, linked, missing: whole or absent."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from batchpoint.domain.component import DataType
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, Conflict, JobFailed, Unavailable
from batchpoint.domain.job_pointers import JobInput
from batchpoint.formats.layout import CLAIM
from batchpoint.node.command_order import CommandOrder
from batchpoint.node.command_outputs import CommandOutputs
from batchpoint.storage import object_locations
from batchpoint.storage.content_identity import content_identity
from batchpoint.storage.store import Location
from tests.contracts.memory_store import MemoryStore
from tests.integration.command_orders import order, output


class Killed(BaseException):
    """Not an error of ours: nothing is cleaned up after it, as after kill -9."""


def stop_at(number: int, error: BaseException) -> Callable[[str], None]:
    """A step that raises when it is called for the `number`-th time, from 0."""
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == number + 1:
            raise error

    return step


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """In the place of every bucket."""
    made = MemoryStore(page=1_000)

    def at(_: object, uri: str, *, where: str | None = None) -> Location:
        assert where is None
        return Location(made, uri.removeprefix("s3://box/"))

    monkeypatch.setattr(object_locations.ObjectLocations, "at", at)
    return made


def wanted(root: Path) -> CommandOrder:
    """A command with outputs of every kind."""
    return order(
        root,
        "true",
        job="pipe-step",
        outputs={
            "folder": output(root / "out" / "folder"),
            "file": output(root / "out" / "one.txt", "uri_file"),
            "far": output("s3://box/far/folder"),
            "farfile": output("s3://box/far/file.bin", "uri_file"),
            "direct": output("s3://box/direct/x", mode="direct"),
        },
    )


def fill(outputs: CommandOutputs) -> None:
    """Do what a command does."""
    texts = outputs.texts()
    (Path(texts["folder"]) / "deep").mkdir()
    (Path(texts["folder"]) / "deep" / "a").write_text("a")
    (Path(texts["folder"]) / "b").write_text("b")
    Path(texts["file"]).write_text("one")
    (Path(texts["far"]) / "deep").mkdir()
    (Path(texts["far"]) / "deep" / "x").write_text("x")
    (Path(texts["far"]) / "y").write_text("y")
    Path(texts["farfile"]).write_text("far away")


def attempt(given: CommandOrder, step: Callable[[str], None] = lambda _: None):
    """Run one attempt as a node does; returns what it tells."""
    scratch = given.job_dir / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    outputs = CommandOutputs(given, scratch, step)
    told = outputs.earlier()
    if told is not None:
        return told
    outputs.prepare()
    fill(outputs)
    return outputs.publish()


def local(root: Path) -> dict[str, str]:
    """All local files that were published, or are left of it."""
    return {
        path.relative_to(root / "out").as_posix(): path.read_text()
        for path in sorted((root / "out").rglob("*"))
        if path.is_file()
    }


LOCAL = {"folder/deep/a": "a", "folder/b": "b", "one.txt": "one"}
FAR = {"far/folder/deep/x": b"x", "far/folder/y": b"y", "far/file.bin": b"far away"}


def remote(store: MemoryStore) -> dict[str, bytes]:
    return {key: body for key, body in store.objects.items() if not key.endswith("_receipt.json")}


def test_everything_is_published(tmp_path, store):
    given = wanted(tmp_path)
    steps: list[str] = []
    told = attempt(given, steps.append)
    assert local(tmp_path) == LOCAL
    assert remote(store) == FAR
    assert told["direct"].hash is None
    assert {"record", "place:folder", "placed:file", "commit", "done"} <= set(steps)
    for name in ("folder", "file"):
        source = JobInput(type=told[name].type, uri=told[name].uri)
        assert told[name].hash == content_identity(source, StorageAccess())


def all_steps(root: Path, store: MemoryStore) -> list[str]:
    steps: list[str] = []
    attempt(wanted(root), steps.append)
    store.objects.clear()
    return steps


def test_a_kill_at_any_step_is_caught_up_with(tmp_path, store):
    steps = all_steps(tmp_path / "undisturbed", store)
    for number, name in enumerate(steps):
        root = tmp_path / str(number)
        given = wanted(root)
        with pytest.raises(Killed):
            attempt(given, stop_at(number, Killed(name)))
        for path, text in local(root).items():  # what has its name is whole
            assert path.startswith(".") or LOCAL[path] == text, name
        attempt(given)
        assert local(root) == LOCAL, name
        assert remote(store) == FAR, name
        assert not list(root.rglob("*.partial")), name
        store.objects.clear()


def test_kills_at_every_step_in_a_row(tmp_path, store):
    given = wanted(tmp_path)
    for number in range(100):
        try:
            attempt(given, stop_at(number, Killed()))
        except Killed:
            continue
        break
    else:
        pytest.fail("it never finished")
    assert local(tmp_path) == LOCAL
    assert remote(store) == FAR
    assert CLAIM not in "".join(store.objects)


def test_an_error_at_any_step_leaves_nothing(tmp_path, store):
    steps = all_steps(tmp_path / "undisturbed", store)
    for number, name in enumerate(steps):
        root = tmp_path / str(number)
        with pytest.raises(BatchpointError):
            attempt(wanted(root), stop_at(number, BatchpointError("no")))
        assert local(root) == {}, name
        assert store.objects == {}, name
        assert not list(root.rglob("*.partial")), name
        assert not (root / "out").exists(), name


def test_storage_that_is_away_for_a_moment_costs_nothing(tmp_path, store):
    steps = all_steps(tmp_path / "undisturbed", store)
    first = steps.index("record")
    assert {"commit", "published", "placed:file", "done"} <= set(steps[first:])
    for number, name in enumerate(steps):
        if number <= first:
            continue  # nothing is begun yet
        given = wanted(tmp_path / str(number))
        outputs = CommandOutputs(given, given.job_dir / "s", stop_at(number, Unavailable("away")))
        waited: list[str] = []

        def patience(error: BatchpointError, waited: list[str] = waited) -> bool:
            waited.append(error.message)
            return True

        outputs.prepare()
        fill(outputs)
        if name == "done":
            with pytest.raises(Unavailable):  # not storage: the test's own step
                outputs.publish(patience)
            continue
        told = outputs.publish(patience)
        assert waited == ["away"], name
        assert local(tmp_path / str(number)) == LOCAL, name
        assert remote(store) == FAR, name
        assert CommandOutputs(given, given.job_dir / "s").earlier() == told, name
        store.objects.clear()


def test_nobody_waits_for_storage_longer_than_is_wanted(tmp_path, store):
    number = all_steps(tmp_path / "undisturbed", store).index("place:farfile")
    given = wanted(tmp_path)
    outputs = CommandOutputs(given, given.job_dir / "s", stop_at(number, Unavailable("away")))
    outputs.prepare()
    fill(outputs)
    with pytest.raises(Unavailable, match="away"):
        outputs.publish(lambda _: False)
    assert local(tmp_path) == {}
    assert store.objects == {}


@pytest.mark.parametrize("theirs", [False, True])
def test_folders_above_go_with_what_they_were_made_for(tmp_path, theirs):
    target = tmp_path / "results" / "deep" / "out"
    if theirs:
        target.parent.mkdir(parents=True)
    outputs = lone(tmp_path, target)
    assert target.parent.is_dir()
    outputs.withdraw()
    assert target.parent.exists() == theirs
    assert (tmp_path / "results").exists() == theirs
    lone(tmp_path, target).publish()
    given = order(tmp_path, "true", job="pipe-lone", outputs={"out": output(target)})
    CommandOutputs(given, tmp_path / "scratch").withdraw()  # by another process
    assert (tmp_path / "results").exists() == theirs


def test_the_folder_of_a_job_goes_with_its_outputs_after_a_kill(tmp_path):
    lone(tmp_path, tmp_path / "outputs" / "pipe-lone" / "out")
    given = order(tmp_path, "true", job="pipe-lone",
                  outputs={"out": output(tmp_path / "outputs" / "pipe-lone" / "out")})  # fmt: skip
    CommandOutputs(given, tmp_path / "scratch").withdraw()
    assert list((tmp_path / "outputs").iterdir()) == []


def test_what_was_published_is_not_computed_again(tmp_path, store):
    given = wanted(tmp_path)
    first = attempt(given)
    before = (tmp_path / "out" / "folder").stat().st_ino
    assert attempt(given) == first
    assert (tmp_path / "out" / "folder").stat().st_ino == before
    del store.objects["far/file.bin"]
    assert attempt(given).keys() == first.keys()
    assert remote(store) == FAR
    assert local(tmp_path) == LOCAL


@pytest.mark.parametrize("key", ["far/folder/theirs", "far/file.bin", "far/folder/_receipt.json"])
def test_objects_of_others_are_in_the_way_before_anything_runs(tmp_path, store, key):
    store.objects[key] = b"theirs"
    with pytest.raises(Conflict) as caught:
        attempt(wanted(tmp_path))
    assert caught.value.code == "output_exists"
    assert store.objects == {key: b"theirs"}


@pytest.mark.parametrize("place", ["folder/theirs", "folder", "one.txt", "one.txt/theirs"])
def test_files_of_others_are_in_the_way_before_anything_runs(tmp_path, store, place):
    theirs = tmp_path / "out" / place
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    with pytest.raises(Conflict) as caught:
        attempt(wanted(tmp_path))
    assert caught.value.code == "output_exists"
    assert local(tmp_path) == {place: "theirs"}
    assert store.objects == {}


@pytest.mark.parametrize("place", ["folder/theirs", "one.txt"])
def test_what_appears_meanwhile_is_not_touched(tmp_path, store, place):
    theirs = tmp_path / "out" / place

    def step(name: str) -> None:
        if name == "record":
            theirs.parent.mkdir(parents=True, exist_ok=True)
            theirs.write_text("theirs")

    with pytest.raises(Conflict):
        attempt(wanted(tmp_path), step)
    assert local(tmp_path) == {place: "theirs"}
    assert store.objects == {}


def test_an_object_that_appears_meanwhile_is_not_touched(tmp_path, store):
    def step(name: str) -> None:
        if name == "place:farfile":
            store.objects["far/file.bin"] = b"theirs"

    with pytest.raises(Conflict):
        attempt(wanted(tmp_path), step)
    assert store.objects == {"far/file.bin": b"theirs"}
    assert local(tmp_path) == {}


def test_a_file_put_in_place_of_ours_is_not_taken_for_ours(tmp_path, store):
    given = wanted(tmp_path)
    with pytest.raises(Killed):
        attempt(given, stop_at(all_steps(tmp_path / "u", store).index("placed:file"), Killed()))
    (tmp_path / "out" / "one.txt").unlink()
    (tmp_path / "out" / "one.txt").write_text("theirs")
    with pytest.raises(Conflict, match=r"one\.txt"):
        attempt(given)
    assert (tmp_path / "out" / "one.txt").read_text() == "theirs"


# --- one local folder ---------------------------------------------------------------------------


def lone(root: Path, target: Path, type_: DataType = "uri_folder") -> CommandOutputs:
    given = order(root, "true", job="pipe-lone", outputs={"out": output(target, type_)})
    outputs = CommandOutputs(given, root / "scratch")
    outputs.prepare()
    return outputs


def left(root: Path) -> list[str]:
    """What lies in a test's folder besides the job's own."""
    return [path.name for path in root.iterdir() if path.name != "home"]


def test_an_empty_folder_is_an_output_and_a_missing_one_is_none(tmp_path):
    lone(tmp_path, tmp_path / "empty").publish()
    assert list((tmp_path / "empty").iterdir()) == []
    outputs = lone(tmp_path, tmp_path / "gone")
    Path(outputs.texts()["out"]).rmdir()
    with pytest.raises(JobFailed) as caught:
        outputs.publish()
    assert caught.value.code == "output_missing"


@pytest.mark.parametrize("made", ["nothing", "folder"])
def test_a_file_that_was_not_written_is_missing(tmp_path, made):
    outputs = lone(tmp_path, tmp_path / "file.csv", "uri_file")
    path = Path(outputs.texts()["out"])
    assert path.name == "file.csv"
    assert path.parent.is_dir()
    if made == "folder":
        path.mkdir()
    with pytest.raises(JobFailed, match="out") as caught:
        outputs.publish()
    assert caught.value.code == "output_missing"
    assert left(tmp_path) == []


def test_a_model_may_be_a_file_or_a_folder(tmp_path):
    for kind in ("file", "folder"):
        given = order(tmp_path, "true", outputs={"out": output(tmp_path / kind, "custom_model")})
        outputs = CommandOutputs(given, tmp_path / "scratch")
        outputs.prepare()
        path = Path(outputs.texts()["out"])
        if kind == "file":
            path.rmdir()
            path.write_text("weights")
        outputs.publish()
    assert (tmp_path / "file").read_text() == "weights"
    assert (tmp_path / "folder").is_dir()


def test_an_empty_folder_that_is_there_gets_the_output_and_keeps_its_mode(tmp_path):
    target = tmp_path / "there"
    target.mkdir(mode=0o770)
    target.chmod(0o2770)
    outputs = lone(tmp_path, target)
    (Path(outputs.texts()["out"]) / "a").write_text("a")
    outputs.publish()
    assert (target / "a").read_text() == "a"
    assert stat.S_IMODE(target.stat().st_mode) == 0o2770


def test_a_folder_that_cannot_be_renamed_over_is_filled(tmp_path, monkeypatch):
    target = tmp_path / "mount"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a mount point
    for number in range(3):
        given = order(tmp_path, "true", job="j", outputs={"out": output(tmp_path / "link")})
        step = stop_at(3 + number, Killed()) if number < 2 else (lambda _: None)
        outputs = CommandOutputs(given, tmp_path / "scratch", step)
        outputs.prepare()
        path = Path(outputs.texts()["out"])
        (path / "deep").mkdir()
        (path / "deep" / "a").write_text("a")
        (path / "b").write_text("b")
        if number < 2:
            with pytest.raises(Killed):
                outputs.publish()
        else:
            outputs.publish()
    assert {path.name for path in target.iterdir()} == {"deep", "b"}
    assert (tmp_path / "link").is_symlink()


def test_links_inside_stay_links_and_those_to_files_elsewhere_become_copies(tmp_path):
    (tmp_path / "elsewhere.txt").write_text("else")
    outputs = lone(tmp_path, tmp_path / "out")
    root = Path(outputs.texts()["out"])
    (root / "blobs").mkdir()
    (root / "blobs" / "1").write_text("one")
    (root / "relative").symlink_to("blobs/1")
    (root / "absolute").symlink_to(root / "blobs" / "1")
    (root / "around").symlink_to(f"../{root.name}/blobs/1")
    (root / "folder").symlink_to(root / "blobs")
    (root / "copied").symlink_to(tmp_path / "elsewhere.txt")
    outputs.publish()
    out = tmp_path / "out"
    assert (out / "relative").readlink() == Path("blobs/1")
    assert (out / "absolute").readlink() == Path("blobs/1")
    assert (out / "around").readlink() == Path("blobs/1")
    assert (out / "folder").readlink() == Path("blobs")
    assert not (out / "copied").is_symlink()
    assert (out / "copied").read_text() == "else"


@pytest.mark.parametrize("leads_to", ["/nowhere/at/all", "missing", "..", "/", "self"])
def test_links_that_lead_out_or_nowhere_are_refused(tmp_path, leads_to):
    outputs = lone(tmp_path, tmp_path / "out")
    (Path(outputs.texts()["out"]) / "self").symlink_to(leads_to)
    with pytest.raises(JobFailed, match="self") as caught:
        outputs.publish()
    assert caught.value.code == "output_missing"
    assert left(tmp_path) == []


def test_an_output_that_is_itself_a_link_to_a_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    outputs = lone(tmp_path, tmp_path / "out")
    path = Path(outputs.texts()["out"])
    path.rmdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobFailed):
        outputs.publish()
    assert left(tmp_path) == ["elsewhere"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(Unavailable, match="locked"):
        lone(tmp_path, tmp_path / "locked" / "out")


def test_names_that_are_ours_in_stores_are_refused(tmp_path, store):
    given = wanted(tmp_path)
    outputs = CommandOutputs(given, tmp_path / "scratch")
    outputs.prepare()
    fill(outputs)
    (Path(outputs.texts()["far"]) / "_receipt.json").write_text("mine")
    with pytest.raises(JobFailed, match="_receipt"):
        outputs.publish()
    assert store.objects == {}
    assert local(tmp_path) == {}
