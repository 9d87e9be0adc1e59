"""The job's own log: one line per thing that happened, for people; it never hurts the job."""

from __future__ import annotations

import contextlib
from pathlib import Path

from batchpoint.clock import Clock
from batchpoint.domain import limits


class JobLog:
    """Appends lines to `logs/job.log`; a full disk loses lines, not the job.

    File names that are no UTF-8 are escaped. What is over the limit of a log is left out.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        """Lines go to `path`, stamped with the clock's UTC time."""
        self._path = path
        self._clock = clock
        self._full = False
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, sentence: str) -> None:
        """Write one line."""
        if self._full:
            return
        stamp = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        line = f"{stamp} {' '.join(sentence.split())}\n".encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError), self._path.open("ab") as log:
            if log.tell() > limits.LOG_BYTES_PER_FILE_MAX:
                self._full = True
                line = f"{stamp} this log is full; what follows is left out\n".encode()
            log.write(line)
