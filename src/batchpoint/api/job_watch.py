"""Watching jobs for all who wait: one look at the ledger at a time, however many they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

POLL_SECONDS = 0.02


class _Waiter(NamedTuple):
    job: str
    version: int
    changed: asyncio.Future[None]


class JobWatch:
    """Wakes those who wait for a job's version to grow; looks only while somebody waits."""

    def __init__(self, versions: Callable[[Collection[str]], Mapping[str, int]]) -> None:
        """Look by `versions`, which is quick and maps the jobs that exist to their versions."""
        self._versions = versions
        self._waiters: set[_Waiter] = set()
        self._looking: asyncio.Task[None] | None = None

    async def changed(self, job: str, version: int, seconds: float) -> bool:
        """Wait until the job's version is greater or the job is gone; False after `seconds`.

        Raises: whatever `versions` raises.
        """
        waiter = _Waiter(job, version, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait_for(waiter.changed, seconds)
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def _look(self) -> None:
        while self._waiters:
            self._wake()
            await asyncio.sleep(POLL_SECONDS)

    def _wake(self) -> None:
        waiting = tuple(self._waiters)
        try:
            # Not in a thread: reading a few numbers takes less time than changing threads.
            versions = self._versions({waiter.job for waiter in waiting})
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to those who wait
            for waiter in waiting:
                if not waiter.changed.done():
                    waiter.changed.set_exception(error)
            return
        for waiter in waiting:
            grown = versions.get(waiter.job, waiter.version + 1) > waiter.version
            if grown and not waiter.changed.done():
                waiter.changed.set_result(None)
