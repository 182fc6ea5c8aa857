"""What a bundle says about its model: the schema of its JSON members.

`foundation.bundle` reads, verifies and writes them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from foundation.frames import Detections, Scores
from foundation.geometry import LetterboxSpec
from foundation.settings import Settings

SIDE_MAX_PX = 8192
"""Of a model's input."""
NAME_LENGTH_MAX = 64


class InputContract(Settings):
    """What the graph takes. A pixel value v becomes (v * scale - mean) / std."""

    name: str
    dtype: Literal["uint8", "float32"]
    layout: Literal["NHWC", "NCHW"]
    color: Literal["BGR", "RGB"] = "BGR"
    width: Annotated[int, pydantic.Field(gt=0, le=SIDE_MAX_PX)]
    height: Annotated[int, pydantic.Field(gt=0, le=SIDE_MAX_PX)]
    dynamic_batch: bool = False
    """Whether one run may take several images."""
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @pydantic.model_validator(mode="after")
    def _uint8_is_raw(self) -> InputContract:
        raw = self.scale == 1.0 and self.mean == (0.0,) * 3 and self.std == (1.0,) * 3
        if self.dtype == "uint8" and not raw:
            raise ValueError("uint8 input is given as it is: scale, mean and std belong to float32")
        return self


class GridOutputs(Settings):
    """Anchor-free grid of this project: class logits and distances in separate tensors.

    `heatmap` is (N, classes, h, w) logits. `box` is (N, 4, h, w): the distances left, top, right
    and bottom from the cell's centre, in strides; negative where a small box lies beside it.
    """

    family: Literal["grid"] = "grid"
    heatmap: str = "heatmap"
    box: str = "box"
    stride: Annotated[int, pydantic.Field(gt=0)]


class YoloxOutputs(Settings):
    """Undecoded YOLOX: (N, cells, 5 + classes), centre and size need grid and exponential."""

    family: Literal["yolox"] = "yolox"
    name: str
    strides: Annotated[
        tuple[Annotated[int, pydantic.Field(gt=0)], ...], pydantic.Field(min_length=1)
    ] = (8, 16, 32)


class Yolov8Outputs(Settings):
    """YOLOv8 and YOLO11: (N, 4 + classes, cells), centre and size in input pixels."""

    family: Literal["yolov8"] = "yolov8"
    name: str


class Yolov5Outputs(Settings):
    """YOLOv5, YOLOv7 and decoded YOLOX: (N, places, 5 + classes).

    Centre and size in input pixels, objectness, class scores.
    """

    family: Literal["yolov5"] = "yolov5"
    name: str


class FastestDetOutputs(Settings):
    """FastestDet: (N, 5 + classes, h, w): objectness, place in the cell and size, class scores."""

    family: Literal["fastestdet"] = "fastestdet"
    name: str


class EndToEndOutputs(Settings):
    """Detections that need no suppression: DETR, NMS-free YOLO, or NMS inside the graph.

    `boxes` is (N, Q, 4) corners x1 y1 x2 y2 in input pixels, `scores` and `class_ids` are (N, Q),
    in any order; what is below the score floor is padding.
    """

    family: Literal["end_to_end"] = "end_to_end"
    boxes: str = "boxes"
    scores: str = "scores"
    class_ids: str = "class_ids"


class ClassifierOutputs(Settings):
    """An image classifier: (N, classes). It says what an image shows, not where.

    Its one detection is the best class, and its box is the whole image.
    """

    family: Literal["classifier"] = "classifier"
    name: str
    logits: bool = False
    """Whether a softmax makes scores of them."""
    nothing: Annotated[int, pydantic.Field(ge=0)] | None = None
    """Class that stands for none of the others; where it is best there is no detection."""


Outputs = Annotated[
    GridOutputs
    | YoloxOutputs
    | Yolov8Outputs
    | Yolov5Outputs
    | FastestDetOutputs
    | EndToEndOutputs
    | ClassifierOutputs,
    pydantic.Field(discriminator="family"),
]


