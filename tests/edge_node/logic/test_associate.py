"""Distances between boxes, and the assignment that pairs them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_node.logic.associate import assign, distances

COSTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=7),
    elements=st.floats(0.0, 4.0, width=16),
)


def box(x: float, y: float, width: float = 10.0, height: float = 10.0) -> list[float]:
    """A box by its centre."""
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def test_tiny_object_that_moved_its_own_size_is_near() -> None:
    """Ten pixels moved by ten do not overlap, but they are less than one side apart."""
    costs = distances(
        np.array([box(50, 50)], np.float32), np.array([box(60, 50), box(90, 50)], np.float32)
    )
    assert costs[0, 0] < 0.8
    assert costs[0, 1] > 2.0


def test_very_different_sizes_are_hopeless() -> None:
    """A car is not a bolt, even at the same place."""
    costs = distances(
        np.array([box(50, 50)], np.float32), np.array([box(50, 50, 100, 100)], np.float32)
    )
    assert np.isinf(costs[0, 0])


def test_degenerate_boxes_have_finite_distances() -> None:
    """An empty box counts as one pixel."""
    point = np.array([[5, 5, 5, 5]], np.float32)
    assert distances(point, point)[0, 0] == 0.0


def greedy(costs: np.ndarray, limit: float) -> set[tuple[int, int]]:
    """The sequential greedy assignment, written the obvious way."""
    pairs: set[tuple[int, int]] = set()
    order = sorted(np.ndindex(*costs.shape), key=lambda at: (costs[at], at))
    for row, column in order:
        if costs[row, column] <= limit and all(row != r and column != c for r, c in pairs):
            pairs.add((row, column))
    return pairs


@given(COSTS, st.floats(0.0, 4.0))
def test_assignment_is_one_to_one_within_limits_and_maximal(
    costs: np.ndarray, limit: float
) -> None:
    """No position twice, nothing above the limit, and no pair left that would fit."""
    rows, columns = assign(costs, limit)
    assert len(set(rows.tolist())) == len(rows) == len(columns) == len(set(columns.tolist()))
    assert (costs[rows, columns] <= limit).all()
    free_rows = sorted(set(range(costs.shape[0])) - set(rows.tolist()))
    free_columns = sorted(set(range(costs.shape[1])) - set(columns.tolist()))
    assert not (costs[np.ix_(free_rows, free_columns)] <= limit).any()


@given(COSTS.filter(lambda costs: len(np.unique(costs)) == costs.size), st.floats(0.0, 4.0))
def test_assignment_equals_the_sequential_greedy_one(costs: np.ndarray, limit: float) -> None:
    """Without ties, taking mutual best pairs in rounds gives the same pairs."""
    rows, columns = assign(costs, limit)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == greedy(costs, limit)


def test_each_row_has_its_own_limit() -> None:
    """Limits may differ by row."""
    costs = np.array([[0.5, 9.0], [9.0, 0.5]], np.float32)
    rows, columns = assign(costs, np.array([[0.4], [0.6]], np.float32))
    assert rows.tolist() == [1]
    assert columns.tolist() == [1]
