"""What tells the layouts of public detectors from each other: names, shapes and ranges of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.decoding import yolox_grid
from foundation.manifest import (
    ClassifierOutputs,
    FastestDetOutputs,
    GridOutputs,
    Outputs,
    Yolov5Outputs,
    Yolov8Outputs,
    YoloxOutputs,
)

Array = npt.NDArray[Any]
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
_ANCHORS = 3
_LISTED_MAX = 1000
_TOLERANCE = 1e-3
NORMALIZED_MAX = 2.0
"""Coordinates up to here are sides of the input, not pixels; boxes may reach past the border."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a model before its layout is.

    Attributes:
        arrays: outputs of one run on a picture, by name; one picture, so the first axis is 1.
        width: of its input, pixels.
        height: of its input, pixels.
        takes_size: whether it has a second input for the size of the picture.
    """

    arrays: Mapping[str, Array]
    width: int
    height: int
    takes_size: bool

    def describe(self) -> str:
        """The input's size; names, types and shapes of the outputs."""
        outputs = ", ".join(f"{n} {array.dtype} {array.shape}" for n, array in self.arrays.items())
        return f"takes {self.width}x{self.height} pixels and puts out {outputs}"


@dataclass(frozen=True, slots=True)
class Listed:
    """Names of the outputs in which finished detections are listed; they may share one."""

    boxes: str
    scores: str
    class_ids: str


@dataclass(frozen=True, slots=True)
class Match:
    """How a model fits a layout.

    Attributes:
        outputs: the manifest's description, or where the finished detections are listed.
        classes: how many it tells apart; None where its outputs do not show it.
    """

    outputs: Outputs | Listed
    classes: int | None


