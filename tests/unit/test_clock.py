"""Clocks: the real one never is naive, the stepped one moves only when told."""

from datetime import UTC, datetime, timedelta

from batchpoint.clock import SteppedClock, SystemClock


def test_the_system_clock_is_aware_and_never_repeats_itself() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs(clock.now().timestamp() - clock.seconds()) < 5
    assert clock.monotonic() <= clock.monotonic()
    drawn = {clock.hexadecimal(9) for _ in range(100)}
    assert len(drawn) == 100
    assert {len(text) for text in drawn} == {9}


def test_the_stepped_clock_stands_until_it_is_moved() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    clock = SteppedClock(start)
    assert clock.now() == clock.now() == start
    clock.advance(2.5)
    assert clock.now() == start + timedelta(seconds=2.5)
    assert clock.seconds() == start.timestamp() + 2.5
    assert clock.monotonic() == 2.5
    assert [clock.hexadecimal(4), clock.hexadecimal(4)] == ["0001", "0002"]
