"""Which detections are right, and where to put a threshold. Pure functions of arrays.

A detection is right when it has the class of an object that no better detection of the image has
taken, and overlaps it by `iou_min`. With defects of a few pixels 0.33 (DeepPCB's own choice) asks
for the place, not for the outline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.frames import Boxes, ClassIds, Detections
from foundation.geometry import iou_matrix

IOU_MIN = 0.33
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Matches:
    """Detections of many images with what became of them.

    Attributes:
        scores: (N,) raw scores.
        class_ids: (N,) class indices.
        hits: (N,) bool, whether the detection is right.
        objects: (classes,) how many objects there are.
    """

    scores: npt.NDArray[np.float32]
    class_ids: ClassIds
    hits: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]

    def of(self, class_id: int) -> Matches:
        """The part that belongs to one class."""
        chosen = self.class_ids == class_id
        objects = np.zeros_like(self.objects)
        objects[class_id] = self.objects[class_id]
        return Matches(self.scores[chosen], self.class_ids[chosen], self.hits[chosen], objects)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a threshold gives."""

    threshold: float
    precision: float
    recall: float
    f1: float


def match(
    found: Sequence[Detections],
    truth: Sequence[tuple[Boxes, ClassIds]],
    classes: int,
    *,
    iou_min: float = IOU_MIN,
) -> Matches:
    """Matches the detections of each image with its objects, best scores first."""
    hits, objects = [], np.zeros(classes, np.int64)
    for detections, (boxes, class_ids) in zip(found, truth, strict=True):
        np.add.at(objects, class_ids, 1)
        hits.append(_match_image(detections, boxes, class_ids, iou_min))
    empty = Detections.empty()
    return Matches(
        np.concatenate([empty.scores, *(d.scores for d in found)]),
        np.concatenate([empty.class_ids, *(d.class_ids for d in found)]),
        np.concatenate([np.zeros(0, np.bool_), *hits]),
        objects,
    )


def _match_image(
    detections: Detections, boxes: Boxes, class_ids: ClassIds, iou_min: float
) -> npt.NDArray[np.bool_]:
    hits = np.zeros(len(detections), np.bool_)
    if len(detections) == 0 or len(boxes) == 0:
        return hits
    overlap = iou_matrix(detections.boxes, boxes)
    overlap[detections.class_ids[:, None] != class_ids[None, :]] = 0.0
    for row in np.argsort(-detections.scores, kind="stable"):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= iou_min:
            hits[row] = True
            overlap[:, best] = 0.0
    return hits


def best_operating_point(
    scores: npt.NDArray[np.floating], hits: npt.NDArray[np.bool_], objects: int
) -> OperatingPoint:
    """The one threshold on all classes with the highest F1."""
    if len(scores) == 0 or objects == 0:
        return OperatingPoint(0.5, 0.0, 0.0, 0.0)
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    kept = np.arange(1, len(scores) + 1)
    f1 = 2 * right / (kept + objects)
    # A threshold takes all equal scores or none.
    f1[:-1][scores[order][:-1] == scores[order][1:]] = 0.0
    best = int(f1.argmax())
    return operating_point(scores, hits, objects, float(scores[order][best]))


def operating_point(
    scores: npt.NDArray[np.floating], hits: npt.NDArray[np.bool_], objects: int, threshold: float
) -> OperatingPoint:
    """Precision, recall and F1 of keeping scores from the threshold on."""
    kept = scores >= threshold
    right = int(np.count_nonzero(hits & kept))
    precision = right / max(1, int(np.count_nonzero(kept)))
    recall = right / max(1, objects)
    f1 = 2 * right / max(1, int(np.count_nonzero(kept)) + objects)
    return OperatingPoint(threshold, precision, recall, f1)