def _cells(observed: Observation, strides: tuple[int, ...]) -> int:
    return sum((observed.width // s) * (observed.height // s) for s in strides)


def _one_with(observed: Observation, axes: int) -> tuple[str, Array] | None:
    """The only output with so many axes."""
    found = [(name, array) for name, array in observed.arrays.items() if array.ndim == axes]
    return found[0] if len(found) == 1 and found[0][1].dtype.kind == "f" else None


def _are_scores(values: Array) -> bool:
    return bool(values.size) and values.min() >= -_TOLERANCE and values.max() <= 1 + _TOLERANCE


def _rows(observed: Observation, per_cell: int) -> tuple[str, Array, tuple[int, ...]] | None:
    """An output (N, per_cell * cells, 5 + classes) with scores behind centre and size."""
    found = _one_with(observed, 3)
    if found is None or found[1].shape[2] < 6 or not _are_scores(found[1][..., 4:]):
        return None
    for strides in _STRIDES:
        if found[1].shape[1] == per_cell * _cells(observed, strides):
            return *found, strides
    return None


def _match_per_cell(observed: Observation, *, decoded: bool) -> Match | None:
    found = _rows(observed, 1)
    if found is None:
        return None
    name, rows, strides = found
    grid = yolox_grid(observed.width, observed.height, strides)
    centers = rows[0, :, :2]
    in_pixels = (grid[:, :2] + 0.5) * grid[:, 2:]
    # Decoded centres lie in their cells; undecoded ones are fractions of a cell.
    is_decoded = np.median(np.abs(centers - in_pixels)) < np.median(np.abs(centers))
    if bool(is_decoded) is not decoded:
        return None
    outputs = Yolov5Outputs(name=name) if decoded else YoloxOutputs(name=name, strides=strides)
    return Match(outputs, rows.shape[2] - 5)


def match_yolox(observed: Observation) -> Match | None:
    """Undecoded YOLOX."""
    return _match_per_cell(observed, decoded=False)


def match_yolox_decoded(observed: Observation) -> Match | None:
    """YOLOX with centre and size in pixels; YOLOv6 looks the same."""
    return _match_per_cell(observed, decoded=True)


def match_yolov5(observed: Observation) -> Match | None:
    """YOLOv5 and YOLOv7: three places a cell."""
    found = _rows(observed, _ANCHORS)
    if found is None or found[1][..., :4].max() <= NORMALIZED_MAX:
        return None
    return Match(Yolov5Outputs(name=found[0]), found[1].shape[2] - 5)


def match_yolov8(observed: Observation) -> Match | None:
    """YOLOv8 and YOLO11: places in columns."""
    found = _one_with(observed, 3)
    places = {_cells(observed, strides) for strides in _STRIDES}
    if found is None or found[1].shape[2] not in places or found[1].shape[1] < 5:
        return None
    name, columns = found
    if not _are_scores(columns[:, 4:]) or columns[:, :4].max() <= NORMALIZED_MAX:
        return None
    return Match(Yolov8Outputs(name=name), columns.shape[1] - 4)


def match_end2end(observed: Observation) -> Match | None:
    """YOLO without suppression: YOLOv10, YOLO26, and exports with `nms=True`."""
    found = _one_with(observed, 3)
    if found is None or len(observed.arrays) != 1 or not _are_scores(found[1][..., 4]):
        return None
    name, rows = found
    fits = rows.shape[2] == 6 and rows.shape[1] <= _LISTED_MAX and (rows[..., 5] % 1 == 0).all()
    return Match(Listed(name, name, name), None) if fits else None


def _listed(observed: Observation) -> Match | None:
    """Boxes (..., Q, 4) with scores and classes of (..., Q), or the scores as a fifth column.

    A count beside them is allowed.
    """
    boxes = [n for n, a in observed.arrays.items() if a.ndim in {2, 3} and a.shape[-1] in {4, 5}]
    if len(boxes) != 1:
        return None
    shape = observed.arrays[boxes[0]].shape[:-1]
    has_scores = observed.arrays[boxes[0]].shape[-1] == 5
    beside = {
        name: array
        for name, array in observed.arrays.items()
        if array.shape == shape and name != boxes[0]
    }
    classes = [name for name, array in beside.items() if array.dtype.kind in "iu"]
    if not classes:
        classes = [name for name in beside if "class" in name.lower() or "label" in name.lower()]
    scores = [name for name in beside if name not in classes and beside[name].dtype.kind == "f"]
    if has_scores and not scores:
        scores = boxes
    if len(classes) != 1 or len(scores) != 1 or has_scores is not (scores == boxes):
        return None
    return Match(Listed(boxes[0], scores[0], classes[0]), None)


def match_detr(observed: Observation) -> Match | None:
    """A list, from a graph that asks for the size of the picture."""
    return _listed(observed) if observed.takes_size else None


def match_nms(observed: Observation) -> Match | None:
    """A list, from a graph that does not."""
    return None if observed.takes_size else _listed(observed)


def match_fastestdet(observed: Observation) -> Match | None:
    """One tensor of planes, the first of objectness."""
    found = _one_with(observed, 4)
    if found is None or len(observed.arrays) != 1:
        return None
    name, planes = found
    channels, rows, columns = planes.shape[1:]
    stride = observed.width // columns if columns else 0
    fits = (
        channels >= 6
        and stride >= 8
        and (columns * stride, rows * stride)
        == (
            observed.width,
            observed.height,
        )
    )
    if not fits or not _are_scores(planes[:, 0]) or not _are_scores(planes[:, 5:]):
        return None
    return Match(FastestDetOutputs(name=name), channels - 5)


def match_grid(observed: Observation) -> Match | None:
    """This project's own."""
    box = next((n for n, a in observed.arrays.items() if a.ndim == 4 and a.shape[1] == 4), None)
    others = [n for n, a in observed.arrays.items() if a.ndim == 4 and n != box]
    if box is None or len(others) != 1 or len(observed.arrays) != 2:
        return None
    heatmap = observed.arrays[others[0]]
    stride = round(observed.width / heatmap.shape[3]) if heatmap.size else 0
    if heatmap.shape[2:] != observed.arrays[box].shape[2:] or stride < 1:
        return None
    return Match(GridOutputs(heatmap=others[0], box=box, stride=stride), heatmap.shape[1])


def match_classifier(observed: Observation) -> Match | None:
    """One score or logit a class."""
    if len(observed.arrays) != 1:
        return None
    name, values = next(iter(observed.arrays.items()))
    if values.ndim < 2 or values.size != values.shape[0] * values.shape[1] or values.shape[1] < 2:
        return None
    if values.dtype.kind != "f":
        return None
    is_probability = _are_scores(values) and abs(float(values[0].sum()) - 1) < 0.02
    return Match(ClassifierOutputs(name=name, logits=not is_probability), values.shape[1])
