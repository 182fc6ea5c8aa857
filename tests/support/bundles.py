"""Small real bundles built in code: a graph whose detections a test can predict.

The model averages cells of 8x8 pixels; class i is the brightness of colour channel i, so a square
painted in pure blue, green or red is detected as "blue", "green" or "red", and how bright it is
sets the score: `brightness_for_score` is the inverse.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from foundation.bundle import Bundle, Smoke
from foundation.detector import Detector
from foundation.frames import Detections, Pixels
from foundation.geometry import LetterboxSpec
from foundation.manifest import (
    BundleInfo,
    Calibration,
    ClassThresholds,
    GridOutputs,
    InputContract,
    Postprocess,
    Thresholds,
)

LABELS = ("blue", "green", "red")
STRIDE = 8
BOX_SIDE_PX = 3 * STRIDE
"""Side of every detected box in model input pixels."""
_GAIN = 1.0 / 16.0
_BIAS = -8.0


def brightness_for_score(score: float) -> int:
    """The channel value 0..255 that is detected with about this raw score."""
    logit = math.log(score / (1.0 - score))
    return max(0, min(255, round((logit - _BIAS) / _GAIN)))


def paint_square(
    pixels: Pixels, x: int, y: int, *, label: str = "blue", score: float = 0.95, side: int = 16
) -> None:
    """Paints a square with its top left corner at x, y into a BGR image."""
    color = [0, 0, 0]
    color[LABELS.index(label)] = brightness_for_score(score)
    cv2.rectangle(pixels, (x, y), (x + side - 1, y + side - 1), color, thickness=-1)


def grid_model(width: int = 64, height: int = 64, *, classes: int = 3) -> bytes:
    """A serialized ONNX graph of the family grid: uint8 NHWC BGR in, heatmap and box out."""
    pooled_to_heat = np.zeros((classes, 3, 1, 1), np.float32)
    for channel in range(classes):
        pooled_to_heat[channel, channel % 3] = _GAIN
    constants = {
        "heat_weight": pooled_to_heat,
        "heat_bias": np.full(classes, _BIAS, np.float32),
        "box_weight": np.zeros((4, 3, 1, 1), np.float32),
        "box_bias": np.full(4, BOX_SIDE_PX / STRIDE / 2, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool",
            ["planes"],
            ["pooled"],
            kernel_shape=[STRIDE, STRIDE],
            strides=[STRIDE, STRIDE],
        ),
        helper.make_node("Conv", ["pooled", "heat_weight", "heat_bias"], ["heatmap"]),
        helper.make_node("Conv", ["pooled", "box_weight", "box_bias"], ["box"]),
    ]
    cells = [height // STRIDE, width // STRIDE]
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", height, width, 3])],
        [
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["n", classes, *cells]),
            helper.make_tensor_value_info("box", TensorProto.FLOAT, ["n", 4, *cells]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="hardcase-tests"
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_bundle(
    width: int = 64,
    height: int = 64,
    *,
    name: str = "squares",
    report: float = 0.5,
    escalate_low: float = 0.2,
    escalate_high: float = 0.8,
) -> Bundle:
    """A verified bundle of `grid_model`, with an identity calibration."""
    info = BundleInfo(
        name=name,
        version="1",
        license="Apache-2.0",
        labels=LABELS,
        input=InputContract(
            name="image",
            dtype="uint8",
            layout="NHWC",
            width=width,
            height=height,
            dynamic_batch=True,
        ),
        letterbox=LetterboxSpec(),
        outputs=GridOutputs(stride=STRIDE),
        postprocess=Postprocess(score_floor=0.05, nms_iou=0.2),
        opset=17,
        runtime_min="1.17",
    )
    pixels = np.zeros((height, width, 3), np.uint8)
    paint_square(pixels, 16, 24, label="green", score=0.95)
    unproven = Bundle(
        info,
        grid_model(width, height),
        Calibration(),
        Thresholds(
            default=ClassThresholds(
                report=report, escalate_low=escalate_low, escalate_high=escalate_high
            )
        ),
        Smoke(pixels, Detections.empty()),
    )
    found = Detector.open(unproven).detect(pixels)
    return dataclasses.replace(unproven, smoke=Smoke(pixels, found))


def write_bundle(path: Path, width: int = 64, height: int = 64, *, name: str = "squares") -> Path:
    """Writes the bundle of `make_bundle` and returns the path."""
    make_bundle(width, height, name=name).write(path)
    return path
