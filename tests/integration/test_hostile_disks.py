"""Full disks: jobs wait, say why where that can be written down, and go on when there is room."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from batchpoint import Client, JobHandle, wiring
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import JobState
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from batchpoint.storage.locate import path_of
from tests.integration.conftest import Place

DISK_BYTES = 24 << 20
PATIENCE_SECONDS = 40.0
ITEMS = 40
SCRIPT = """
import os, time

def init():
    pass

def run(mini_batch):
    print("x" * 5000)
    time.sleep(0.04)
    return [os.path.basename(path) + "y" * 20000 for path in mini_batch]
"""


class Disk:
    """A small disk: a tmpfs where this user may mount one, else a limit on what may be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.pids: Callable[[], list[int]] = list
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
        self.mounted = (
            sys.platform == "linux"
            and shutil.which("mount") is not None
            and subprocess.run(command, capture_output=True, check=False).returncode == 0
        )

    def fill(self) -> None:
        """Leave no room."""
        if self.mounted:
            with contextlib.suppress(OSError), (self.folder / "ballast").open("wb", 0) as ballast:
                while ballast.write(bytes(4096)):
                    pass
        else:
            self._limit(0)

    def free(self) -> None:
        """Make room again."""
        (self.folder / "ballast").unlink(missing_ok=True)
        if not self.mounted:
            self._limit(-1)

    def _limit(self, size: int) -> None:
        for pid in self.pids():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                process.rlimit(psutil.RLIMIT_FSIZE, (size, -1))

    def remove(self) -> None:
        """Unmount."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """Give a small disk."""
    made = Disk(tmp_path_factory.mktemp("disk") / "small")
    yield made
    made.remove()


@pytest.fixture(scope="module", params=["home", "outputs"])
def cramped(
    request: pytest.FixtureRequest, disk: Disk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Place, Path | None]]:
    """Give a place on the small disk, or one beside it and a folder there for the outputs."""
    if not disk.mounted and not hasattr(psutil, "RLIMIT_FSIZE"):
        pytest.skip("neither tmpfs nor limits on other processes can be had here")
    outside = tmp_path_factory.mktemp("outside")
    on_disk = request.param == "home"
    home = (disk.folder if on_disk else outside) / "home"
    with Client(app=wiring.embedded_app(Settings(home=home))) as client:
        place = Place(home, client, SupervisorLink(home))
        place.deploy_script(
            outside / "code", "cramped", SCRIPT, mini_batch_size=1, max_concurrency_per_instance=2
        )
        (outside / "data").mkdir()
        for number in range(ITEMS):
            (outside / "data" / f"{number:03d}.txt").write_text("")
        client.invoke("cramped", outside / "data").wait()  # nodes are warm, all is imported
        disk.pids = lambda: _family(place)
        yield place, None if on_disk else disk.folder / "outputs"
        family = _family(place)
        place.link.down()
        psutil.wait_procs([psutil.Process(p) for p in family if psutil.pid_exists(p)], timeout=5)
        if on_disk:
            shutil.rmtree(home)


def _family(place: Place) -> list[int]:
    status = place.link.ask("status")
    if status is None:
        return []
    supervisor = psutil.Process(status["pid"])
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


def _invoke(place: Place, outputs: Path | None, serial: int) -> tuple[JobHandle, Path]:
    data = next(place.home.parent.glob("data"), None) or _data(place)
    if outputs is None:
        job = place.client.invoke("cramped", data)
        return job, place.output(job)
    output = outputs / str(serial)
    return place.client.invoke("cramped", data, output=output), output


def _data(place: Place) -> Path:
    [source] = place.client.jobs.get(next(place.client.jobs.list()).name).scoring.input.sources
    return path_of(source)


def _check(job: JobHandle, output: Path) -> None:
    ended = job.wait(check=False, timeout_seconds=PATIENCE_SECONDS)
    assert ended.status.state == JobState.COMPLETED, ended.status.error
    assert ended.status.progress.items_failed == 0
    assert not [w for w in ended.status.warnings if "room" in w or "full" in w]
    rows = "".join(f"{n:03d}.txt,{n:03d}.txt{'y' * 20000}\n" for n in range(ITEMS))
    assert (output / "predictions.csv").read_text() == "_file,prediction\n" + rows


@pytest.mark.parametrize("moment_seconds", [0.0, 0.1, 0.4, 0.9])
def test_a_job_on_a_full_disk_waits_for_room(
    cramped: tuple[Place, Path | None], disk: Disk, moment_seconds: float
) -> None:
    place, outputs = cramped
    job, output = _invoke(place, outputs, int(1000 * moment_seconds))
    time.sleep(moment_seconds)
    disk.fill()
    try:
        time.sleep(1.5)  # as long as the job would take
        state = job.status
        assert state.state not in (JobState.FAILED, JobState.CANCELED), state.error
        if outputs is not None and disk.mounted and moment_seconds < 0.5:
            give_up = time.monotonic() + PATIENCE_SECONDS
            while not any("room" in warning for warning in job.status.warnings):
                assert time.monotonic() < give_up, "nobody was told that the disk is full"
                time.sleep(0.05)
            assert not output.exists(), "complete or absent"
    finally:
        disk.free()
    _check(job, output)
    shutil.rmtree(output)


def test_a_job_that_waits_for_room_can_be_canceled(
    cramped: tuple[Place, Path | None], disk: Disk
) -> None:
    place, outputs = cramped
    job, output = _invoke(place, outputs, 9)
    disk.fill()
    try:
        if outputs is None or not disk.mounted:
            with contextlib.suppress(Unavailable):  # the wish may find no room either
                job.cancel()
        else:
            give_up = time.monotonic() + PATIENCE_SECONDS
            while not any("room" in warning for warning in job.status.warnings):
                assert time.monotonic() < give_up, "nobody was told that the disk is full"
                time.sleep(0.05)
            job.cancel()
            ended = job.wait(check=False, timeout_seconds=PATIENCE_SECONDS)
            assert ended.status.state == JobState.CANCELED
            assert list(outputs.iterdir()) == []
    finally:
        disk.free()
    if outputs is None or not disk.mounted:
        job.cancel()  # the wish and the job's own way to its end set out at the same moment
    ended = job.wait(check=False, timeout_seconds=PATIENCE_SECONDS)
    assert ended.status.state in (JobState.CANCELED, JobState.COMPLETED)
    assert output.exists() == (ended.status.state == JobState.COMPLETED)
