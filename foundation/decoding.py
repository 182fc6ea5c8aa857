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

from foundation.errors import IntegrityError, RejectedError, RejectReason
from foundation.frames import Boxes, Detections
from foundation.manifest import BundleInfo, GridOutputs, Postprocess, YoloxOutputs

Array = npt.NDArray[Any]
# Enough for the densest scenes; a lower floor than a model deserves must not stall a frame.
_CANDIDATES_MAX = 3_000
_CANDIDATES_MAX_MULTI_LABEL = 30_000


def decode(outputs: Mapping[str, Array], position: int, info: BundleInfo) -> Detections:
    """Detections of one image of a batch, best first.

    Args:
        outputs: the model's outputs by name, the first axis of each is the batch.
        position: which image of the batch.
        info: the bundle's description: layout of the outputs, score floor, NMS and limit.

    Returns:
        Detections with raw scores, boxes in model input pixels.

    Raises:
        RejectedError: a score or a box is not a finite number; that is a failure of the model,
            not an empty scene.
    """
    spec, floor = info.outputs, info.postprocess.score_floor
    if isinstance(spec, GridOutputs):
        candidates = _decode_grid(
            outputs[spec.heatmap][position], outputs[spec.box][position], spec.stride, floor
        )
    elif isinstance(spec, YoloxOutputs):
        grid = _yolox_grid(info.input.width, info.input.height, spec.strides)
        candidates = _decode_yolox(outputs[spec.name][position], grid, info.postprocess)
    else:
        candidates = _decode_yolov8(outputs[spec.name][position], info.postprocess)
    return suppress(candidates, info.postprocess)


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
    order = np.asarray(kept, np.intp).reshape(-1)
    order = order[np.argsort(-candidates.scores[order], kind="stable")]
    return candidates.take(order[: postprocess.detections_max])


def check_outputs(outputs: Mapping[str, Array], info: BundleInfo) -> None:
    """Compares the outputs of one run with what the manifest says of them.

    Raises:
        IntegrityError: an output is missing, its layout is not that of the family, or its classes
            are not as many as the labels.
    """
    spec = info.outputs
    if isinstance(spec, GridOutputs):
        heatmap, box = (_output(outputs, name, 4, info) for name in (spec.heatmap, spec.box))
        classes = heatmap.shape[1]
        fits = box.shape[1:] == (4, *heatmap.shape[2:]) and all(
            abs(cells * spec.stride - side) < spec.stride
            for cells, side in zip(
                heatmap.shape[2:], (info.input.height, info.input.width), strict=True
            )
        )
    elif isinstance(spec, YoloxOutputs):
        rows = _output(outputs, spec.name, 3, info)
        classes = rows.shape[2] - 5
        grid = _yolox_grid(info.input.width, info.input.height, spec.strides)
        fits = rows.shape[1] == len(grid)
    else:
        columns = _output(outputs, spec.name, 3, info)
        classes = columns.shape[1] - 4
        fits = True
    if not fits:
        raise IntegrityError(
            f"Bundle {info.name}: outputs of the shapes "
            f"{ {name: array.shape for name, array in outputs.items()} } are not those of family "
            f"{spec.family} for input of {info.input.width}x{info.input.height}",
            remedy="Correct the family or its strides in the manifest and build the bundle again",
        )
    if classes != len(info.labels):
        raise IntegrityError(
            f"Bundle {info.name}: the model tells {classes} classes apart, "
            f"but there are {len(info.labels)} labels",
            remedy="Give the labels the model was trained with, one per class, in order",
        )


def _output(outputs: Mapping[str, Array], name: str, axes: int, info: BundleInfo) -> Array:
    if name not in outputs:
        raise IntegrityError(
            f"Bundle {info.name}: the model has no output {name!r}, only {sorted(outputs)}",
            remedy="Correct the outputs in the manifest and build the bundle again",
        )
    array = outputs[name]
    if array.ndim != axes or array.dtype.kind != "f":
        raise IntegrityError(
            f"Bundle {info.name}: the output {name!r} is {array.dtype} {array.shape}, "
            f"but family {info.outputs.family} has floats with {axes} axes",
            remedy="Correct the family in the manifest and build the bundle again",
        )
    return array


