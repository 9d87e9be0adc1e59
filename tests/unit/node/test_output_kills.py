"""Killed at any step, aborted, or out of room: complete or absent, and the next try finishes."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchpoint.domain.errors import BatchpointError, Conflict, Unavailable
from batchpoint.formats import receipt as receipts
from batchpoint.node.output_assembly import assemble
from batchpoint.node.output_request import AssembleRequest
from tests.unit.node.output_jobs import OutputJob, folder_of, into, tree

NAMES = {"predictions.csv", "_failed_items.jsonl", "_receipt.json", "notes.txt", "deep/x.bin"}


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


def make(home: Path) -> AssembleRequest:
    job = OutputJob(home, frames_per_part=2)
    for item in range(4):
        files = {"notes.txt": b"seen %d\n" % item}
        if item == 2:
            files["deep/x.bin"] = b"\0\1"
        job.add(b"%d.csv,0,%d\n" % (item, item) * 40_000, [job.fail(item, 9)], files=files)
    return job.seal()


def occupied(folder: Path) -> Path:
    """A folder that holds somebody's file already."""
    folder.mkdir(parents=True)
    (folder / "mine.md").write_bytes(b"mine")
    return folder


def all_steps(request: AssembleRequest) -> list[str]:
    steps: list[str] = []
    assemble(request, steps.append)
    return steps


def leftovers(output: Path) -> list[str]:
    names = [path.name for folder in (output.parent, output) for path in folder.glob(".*")]
    return [name for name in names if "partial" in name]


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    return make(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("exists", [False, True])
def test_a_kill_at_any_step_leaves_nothing_half_and_the_next_try_finishes(
    tmp_path, request_, exists
):
    fresh: Callable[[Path], Path] = occupied if exists else lambda folder: folder
    undisturbed = into(request_, fresh(tmp_path / "undisturbed"))
    steps = all_steps(undisturbed)
    assert {name.partition(":")[0] for name in steps} == {
        "begin", "write", "rows", "file", "files", "receipt", "done",
        *(["link", "published"] if exists else ["rename"]),
    }  # fmt: skip
    expected = tree(folder_of(undisturbed))
    for number, name in enumerate(steps):
        output = fresh(tmp_path / f"killed-{number}" / "out")
        request = into(request_, output)
        with pytest.raises(Killed):
            assemble(request, stop_at(number, Killed(name)))
        there = set(tree(output)) & NAMES if output.exists() else set[str]()
        if "published" not in name and "done" not in name and "link" not in name:
            assert not there, name
        for path in there:  # what is there is whole
            assert (output / path).read_bytes() == expected[path], name
        if (output / "_receipt.json").exists():
            assert there == NAMES - {"_receipt.json"}, name
        assemble(request)
        assert tree(output) == expected, name
        assert leftovers(output) == [], name


@pytest.mark.parametrize("exists", [False, True])
def test_kills_at_every_step_in_a_row(tmp_path, request_, exists):
    output = tmp_path / "out"
    request = into(request_, occupied(output) if exists else output)
    for number in range(200):
        try:
            assemble(request, stop_at(number, Killed()))
        except Killed:
            continue
        break
    else:
        pytest.fail("it never finished")
    undisturbed = into(request_, tmp_path / "undisturbed")
    assemble(undisturbed)
    found = tree(output)
    assert found.pop("mine.md", None) == (b"mine" if exists else None)
    assert found == tree(folder_of(undisturbed))
    assert leftovers(output) == []


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        BatchpointError("aborted"),
    ],
)
def test_an_error_at_any_step_leaves_the_folder_as_it_was(tmp_path, request_, exists, error):
    fresh: Callable[[Path], Path] = occupied if exists else lambda folder: folder
    steps = all_steps(into(request_, fresh(tmp_path / "undisturbed")))
    for number, name in enumerate(steps):
        if name in ("done", "published"):
            continue
        output = fresh(tmp_path / f"stopped-{number}" / "out")
        request = into(request_, output)
        with pytest.raises(BatchpointError):
            assemble(request, stop_at(number, error))
        assert (tree(output) if output.exists() else {}) == ({"mine.md": b"mine"} if exists else {})
        assert leftovers(output) == [], name
        assert assemble(request).items == 4


