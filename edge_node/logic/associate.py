"""Which box belongs to which: a distance that suits objects of ten pixels as well as cars.

Intersection over union is zero for a ten pixel object that moved ten pixels, so boxes are compared
by the distance of their centres in units of their sides (with a floor of a few pixels, because a
box of five pixels is not known to a tenth of a pixel), plus a price for a different size.
"""

from __future__ import annotations

import numpy as np

from edge_node.logic.rows import Floats, Positions, centers_and_sides
from foundation.frames import Boxes

SIDE_FLOOR_PX = np.float32(4.0)
SIZE_PRICE = np.float32(0.15)
RATIO_MAX = np.float32(2.0)
"""Largest difference of two boxes' log area: about sevenfold."""


def distances(first: Boxes, second: Boxes) -> Floats:
    """Distances (N, M) between boxes (N, 4) and boxes (M, 4), in box sides; inf where hopeless."""
    x1, y1, w1, h1 = centers_and_sides(first)
    x2, y2, w2, h2 = centers_and_sides(second)
    half = np.float32(0.5)
    # In place, because at this size it is the number of arrays that costs.
    total: Floats = x1[:, None] - x2
    np.abs(total, out=total)
    total /= (w1 * half + SIDE_FLOOR_PX)[:, None] + w2 * half
    along = y1[:, None] - y2
    np.abs(along, out=along)
    along /= (h1 * half + SIDE_FLOOR_PX)[:, None] + h2 * half
    np.maximum(total, along, out=total)
    size = np.log(w1 * h1)[:, None] - np.log(w2 * h2)
    np.abs(size, out=size)
    hopeless = size > RATIO_MAX
    size *= SIZE_PRICE
    total += size
    total[hopeless] = np.inf
    return total


def assign(costs: Floats, limits: Floats | np.float32 | float) -> tuple[Positions, Positions]:
    """Pairs rows with columns, cheapest pair first (the greedy order, found without sorting).

    In each round all pairs that are each other's cheapest are taken at once; the cheapest pair of
    all is always among them, so the result is that of the sequential greedy assignment.

    Args:
        costs: (N, M) float32; not changed.
        limits: Most that a pair may cost; (N, 1), or one number.

    Returns:
        Positions of rows and of columns, equally long; each position occurs at most once.
    """
    nothing = np.zeros(0, np.intp)
    if costs.size == 0:
        return nothing, nothing
    hopeful = np.asarray(costs <= limits, np.bool_)
    open_rows = np.flatnonzero(hopeful.any(axis=1))
    open_columns = np.flatnonzero(hopeful.any(axis=0))
    left = np.where(hopeful, costs, np.float32(np.inf))[open_rows[:, None], open_columns]
    rows, columns = [nothing], [nothing]
    while left.size:
        every_row = np.arange(left.shape[0])
        column_of_row = left.argmin(axis=1)
        mutual = left.argmin(axis=0)[column_of_row] == every_row
        mutual &= left[every_row, column_of_row] < np.inf
        row = mutual.nonzero()[0]
        if row.size == 0:
            break
        column = column_of_row[row]
        rows.append(open_rows[row])
        columns.append(open_columns[column])
        if row.size == min(left.shape):
            break
        # The rest is small after the first round, so it is worth cutting out.
        free = np.ones(left.shape[1], np.bool_)
        free[column] = False
        left = left[~mutual][:, free]
        open_rows, open_columns = open_rows[~mutual], open_columns[free]
    return np.concatenate(rows), np.concatenate(columns)
