"""Which box belongs to which: a distance that suits objects of ten pixels as well as cars.

Intersection over union is zero for a ten pixel object that moved ten pixels, so boxes are compared
by the distance of their centres in units of their sides (with a floor of a few pixels, because a
box of five pixels is not known to a tenth of a pixel), plus a price for a different size.
"""

from __future__ import annotations

import numpy as np

from edge_node.logic.rows import Floats, Positions, centers_and_sides
from foundation.frames import Boxes

_SIDE_FLOOR_PX = np.float32(4.0)
_SIZE_PRICE = np.float32(0.15)
_RATIO_MAX = np.float32(2.0)
"""Largest difference of two boxes' log area: about sevenfold."""


def distances(first: Boxes, second: Boxes) -> Floats:
    """Distances (N, M) between boxes (N, 4) and boxes (M, 4), in box sides; inf where hopeless."""
    x1, y1, w1, h1 = centers_and_sides(first)
    x2, y2, w2, h2 = centers_and_sides(second)
    half = np.float32(0.5)
    across = np.abs(x1[:, None] - x2) / ((w1[:, None] + w2) * half + _SIDE_FLOOR_PX)
    along = np.abs(y1[:, None] - y2) / ((h1[:, None] + h2) * half + _SIDE_FLOOR_PX)
    size = np.abs(np.log(w1 * h1)[:, None] - np.log(w2 * h2))
    total: Floats = np.maximum(across, along) + _SIZE_PRICE * size
    total[size > _RATIO_MAX] = np.inf
    return total


def assign(costs: Floats, limits: Floats | float) -> tuple[Positions, Positions]:
    """Pairs rows with columns, cheapest pair first (the greedy order, found without sorting).

    In each round all pairs that are each other's cheapest are taken at once; the cheapest pair of
    all is always among them, so the result is that of the sequential greedy assignment.

    Args:
        costs: (N, M) float32; not changed.
        limits: Most that a pair may cost; (N, 1), or one number.

    Returns:
        Positions of rows and of columns, equally long; each position occurs at most once.
    """
    if costs.size == 0:
        empty = np.zeros(0, np.intp)
        return empty, empty
    open_costs = np.where(costs <= limits, costs, np.float32(np.inf))
    every_row = np.arange(costs.shape[0])
    rows: list[Positions] = []
    columns: list[Positions] = []
    while True:
        column_of_row = open_costs.argmin(axis=1)
        row_of_column = open_costs.argmin(axis=0)
        mutual = row_of_column[column_of_row] == every_row
        mutual &= open_costs[every_row, column_of_row] < np.inf
        row = np.flatnonzero(mutual)
        if row.size == 0:
            break
        column = column_of_row[row]
        rows.append(row)
        columns.append(column)
        open_costs[row] = np.inf
        open_costs[:, column] = np.inf
    if not rows:
        empty = np.zeros(0, np.intp)
        return empty, empty
    return np.concatenate(rows), np.concatenate(columns)