def _decode_grid(heatmap: Array, box: Array, stride: int, floor: float) -> Detections:
    """(classes, h, w) logits and (4, h, w) distances in strides."""
    logits = _finite(heatmap).reshape(-1)
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


def _decode_yolox(rows: Array, grid: Array, postprocess: Postprocess) -> Detections:
    """(cells, 5 + classes): centre, size, objectness, class scores; levels one after another.

    Source: YOLOX, arXiv 2107.08430: centre = (offset + cell) * stride, size = exp(value) * stride.
    """
    cells, class_ids, scores = _candidates(rows[:, 5:] * rows[:, 4:5], postprocess)
    column_row, stride = grid[cells, :2], grid[cells, 2:]
    center = (rows[cells, 0:2] + column_row) * stride
    with np.errstate(over="ignore"):  # an infinite size is found below
        half = np.exp(rows[cells, 2:4]) * stride * 0.5
    return _detections(np.concatenate([center - half, center + half], axis=1), scores, class_ids)


def _decode_yolov8(columns: Array, postprocess: Postprocess) -> Detections:
    """(4 + classes, cells): centre and size in input pixels, class scores."""
    cells, class_ids, scores = _candidates(columns[4:].T, postprocess)
    center, half = columns[0:2, cells], columns[2:4, cells] * 0.5
    return _detections(np.concatenate([center - half, center + half]).T, scores, class_ids)


def _candidates(scores: Array, postprocess: Postprocess) -> tuple[Array, Array, Array]:
    """Cells, classes and scores above the floor out of (cells, classes)."""
    _finite(scores)
    if postprocess.multi_label:
        cells, class_ids = np.nonzero(scores > postprocess.score_floor)
        found = scores[cells, class_ids]
    else:
        best = scores.max(axis=1)
        cells = np.flatnonzero(best > postprocess.score_floor)
        found = best[cells]
        class_ids = scores[cells].argmax(axis=1)
    limit = _CANDIDATES_MAX_MULTI_LABEL if postprocess.multi_label else _CANDIDATES_MAX
    kept = _best(np.arange(len(found)), found, limit)
    return cells[kept], class_ids[kept], found[kept]


@functools.lru_cache(maxsize=8)
def _yolox_grid(width: int, height: int, strides: tuple[int, ...]) -> Array:
    """(cells, 3) float32: column, row and stride of every cell, level after level."""
    levels = []
    for stride in strides:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells = np.stack([columns.ravel(), rows.ravel()], axis=1)
        levels.append(np.insert(cells, 2, stride, axis=1))
    return np.concatenate(levels).astype(np.float32)


def _best(
    chosen: npt.NDArray[np.intp], scores: Array, limit: int = _CANDIDATES_MAX
) -> npt.NDArray[np.intp]:
    """At most `limit` of the chosen positions, those with the best scores."""
    if len(chosen) <= limit:
        return chosen
    return chosen[np.argpartition(scores[chosen], -limit)[-limit:]]


def _detections(boxes: Boxes, scores: Array, class_ids: Array) -> Detections:
    return Detections(
        _finite(np.asarray(boxes, np.float32)),
        np.asarray(scores, np.float32),
        np.asarray(class_ids, np.int32),
    )


def _finite(values: Array) -> Array:
    # NaN compares false with every floor and would look like a place where nothing is.
    if not np.isfinite(values).all():
        raise RejectedError(
            "The model put out scores or boxes that are not finite numbers",
            reason=RejectReason.INFERENCE_FAILED,
            remedy="Check its bundle; another runtime or provider may compute it wrongly",
        )
    return values
