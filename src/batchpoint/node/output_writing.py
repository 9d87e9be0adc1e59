"""Writes a file of the output: big writes, and its sha256 on a second core in the same pass."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from batchpoint.formats.durable import write_fully
from batchpoint.formats.receipt import ReceiptFile

Step = Callable[[str], None]
"""Called with the name of each step of the assembly as it is reached; may raise to stop there."""

_FLUSH_BYTES = 1 << 20
_HASHES_AHEAD_MAX = 4


class OutputFile:
    """A file being written; a context manager that closes it, complete or not.

    Small pieces are gathered to `_FLUSH_BYTES`, big ones are written as they are. Bytes given to
    `write` must not change afterwards: they are hashed a little later.
    """

    def __init__(self, path: Path, step: Step) -> None:
        """Create the file anew; raises OSError."""
        self.path = path
        self._step = step
        self._pending: list[bytes | memoryview] = []
        self._pending_bytes = 0
        self._digest = hashlib.sha256()
        self._hashes: list[Future[None]] = []
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; raises OSError."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        pieces = self._pending
        if not pieces:
            return
        self._step(f"write:{self.path.name}")
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pending, self._pending_bytes = [], 0
        if len(data) >= _FLUSH_BYTES:
            self._hash_beside(data)
        else:
            self._wait_for_hashes()
            self._digest.update(data)
        write_fully(self._fd, data)
        self.size += len(data)

    def _hash_beside(self, data: bytes | memoryview) -> None:
        if len(self._hashes) == _HASHES_AHEAD_MAX:
            self._hashes.pop(0).result()
        self._hashes.append(self._hasher.submit(self._digest.update, data))

    def _wait_for_hashes(self) -> None:
        for pending in self._hashes:
            pending.result()
        self._hashes.clear()

    def finish(self, name: str) -> ReceiptFile:
        """Write what is left, make it durable and return its entry under `name`; raises OSError."""
        self._flush()
        os.fsync(self._fd)
        self._wait_for_hashes()
        return ReceiptFile(path=name, size=self.size, sha256=self._digest.hexdigest())

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file and end the second thread."""
        self._hasher.shutdown(wait=True)
        os.close(self._fd)
