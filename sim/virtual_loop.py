"""A loop on virtual time: callbacks in order of time, ties in the order in which they were set."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class VirtualLoop:
    """Runs callbacks at virtual times; `now` is in seconds and never goes back."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back in `seconds`."""
        self._serial += 1
        heapq.heappush(self._due, (self.now + seconds, self._serial, call))

    def step(self) -> bool:
        """Make the next call; False when there is none."""
        if not self._due:
            return False
        self.now, _, call = heapq.heappop(self._due)
        call()
        return True
