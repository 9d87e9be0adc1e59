"""Staging ahead of the workers: order, bounds, trouble, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from batchpoint.core.messages import Assignment
from batchpoint.domain import limits
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.minibatch import MiniBatch, Slice, Task
from batchpoint.node import staging_ahead
from batchpoint.node.parquet_footers import ParquetFooters
from batchpoint.node.remote_files import RemoteFiles
from batchpoint.node.staging_ahead import StagingAhead
from batchpoint.node.ticket import Ticket
from tests.contracts.memory_store import MemoryLocations, MemoryStore, does_not_answer, etag_of

PER_TASK = 3


def read(paths: Iterable[str]) -> list[str]:
    return [Path(path).read_text() for path in paths]


class Stage:
    """A `StagingAhead` over a store in memory, and what it tells."""

    def __init__(self, folder: Path, tasks: int = 8, *, script: bool = True) -> None:
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        names = [f"d{n % 2}/{n:03}.txt" for n in range(tasks * PER_TASK)]
        self.store = MemoryStore({f"in/{name}": f"body {name}".encode() for name in names})
        slices = [
            Slice(n, f"memory://box/in/{name}", name, len(body), etag_of(body))
            for n, name in enumerate(names)
            for body in [self.store.objects[f"in/{name}"]]
        ]
        self.tickets = [
            Ticket(
                number + 1,
                MiniBatch(number, 0, number * PER_TASK, (number + 1) * PER_TASK),
                Assignment(Task(number, 0, PER_TASK), 1, 60.0),
                slices[number * PER_TASK : (number + 1) * PER_TASK],
            )
            for number in range(tasks)
        ]
        self.moved = asyncio.Event()
        self.lost: list[tuple[Ticket, Unavailable]] = []
        self.full: list[OSError] = []
        footers = ParquetFooters(sys.executable, folder / "footers", self.scratch)
        self.ahead = StagingAhead(
            RemoteFiles(lambda: MemoryLocations(self.store), footers),
            self.scratch,
            script=script,
            arrived=self.moved.set,
            given_up=self._given_up,
            no_room=self._no_room,
        )

    def _given_up(self, ticket: Ticket, error: Unavailable) -> None:
        self.lost.append((ticket, error))
        self.moved.set()

    def _no_room(self, error: OSError) -> None:
        self.full.append(error)
        self.moved.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.moved.clear()
                with_timer = asyncio.get_running_loop().call_later(0.01, self.moved.set)
                await self.moved.wait()
                with_timer.cancel()

    async def take_all(self, count: int) -> list[Ticket]:
        taken: list[Ticket] = []
        while len(taken) < count:
            await self.until(lambda: self.ahead.ready > 0)
            ticket = self.ahead.take()
            assert ticket is not None
            taken.append(ticket)
        return taken

    def bytes_on_disk(self) -> int:
        found = 0
        for folder, _, names in os.walk(self.scratch):  # passes over what is being deleted
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found += (Path(folder) / name).stat().st_size
        return found


async def test_files_keep_their_names_and_folders(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 1)
    stage.ahead.offer(stage.tickets)
    [ticket] = await stage.take_all(1)
    told = ticket.order()["items"]
    assert read(item["path"] for item in told) == [f"body {one.name}" for one in ticket.slices]
    assert all(item["path"].endswith("/" + item["name"]) for item in told)
    assert all(Path(item["path"]).is_absolute() for item in told)
    stage.ahead.done(ticket)
    await stage.until(lambda: not list(stage.scratch.iterdir()))
    stage.ahead.stop()


async def test_a_model_without_code_gets_flat_files_with_their_endings(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 1, script=False)
    stage.ahead.offer(stage.tickets)
    [ticket] = await stage.take_all(1)
    assert [Path(path).name for path in ticket.paths] == ["0.txt", "1.txt", "2.txt"]
    assert ticket.order()["items"][0]["name"] == "d0/000.txt"
    stage.ahead.stop()


async def test_all_come_and_the_earliest_that_is_there_first(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 20)
    gate = threading.Event()

    def hold_the_first(what: str, path: str) -> None:
        if path == "in/d0/000.txt":
            gate.wait(10)

    stage.store.before = hold_the_first
    stage.ahead.offer(stage.tickets)
    await stage.until(lambda: stage.ahead.ready == 19)
    second = stage.ahead.take()
    assert second is not None
    assert second.id == 2  # no worker waits for the first one while others are there
    gate.set()
    await stage.until(lambda: stage.ahead.ready == 19)
    taken = await stage.take_all(19)
    assert [ticket.id for ticket in taken] == [1, *range(3, 21)]
    assert stage.ahead.remaining == 0
    stage.ahead.stop()


async def test_objects_are_fetched_many_at_a_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 8)
    together = threading.Barrier(limits.FETCHES_AT_ONCE_MAX)

    def meet(what: str, path: str) -> None:
        together.wait(10)

    stage.store.before = meet
    stage.ahead.offer(stage.tickets)  # 24 objects: fewer at a time would never meet
    await stage.take_all(8)
    stage.ahead.stop()


async def test_the_disk_holds_no_more_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 10)
    each = sum(one.size for one in stage.tickets[0].slices)
    monkeypatch.setattr(limits, "STAGED_BYTES_MAX", 3 * each + 1)
    stage.ahead.offer(stage.tickets)
    most = 0
    for number in range(10):
        await stage.until(lambda: stage.ahead.ready > 0)
        if number == 0:
            await stage.until(lambda: stage.ahead.ready == 3)
        most = max(most, stage.bytes_on_disk())
        ticket = stage.ahead.take()
        assert ticket is not None
        assert number - 2 <= ticket.id - 1 <= number + 2  # no other one is on the disk
        stage.ahead.done(ticket)
    assert each <= most <= 3 * each
    stage.ahead.stop()


async def test_a_task_bigger_than_the_bound_passes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 3)
    monkeypatch.setattr(limits, "STAGED_BYTES_MAX", 1)
    stage.ahead.offer(stage.tickets)
    for number in range(3):
        [ticket] = await stage.take_all(1)
        assert (ticket.id, stage.ahead.ready) == (number + 1, 0)
        assert len(list(stage.scratch.iterdir())) == 1
        stage.ahead.done(ticket)
    stage.ahead.stop()


async def test_little_room_on_the_disk_holds_staging_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 3)
    monkeypatch.setattr(limits, "STAGING_FREE_BYTES_MIN", 1 << 60)
    stage.ahead.offer(stage.tickets)
    [ticket] = await stage.take_all(1)
    assert stage.ahead.ready == 0
    stage.ahead.done(ticket)
    await stage.take_all(1)
    stage.ahead.stop()


async def test_what_no_worker_finished_is_not_fetched_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 3)
    stage.ahead.offer(stage.tickets)
    await stage.until(lambda: stage.ahead.ready == 3)
    first = stage.ahead.take()
    assert first is not None
    asked = len(stage.store.asked)
    stage.ahead.put_back(first)
    assert stage.ahead.take() is first
    assert len(stage.store.asked) == asked
    stage.ahead.stop()


async def test_items_that_are_gone_or_changed_are_refused_one_by_one(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 1)
    del stage.store.objects["in/d0/000.txt"]
    stage.store.objects["in/d1/001.txt"] = b"other"
    stage.ahead.offer(stage.tickets)
    [ticket] = await stage.take_all(1)
    assert {place: error.code for place, error in ticket.refused.items()} == {
        0: "input_unreadable",
        1: "input_changed",
    }
    assert [item["name"] for item in ticket.order()["items"]] == ["d0/002.txt"]
    stage.ahead.stop()


async def test_a_store_that_does_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging_ahead, "_RETRY_SECONDS", (0.001,))
    stage = Stage(tmp_path, 4)
    down = threading.Event()
    down.set()

    def fail(what: str, path: str) -> None:
        if down.is_set():
            raise does_not_answer(path)

    stage.store.before = fail
    stage.ahead.offer(stage.tickets)
    await stage.until(lambda: stage.ahead.warning.startswith("storage: in/"))
    assert (stage.ahead.ready, stage.ahead.remaining, stage.lost) == (0, 4, [])
    down.clear()
    assert [ticket.id for ticket in sorted(await stage.take_all(4), key=lambda t: t.id)] == [
        1, 2, 3, 4
    ]  # fmt: skip
    assert stage.ahead.warning == ""
    stage.ahead.stop()


async def test_a_lone_object_that_cannot_be_read_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging_ahead, "_RETRY_SECONDS", (0.001,))
    monkeypatch.setattr(limits, "FETCH_STUCK_SECONDS_MAX", 0.01)
    stage = Stage(tmp_path, 4)
    failed = threading.Event()

    def fail(what: str, path: str) -> None:
        if path == "in/d0/000.txt":
            failed.set()
            raise does_not_answer(path)
        failed.wait(10)  # the others come after it

    stage.store.before = fail
    stage.ahead.offer(stage.tickets)
    await stage.until(lambda: bool(stage.lost))
    [(ticket, error)] = stage.lost
    assert ticket.id == 1
    assert "in/d0/000.txt" in error.message
    assert len(await stage.take_all(3)) == 3
    stage.ahead.stop()


async def test_a_full_disk_is_told_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging_ahead, "_RETRY_SECONDS", (0.001,) * 3)
    stage = Stage(tmp_path, 4)
    full = threading.Event()
    full.set()

    def fail(what: str, path: str) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, "no room")

    stage.store.before = fail
    stage.ahead.offer(stage.tickets)
    await stage.until(lambda: bool(stage.full))
    assert stage.ahead.remaining == 4
    full.clear()
    taken = await stage.take_all(4)
    assert sorted(ticket.id for ticket in taken) == [1, 2, 3, 4]
    for ticket in taken:
        assert read(ticket.paths) == [f"body {one.name}" for one in ticket.slices]
    stage.ahead.stop()


async def test_stopping_waits_for_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 20)
    gate = threading.Event()

    def hold(what: str, path: str) -> None:
        gate.wait(10)

    stage.store.before = hold
    stage.ahead.offer(stage.tickets)
    await stage.until(lambda: len(stage.store.asked) >= 3)
    stage.ahead.stop()
    assert (stage.ahead.remaining, stage.ahead.take()) == (0, None)
    gate.set()


async def test_what_has_no_room_is_not_even_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging_ahead, "_RETRY_SECONDS", (0.001,) * 3)
    stage = Stage(tmp_path, 2)
    free = 1

    def statvfs(path: object) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=free, f_frsize=1)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(limits, "STAGING_FREE_BYTES_MIN", 0)
    stage.ahead.offer(stage.tickets)
    assert stage.ahead.warning.startswith("disk full: there is no room left to write")
    assert (stage.store.asked, stage.ahead.remaining) == ([], 2)
    free = 1 << 30
    await stage.take_all(2)
    assert stage.ahead.warning == ""
    stage.ahead.stop()


async def test_what_arrives_after_the_end_leaves_nothing_behind(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    gate = threading.Event()

    def hold(what: str, path: str) -> None:
        gate.wait(10)

    stage.store.before = hold
    stage.ahead.offer(stage.tickets)
    await stage.until(lambda: len(stage.store.asked) == 2 * PER_TASK)
    stage.ahead.stop()
    gate.set()
    await asyncio.to_thread(stage.ahead._threads.shutdown)
    assert list(stage.scratch.iterdir()) == []