def test_a_file_that_appears_while_we_publish_is_not_touched(tmp_path, request_):
    for exists in (False, True):
        output = tmp_path / str(exists) / "out"
        request = into(request_, occupied(output) if exists else output)

        def step(name: str, output: Path = output, exists: bool = exists) -> None:
            if name == ("link:predictions.csv" if exists else "rename"):
                output.mkdir(exist_ok=True)
                (output / "notes.txt").write_bytes(b"theirs")

        with pytest.raises(Conflict, match=r"notes\.txt"):
            assemble(request, step)
        assert tree(output) == {"notes.txt": b"theirs"} | ({"mine.md": b"mine"} if exists else {})
        assert leftovers(output) == []


def test_a_folder_that_appears_while_we_publish_is_added_to(tmp_path, request_):
    request = into(request_, tmp_path / "out")

    def step(name: str) -> None:
        if name == "rename":
            occupied(tmp_path / "out")

    assemble(request, step)
    assert set(tree(folder_of(request))) == NAMES - {"_receipt.json"} | {"mine.md"}
    assert leftovers(folder_of(request)) == []


KILL = """
import json, os, signal, sys
sys.path[:0] = {path!r}
from batchpoint.node.output_assembly import assemble
from batchpoint.node.output_request import AssembleRequest
count = 0
def step(name):
    global count
    count += 1
    if count == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
assemble(AssembleRequest.from_json(json.loads(sys.stdin.read())), step)
"""


@pytest.mark.parametrize("number", [1, 3, 9, 12])
def test_a_killed_process_is_caught_up_with(tmp_path, request_, number):
    request = into(request_, occupied(tmp_path / "out"))
    done = subprocess.run(
        [sys.executable, "-c", KILL.format(path=sys.path, number=number)],
        input=json.dumps(request.to_json()).encode(),
        check=False,
    )
    assert done.returncode == -9
    assemble(request)
    undisturbed = into(request_, occupied(tmp_path / "undisturbed"))
    assemble(undisturbed)
    assert tree(folder_of(request)) == tree(folder_of(undisturbed))
    assert leftovers(folder_of(request)) == []


FULL = """
import json, resource, sys
sys.path[:0] = {path!r}
from batchpoint.domain.errors import Unavailable
from batchpoint.node.output_assembly import assemble
from batchpoint.node.output_request import AssembleRequest
request = AssembleRequest.from_json(json.loads(sys.stdin.read()))
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
try:
    assemble(request)
except Unavailable as error:
    print(json.dumps([error.code, str(error)]))
"""


@pytest.mark.parametrize("limit", [0, 500, 100_000])
def test_a_full_disk_is_said_in_one_sentence_and_tried_again(tmp_path, request_, limit):
    request = into(request_, tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(path=sys.path, limit=limit)],
        input=json.dumps(request.to_json()).encode(),
        capture_output=True,
        check=True,
    )
    code, message = json.loads(done.stdout)
    assert code == "storage_full"
    assert str(tmp_path / "out") in message
    assert "bytes are needed" in message
    assert list(tmp_path.iterdir()) == []
    assert assemble(request).items == 4


def test_a_file_system_without_hard_links_is_served_too(tmp_path, request_, monkeypatch):
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    expected = into(request_, occupied(tmp_path / "expected"))
    steps = all_steps(expected)
    monkeypatch.setattr(os, "link", no_links)
    for number, name in enumerate(steps):
        request = into(request_, occupied(tmp_path / str(number)))
        with pytest.raises(Killed):
            assemble(request, stop_at(number, Killed(name)))
        assemble(request)
        assert tree(folder_of(request)) == tree(folder_of(expected)), name
        assert leftovers(folder_of(request)) == [], name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path, request_):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(Unavailable, match="locked") as caught:
        assemble(into(request_, tmp_path / "locked" / "out"))
    assert caught.value.code == "storage_unavailable"


def test_a_file_in_place_of_the_folder_is_named(tmp_path, request_):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(Unavailable, match=str(tmp_path / "out")) as caught:
        assemble(into(request_, tmp_path / "out"))
    assert caught.value.code == "storage_unavailable"


def test_receipts_of_two_runs_differ_in_nothing_but_times(tmp_path, request_):
    read = []
    for name in ("a", "b"):
        assemble(into(request_, tmp_path / name))
        read.append(receipts.decode((tmp_path / name / "_receipt.json").read_bytes()))
    assert read[0] == read[1]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
