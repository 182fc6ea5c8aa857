"""Distances and pairs box by box, held against those of whole arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.associate import assign, distances
from edge_node.logic.pairing import (
    Box,
    area_of,
    assign_cheapest,
    distance,
    near_pairs,
    overlap_of,
    shared_area,
)
from foundation.frames import Boxes
from foundation.geometry import box_areas, intersection_matrix, iou_matrix

PLACES = st.integers(0, 120)
SIDES = st.integers(0, 60)
BOXES = st.lists(
    st.tuples(PLACES, PLACES, SIDES, SIDES).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])),
    max_size=12,
)


def arrays(*boxes: list[Box]) -> list[Boxes]:
    """Lists of boxes as arrays (N, 4)."""
    return [np.array(one, np.float32).reshape(-1, 4) for one in boxes]


@given(BOXES, BOXES)
def test_numbers_are_those_of_arrays(first: list[Box], second: list[Box]) -> None:
    """Distances, areas, shared areas and overlaps."""
    ones, others = arrays(first, second)
    apart = distances(ones, others)
    shared, overlap = intersection_matrix(ones, others), iou_matrix(ones, others)
    assert [area_of(box) for box in first] == box_areas(ones).tolist()
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            assert distance(one, other) == pytest.approx(float(apart[row, column]), rel=1e-5)
            assert shared_area(one, other) == shared[row, column]
            assert overlap_of(one, other) == pytest.approx(float(overlap[row, column]), rel=1e-5)


@given(BOXES, BOXES, st.sampled_from([0.3, 0.75, 1.0, 2.5]))
def test_what_is_not_near_is_beyond_reach(
    first: list[Box], second: list[Box], reach: float
) -> None:
    """Each pair within reach is there once; from a reach of one on, so is each that touches."""
    pairs = list(near_pairs(first, second, reach))
    assert len(pairs) == len(set(pairs))
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            touches = reach >= 1 and shared_area(one, other) > 0
            if touches or distance(one, other) < reach * (1 - 1e-9):
                assert (row, column) in pairs


@given(BOXES, BOXES, st.sampled_from([0.3, 0.75, 2.5]))
def test_assignment_is_that_of_arrays(first: list[Box], second: list[Box], limit: float) -> None:
    """With every tie decided the same way: the lower row first, then the lower column."""
    costs = distances(*arrays(first, second))
    rows, columns = assign(costs, limit)
    hopeful = [
        (float(costs[row, column]), row, column)
        for row, column in near_pairs(first, second, limit * 1.001)
        if costs[row, column] <= limit
    ]
    assert assign_cheapest(hopeful) == dict(zip(rows.tolist(), columns.tolist(), strict=True))


def test_what_is_no_number_is_near_nothing_and_raises_nothing() -> None:
    """A track's box may be broken; the others are paired all the same."""
    broken: list[Box] = [(math.nan, 0, 10, 10), (0, 0, math.inf, 10), (0, 0, 10, 10)]
    costs = [
        (distance(broken[row], broken[column]), row, column)
        for row, column in near_pairs(broken, broken, 1.0)
    ]
    assert assign_cheapest(cost for cost in costs if cost[0] <= 1.0)[2] == 2
