"""What is remembered of the offers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.demand import BINS, LOWEST_OCTAVE, PER_OCTAVE, Demand

WINDOW_S = 60.0


def steady(demand: Demand, seconds: int, units_per_s: float = 1_000.0) -> None:
    """The same offer every second."""
    for _ in range(seconds):
        demand.add(units_per_s, units_per_s)
        demand.age(1.0)


def test_forecast_is_the_rate_that_was_seen() -> None:
    """A thousand units a second at one unit of value each, in the bin that holds 1."""
    demand = Demand(WINDOW_S)
    steady(demand, 600)
    units, _ = demand.forecast()
    assert units.sum() == pytest.approx(1_000.0, rel=0.01)
    assert units[-LOWEST_OCTAVE * PER_OCTAVE] == units.sum()


@given(st.floats(1.0, 600.0), st.floats(0.05, 30.0))
def test_forecast_is_that_rate_however_long_a_step_is(window_s: float, step_s: float) -> None:
    """Where filling takes as long as a step, what came in it fades no more than its time does."""
    demand = Demand(window_s)
    for _ in range(400):
        demand.add(1_000.0 * step_s, 1_000.0 * step_s)
        demand.age(step_s)
    units, _ = demand.forecast()
    exposure_s = demand.record[0]
    # A record that is short against the window is taken for a bit of demand in a longer time.
    assert units.sum() == pytest.approx(1_000.0 * min(1.0, exposure_s / (window_s / 10.0)))


def test_demand_that_has_ceased_is_forgotten() -> None:
    """After two hours without an offer next to nothing is expected."""
    demand = Demand(WINDOW_S)
    steady(demand, 600)
    for _ in range(7_200):
        demand.age(1.0)
    assert demand.forecast()[0].sum() < 1.0


def test_slow_swings_are_followed_and_short_bursts_are_not() -> None:
    """A swing of an hour tells the next minute; bursts of a minute, one minute in four, do not."""
    forecasts = []
    for busy_s, period_s in ((1_800, 3_600), (60, 240)):
        demand = Demand(WINDOW_S)
        for second in range(14_400 + busy_s):
            if second % period_s < busy_s:
                demand.add(1_000.0, 1_000.0)
            demand.age(1.0)
        forecasts.append(float(demand.forecast()[0].sum()))
    swing, bursts = forecasts
    assert swing > 900.0
    assert 150.0 < bursts < 500.0


def test_bursts_are_less_steady_than_independent_arrivals() -> None:
    """The same offers, one by one at random or thirty at once."""
    random = np.random.default_rng(3)
    variances = []
    for at_once in (1, 30):
        demand = Demand(WINDOW_S)
        for _ in range(6_000):
            for _ in range(int(random.poisson(1.0 / at_once)) * at_once):
                demand.add(1_000.0, 1_000.0)
            demand.age(1.0)
        units, variance = demand.forecast()
        variances.append(float(variance.sum() / units.sum()))
    alone, together = variances
    assert alone < 2.5 * 1_000.0
    assert together > 5.0 * alone


def test_traffic_is_taken_for_bursts_until_windows_have_told() -> None:
    """In the first two windows of independent arrivals, and when thirty have been seen."""
    random = np.random.default_rng(3)
    demand = Demand(WINDOW_S)
    unsteadiness = []
    for seconds in (120, 1_680):
        for _ in range(seconds):
            for _ in range(int(random.poisson(1.0))):
                demand.add(1_000.0, 1_000.0)
            demand.age(1.0)
        units, variance = demand.forecast()
        unsteadiness.append(float(variance.sum() / units.sum()) / 1_000.0)
    at_first, later = unsteadiness
    assert at_first > 8.0
    assert later < 2.5


def test_chance_is_not_taken_for_a_rhythm() -> None:
    """Of ten windows none tells of the next: mostly the mean is expected, as it is remembered."""
    random = np.random.default_rng(5)
    remembered = np.exp(np.arange(10) / 10.0)
    moved = 0
    for _ in range(300):
        demand, windows = Demand(1.0), random.lognormal(size=10)
        for units in windows.tolist():
            demand.add(1_000.0, units)
            demand.age(1.0)
        mean = float(np.average(windows, weights=remembered))
        moved += abs(float(demand.forecast()[0].sum()) / mean - 1) > 0.05
    assert moved < 30


@given(
    st.lists(
        st.tuples(
            st.floats(-1e30, 1e30), st.floats(0.0, 1e9), st.floats(0.0, 1e7, allow_nan=False)
        ),
        max_size=40,
    )
)
def test_record_stays_finite_and_copies(steps: list[tuple[float, float, float]]) -> None:
    """Whatever is offered and however time passes; a copy of the record is the whole state."""
    demand = Demand(WINDOW_S)
    for value, units, elapsed_s in steps:
        demand.add(value, units)
        demand.age(elapsed_s)
        for amounts in demand.forecast():
            assert amounts.shape == (BINS,)
            assert np.isfinite(amounts).all()
            assert (amounts >= 0).all()
    copy = Demand(WINDOW_S)
    copy.record[:] = demand.record
    np.testing.assert_array_equal(copy.forecast()[0], demand.forecast()[0])
