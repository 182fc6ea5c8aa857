"""Instants and durations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from foundation.clock import NS_PER_S, Clock, SystemClock, after_s, elapsed_s
from tests.support.clock import ManualClock

INSTANTS = st.integers(0, 2**62)


def test_the_system_clock_never_runs_backwards() -> None:
    """And tells the time since 1970."""
    clock: Clock = SystemClock()
    instants = [clock.now_ns() for _ in range(1000)]
    assert instants == sorted(instants)
    assert instants[0] > 1_700_000_000 * NS_PER_S


@given(start_ns=INSTANTS, duration_s=st.floats(-1e6, 1e6))
def test_after_and_elapsed_agree(start_ns: int, duration_s: float) -> None:
    """To the nanosecond that a float of seconds can tell."""
    end_ns = after_s(start_ns, duration_s)
    assert isinstance(end_ns, int)
    assert abs(elapsed_s(start_ns, end_ns) - duration_s) <= 1e-9 + abs(duration_s) * 1e-15
    assert elapsed_s(end_ns, start_ns) == -elapsed_s(start_ns, end_ns)


def test_the_manual_clock_moves_only_when_told() -> None:
    """What every test of time stands on."""
    clock = ManualClock(5)
    assert clock.now_ns() == clock.now_ns() == 5
    clock.advance_s(1.5)
    assert clock.now_ns() == 1_500_000_005
