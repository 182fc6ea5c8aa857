"""What training aims at: heat-map and box targets on the grid, and the losses against them.

Pure tensor arithmetic. Targets follow CenterNet (arXiv 1904.07850, section 3): the cell that holds
an object's centre is positive, its neighbours are punished less the closer they are; boxes are
learned at the centre and at those neighbours, so that a neighbour that fires gives the same box
and is suppressed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from model_workshop.training.nets import STRIDE

FloatArray = npt.NDArray[np.float32]

BOX_FLOOR = 0.3
"""A cell learns an object's box where the object's bump on the heat-map is at least this high."""

_HALF_SIDE_MIN = 0.05


def grid_targets(
    boxes: FloatArray, class_ids: npt.NDArray[np.int32], classes: int, height: int, width: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Targets of one image.

    Args:
        boxes: (N, 4) float32 x1 y1 x2 y2 in pixels of the network's input.
        class_ids: (N,) int32.
        classes: how many classes the heat-map has.
        height: rows of the grid.
        width: columns of the grid.

    Returns:
        Heat-map (classes, height, width) in 0..1 with 1 exactly at centres, boxes (4, height,
        width) x1 y1 x2 y2 in stride units, and box weights (height, width).
    """
    heatmap = np.zeros((classes, height, width), np.float32)
    target = np.zeros((4, height, width), np.float32)
    weight = np.zeros((height, width), np.float32)
    for box, class_id in zip(boxes / STRIDE, class_ids, strict=True):
        cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        column = int(np.clip(np.floor(cx), 0, width - 1))
        row = int(np.clip(np.floor(cy), 0, height - 1))
        sigma_x = max(0.45, float(box[2] - box[0]) / 6)
        sigma_y = max(0.45, float(box[3] - box[1]) / 6)
        reach = int(np.ceil(3 * max(sigma_x, sigma_y)))
        x1, x2 = max(0, column - reach), min(width, column + reach + 1)
        y1, y2 = max(0, row - reach), min(height, row + reach + 1)
        # From the true centre, not from its cell's: the nearer neighbour is punished less.
        dx = (np.arange(x1, x2, dtype=np.float32) + 0.5 - cx) / sigma_x
        dy = (np.arange(y1, y2, dtype=np.float32) + 0.5 - cy) / sigma_y
        bump = np.exp(-(dx[None, :] ** 2 + dy[:, None] ** 2) / 2)
        bump[row - y1, column - x1] = 1.0
        patch = heatmap[class_id, y1:y2, x1:x2]
        np.maximum(patch, bump, out=patch)
        nearer = bump > np.maximum(weight[y1:y2, x1:x2], BOX_FLOOR)
        weight[y1:y2, x1:x2][nearer] = bump[nearer]
        target[:, y1:y2, x1:x2][:, nearer] = box[:, None]
    return heatmap, target, weight


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """CenterNet's penalty-reduced focal loss, per object. All tensors (N, C, h, w) float32."""
    probability = torch.sigmoid(logits)
    positive = target == 1.0
    hit = functional.logsigmoid(logits) * (1 - probability).square()
    quiet = functional.logsigmoid(-logits) * probability.square() * (1 - target).pow(4)
    total = -torch.where(positive, hit, quiet).sum()
    return total / positive.sum().clamp(min=1)


def imitation_loss(logits: Tensor, opinion: Tensor, objects: Tensor) -> Tensor:
    """How far a student's heat-map is from its teacher's, per object.

    Quality focal loss (arXiv 2006.04388, section 3): cross entropy against the teacher's score,
    weighted by the square of how far the two are apart. Without that weight the thousands of cells
    of a background, which both call nothing with different logits, drown the few that matter.

    Args:
        logits: (N, C, h, w) float32 of the student.
        opinion: (N, C, h, w) float32 logits of the teacher.
        objects: how many there are in the batch, a scalar.
    """
    wanted = torch.sigmoid(opinion)
    crossed = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    apart = (torch.sigmoid(logits) - wanted).square()
    return (apart * crossed).sum() / objects.clamp(min=1)


def box_loss(placement: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU plus L1 on the numbers that the net gives, weighted mean over cells with a box.

    Args:
        placement: (N, 4, h, w) float32: the box centre's offset from the cell's centre in x and y,
            logarithms of half the width and half the height.
        target: (N, 4, h, w) float32 boxes x1 y1 x2 y2, all in stride units.
        weight: (N, h, w) float32.
    """
    batch, row, column = torch.nonzero(weight, as_tuple=True)
    if batch.numel() == 0:
        return placement.sum() * 0.0
    w = weight[batch, row, column]
    given = placement[batch, :, row, column]
    cell = torch.stack([column, row], dim=1).float() + 0.5
    half = torch.exp(given[:, 2:].clamp(max=6.0))
    centre = cell + given[:, :2]
    wanted = target[batch, :, row, column]
    overlap = 1 - _giou(centre - half, centre + half, wanted[:, :2], wanted[:, 2:])
    offset = (wanted[:, :2] + wanted[:, 2:]) / 2 - cell
    size = ((wanted[:, 2:] - wanted[:, :2]) / 2).clamp(min=_HALF_SIDE_MIN).log()
    exact = (given - torch.cat([offset, size], dim=1)).abs().mean(dim=1)
    return (w * (overlap + exact)).sum() / w.sum()


def _giou(low: Tensor, high: Tensor, wanted_low: Tensor, wanted_high: Tensor) -> Tensor:
    """Generalized IoU (arXiv 1902.09630) of row-aligned boxes, each (N, 2) corners."""
    inside = (torch.minimum(high, wanted_high) - torch.maximum(low, wanted_low)).clamp(min=0)
    around = torch.maximum(high, wanted_high) - torch.minimum(low, wanted_low)
    intersection = inside.prod(dim=1)
    union = (high - low).prod(dim=1) + (wanted_high - wanted_low).prod(dim=1) - intersection
    hull = around.prod(dim=1).clamp(min=1e-6)
    return intersection / union.clamp(min=1e-6) - (hull - union) / hull
