"""The price of a token at every level of its bucket."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.demand import BINS, LOWEST_OCTAVE, PER_OCTAVE, Array, Demand
from edge_node.logic.price import NO_PRICE, NS_PER_S, Pricing, price_curve

RATE, BURST, SIZE = 2_000.0, 120_000.0, 5_000.0


def uniform_demand(units_per_s: float) -> Array:
    """(BINS,) float64: as many units in each bin from 1/16 to 16."""
    units: Array = np.zeros(BINS)
    middle = -LOWEST_OCTAVE * PER_OCTAVE
    units[middle - 4 * PER_OCTAVE : middle + 4 * PER_OCTAVE] = units_per_s / (8 * PER_OCTAVE)
    return units


def test_full_bucket_has_no_price_and_an_empty_one_the_highest() -> None:
    """A token that would spill costs nothing; the last one is kept for the best."""
    units = uniform_demand(4 * RATE)
    curve = price_curve(units, units * SIZE, RATE, BURST)
    assert curve.price(BURST) == 0.0
    assert curve.price(0.0) > 10.0


def test_half_full_bucket_asks_about_what_demand_meets_the_rate_at() -> None:
    """Of four times the rate, log-uniform from 1/16 to 16, the best quarter begins at 4."""
    units = uniform_demand(4 * RATE)
    assert price_curve(units, units * SIZE, RATE, BURST).price(BURST / 2) == pytest.approx(
        4, rel=0.2
    )


def test_price_agrees_with_value_iteration() -> None:
    """Against the exact recursion for independent crops of one size that are small."""
    units = uniform_demand(4 * RATE)
    size, levels = 1_000.0, np.arange(121)
    curve = price_curve(units, units * size, RATE, 120 * size)
    places = np.flatnonzero(units)
    values = 2.0 ** (LOWEST_OCTAVE + (places + 0.5) / PER_OCTAVE) * size
    # Demand is four times the rate: of five steps four bring a crop, one brings the bytes of one.
    worth = np.zeros(len(levels))
    for _ in range(12_000):
        filled = worth[np.minimum(levels + 1, levels[-1])]
        lower = np.concatenate([[-np.inf], worth[:-1]])
        sent = np.maximum(worth[:, None], values + lower[:, None]).mean(axis=1)
        better = (4 * sent + filled) / 5
        worth = better - better[0]
    exact = np.diff(worth) / size
    for level in (20, 40, 60, 80, 100):
        assert curve.price((level + 0.5) * size) == pytest.approx(exact[level], rel=0.08)


@given(
    st.lists(st.tuples(st.integers(0, BINS - 1), st.floats(1e-3, 1e9)), max_size=30),
    st.floats(1.0, 1e6),
    st.floats(0.1, 1e4),
    st.floats(1.0, 1e5),
)
def test_price_never_falls_as_the_bucket_empties(
    offers: list[tuple[int, float]], rate: float, fill_s: float, size: float
) -> None:
    """Over any demand, rate and burst; all prices are finite and none is negative."""
    units = np.zeros(BINS)
    for place, amount in offers:
        units[place] += amount
    burst = rate * fill_s
    curve = price_curve(units, units * size, rate, burst)
    prices = [curve.price(burst * level / 50) for level in range(-5, 51)]
    assert np.isfinite(prices).all()
    assert min(prices) >= 0.0
    assert all(low >= high for low, high in pairwise(prices))
    assert curve.price(burst) == 0.0


def test_abundance_is_free_until_the_bucket_is_nearly_empty() -> None:
    """A tenth of the rate is on offer: nine tenths of the bucket have no price."""
    units = uniform_demand(RATE / 10)
    curve = price_curve(units, units * SIZE, RATE, BURST)
    assert curve.price(BURST / 10) < 1e-6
    assert curve.price(0.0) > 1.0
    units = uniform_demand(1.0)
    assert price_curve(units, units * SIZE, 1e9, 1e9).price(1e9 - 1e6) == 0.0


def test_nothing_on_offer_has_no_price() -> None:
    """So the first offers of a run are sent."""
    assert price_curve(np.zeros(BINS), np.zeros(BINS), RATE, BURST) is NO_PRICE
    assert Pricing(RATE, BURST).price(0.0, 5 * NS_PER_S) == 0.0


def test_more_demand_makes_it_dearer() -> None:
    """At the same level, for one offer a second and for eight."""
    prices = []
    for at_once in (1, 8):
        pricing = Pricing(RATE, BURST)
        for second in range(600):
            for offer in range(at_once):
                pricing.demand.add((1, 2, 3, 5, 8)[(second + offer) % 5] * SIZE, SIZE)
            pricing.price(0.0, second * NS_PER_S)
        prices.append(pricing.price(BURST / 2, 600 * NS_PER_S))
    few, many = prices
    assert many > 1.2 * few > 0.0


def test_restored_price_is_the_same() -> None:
    """The record of the demand and its instant are the whole state; only the way there differs."""
    pricing, other = Pricing(RATE, BURST), Pricing(RATE, BURST)
    for second in range(60):
        pricing.demand.add(SIZE * (second % 7), SIZE)
        pricing.price(0.0, second * NS_PER_S)
    assert pricing.refreshed_at_ns is not None
    other.restore(pricing.demand.record, pricing.refreshed_at_ns)
    for level in (0.0, BURST / 3, BURST):
        price = pricing.price(level, 59 * NS_PER_S)
        assert other.price(level, 59 * NS_PER_S) == pytest.approx(price, rel=1e-3)


@given(
    st.lists(st.floats(0.0, 1e6), min_size=BINS, max_size=BINS),
    st.floats(0.1, 50.0),
    st.floats(1e-12, 1e12),
)
def test_curve_is_the_same_wherever_it_was_sought_from(
    units: list[float], unsteadiness: float, factor: float
) -> None:
    """Another curve's gain is a place to begin, and no more."""
    forecast = (np.array(units), np.array(units) * SIZE * unsteadiness)
    alone = price_curve(*forecast, RATE, BURST)
    beside = price_curve(*forecast, RATE, BURST, near=alone.loss * factor)
    highest = alone.price(0.0)
    for level in np.linspace(0.0, BURST, 20).tolist():
        assert beside.price(level) == pytest.approx(alone.price(level), abs=1e-2 * highest)


def test_clock_that_steps_back_is_survived() -> None:
    """Backwards nothing ages; the price goes on from there."""
    pricing = Pricing(RATE, BURST)
    for second in range(100):
        pricing.demand.add(SIZE, SIZE)
        pricing.price(0.0, second * NS_PER_S)
    before = pricing.price(BURST / 2, 99 * NS_PER_S)
    assert pricing.price(BURST / 2, -1_000 * NS_PER_S) == pytest.approx(before, rel=0.2)


def test_offer_worth_nothing_is_no_demand() -> None:
    """Nor is one without a size."""
    demand = Demand(60.0)
    for value, units in ((0.0, 1.0), (-1.0, 1.0), (1.0, 0.0)):
        demand.add(value, units)
    assert not demand.record.any()
