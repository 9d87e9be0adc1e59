"""One look serves all who wait, and nobody looks when nobody waits."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from batchpoint.api.job_watch import POLL_SECONDS, JobWatch


class Versions:
    def __init__(self) -> None:
        self.now = {"a": 1, "b": 1}
        self.asked: list[set[str]] = []
        self.failure: Exception | None = None
        self.looked = asyncio.Event()

    def __call__(self, names: Collection[str]) -> Mapping[str, int]:
        self.asked.append(set(names))
        self.looked.set()
        if self.failure is not None:
            raise self.failure
        return {name: self.now[name] for name in names if name in self.now}


async def looked(versions: Versions) -> None:
    versions.looked.clear()
    await versions.looked.wait()


async def test_all_who_wait_share_one_look() -> None:
    versions = Versions()
    watch = JobWatch(versions)
    tasks = [asyncio.create_task(watch.changed("ab"[n % 2], 1, 30)) for n in range(10)]
    await looked(versions)
    await looked(versions)
    assert versions.asked == [{"a", "b"}] * 2
    versions.now["a"] = 2
    assert all(await asyncio.gather(*tasks[0::2]))
    assert not any(task.done() for task in tasks[1::2])
    versions.now["b"] = 2
    assert all(await asyncio.gather(*tasks))
    count = len(versions.asked)
    await asyncio.sleep(3 * POLL_SECONDS)
    assert len(versions.asked) <= count + 1
    assert await watch.changed("a", 1, 30)


async def test_waiting_ends_in_time() -> None:
    assert not await JobWatch(Versions()).changed("a", 1, 0.05)


async def test_a_job_that_is_gone_wakes() -> None:
    assert await JobWatch(Versions()).changed("ghost", 1, 30)


async def test_trouble_reaches_those_who_wait_and_later_ones_try_again() -> None:
    versions = Versions()
    watch = JobWatch(versions)
    versions.failure = OSError("ledger")
    with pytest.raises(OSError, match="ledger"):
        await watch.changed("a", 1, 30)
    versions.failure = None
    assert await watch.changed("a", 0, 30)


async def test_who_gives_up_is_forgotten() -> None:
    versions = Versions()
    watch = JobWatch(versions)
    task = asyncio.create_task(watch.changed("a", 1, 30))
    await looked(versions)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(2 * POLL_SECONDS)
    count = len(versions.asked)
    await asyncio.sleep(2 * POLL_SECONDS)
    assert len(versions.asked) == count
