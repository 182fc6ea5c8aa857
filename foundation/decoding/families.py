"""One function per output family: from the arrays of one image to candidates above the floor."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from foundation.decoding.candidates import (
    Array,
    above_floor,
    best_of,
    failed,
    finite,
    rank,
    suppress,
    to_detections,
)
from foundation.frames import Detections
from foundation.manifest import (
    BundleInfo,
    ClassifierOutputs,
    EndToEndOutputs,
    FastestDetOutputs,
    GridOutputs,
    Postprocess,
    Yolov5Outputs,
    Yolov8Outputs,
    YoloxOutputs,
)

_OBJECT_POWER, _CLASS_POWER = 0.6, 0.4


def decode(outputs: Mapping[str, Array], position: int, info: BundleInfo) -> Detections:
    """Detections of one image of a batch, best first.

    Args:
        outputs: the model's outputs by name, the first axis of each is the batch.
        position: which image of the batch.
        info: the bundle's description: layout of the outputs, score floor, NMS and limit.

    Returns:
        Detections with raw scores, boxes in model input pixels.

    Raises:
        RejectedError: a score or a box is not a finite number, or a class has no label; that is a
            failure of the model, not an empty scene.
    """
    postprocess = info.postprocess
    match info.outputs:
        case GridOutputs(heatmap=heatmap, box=box, stride=stride):
            found = _decode_grid(
                outputs[heatmap][position], outputs[box][position], stride, postprocess.score_floor
            )
        case YoloxOutputs(name=name, strides=strides):
            grid = yolox_grid(info.input.width, info.input.height, strides)
            found = _decode_yolox(outputs[name][position], grid, postprocess)
        case Yolov8Outputs(name=name):
            found = _decode_yolov8(outputs[name][position], postprocess)
        case Yolov5Outputs(name=name):
            found = _decode_yolov5(outputs[name][position], postprocess)
        case FastestDetOutputs(name=name):
            found = _decode_fastestdet(outputs[name][position], info)
        case EndToEndOutputs() as spec:
            boxes, scores, named = (
                outputs[spec.boxes],
                outputs[spec.scores],
                outputs[spec.class_ids],
            )
            found = _decode_end_to_end(boxes[position], scores[position], named[position], info)
            return rank(found, postprocess)
        case ClassifierOutputs() as spec:
            return rank(_decode_classifier(outputs[spec.name][position], spec, info), postprocess)
    return suppress(found, postprocess)


@functools.lru_cache(maxsize=8)
def yolox_grid(width: int, height: int, strides: tuple[int, ...]) -> Array:
    """(cells, 3) float32: column, row and stride of every cell, level after level."""
    levels = []
    for stride in strides:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells = np.stack([columns.ravel(), rows.ravel()], axis=1)
        levels.append(np.insert(cells, 2, stride, axis=1))
    return np.concatenate(levels).astype(np.float32)


def _decode_grid(heatmap: Array, box: Array, stride: int, floor: float) -> Detections:
    """(classes, h, w) logits and (4, h, w) distances in strides."""
    logits = finite(heatmap).reshape(-1)
    chosen = np.flatnonzero(logits > math.log(floor / (1.0 - floor)))
    chosen = best_of(chosen, logits)
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
    return to_detections(boxes, _sigmoid(logits[chosen]), class_ids)


def _decode_yolox(rows: Array, grid: Array, postprocess: Postprocess) -> Detections:
    """(cells, 5 + classes): centre, size, objectness, class scores; levels one after another.

    Source: YOLOX, arXiv 2107.08430: centre = (offset + cell) * stride, size = exp(value) * stride.
    """
    cells, class_ids, scores = _objects(rows, postprocess)
    place = finite(rows[cells, :4])
    column_row, stride = grid[cells, :2], grid[cells, 2:]
    center = (place[:, :2] + column_row) * stride
    with np.errstate(over="ignore"):  # an infinite size is found below
        half = np.exp(place[:, 2:]) * stride * 0.5
    return to_detections(np.concatenate([center - half, center + half], axis=1), scores, class_ids)


def _decode_yolov5(rows: Array, postprocess: Postprocess) -> Detections:
    """(places, 5 + classes): centre and size in input pixels, objectness, class scores."""
    places, class_ids, scores = _objects(rows, postprocess)
    center, half = rows[places, 0:2], rows[places, 2:4] * 0.5
    return to_detections(np.concatenate([center - half, center + half], axis=1), scores, class_ids)


def _decode_yolov8(columns: Array, postprocess: Postprocess) -> Detections:
    """(4 + classes, places): centre and size in input pixels, class scores."""
    places, class_ids, scores = above_floor(
        finite(columns[4:]).T, postprocess.score_floor, multi_label=postprocess.multi_label
    )
    center, half = columns[0:2, places], columns[2:4, places] * 0.5
    return to_detections(np.concatenate([center - half, center + half]).T, scores, class_ids)


def _decode_fastestdet(planes: Array, info: BundleInfo) -> Detections:
    """(5 + classes, h, w): objectness, place, logit of size, class scores.

    Source: FastestDet, utils/tool.py: centre = (tanh(value) + cell) / cells, size = sigmoid(value),
    both in sides of the input; score = objectness^0.6 * class^0.4.
    """
    floor = info.postprocess.score_floor
    rows, columns = planes.shape[1:]
    values = planes.reshape(len(planes), -1)
    finite(values[0]), finite(values[5:])
    # No class score is above 1, so the objectness alone excludes nearly every cell.
    hopeful = np.flatnonzero(values[0] ** _OBJECT_POWER > floor)
    objects = values[0, hopeful, None] ** _OBJECT_POWER
    scores = objects * values[5:, hopeful].T ** _CLASS_POWER
    # A softmax over the classes: its makers name the best one of a cell, and so do we.
    chosen, class_ids, scores = above_floor(scores, floor)
    cells = hopeful[chosen]
    place = finite(values[1:5, cells]).T
    row, column = np.divmod(cells, columns)
    center = np.stack([column, row], axis=1) + np.tanh(place[:, :2])
    center *= [info.input.width / columns, info.input.height / rows]
    half = _sigmoid(place[:, 2:]) * [info.input.width / 2, info.input.height / 2]
    return to_detections(np.concatenate([center - half, center + half], axis=1), scores, class_ids)


def _decode_end_to_end(
    boxes: Array, scores: Array, class_ids: Array, info: BundleInfo
) -> Detections:
    """(Q, 4) corners in input pixels, (Q,) scores and (Q,) classes of any numeric type."""
    chosen = np.flatnonzero(finite(scores) > info.postprocess.score_floor)
    named = finite(class_ids[chosen])
    if len(named) and not 0 <= named.min() <= named.max() < len(info.labels):
        raise failed(
            f"The model put out the class {named.max():g}, but has {len(info.labels)} labels"
        )
    return to_detections(boxes[chosen], scores[chosen], named)


def _decode_classifier(values: Array, spec: ClassifierOutputs, info: BundleInfo) -> Detections:
    """(classes,) scores or logits; the box is the whole input."""
    scores = finite(values)
    if spec.logits:
        powers = np.exp(scores - scores.max())
        scores = powers / powers.sum()
    _, class_ids, found = above_floor(
        scores[None], info.postprocess.score_floor, multi_label=info.postprocess.multi_label
    )
    something = class_ids != (-1 if spec.nothing is None else spec.nothing)
    class_ids, found = class_ids[something], found[something]
    whole = np.array([[0, 0, info.input.width, info.input.height]], np.float32)
    return to_detections(whole.repeat(len(found), axis=0), found, class_ids)


def _objects(rows: Array, postprocess: Postprocess) -> tuple[Array, Array, Array]:
    """Places, classes and scores of (places, 5 + classes), objectness times class."""
    finite(rows[:, 4:])
    # No class score is above 1, so the objectness alone excludes nearly every place.
    hopeful = np.flatnonzero(rows[:, 4] > postprocess.score_floor)
    scores = rows[hopeful, 5:] * rows[hopeful, 4:5]
    places, class_ids, found = above_floor(
        scores, postprocess.score_floor, multi_label=postprocess.multi_label
    )
    return hopeful[places], class_ids, found


def _sigmoid(values: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-values)))
