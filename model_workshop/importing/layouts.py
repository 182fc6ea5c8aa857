"""The layouts of public detectors: what tells each from the others, and its usual preparation.

A layout is recognized from the names, shapes and ranges of what one run puts out. One table, so
that a further layout is one row and one function.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from foundation.errors import ConfigError
from model_workshop.importing import matching
from model_workshop.importing.matching import Match, Observation
from model_workshop.importing.preparations import CONVENTIONS, Preparation


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
            f"{source} {observed.describe()}, which several layouts fit ({candidates})",
            remedy="Say which by --family",
        )
    known = "; ".join(f"{layout.family}: {layout.looks_like}" for layout in LAYOUTS)
    raise ConfigError(
        f"{source} {observed.describe()}, a layout that is not known",
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
            f"{source} {observed.describe()}, but {family} is {layout.looks_like}",
            remedy="Choose another --family, or none to have it recognized",
        )
    return layout, match


def ask_for_preparation(family: Family, source: str) -> ConfigError:
    """The error of a layout that says nothing about how its input is prepared."""
    known = "; ".join(f"{name}: {convention}" for name, convention in CONVENTIONS.items())
    return ConfigError(
        f"{source} has the layout {family}, which does not tell how its pixels are prepared",
        remedy=f"Say how it was trained by --pixels ({known})",
    )


LAYOUTS = (
    Layout(
        Family.YOLOX,
        "(N, cells, 5 + classes), undecoded",
        Preparation.YOLOX,
        0.65,
        matching.match_yolox,
    ),
    Layout(
        Family.YOLOX_DECODED,
        "(N, cells, 5 + classes), centre and size in pixels",
        None,
        0.65,
        matching.match_yolox_decoded,
    ),
    Layout(
        Family.YOLOV5,
        "(N, 3 cells, 5 + classes)",
        Preparation.ULTRALYTICS,
        0.6,
        matching.match_yolov5,
    ),
    Layout(
        Family.YOLOV8,
        "(N, 4 + classes, cells)",
        Preparation.ULTRALYTICS,
        0.7,
        matching.match_yolov8,
    ),
    Layout(
        Family.YOLO_END2END,
        "(N, up to 1000, 6) of x1 y1 x2 y2 score class",
        Preparation.ULTRALYTICS,
        1.0,
        matching.match_end2end,
    ),
    Layout(
        Family.DETR,
        "boxes (Q, 4), scores and classes (Q), with an input for the picture's size",
        Preparation.DETR,
        1.0,
        matching.match_detr,
    ),
    Layout(Family.NMS, "boxes (Q, 4), scores and classes (Q)", None, 1.0, matching.match_nms),
    Layout(
        Family.FASTESTDET,
        "(N, 5 + classes, rows, columns)",
        Preparation.FASTESTDET,
        0.45,
        matching.match_fastestdet,
    ),
    Layout(
        Family.GRID,
        "logits (N, classes, rows, columns) and distances (N, 4, rows, columns)",
        Preparation.YOLOX,
        0.6,
        matching.match_grid,
    ),
    Layout(Family.CLASSIFIER, "(N, classes)", None, 1.0, matching.match_classifier),
)
