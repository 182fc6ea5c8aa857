"""Time. Instants are integer nanoseconds since the Unix epoch, durations are float seconds.

Everything that needs the time takes a `Clock`, so that tests can drive it (tests/support/clock.py).
"""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """A source of instants that never runs backwards within a process."""

    def now_ns(self) -> int:
        """The present instant."""
        ...


class SystemClock:
    """The wall clock as it was at construction, carried on by the monotonic clock.

    A step of the wall clock (NTP, an operator) while the process runs would make a latency
    negative or an expiry early; the instants of one process therefore never jump.
    """

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """The present instant."""
        return self._offset_ns + time.monotonic_ns()


def elapsed_s(start_ns: int, end_ns: int) -> float:
    """Seconds from one instant to a later one (negative when it is earlier)."""
    return (end_ns - start_ns) / NS_PER_S


def after_s(start_ns: int, duration_s: float) -> int:
    """The instant that lies `duration_s` seconds after another."""
    return start_ns + round(duration_s * NS_PER_S)
