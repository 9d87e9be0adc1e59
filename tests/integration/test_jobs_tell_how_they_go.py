"""Whole jobs while they run and after: progress, instances, failing loads, timeouts, receipts."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain.asset import Environment
from batchpoint.domain.job import Job, JobState, Progress
from batchpoint.domain.limits import TIMEOUT_FLOOR_SECONDS
from tests.integration.conftest import Place

# `init` and an item wait until the test has seen what is to be seen of the job.
SLOW = """
import os, time

def wait(gate):
    while not os.path.exists(os.path.join(os.environ["GATES"], gate)):
        time.sleep(0.01)

def init():
    wait("init")

def run(mini_batch):
    rows = []
    for path in mini_batch:
        with open(path) as file:
            word = file.read()
        if word == "raises":
            raise ValueError("told to")
        if word == "crashes":
            os._exit(3)
        while word == "hangs":
            time.sleep(0.01)
        if word == "waits":
            wait("run")
        rows.append(word)
    return rows
"""
# Each worker says that it is there and waits until the other instance is there, too.
MEETING = """
import glob, os, time

def init():
    pass

def run(mini_batch):
    place = os.environ["MEETING"]
    open(os.path.join(place, str(os.getppid())), "w").close()
    until = time.monotonic() + 30
    while len(os.listdir(place)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    return ["%d of %d" % (os.getppid(), len(os.listdir(place)))] * len(mini_batch)
"""
REFUSING = """
import os

def init():
    with open(os.environ["TRIES"], "a") as tries:
        tries.write("try\\n")
    weights = {}
    weights["missing layer"]

def run(mini_batch):
    return mini_batch
"""
STUBBORN = """
import os, signal, time

def init():
    pass

def run(mini_batch):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(os.environ["BEGUN"], "w") as begun:
        begun.write(str(os.getpid()))
    while True:
        time.sleep(0.01)
"""
PHASES = ("queued", "environment", "model", "scoring", "writing", "done")
STATES = ("Queued", "Preparing", "Running", "Finalizing", "Completed")


def write(folder: Path, words: list[str]) -> Path:
    folder.mkdir()
    for number, word in enumerate(words):
        (folder / f"{number:03d}.txt").write_text(word)
    return folder


@pytest.fixture(scope="module")
def gates(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deploy the slow script; in this folder are its gates."""
    gates = tmp_path_factory.mktemp("gates")
    place.deploy_script(
        tmp_path_factory.mktemp("slow"),
        "slow",
        SLOW,
        max_concurrency_per_instance=2,
        max_retries=1,
        environment_variables={"GATES": str(gates)},
    )
    return gates


def check_never_back(before: Progress, after: Progress) -> None:
    for name in (
        "items_total",
        "items_done",
        "items_failed",
        "rows_done",
        "rows_failed",
        "mini_batches_total",
        "mini_batches_done",
        "retries",
    ):
        assert getattr(before, name) <= getattr(after, name), name
    assert before.listed <= after.listed
    assert PHASES.index(before.phase) <= PHASES.index(after.phase)


def test_a_job_never_goes_backwards_and_ends_exact(
    place: Place, gates: Path, tmp_path: Path
) -> None:
    words = ["fine"] * 60
    words[7] = words[33] = "raises"
    words[50] = "crashes"
    words[55] = "waits"
    seen: list[Job] = []

    def look(job: Job) -> None:
        seen.append(job)
        progress = job.status.progress
        if progress.phase == "model":
            (gates / "init").touch()
        if progress.items_done > 0 and progress.workers == 2:
            (gates / "run").touch()

    handle = place.client.invoke("slow", write(tmp_path / "in", words), mini_batch_size=4)
    job = handle.wait(look)
    assert [one.version for one in seen] == sorted({one.version for one in seen})
    for before, after in pairwise(seen):
        check_never_back(before.status.progress, after.status.progress)
        states = STATES.index(before.status.state), STATES.index(after.status.state)
        assert states[0] <= states[1]
    phases = list(dict.fromkeys(one.status.progress.phase for one in seen))
    assert phases in (
        ["queued", "model", "scoring", "done"],
        ["queued", "model", "scoring", "writing", "done"],
    )
    partly = [one for one in seen if 0 < one.status.progress.items_done < 60]
    assert partly
    assert all(one.status.state == JobState.RUNNING for one in partly)
    assert partly[-1].status.progress.rows_per_second > 0
    end = job.status.progress
    assert (end.phase, end.listed, end.eta_seconds) == ("done", True, None)
    assert (end.items_total, end.items_done, end.items_failed) == (60, 60, 3)
    assert (end.rows_done, end.rows_failed) == (57, 0)
    assert end.mini_batches_total == end.mini_batches_done == 15
    assert end.timeout_seconds == TIMEOUT_FLOOR_SECONDS  # ten times next to nothing
    assert job.status.started_at is not None
    assert job.status.ended_at is not None
    assert job.created_at <= job.status.started_at <= job.status.ended_at
    receipt = receipt_of(place, job)
    assert receipt["items"] == {"planned": 60, "scored": 57, "failed": 3}
    assert (receipt["rows"], receipt["mini_batches"]) == (57, 15)
    assert {failure["name"] for failure in receipt["failures"]} == {
        "007.txt",
        "033.txt",
        "050.txt",
    }
    assert all(failure["attempts"] for failure in receipt["failures"])


def test_a_killed_runner_takes_nothing_back(place: Place, gates: Path, tmp_path: Path) -> None:
    (gates / "init").touch()
    (gates / "run").unlink(missing_ok=True)
    words = ["fine"] * 30
    words[3], words[29] = "raises", "waits"
    handle = place.client.invoke("slow", write(tmp_path / "in", words), mini_batch_size=3)
    seen: list[Job] = []
    killed: list[int] = []

    def look(job: Job) -> None:
        seen.append(job)
        progress = job.status.progress
        if killed and job.status.attempts > 1 and progress.workers > 0:
            (gates / "run").touch()
        elif not killed and progress.items_failed and progress.items_done > 20:
            status = place.link.ask("status")
            assert status is not None
            killed.extend(one["pid"] for one in status["jobs"] if one["job"] == handle.name)
            os.kill(killed[0], signal.SIGKILL)

    job = handle.wait(look)
    for before, after in pairwise(seen):
        check_never_back(before.status.progress, after.status.progress)
    assert job.status.attempts == 2
    end = job.status.progress
    assert (end.items_done, end.items_failed, end.rows_done) == (30, 1, 29)
    assert (end.mini_batches_done, end.mini_batches_total) == (10, 10)
    lines = place.predictions(job).splitlines()[1:]
    assert lines == [f"{n:03d}.txt,{word}" for n, word in enumerate(words) if word != "raises"]


def test_a_fixed_timeout_is_obeyed(place: Place, gates: Path, tmp_path: Path) -> None:
    (gates / "init").touch()
    folder = write(tmp_path / "in", ["fine", "hangs", "fine"])
    handle = place.client.invoke("slow", folder, timeout=1, max_retries=0, mini_batch_size=1)
    job = handle.wait()
    assert job.status.progress.timeout_seconds == 1
    [line] = handle.failed_items()
    assert line["name"] == "001.txt"
    assert "1 s" in line["message"]
    assert "score.py" in line["traceback"]  # where it hung
    assert "in run" in line["traceback"]


def test_two_instances_score_at_the_same_time(place: Place, tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    place.deploy_script(
        tmp_path / "d",
        "meeting",
        MEETING,
        instance_count=2,
        mini_batch_size=1,
        environment_variables={"MEETING": str(meeting)},
    )
    folder = write(tmp_path / "in", ["x"] * 4)
    job = place.client.invoke("meeting", folder).wait()
    assert job.status.progress.workers_wanted == 2
    rows = place.predictions(job).splitlines()[1:]
    assert all(row.endswith(" of 2") for row in rows)
    assert len({row.split(",")[1] for row in rows}) == 2


def test_a_failing_init_ends_the_job_with_its_traceback(place: Place, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    place.deploy_script(
        tmp_path / "d",
        "refusing",
        REFUSING,
        max_retries=1,
        environment_variables={"TRIES": str(tries)},
    )
    job = place.client.invoke("refusing", write(tmp_path / "in", ["x"])).wait(check=False)
    assert job.status.state == JobState.FAILED
    error = job.status.error
    assert error is not None
    assert (error.origin, error.code, error.type) == ("user", "init_failed", "KeyError")
    assert "missing layer" in error.message
    assert error.line is not None
    assert "score.py" in error.line
    assert error.traceback is not None
    assert 'weights["missing layer"]' in error.traceback
    assert "batchpoint_worker" not in error.traceback
    assert tries.read_text() == "try\n" * 2


def test_cancel_stops_user_code_that_does_not_want_to(place: Place, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    place.deploy_script(
        tmp_path / "d", "stubborn", STUBBORN, environment_variables={"BEGUN": str(begun)}
    )
    handle = place.client.invoke("stubborn", write(tmp_path / "in", ["x"]))
    until = time.monotonic() + 30
    while not (begun.exists() and begun.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)
    asked = time.monotonic()
    handle.cancel()
    job = handle.wait(check=False)
    assert time.monotonic() - asked < 5
    assert job.status.state == JobState.CANCELED
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)
    assert not place.output(job).exists()


def receipt_of(place: Place, job: Job) -> dict[str, Any]:
    return json.loads((place.output(job) / "_receipt.json").read_text())


def test_the_hashes_of_a_receipt_change_with_what_they_name(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    data = write(tmp_path / "in", ["a", "b"])
    script = "def init():\n    pass\n\ndef run(batch):\n    return batch\n"

    def hashes(**more: Any) -> dict[str, str]:
        if more.pop("deploy", True):
            place.deploy_script(folder, "hashed", more.pop("script", script), **more)
        job = place.client.invoke("hashed", data, mini_batch_size=1).wait()
        source = receipt_of(place, job)["source"]
        return {name: source[name]["hash"] for name in ("model", "code", "environment", "input")}

    def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
        return {name for name in one if one[name] != other[name]}

    first = hashes()
    assert changed(first, hashes(deploy=False)) == set()
    assert changed(first, hashes(max_concurrency_per_instance=2)) == set()
    second = hashes(script=script + "# more\n")
    assert changed(first, second) == {"code"}
    (data / "c.txt").write_text("c")
    third = hashes(script=script + "# more\n")
    assert changed(second, third) == {"input"}
    wanted = Environment(requirements=["pandas"], python_version=f"3.{sys.version_info.minor}")
    fourth = hashes(script=script + "# more\n", environment=wanted)
    assert changed(third, fourth) == {"environment"}
    (folder / "weights.bin").write_bytes(b"weights")
    place.client.deploy(
        folder / "weights.bin",
        "hashed",
        scoring_script=str(folder / "code" / "score.py"),
        environment=wanted,
    )
    assert changed(fourth, hashes(deploy=False)) == {"model"}
