"""Which of a verdict's boxes belongs to which track: the distance of `associate`, box by box.

A verdict is about a handful of boxes. There a numpy call costs more than the arithmetic in it, so
this is plain Python on floats; the tracker, with fifty by fifty in every frame, has arrays. So that
many boxes stay cheap as well, only those that lie near each other are compared.

A box is x1 y1 x2 y2 in source pixels, right and bottom exclusive.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from edge_node.logic.associate import RATIO_MAX, SIDE_FLOOR_PX, SIZE_PRICE

Box = Sequence[float]
Pair = tuple[int, int]
"""Positions in the first and in the second of two lists of boxes."""

_FLOORS_PX = 2 * float(SIDE_FLOOR_PX)
_PRICE, _RATIO = float(SIZE_PRICE), float(RATIO_MAX)


def near_pairs(first: Sequence[Box], second: Sequence[Box], reach: float) -> Iterator[Pair]:
    """Pairs whose distance may be at most `reach` sides; from 1 on, all that touch are among them.

    Found in the order of where boxes begin along x, as far from their centres as they reach.
    """
    if not first or not second:
        return
    spans = []
    widest = 0.0
    for column, (x1, y1, x2, y2) in enumerate(second):
        x, across = x1 + x2, reach * max(1.0, x2 - x1)
        spans.append((x - across, x + across, column, y1, y2))
        widest = max(widest, across)
    spans.sort()
    starts = [span[0] for span in spans]
    least, most = starts[0], starts[-1] + 2 * widest
    for row, (x1, y1, x2, y2) in enumerate(first):
        # Most boxes are far off: they are told apart with the least arithmetic that is no less.
        x, across = x1 + x2, reach * (x2 - x1 + 1.0 + _FLOORS_PX)
        left, right = x - across, x + across
        if right < least or left > most:
            continue
        y, along = y1 + y2, reach * (max(1.0, y2 - y1) + _FLOORS_PX)
        begin, end = bisect_left(starts, left - 2 * widest), bisect_right(starts, right)
        for _, ends, column, top, bottom in spans[begin:end]:
            sides = reach * max(1.0, bottom - top) + along
            if ends >= left and -sides <= top + bottom - y <= sides:
                yield row, column


def distance(one: Box, other: Box) -> float:
    """What `associate.distances` says of one pair, in box sides; inf where hopeless."""
    left, top, right, bottom = one
    x1, y1, x2, y2 = other
    width, height = max(1.0, right - left), max(1.0, bottom - top)
    across, along = max(1.0, x2 - x1), max(1.0, y2 - y1)
    size = abs(math.log(width * height) - math.log(across * along))
    if size > _RATIO:
        return math.inf
    apart_x = abs(left + right - x1 - x2) / (width + across + _FLOORS_PX)
    apart_y = abs(top + bottom - y1 - y2) / (height + along + _FLOORS_PX)
    return max(apart_x, apart_y) + _PRICE * size


def assign_cheapest(costs: Iterable[tuple[float, int, int]]) -> dict[int, int]:
    """Pairs rows with columns, cheapest pair first, as `associate.assign` does.

    Args:
        costs: Cost, row and column of each pair that may be.

    Returns:
        Columns by row; each occurs at most once.
    """
    column_of: dict[int, int] = {}
    taken: set[int] = set()
    for _, row, column in sorted(costs):
        if row not in column_of and column not in taken:
            column_of[row] = column
            taken.add(column)
    return column_of


def area_of(box: Box) -> float:
    """Square pixels; an inverted box has none."""
    x1, y1, x2, y2 = box
    return max(0.0, x2 - x1) * max(0.0, y2 - y1)


def shared_area(one: Box, other: Box) -> float:
    """Square pixels that two boxes share."""
    left, top, right, bottom = one
    x1, y1, x2, y2 = other
    across, along = min(right, x2) - max(left, x1), min(bottom, y2) - max(top, y1)
    return across * along if across > 0 and along > 0 else 0.0


def overlap_of(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    shared = shared_area(one, other)
    return shared / max(area_of(one) + area_of(other) - shared, 1e-9)
