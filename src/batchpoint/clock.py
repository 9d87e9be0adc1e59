"""The clock, chance and new names: the only place where they come in."""

from __future__ import annotations

import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What shells take time and chance from, so that tests can run on their own."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        ...

    def seconds(self) -> float:
        """Return the time of day as seconds since 1970, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump, from an arbitrary beginning."""
        ...

    def hexadecimal(self, digits: int) -> str:
        """Return so many random hexadecimal digits."""
        ...


class SystemClock:
    """The machine's clock and the operating system's random numbers."""

    def now(self) -> datetime:
        """Return the machine's time of day, in UTC."""
        return datetime.now(UTC)

    def seconds(self) -> float:
        """Return the machine's time of day as seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()

    def hexadecimal(self, digits: int) -> str:
        """Return random hexadecimal digits that nobody can guess."""
        return secrets.token_hex((digits + 1) // 2)[:digits]


class SteppedClock:
    """A clock that stands until it is moved, and counts where others draw lots; for simulations."""

    def __init__(self, start: datetime) -> None:
        """Begin at `start`, an aware time."""
        self._start = start
        self._elapsed = 0.0
        self._drawn = 0
        self._lock = threading.Lock()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._elapsed += seconds

    def now(self) -> datetime:
        """Return where the clock stands."""
        return self._start + timedelta(seconds=self._elapsed)

    def seconds(self) -> float:
        """Return where the clock stands, as seconds since 1970."""
        return self.now().timestamp()

    def monotonic(self) -> float:
        """Return the seconds the clock was moved."""
        return self._elapsed

    def hexadecimal(self, digits: int) -> str:
        """Return the next number, so that no two answers are the same."""
        with self._lock:
            self._drawn += 1
            return f"{self._drawn:0{digits}x}"[-digits:]