class Postprocess(Settings):
    """What becomes of decoded candidates."""

    score_floor: Annotated[float, pydantic.Field(gt=0, lt=1)]
    """Candidates below this raw score are not even decoded."""
    nms_iou: Annotated[float, pydantic.Field(gt=0, le=1)]
    detections_max: Annotated[int, pydantic.Field(gt=0)] = 300
    multi_label: bool = False
    """Whether one place may be reported under several classes, as COCO evaluation assumes. A live
    result names the best one. A grid judges each class by itself and has no use for it, FastestDet
    names one class a place."""


class ModelCard(Settings):
    """Where a bundle comes from."""

    description: str = ""
    parents: tuple[str, ...] = ()
    """Digests of what it was made from."""
    dataset: str = ""
    dataset_digests: Mapping[str, str] = pydantic.Field(default_factory=dict)
    """Digests of the pictures that had a part in it, by part: train, val, calibration, scores."""
    script: str = ""
    seed: int | None = None
    figures: Mapping[str, Any] = pydantic.Field(default_factory=dict)


class BundleInfo(Settings):
    """The part of the manifest that its author writes."""

    name: Annotated[str, pydantic.Field(min_length=1, max_length=NAME_LENGTH_MAX)]
    version: Annotated[str, pydantic.Field(min_length=1, max_length=32)]
    license: str
    labels: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    input: InputContract
    letterbox: LetterboxSpec
    outputs: Outputs
    postprocess: Postprocess
    opset: int
    runtime_min: Annotated[str, pydantic.Field(pattern=r"^\d+\.\d+(\.\d+)?$")]
    """Oldest ONNX Runtime that may run it."""
    model_card: ModelCard = ModelCard()


class Manifest(BundleInfo):
    """All of manifest.json."""

    format: Literal["hardcase-bundle/1"] = "hardcase-bundle/1"
    files: Mapping[str, str]
    """SHA-256 in hexadecimal of every other member."""


class Calibration(Settings):
    """Raw score to the probability that the detection is right, fitted on the outputs that ship.

    Per class a monotone piecewise linear function through knots (raw, calibrated); a class without
    knots keeps its raw score.
    """

    knots: Mapping[str, tuple[tuple[float, float], ...]] = pydantic.Field(default_factory=dict)

    @pydantic.field_validator("knots")
    @classmethod
    def _are_monotone(
        cls, knots: Mapping[str, tuple[tuple[float, float], ...]]
    ) -> Mapping[str, tuple[tuple[float, float], ...]]:
        for label, pairs in knots.items():
            for values in zip(*pairs, strict=True):
                if list(values) != sorted(values) or values[0] < 0 or values[-1] > 1:
                    raise ValueError(f"the knots of {label!r} must rise within 0..1")
        return knots

    def apply(self, detections: Detections, labels: tuple[str, ...]) -> Scores:
        """Calibrated scores (N,) float32 of detections with raw scores."""
        calibrated = detections.scores.copy()
        if not self.knots:
            return calibrated
        for class_id in np.unique(detections.class_ids).tolist():
            knots = self._arrays.get(labels[class_id])
            if knots is not None:
                chosen = detections.class_ids == class_id
                calibrated[chosen] = np.interp(detections.scores[chosen], *knots)
        return calibrated

    @functools.cached_property
    def _arrays(self) -> dict[str, tuple[Scores, Scores]]:
        return {
            label: (np.array([k[0] for k in knots]), np.array([k[1] for k in knots]))
            for label, knots in self.knots.items()
            if knots
        }


class ClassThresholds(Settings):
    """Thresholds of one class, all on calibrated scores."""

    report: Annotated[float, pydantic.Field(ge=0, le=1)]
    """From here on a detection counts as seen."""
    escalate_low: Annotated[float, pydantic.Field(ge=0, le=1)]
    escalate_high: Annotated[float, pydantic.Field(ge=0, le=1)]
    """Between low and high the edge is not sure."""

    @pydantic.model_validator(mode="after")
    def _band_is_a_band(self) -> ClassThresholds:
        if self.escalate_low > self.escalate_high:
            raise ValueError("escalate_low must not be above escalate_high")
        return self


class Thresholds(Settings):
    """Decision thresholds: a default, and exceptions by class."""

    default: ClassThresholds
    classes: Mapping[str, ClassThresholds] = pydantic.Field(default_factory=dict)

    def of(self, label: str) -> ClassThresholds:
        """The thresholds that hold for a class."""
        return self.classes.get(label, self.default)
