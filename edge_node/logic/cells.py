"""The small picture: a frame as a grid of cells, and what is done with cells.

A cell is `CELL_PX` source pixels each way and is known by the mean of a few of its pixels' green,
which holds most of what is bright and is a third of the reading. What is left of a frame that is no
multiple of a cell lies in none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_node.logic.rows import Floats, Mask
from foundation.frames import Boxes, Pixels

CELL_PX = 16
_SAMPLE_PX = 8
_GREEN = 1
# Half of the eight neighbours (row, column): the other half is the same pairs again.
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))

Labels = npt.NDArray[np.intp]


def small_picture(pixels: Pixels) -> Floats:
    """The mean of four pixels of each cell, (height // 16, width // 16) float32 in 0..255."""
    high, wide = (side // CELL_PX * CELL_PX for side in pixels.shape[:2])
    half = _SAMPLE_PX // 2
    samples = pixels[half:high:_SAMPLE_PX, half:wide:_SAMPLE_PX, _GREEN].astype(np.float32)
    rows = samples[0::2] + samples[1::2]
    cells: Floats = rows[:, 0::2] + rows[:, 1::2]
    cells *= np.float32(0.25)
    return cells


def cells_within(boxes: Boxes, shape: tuple[int, ...], *, margin_px: float) -> Mask:
    """The cells of a grid (rows, columns) that boxes (N, 4), grown by a margin, touch."""
    touched = np.zeros(shape, np.bool_)
    if len(boxes) == 0:
        return touched
    grown = boxes + np.array([-margin_px, -margin_px, margin_px, margin_px], np.float32)
    limits = np.array([shape[1], shape[0]] * 2, np.float32)
    grid = np.clip(grown / CELL_PX, 0, limits)
    first, last = np.floor(grid[:, :2]).astype(int), np.ceil(grid[:, 2:]).astype(int)
    for (left, top), (right, bottom) in zip(first.tolist(), last.tolist(), strict=True):
        touched[top:bottom, left:right] = True
    return touched


def connected(mask: Mask) -> tuple[Labels, Labels, Labels]:
    """The groups of cells that touch each other, corners included.

    Minimum labels spread over the pairs of neighbours and are shortened by following them, which
    takes a number of rounds that grows as the logarithm of the longest way within a group.

    Args:
        mask: (rows, columns) bool.

    Returns:
        For each of its N cells the row, the column, and the number of its group, from 0 on in
        the order in which the groups begin.
    """
    row, column = mask.nonzero()
    number = np.full((mask.shape[0] + 1, mask.shape[1] + 2), -1, np.intp)
    number[row, column + 1] = np.arange(len(row))
    beside = [number[row + down, column + 1 + right] for down, right in _NEIGHBOURS]
    first = np.concatenate([(one >= 0).nonzero()[0] for one in beside])
    second = np.concatenate([one[one >= 0] for one in beside])
    label = np.arange(len(row))
    while True:
        one, other = label[first], label[second]
        apart = one != other
        if not apart.any():
            break
        first, second, one, other = first[apart], second[apart], one[apart], other[apart]
        np.minimum.at(label, np.maximum(one, other), np.minimum(one, other))
        while (label[label] != label).any():
            label = label[label]
    return row, column, np.unique(label, return_inverse=True)[1].astype(np.intp)


def boxes_of(row: Labels, column: Labels, group: Labels) -> Boxes:
    """The boxes (groups, 4) around each group of cells, source pixels."""
    count = int(group.max()) + 1 if len(group) else 0
    boxes = np.zeros((count, 4), np.float32)
    boxes[:, :2] = np.inf
    np.minimum.at(boxes[:, 0], group, column)
    np.minimum.at(boxes[:, 1], group, row)
    np.maximum.at(boxes[:, 2], group, column + 1)
    np.maximum.at(boxes[:, 3], group, row + 1)
    boxes *= CELL_PX
    return boxes
