"""The layouts of public detectors: what tells each from the others, and its usual preparation.

A layout is recognized from the names, shapes and ranges of what one run puts out. One table, so
that a further layout is one row and one function.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.decoding import yolox_grid
from foundation.errors import ConfigError
from foundation.manifest import (
    ClassifierOutputs,
    FastestDetOutputs,
    GridOutputs,
    Outputs,
    Yolov5Outputs,
    Yolov8Outputs,
    YoloxOutputs,
)
from model_workshop.importing.preparations import CONVENTIONS, Preparation

Array = npt.NDArray[Any]
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
_ANCHORS = 3
_LISTED_MAX = 1000
_TOLERANCE = 1e-3


class Family(enum.StrEnum):
    """Layouts of public models, as `--family` takes them."""

    YOLOX = "yolox"
    YOLOX_DECODED = "yolox-decoded"
    YOLOV5 = "yolov5"
    YOLOV8 = "yolov8"
    YOLO_END2END = "yolo-end2end"
    DETR = "detr"
    NMS = "nms"
    FASTESTDET = "fastestdet"
    GRID = "grid"
    CLASSIFIER = "classifier"


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a model before its layout is.

    Attributes:
        arrays: outputs of one run on a picture, by name.
        width: of its input, pixels.
        height: of its input, pixels.
        takes_size: whether it has a second input for the size of the picture.
    """

    arrays: Mapping[str, Array]
    width: int
    height: int
    takes_size: bool


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


@dataclass(frozen=True, slots=True)
class Layout:
    """A row of the table.

    Attributes:
        family: its name.
        looks_like: its outputs, in words.
        preparation: the usual one; None where a person must say.
        nms_iou: the overlap with which its makers evaluate it; 1 where nothing is suppressed.
        match: whether an observed model fits.
    """

    family: Family
    looks_like: str
    preparation: Preparation | None
    nms_iou: float
    match: Callable[[Observation], Match | None]


def recognize(observed: Observation, classes: int | None, source: str) -> tuple[Layout, Match]:
    """The one layout that fits.

    Args:
        observed: a run of the model.
        classes: the number of labels, which decides between layouts that fit equally well.
        source: names the model in messages.

    Raises:
        ConfigError: none fits, or more than one.
    """
    found = [(layout, match) for layout in LAYOUTS if (match := layout.match(observed))]
    if len(found) > 1:
        agreeing = [one for one in found if one[1].classes in {classes, None}]
        found = agreeing or found
    if len(found) == 1:
        return found[0]
    if found:
        candidates = "; ".join(f"{layout.family}: {layout.looks_like}" for layout, _ in found)
        raise ConfigError(
            f"{source} puts out {describe(observed)}, which several layouts fit ({candidates})",
            remedy="Say which by --family",
        )
    known = "; ".join(f"{layout.family}: {layout.looks_like}" for layout in LAYOUTS)
    raise ConfigError(
        f"{source} takes {observed.width}x{observed.height} pixels and puts out "
        f"{describe(observed)}, a layout that is not known",
        remedy=f"Export it so that it puts out one of these ({known}); N is the batch, and cells "
        "are the places of all strides",
    )


def fit(observed: Observation, family: Family, source: str) -> tuple[Layout, Match]:
    """A layout that a person chose.

    Raises:
        ConfigError: the model does not fit it.
    """
    layout = next(layout for layout in LAYOUTS if layout.family is family)
    match = layout.match(observed)
    if match is None:
        raise ConfigError(
            f"{source} takes {observed.width}x{observed.height} pixels and puts out "
            f"{describe(observed)}, but {family} is {layout.looks_like}",
            remedy="Choose another --family, or none to have it recognized",
        )
    return layout, match


def describe(observed: Observation) -> str:
    """Names, types and shapes of the outputs."""
    return ", ".join(
        f"{name} {array.dtype} {array.shape}" for name, array in observed.arrays.items()
    )


def ask_for_preparation(family: Family, source: str) -> ConfigError:
    """The error of a layout that says nothing about how its input is prepared."""
    known = "; ".join(f"{name}: {convention}" for name, convention in CONVENTIONS.items())
    return ConfigError(
        f"{source} has the layout {family}, which does not tell how its pixels are prepared",
        remedy=f"Say how it was trained by --pixels ({known})",
    )


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


def _match_yolox(observed: Observation) -> Match | None:
    return _match_per_cell(observed, decoded=False)


def _match_yolox_decoded(observed: Observation) -> Match | None:
    return _match_per_cell(observed, decoded=True)


def _match_yolov5(observed: Observation) -> Match | None:
    found = _rows(observed, _ANCHORS)
    return found and Match(Yolov5Outputs(name=found[0]), found[1].shape[2] - 5)


def _match_yolov8(observed: Observation) -> Match | None:
    found = _one_with(observed, 3)
    places = {_cells(observed, strides) for strides in _STRIDES}
    if found is None or found[1].shape[2] not in places or found[1].shape[1] < 5:
        return None
    name, columns = found
    return (
        Match(Yolov8Outputs(name=name), columns.shape[1] - 4)
        if (_are_scores(columns[:, 4:]))
        else None
    )


