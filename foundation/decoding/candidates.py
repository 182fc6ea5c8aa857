"""What is common to all families: the score floor, the limits, suppression, finite numbers."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from foundation.errors import RejectedError, RejectReason
from foundation.frames import Boxes, Detections
from foundation.manifest import Postprocess

Array = npt.NDArray[Any]
# Enough for the densest scenes; a lower floor than a model deserves must not stall a frame.
_CANDIDATES_MAX = 3_000
_CANDIDATES_MAX_MULTI_LABEL = 30_000


def suppress(candidates: Detections, postprocess: Postprocess) -> Detections:
    """Class-wise greedy non-maximum suppression, best first."""
    if len(candidates) == 0:
        return candidates
    # Rows of x y width height, as OpenCV wants them. It keeps classes apart by moving each past the
    # largest coordinate, which suffices only where no coordinate is negative.
    rows = candidates.boxes.copy()
    rows[:, 2:] -= rows[:, :2]
    rows[:, :2] -= rows[:, :2].min(axis=0)
    # Its type stub knows lists only; arrays pass without a copy per element.
    arrays: tuple[Any, Any, Any] = (rows, candidates.scores, candidates.class_ids)
    kept = cv2.dnn.NMSBoxesBatched(*arrays, 0.0, postprocess.nms_iou)
    return _ranked(candidates.take(np.asarray(kept, np.intp).reshape(-1)), postprocess)


def rank(candidates: Detections, postprocess: Postprocess) -> Detections:
    """Best first without suppression; of equal boxes the best alone, unless all are asked for."""
    ranked = _ranked(candidates, postprocess)
    if postprocess.multi_label or len(ranked) < 2:
        return ranked
    _, first = np.unique(ranked.boxes, axis=0, return_index=True)
    return ranked.take(np.sort(first))


def above_floor(
    scores: Array, floor: float, *, multi_label: bool = False
) -> tuple[Array, Array, Array]:
    """Places, classes and scores above the floor out of finite (places, classes)."""
    if multi_label:
        places, class_ids = np.nonzero(scores > floor)
        found = scores[places, class_ids]
    else:
        best = scores.max(axis=1)
        places = np.flatnonzero(best > floor)
        found = best[places]
        class_ids = scores[places].argmax(axis=1)
    limit = _CANDIDATES_MAX_MULTI_LABEL if multi_label else _CANDIDATES_MAX
    kept = best_of(np.arange(len(found)), found, limit)
    return places[kept], class_ids[kept], found[kept]


def best_of(
    chosen: npt.NDArray[np.intp], scores: Array, limit: int = _CANDIDATES_MAX
) -> npt.NDArray[np.intp]:
    """At most `limit` of the chosen positions, those with the best scores."""
    if len(chosen) <= limit:
        return chosen
    return chosen[np.argpartition(scores[chosen], -limit)[-limit:]]


def to_detections(boxes: Boxes, scores: Array, class_ids: Array) -> Detections:
    """A struct of arrays of the types that `Detections` promises.

    Raises:
        RejectedError: a box is not finite.
    """
    return Detections(
        finite(np.asarray(boxes, np.float32)),
        np.asarray(scores, np.float32),
        np.asarray(class_ids, np.int32),
    )


def finite(values: Array) -> Array:
    """The values themselves.

    Raises:
        RejectedError: one is not a finite number.
    """
    # NaN compares false with every floor and would look like a place where nothing is.
    if not np.isfinite(values).all():
        raise failed("The model put out scores or boxes that are not finite numbers")
    return values


def failed(what: str) -> RejectedError:
    """The error of an image on which the model failed."""
    return RejectedError(
        what,
        reason=RejectReason.INFERENCE_FAILED,
        remedy="Check its bundle; another runtime or provider may compute it wrongly",
    )


def _ranked(found: Detections, postprocess: Postprocess) -> Detections:
    order = np.argsort(-found.scores, kind="stable")
    return found.take(order[: postprocess.detections_max])
