"""From a model's raw outputs to detections, for every output family a bundle may declare.

Decoding is done in float outside the graph, because boxes in pixels and scores in 0..1 that share a
tensor do not survive quantization. All functions are pure; boxes are in model input pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from foundation.errors import IntegrityError
from foundation.frames import Boxes, Detections
from foundation.manifest import (
    BundleInfo,
    GridOutputs,
    Postprocess,
    YoloxOutputs,
)
from foundation.session import TensorInfo

Array = npt.NDArray[Any]
# Enough for the densest scenes; a lower floor than a model deserves must not stall a frame.
_CANDIDATES_MAX = 3000


def decode(outputs: Mapping[str, Array], position: int, info: BundleInfo) -> Detections:
    """Detections of one image of a batch, best first.

    Args:
        outputs: the model's outputs by name, the first axis of each is the batch.
        position: which image of the batch.
        info: the bundle's description: layout of the outputs, score floor, NMS and limit.

    Returns:
        Detections with raw scores, boxes in model input pixels.
    """
    spec, floor = info.outputs, info.postprocess.score_floor
    if isinstance(spec, GridOutputs):
        candidates = _decode_grid(
            outputs[spec.heatmap][position], outputs[spec.box][position], spec.stride, floor
        )
    elif isinstance(spec, YoloxOutputs):
        grid = _yolox_grid(info.input.width, info.input.height, spec.strides)
        candidates = _decode_yolox(outputs[spec.name][position], grid, floor)
    else:
        candidates = _decode_yolov8(outputs[spec.name][position], floor)
    return suppress(candidates, info.postprocess)


def suppress(candidates: Detections, postprocess: Postprocess) -> Detections:
    """Class-wise greedy non-maximum suppression, best first."""
    if len(candidates) == 0:
        return candidates
    # Rows of x y width height, as OpenCV wants them.
    rows = candidates.boxes.copy()
    rows[:, 2:] -= rows[:, :2]
    # Its type stub knows lists only; arrays pass without a copy per element.
    arrays: tuple[Any, Any, Any] = (rows, candidates.scores, candidates.class_ids)
    kept = cv2.dnn.NMSBoxesBatched(*arrays, 0.0, postprocess.nms_iou)
    order = np.asarray(kept, np.intp).reshape(-1)
    order = order[np.argsort(-candidates.scores[order], kind="stable")]
    return candidates.take(order[: postprocess.detections_max])


def check_outputs(outputs: tuple[TensorInfo, ...], info: BundleInfo) -> None:
    """Compares a graph's outputs with what the manifest says of them.

    Raises:
        IntegrityError: an output is missing, or its classes are not as many as the labels.
    """
    found = {tensor.name: tensor for tensor in outputs}
    spec = info.outputs
    names = (spec.heatmap, spec.box) if isinstance(spec, GridOutputs) else (spec.name,)
    for name in names:
        if name not in found:
            raise IntegrityError(
                f"Bundle {info.name}: the model has no output {name!r}, only {sorted(found)}",
                remedy="Correct the outputs in the manifest and build the bundle again",
            )
    classes = _classes_of(found, info)
    if classes is not None and classes != len(info.labels):
        raise IntegrityError(
            f"Bundle {info.name}: the model tells {classes} classes apart, "
            f"but there are {len(info.labels)} labels",
            remedy="Give the labels the model was trained with, one per class, in order",
        )


def _classes_of(found: Mapping[str, TensorInfo], info: BundleInfo) -> int | None:
    """How many classes the graph's outputs speak of; None where the shape does not tell."""
    spec = info.outputs
    if isinstance(spec, GridOutputs):
        shape, axis, other = found[spec.heatmap].shape, 1, 0
    elif isinstance(spec, YoloxOutputs):
        shape, axis, other = found[spec.name].shape, 2, 5
    else:
        shape, axis, other = found[spec.name].shape, 1, 4
    if len(shape) <= axis:
        raise IntegrityError(
            f"Bundle {info.name}: the output has the shape {shape}, "
            f"which is not that of family {spec.family}",
            remedy="Correct the family in the manifest and build the bundle again",
        )
    size = shape[axis]
    return None if size is None else size - other


def _decode_grid(heatmap: Array, box: Array, stride: int, floor: float) -> Detections:
    """(classes, h, w) logits and (4, h, w) distances in strides."""
    logits = heatmap.reshape(-1)
    chosen = np.flatnonzero(logits > math.log(floor / (1.0 - floor)))
    chosen = _best(chosen, logits)
    cells = heatmap.shape[1] * heatmap.shape[2]
    class_ids, cell = np.divmod(chosen, cells)
    row, column = np.divmod(cell, heatmap.shape[2])
    distances = box.reshape(4, -1)[:, cell] * np.float32(stride)
    center_x = (column + 0.5) * stride
    center_y = (row + 0.5) * stride
    boxes = np.stack(
        [
            center_x - distances[0],
            center_y - distances[1],
            center_x + distances[2],
            center_y + distances[3],
        ],
        axis=1,
    )
    scores = 1.0 / (1.0 + np.exp(-logits[chosen]))
    return _detections(boxes, scores, class_ids)


def _decode_yolox(rows: Array, grid: Array, floor: float) -> Detections:
    """(cells, 5 + classes): centre, size, objectness, class scores; levels one after another.

    Source: YOLOX, arXiv 2107.08430: centre = (offset + cell) * stride, size = exp(value) * stride.
    """
    class_ids = rows[:, 5:].argmax(axis=1)
    scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + class_ids]
    chosen = _best(np.flatnonzero(scores > floor), scores)
    cell, stride = grid[chosen, :2], grid[chosen, 2:]
    center = (rows[chosen, 0:2] + cell) * stride
    half = np.exp(rows[chosen, 2:4]) * stride * 0.5
    boxes = np.concatenate([center - half, center + half], axis=1)
    return _detections(boxes, scores[chosen], class_ids[chosen])


def _decode_yolov8(columns: Array, floor: float) -> Detections:
    """(4 + classes, cells): centre and size in input pixels, class scores."""
    scores = columns[4:].max(axis=0)
    chosen = _best(np.flatnonzero(scores > floor), scores)
    picked = columns[:, chosen]
    class_ids = picked[4:].argmax(axis=0)
    half = picked[2:4] * 0.5
    boxes = np.concatenate([picked[0:2] - half, picked[0:2] + half]).T
    return _detections(boxes, scores[chosen], class_ids)


@functools.lru_cache(maxsize=8)
def _yolox_grid(width: int, height: int, strides: tuple[int, ...]) -> Array:
    """(cells, 3) float32: column, row and stride of every cell, level after level."""
    levels = []
    for stride in strides:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells = np.stack([columns.ravel(), rows.ravel()], axis=1)
        levels.append(np.insert(cells, 2, stride, axis=1))
    return np.concatenate(levels).astype(np.float32)


def _best(chosen: npt.NDArray[np.intp], scores: Array) -> npt.NDArray[np.intp]:
    """At most `_CANDIDATES_MAX` of the chosen positions, those with the best scores."""
    if len(chosen) <= _CANDIDATES_MAX:
        return chosen
    best = np.argpartition(scores[chosen], -_CANDIDATES_MAX)[-_CANDIDATES_MAX:]
    return chosen[best]


def _detections(boxes: Boxes, scores: Array, class_ids: Array) -> Detections:
    return Detections(
        np.asarray(boxes, np.float32),
        np.asarray(scores, np.float32),
        np.asarray(class_ids, np.int32),
    )
