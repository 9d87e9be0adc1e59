"""Results on their way to the agent: grouped, but never kept waiting for long."""

from __future__ import annotations

import os
import threading
import time
from typing import List, Optional

from batchpoint_worker import protocol
from batchpoint_worker.protocol import Header

FLUSH_SECONDS = 0.005
FLUSH_BYTES = 1 << 20


class Outbox:
    """Writes messages to the agent, results in groups.

    A group goes out when nothing follows, at 1 MB, or 5 ms after its first result: by a thread, so
    that a result does not wait for the task after it. The thread starts with the first result that
    has company to wait for.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._armed = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._results: List[Header] = []
        self._bodies: List[bytes] = []
        self._bytes = 0

    def send(self, header: Header) -> None:
        """Send a message at once, after the results before it."""
        with self._lock:
            self._flush()
            protocol.write(self._fd, header)

    def add(self, result: Header, body: List[bytes], *, more: bool) -> None:
        """Take a result and its body; `more`: another task follows right away."""
        with self._lock:
            size = sum(map(len, body))
            if self._bytes + size > protocol.BODY_BYTES_MAX:
                self._flush()
            self._results.append(result)
            self._bodies += body
            self._bytes += size
            if not more or self._bytes >= FLUSH_BYTES:
                self._flush()
            elif len(self._results) == 1:
                self._armed.set()
        if more and self._thread is None:
            self._thread = threading.Thread(target=self._push, name="results", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Send the results collected so far."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._results:
            header = {"op": "results", "results": self._results}
            body = self._bodies[0] if len(self._bodies) == 1 else b"".join(self._bodies)
            self._results, self._bodies, self._bytes = [], [], 0
            self._armed.clear()
            protocol.write(self._fd, header, body)

    def _push(self) -> None:
        owner = os.getpid()
        while os.getpid() == owner:
            self._armed.wait()
            self._armed.clear()
            time.sleep(FLUSH_SECONDS)
            self.flush()
