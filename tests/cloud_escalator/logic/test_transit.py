from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.transit import WINDOW_NS, TransitDelay

S = 1_000_000_000
YEAR_NS = 365 * 24 * 3600 * S


@given(
    st.integers(-YEAR_NS, YEAR_NS),
    st.lists(st.tuples(st.integers(0, S), st.integers(0, 3 * S)), min_size=1, max_size=30),
)
def test_waiting_is_told_from_the_difference_of_clocks(
    offset_ns: int, messages: list[tuple[int, int]]
) -> None:
    """Whatever the clocks say, a delay is what exceeds the quickest message so far."""
    transit = TransitDelay()
    received_ns, quickest_ns = 2 * YEAR_NS, 10 * S
    for pause_ns, way_ns in messages:
        received_ns += pause_ns
        quickest_ns = min(quickest_ns, way_ns)
        delay_s = transit.observe(received_ns - way_ns + offset_ns, received_ns)
        assert abs(delay_s - (way_ns - quickest_ns) / 1e9) < 1e-6


def test_a_drifting_clock_is_followed() -> None:
    """A clock that loses a millisecond a second is never off by more than two windows of that."""
    transit = TransitDelay()
    for second in range(600):
        delay_s = transit.observe(second * S - second * S // 1000, second * S)
        assert delay_s <= 2 * WINDOW_NS / 1e9 / 1000


def test_a_node_that_slept_starts_anew() -> None:
    """After two windows of silence the old difference counts no more."""
    transit = TransitDelay()
    assert transit.observe(0, 0) == 0.0
    assert transit.observe(S, 3600 * S) == 0.0
    assert transit.observe(2 * S, 3602 * S) == 1.0
