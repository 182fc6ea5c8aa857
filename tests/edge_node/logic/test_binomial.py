"""Bounds on a probability, against sums that need no special function."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.binomial import beta_cdf, beta_quantile, lower_bound, upper_bound


def at_most(successes: int, trials: int, probability: float) -> float:
    """The chance of at most so many successes, added up."""
    return math.fsum(
        math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k)
        for k in range(successes + 1)
    )


@given(st.integers(1, 120), st.data(), st.floats(0.001, 0.999))
def test_beta_is_the_tail_of_the_binomial(
    trials: int, data: st.DataObject, probability: float
) -> None:
    """For whole numbers the two are the same thing."""
    successes = data.draw(st.integers(0, trials - 1))
    found = 1 - beta_cdf(probability, successes + 1, trials - successes)
    assert found == pytest.approx(at_most(successes, trials, probability), abs=1e-10)


@given(st.floats(0.01, 0.99), st.floats(0.05, 2000.0), st.floats(0.05, 2000.0))
def test_quantile_inverts_the_distribution(probability: float, a: float, b: float) -> None:
    """To the last digits that x has room for: beside 0 and 1 the distribution can be a cliff."""
    x = beta_quantile(probability, a, b)
    step = 1e-12
    assert beta_cdf(x - step, a, b) <= probability + 1e-9
    assert beta_cdf(x + step, a, b) >= probability - 1e-9


@given(st.integers(1, 400), st.data())
def test_no_rate_inside_the_bounds_is_refuted_and_none_outside_is_not(
    trials: int, data: st.DataObject
) -> None:
    """The definition of Clopper and Pearson."""
    successes = data.draw(st.integers(0, trials))
    low, high = lower_bound(successes, trials, 0.025), upper_bound(successes, trials, 0.025)
    assert 0 <= low <= successes / trials <= high <= 1
    if successes > 0:
        assert 1 - at_most(successes - 1, trials, low) == pytest.approx(0.025, abs=1e-6)
    if successes < trials:
        assert at_most(successes, trials, high) == pytest.approx(0.025, abs=1e-6)


def test_bounds_at_the_ends_have_a_closed_form() -> None:
    """Two-sided 95 %, and one known table entry between them."""
    assert upper_bound(0, 59, 0.025) == pytest.approx(1 - 0.025 ** (1 / 59))
    assert lower_bound(100, 100, 0.025) == pytest.approx(0.025 ** (1 / 100))
    assert lower_bound(3, 100, 0.025) == pytest.approx(0.00623, abs=1e-5)
    assert upper_bound(3, 100, 0.025) == pytest.approx(0.08518, abs=1e-5)


def test_turning_point_of_the_fraction_is_reached_from_both_sides() -> None:
    """Where the mirror image begins, rounding must not send one back to the other for ever."""
    for a in (0.3, 1.0, 7.7, 33.1, 4000.5):
        for b in (0.1, 2.3, 19.9, 1e5):
            turn = (a + 1) / (a + b + 2)
            before, at, after = (
                beta_cdf(x, a, b) for x in (math.nextafter(turn, 0), turn, math.nextafter(turn, 1))
            )
            assert before == pytest.approx(at, abs=1e-9)
            assert after == pytest.approx(at, abs=1e-9)
