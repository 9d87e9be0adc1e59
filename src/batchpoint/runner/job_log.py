"""The job's own log: one line per thing that happened, for people; it never hurts the job."""

from __future__ import annotations

import contextlib
from pathlib import Path

from batchpoint.clock import Clock


class JobLog:
    """Appends lines to `logs/job.log`; a full disk loses lines, not the job."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Lines go to `path`, stamped with the clock's UTC time."""
        self._path = path
        self._clock = clock
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, sentence: str) -> None:
        """Write one line."""
        stamp = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as log:
            log.write(f"{stamp} {' '.join(sentence.split())}\n")
