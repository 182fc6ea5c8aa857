from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.cost import WINDOW, BatchCost

seconds = st.floats(0.0001, 10.0)


def test_nothing_measured_costs_nothing() -> None:
    """Before the first measurement nobody is turned away because of a guess."""
    assert BatchCost(8).predict(8) == 0.0


def test_no_crops_cost_nothing() -> None:
    """An empty batch is free whatever was measured."""
    cost = BatchCost(8)
    cost.observe(1, 1.0)
    assert cost.predict(0) == 0.0


def test_unmeasured_size_takes_the_next_larger() -> None:
    """A size between two measured ones is predicted as the larger one."""
    cost = BatchCost(8)
    cost.observe(2, 0.2)
    cost.observe(8, 0.5)
    assert cost.predict(4) == 0.5


def test_size_beyond_the_largest_grows_in_proportion() -> None:
    """A size above all measured ones is extrapolated from the largest."""
    cost = BatchCost(8)
    cost.observe(2, 0.2)
    assert cost.predict(8) == 0.8


def test_old_measurements_are_forgotten() -> None:
    """A machine that became faster is believed after one window."""
    cost = BatchCost(1)
    for _ in range(WINDOW):
        cost.observe(1, 5.0)
    for _ in range(WINDOW):
        cost.observe(1, 0.1)
    assert cost.predict(1) == 0.1


@given(st.lists(seconds, min_size=1, max_size=200))
def test_prediction_is_a_high_value_that_was_measured(measured: list[float]) -> None:
    """The prediction is one of the recent measurements, and at least nine in ten are not above."""
    cost = BatchCost(1)
    for value in measured:
        cost.observe(1, value)
    recent = measured[-WINDOW:]
    predicted = cost.predict(1)
    assert predicted in recent
    assert sum(value <= predicted for value in recent) >= 0.9 * len(recent)
