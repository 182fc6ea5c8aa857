"""How far two models agree about the same images, when nobody has drawn the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foundation.frames import Detections
from foundation.geometry import iou_matrix

_IOU_MIN = 0.5


def agreement(reference: Sequence[Detections], found: Sequence[Detections]) -> float:
    """How much of two models' detections is the same, from 0 (nothing) to 1 (everything).

    A Jaccard index weighted by scores: detections of one class that overlap by half are paired,
    best overlap first; a pair shares its lower score times its overlap, out of its higher score; a
    detection that only one model has is out of its own score. So it falls with lost detections,
    invented ones, moved boxes and moved scores alike, and weak detections matter little.

    Args:
        reference: detections of one model, one entry an image.
        found: those of the other, of the same images.
    """
    shared = total = 0.0
    for one, other in zip(reference, found, strict=True):
        overlap = iou_matrix(one.boxes, other.boxes).astype(np.float64)
        overlap[one.class_ids[:, None] != other.class_ids[None, :]] = 0.0
        total += float(one.scores.sum() + other.scores.sum())
        while overlap.size and overlap.max() >= _IOU_MIN:
            i, j = np.unravel_index(int(overlap.argmax()), overlap.shape)
            lower = float(min(one.scores[i], other.scores[j]))
            shared += lower * float(overlap[i, j])
            total -= lower
            overlap[i, :] = 0.0
            overlap[:, j] = 0.0
    return shared / total if total else 1.0