def _match_end2end(observed: Observation) -> Match | None:
    found = _one_with(observed, 3)
    if found is None or len(observed.arrays) != 1 or not _are_scores(found[1][..., 4]):
        return None
    name, rows = found
    fits = rows.shape[2] == 6 and rows.shape[1] <= _LISTED_MAX
    return Match(Listed(name, name, name), None) if fits else None


def _listed(observed: Observation) -> Match | None:
    """Boxes (..., Q, 4) with scores and classes of (..., Q); a count beside them is allowed."""
    boxes = [name for name, a in observed.arrays.items() if a.ndim in {2, 3} and a.shape[-1] == 4]
    if len(boxes) != 1:
        return None
    shape = observed.arrays[boxes[0]].shape[:-1]
    beside = {
        name: array
        for name, array in observed.arrays.items()
        if array.shape == shape and name != boxes[0]
    }
    classes = [name for name, array in beside.items() if array.dtype.kind in "iu"]
    if not classes:
        classes = [name for name in beside if "class" in name.lower() or "label" in name.lower()]
    scores = [name for name in beside if name not in classes and beside[name].dtype.kind == "f"]
    if len(classes) != 1 or len(scores) != 1:
        return None
    return Match(Listed(boxes[0], scores[0], classes[0]), None)


def _match_detr(observed: Observation) -> Match | None:
    return _listed(observed) if observed.takes_size else None


def _match_nms(observed: Observation) -> Match | None:
    return None if observed.takes_size else _listed(observed)


def _match_fastestdet(observed: Observation) -> Match | None:
    found = _one_with(observed, 4)
    if found is None or len(observed.arrays) != 1:
        return None
    name, planes = found
    channels, rows, columns = planes.shape[1:]
    stride = observed.width // columns
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


def _match_grid(observed: Observation) -> Match | None:
    box = next((n for n, a in observed.arrays.items() if a.ndim == 4 and a.shape[1] == 4), None)
    others = [n for n, a in observed.arrays.items() if a.ndim == 4 and n != box]
    if box is None or len(others) != 1 or len(observed.arrays) != 2:
        return None
    heatmap = observed.arrays[others[0]]
    stride = round(observed.width / heatmap.shape[3])
    if heatmap.shape[2:] != observed.arrays[box].shape[2:]:
        return None
    return Match(GridOutputs(heatmap=others[0], box=box, stride=stride), heatmap.shape[1])


def _match_classifier(observed: Observation) -> Match | None:
    if len(observed.arrays) != 1:
        return None
    name, values = next(iter(observed.arrays.items()))
    if values.ndim < 2 or values.size != values.shape[0] * values.shape[1] or values.shape[1] < 2:
        return None
    if values.dtype.kind != "f":
        return None
    is_probability = _are_scores(values) and abs(float(values[0].sum()) - 1) < 0.02
    return Match(ClassifierOutputs(name=name, logits=not is_probability), values.shape[1])


LAYOUTS = (
    Layout(
        Family.YOLOX,
        "(N, cells, 5 + classes), undecoded",
        Preparation.YOLOX,
        0.65,
        _match_yolox,
    ),
    Layout(
        Family.YOLOX_DECODED,
        "(N, cells, 5 + classes), centre and size in pixels",
        None,
        0.65,
        _match_yolox_decoded,
    ),
    Layout(
        Family.YOLOV5,
        "(N, 3 cells, 5 + classes)",
        Preparation.ULTRALYTICS,
        0.6,
        _match_yolov5,
    ),
    Layout(
        Family.YOLOV8,
        "(N, 4 + classes, cells)",
        Preparation.ULTRALYTICS,
        0.7,
        _match_yolov8,
    ),
    Layout(
        Family.YOLO_END2END,
        "(N, up to 1000, 6) of x1 y1 x2 y2 score class",
        Preparation.ULTRALYTICS,
        1.0,
        _match_end2end,
    ),
    Layout(
        Family.DETR,
        "boxes (Q, 4), scores and classes (Q), with an input for the picture's size",
        Preparation.DETR,
        1.0,
        _match_detr,
    ),
    Layout(
        Family.NMS,
        "boxes (Q, 4), scores and classes (Q)",
        None,
        1.0,
        _match_nms,
    ),
    Layout(
        Family.FASTESTDET,
        "(N, 5 + classes, rows, columns)",
        Preparation.FASTESTDET,
        0.45,
        _match_fastestdet,
    ),
    Layout(
        Family.GRID,
        "logits (N, classes, rows, columns) and distances (N, 4, rows, columns)",
        Preparation.YOLOX,
        0.6,
        _match_grid,
    ),
    Layout(
        Family.CLASSIFIER,
        "(N, classes)",
        None,
        1.0,
        _match_classifier,
    ),
)
