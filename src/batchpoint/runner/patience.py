"""Waiting for what may pass: storage that is away, a full disk, tasks that are to end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from batchpoint.formats.durable import storage_error

_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0)


async def pause(attempt: int) -> None:
    """Wait before the next attempt, longer after each; `attempt` counts from 0."""
    await asyncio.sleep(_BACKOFF_SECONDS[min(attempt, len(_BACKOFF_SECONDS) - 1)])


async def when_there_is_room(make: Callable[[], Awaitable[object]], place: Path) -> None:
    """Have something made at `place`, waiting for a full disk as long as it takes.

    Raises: Invalid, Unavailable: it cannot be made for another reason.
    """
    for attempt in itertools.count():
        try:
            await make()
            return
        except OSError as error:
            told = storage_error(error, place)
            if told.code != "storage_full":
                raise told from error
            await pause(attempt)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, however they do."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
