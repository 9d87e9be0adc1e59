"""Inputs of commands: literals, own paths, private copies, folders gathered from many places."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchpoint.domain.component import InputMode
from batchpoint.domain.datastore import Datastore, DatastoreAccess, StorageAccess
from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import StepInput
from batchpoint.formats.command_record import CommandReceipt, encode_command_receipt
from batchpoint.node.command_inputs import CommandInputs, Stopped
from batchpoint.storage import object_locations
from batchpoint.storage.store import Location
from tests.contracts.memory_store import MemoryStore
from tests.integration.command_orders import data, order


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    made = MemoryStore()

    def at(_: object, uri: str, *, where: str | None = None) -> Location:
        assert where is None
        return Location(made, uri.removeprefix("s3://box/"))

    monkeypatch.setattr(object_locations.ObjectLocations, "at", at)
    return made


def texts(root: Path, mode: InputMode = "ro_mount", access=None, **inputs) -> dict[str, str]:
    """What stands for inputs in a command."""
    modes = {
        name: StepInput(type=value.type, mode=mode)
        for name, value in inputs.items()
        if isinstance(value, JobInput)
    }
    given = order(root, "true", inputs=inputs, modes=modes, access=access)
    return CommandInputs(given, root / "scratch").texts()


def tree(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "deep").mkdir(parents=True)
    (root / "a.csv").write_bytes(b"a")
    (root / "deep" / "b.csv").write_bytes(b"b")
    (root / "deep" / "c.txt").write_bytes(b"c")
    return root


def test_literals_are_told_as_python_writes_them(tmp_path):
    assert texts(tmp_path, a=True, b=3, c=0.3, d="text", e=-1e300) == {
        "a": "True", "b": "3", "c": "0.3", "d": "text", "e": "-1e+300",
    }  # fmt: skip


def test_local_data_is_read_where_it_lies(tmp_path, source):
    assert texts(tmp_path, x=data(source))["x"] == str(source)
    assert texts(tmp_path, x=data(source.as_uri()))["x"] == str(source)
    assert texts(tmp_path, x=data(source / "a.csv", "uri_file"))["x"] == str(source / "a.csv")
    assert not (tmp_path / "scratch").exists()


def test_a_datastore_that_is_a_folder_is_local_too(tmp_path, source):
    store = Datastore(name="disk", type="local", path=str(tmp_path))
    access = StorageAccess(datastores=(DatastoreAccess(datastore=store),))
    told = texts(tmp_path, access=access, x=data("azureml://datastores/disk/paths/source"))
    assert told["x"] == str(source)


def test_a_download_is_a_copy_that_may_be_written_to(tmp_path, source):
    (source / "empty").mkdir()
    (source / "run.sh").write_text("x")
    (source / "run.sh").chmod(0o500)
    (source / "loop").symlink_to(source)
    told = Path(texts(tmp_path, "download", x=data(source))["x"])
    assert told == tmp_path / "scratch" / "x"
    assert {"a.csv", "deep/b.csv", "deep/c.txt", "run.sh"} == set(tree(told))
    assert (told / "empty").is_dir()
    assert (told / "run.sh").stat().st_mode & 0o700 == 0o700
    (told / "a.csv").write_bytes(b"changed")
    assert (source / "a.csv").read_bytes() == b"a"
    file = texts(tmp_path, "download", y=data(source / "a.csv", "uri_file"))["y"]
    assert file == str(tmp_path / "scratch" / "y" / "a.csv")


@pytest.mark.parametrize("mode", ["ro_mount", "download"])
def test_patterns_and_several_places_make_one_folder(tmp_path, source, mode):
    told = texts(tmp_path, mode, x=data(source, pattern="**/*.csv"))["x"]
    assert tree(told) == {"a.csv": b"a", "deep/b.csv": b"b"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.csv").write_bytes(b"other")
    both = JobInput(type="uri_folder", uris=(str(source), str(tmp_path / "other")))
    told = texts(tmp_path, mode, y=both)["y"]
    assert tree(told) == {
        "source/a.csv": b"a", "source/deep/b.csv": b"b", "source/deep/c.txt": b"c",
        "other/a.csv": b"other",
    }  # fmt: skip
    assert (Path(told) / "other" / "a.csv").is_symlink() == (mode == "ro_mount")


def test_direct_hands_over_the_uri(tmp_path):
    uri = "azureml://datastores/d/paths/x y"
    assert texts(tmp_path, "direct", x=data(uri))["x"] == uri
    with pytest.raises(Invalid, match="one URI"):
        texts(tmp_path, "direct", x=JobInput(type="uri_folder", uris=("s3://a/b", "s3://a/c")))


@pytest.mark.parametrize("mode", ["ro_mount", "download"])
def test_objects_are_fetched_with_their_structure(tmp_path, store, mode):
    store.objects |= {f"in/{n % 7}/{n}.bin": b"%d" % n for n in range(300)}
    told = texts(tmp_path, mode, x=data("s3://box/in"))["x"]
    assert told == str(tmp_path / "scratch" / "x")
    assert tree(told) == {f"{n % 7}/{n}.bin": b"%d" % n for n in range(300)}
    told = texts(tmp_path, mode, y=data("s3://box/in/3/3.bin", "uri_file"))["y"]
    assert told == str(tmp_path / "scratch" / "y" / "3.bin")
    assert Path(told).read_bytes() == b"3"
    told = texts(tmp_path, mode, z=data("s3://box/in/3/3.bin", "custom_model"))["z"]
    assert told == str(tmp_path / "scratch" / "z" / "3.bin")


def test_the_receipt_of_a_step_is_no_data_but_that_of_somebody_else_is(tmp_path, store):
    receipt = CommandReceipt(job="j", output="o", assembly="j/1", files=[])
    store.objects["step/_receipt.json"] = encode_command_receipt(receipt)
    store.objects["other/_receipt.json"] = b"{}"
    assert tree(texts(tmp_path, x=data("s3://box/step"))["x"]) == {}
    assert tree(texts(tmp_path, y=data("s3://box/other"))["y"]) == {"_receipt.json": b"{}"}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (data("/nowhere/at/all"), "input_not_found"),
        (data("/nowhere/at/all", pattern="*"), "input_not_found"),
        (data("s3://box/nothing"), "input_not_found"),
        (data("s3://box/nothing", "uri_file"), "input_not_found"),
        (data("s3://box/in", pattern="*.parquet"), "input_not_found"),
        (data("relative/path"), "uri_invalid"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, store, given, code):
    store.objects["in/a"] = b"a"
    with pytest.raises(Invalid, match="input rows: ") as caught:
        texts(tmp_path, rows=given)
    assert caught.value.code == code


def test_an_object_that_changes_meanwhile_is_noticed(tmp_path, store):
    store.objects |= {"in/a": b"a", "in/b": b"b"}

    def change(operation: str, key: str) -> None:
        if operation != "list" and key == "in/b":
            store.objects["in/b"] = b"other"

    store.before = change
    with pytest.raises(Invalid) as caught:
        texts(tmp_path, x=data("s3://box/in"))
    assert caught.value.code == "input_changed"


def test_a_store_that_does_not_answer_says_so(tmp_path, store):
    def fail(operation: str, key: str) -> None:
        raise Unavailable(f"no {operation} of {key}", code="storage_unavailable")

    store.before = fail
    with pytest.raises(Unavailable, match="input x: ") as caught:
        texts(tmp_path, x=data("s3://box/in"))
    assert caught.value.code == "storage_unavailable"


def test_a_stop_ends_the_fetching(tmp_path, store):
    store.objects |= {f"in/{n}": b"x" for n in range(100)}
    given = order(tmp_path, "true", inputs={"x": data("s3://box/in")})
    inputs = CommandInputs(given, tmp_path / "scratch")

    def stop(operation: str, key: str) -> None:
        if key == "in/11":
            inputs.stop()

    store.before = stop
    with pytest.raises(Stopped):
        inputs.texts()


@pytest.mark.parametrize("key", ["in/../../out", "in//x", "in/a/../../../b"])
def test_no_object_gets_out_of_its_folder(tmp_path, store, key):
    store.objects[key] = b"evil"
    try:
        told = texts(tmp_path, x=data("s3://box/in"))["x"]
    except Invalid:
        pass
    else:
        assert all(path.is_relative_to(told) for path in Path(told).rglob("*"))
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("scratch", "home")] == []
