"""What user code prints, kept in a file of limited size that can never hurt the job."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from batchpoint.domain import limits

CAPTURE_BYTES_MAX = 64 * 1024
_DRAIN_READS_MAX = 64  # a pipe holds at most 1 MiB; whoever writes on has escaped


class UserLog:
    """One log file, made when something is written; a full disk only costs the lines."""

    def __init__(self, path: Path, bytes_max: int = limits.LOG_BYTES_PER_FILE_MAX) -> None:
        """Append to `path`, up to `bytes_max` bytes in all."""
        self.path = path
        self._bytes_max = bytes_max
        self._fd = -1
        self._left = 0
        self._full = False
        self._closed = False

    def write(self, data: bytes) -> None:
        """Append; after the limit, one line says that the rest is dropped."""
        if self._closed:
            return
        try:
            if self._fd < 0:
                self._open()
            if self._full:
                return
            if len(data) > self._left:
                cut = data.rfind(b"\n", 0, self._left) + 1
                note = f"[truncated: this log has reached {self._bytes_max:,} bytes]\n"
                data = data[:cut] + note.encode()
                self._full = True
            else:
                self._left -= len(data)
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            return  # bulkhead: a log that cannot be written is never a reason to stop scoring

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o644)
        # A file that has its last line already stays as it is.
        self._left = self._bytes_max - os.fstat(self._fd).st_size
        self._full = self._left < 0

    def close(self) -> None:
        """Close the file; later writes do nothing."""
        self._closed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LogPump:
    """Moves what one worker prints from its pipe into the log of the job it works for."""

    def __init__(self, fd: int) -> None:
        """Read from `fd`, which is non-blocking; without a `log`, output is dropped."""
        self.fd = fd
        self.log: UserLog | None = None
        self._captured: bytearray | None = None
        self._at_line_start = True
        self._drained = False

    def pump(self) -> bool:
        """Move what is there now; False at end of file."""
        self._drained = False
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            self._drained = True
            return True
        except OSError:
            return False
        if not data:
            return False
        self._at_line_start = data.endswith(b"\n")
        if self._captured is not None and len(self._captured) < CAPTURE_BYTES_MAX:
            self._captured += data
        if self.log is not None:
            self.log.write(data)
        return True

    def capture(self) -> None:
        """Keep a copy of what is printed from now on (a stack dump)."""
        self._captured = bytearray()

    def captured(self) -> str:
        """Return what was printed since `capture`."""
        return bytes(self._captured or b"").decode("utf-8", "replace")

    def drain(self) -> None:
        """Move all that is there now; whoever writes on and on is not waited for."""
        for _ in range(_DRAIN_READS_MAX):
            if not self.pump() or self._drained:
                return

    def finish(self) -> None:
        """Move the rest of a dead worker's output and close; never waits for escaped children."""
        self.drain()
        if not self._at_line_start and self.log is not None:
            self.log.write(b"\n")
        with contextlib.suppress(OSError):
            os.close(self.fd)
