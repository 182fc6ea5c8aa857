"""Cells against the slow way of doing the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_node.logic.cells import CELL_PX, boxes_of, cells_within, connected, small_picture

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def flooded(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Groups of touching cells, one flood at a time."""
    left = {(int(r), int(c)) for r, c in zip(*mask.nonzero(), strict=True)}
    groups = []
    while left:
        group, edge = set(), {min(left)}
        while edge:
            group |= edge
            around = {(r + i, c + j) for r, c in edge for i in (-1, 0, 1) for j in (-1, 0, 1)}
            edge = (around & left) - group
        left -= group
        groups.append(group)
    return groups


@given(MASKS)
def test_groups_are_those_of_a_flood(mask: np.ndarray) -> None:
    """Corners included, numbered in the order in which they begin."""
    row, column, group = connected(mask)
    found = [
        {(int(r), int(c)) for r, c in zip(row[group == one], column[group == one], strict=True)}
        for one in range(int(group.max()) + 1 if len(group) else 0)
    ]
    assert found == flooded(mask)


def test_a_spiral_is_one_group() -> None:
    """The longest way through a group that a small grid allows."""
    mask = np.zeros((41, 41), np.bool_)
    mask[::2] = True
    mask[1::4, -1] = True
    mask[3::4, 0] = True
    assert int(connected(mask)[2].max()) == 0


@given(MASKS)
def test_boxes_hold_their_cells_and_no_more(mask: np.ndarray) -> None:
    """In source pixels, right and bottom exclusive."""
    row, column, group = connected(mask)
    for box, cells in zip(boxes_of(row, column, group), flooded(mask), strict=True):
        rows, columns = [cell[0] for cell in cells], [cell[1] for cell in cells]
        wanted = [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
        assert box.tolist() == [CELL_PX * side for side in wanted]


def test_small_picture_means_green_and_leaves_the_rest_out() -> None:
    """A frame that is no multiple of a cell, each cell of another green."""
    greens = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    pixels = np.full((2 * CELL_PX + 7, 3 * CELL_PX + 15, 3), 255, np.uint8)
    pixels[: 2 * CELL_PX, : 3 * CELL_PX, 1] = np.kron(greens, np.ones((CELL_PX, CELL_PX)))
    picture = small_picture(pixels)
    assert picture.dtype == np.float32
    np.testing.assert_array_equal(picture, greens)


def test_small_picture_is_a_mean() -> None:
    """Noise of a cell's samples averages out, whichever of its pixels they are."""
    noise = np.random.default_rng(3).integers(0, 256, (640, 640, 3)).astype(np.uint8)
    spread = float(small_picture(noise).std())
    assert abs(spread - float(noise[..., 1].std()) / 2) < 2


def test_boxes_touch_cells_also_where_they_leave_the_grid() -> None:
    """With a margin, cut at the border; outside touches nothing."""
    boxes = np.array([[10, 10, 20, 20], [200, -50, 400, 5], [900, 900, 950, 950]], np.float32)
    touched = cells_within(boxes, (4, 16), margin_px=0)
    wanted = np.zeros((4, 16), np.bool_)
    wanted[0:2, 0:2] = True
    wanted[0, 12:] = True
    np.testing.assert_array_equal(touched, wanted)
    assert cells_within(boxes[:1], (4, 16), margin_px=16)[:3, :3].all()
    assert not cells_within(boxes[:0], (4, 16), margin_px=16).any()
