"""Makes bundles of public detectors: their layout, their pre-processing, their labels.

A family is a convention that the file itself does not state: YOLOX takes BGR 0..255 pasted top
left, YOLOv8 takes RGB 0..1 centred. `docs/models.md` says how each was checked.
"""

from __future__ import annotations

import enum
import hashlib
from pathlib import Path

import cv2
import numpy as np
import onnx

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.frames import Pixels
from foundation.geometry import Anchor, LetterboxSpec
from foundation.manifest import (
    BundleInfo,
    InputContract,
    ModelCard,
    Postprocess,
    Yolov8Outputs,
    YoloxOutputs,
)
from model_workshop.assemble import RUNTIME_MIN, assemble
from model_workshop.onnx_files import at_least_opset, graph_inputs, load, opset_of, shape_of

_STRIDES = (8, 16, 32)
_SCORE_FLOOR = 0.05


class Family(enum.StrEnum):
    """Layouts of public models that can be imported."""

    YOLOX = "yolox"
    YOLOV8 = "yolov8"


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names, one a line, in the order of the model's classes.

    Raises:
        ConfigError: the file is missing, empty or names a class twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as a list of labels: {error}",
            remedy="Give a text file with one class name a line",
        ) from error
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels or len(set(labels)) != len(labels):
        raise ConfigError(
            f"{path} {'names a class twice' if labels else 'is empty'}",
            remedy="Give one class name a line, each once, in the order of the model's classes",
        )
    return labels


def import_model(
    path: Path,
    family: Family,
    labels: tuple[str, ...],
    *,
    name: str,
    license_name: str,
    smoke_pixels: Pixels | None = None,
) -> Bundle:
    """A bundle of a public detector, uncalibrated.

    Args:
        path: the ONNX file.
        family: whose convention it follows.
        labels: class names in the model's order.
        name: of the bundle.
        license_name: what the model may be used under.
        smoke_pixels: (height, width, 3) uint8 BGR showing something it knows; drawn where absent.

    Raises:
        ConfigError: the file, the family or the labels do not fit; the outputs are printed.
        IntegrityError: the file is not a whole ONNX model, or does not load.
    """
    source = load(path)
    model = at_least_opset(source)
    width, height = _input_sides(path, source)
    output = _detection_output(path, source, family, width, height)
    classes = _classes(source, output, family)
    if classes is not None and classes != len(labels):
        raise ConfigError(
            f"{path} tells {classes} classes apart, but there are {len(labels)} labels",
            remedy="Give the labels that the model was trained with, one a line, in order",
        )
    batch = shape_of(graph_inputs(source)[0])[0]
    yolox = family is Family.YOLOX
    info = BundleInfo(
        name=name,
        version="1",
        license=license_name,
        labels=labels,
        input=InputContract(
            name=graph_inputs(source)[0].name,
            dtype="float32",
            layout="NCHW",
            color="BGR" if yolox else "RGB",
            width=width,
            height=height,
            dynamic_batch=batch is None,
            scale=1.0 if yolox else 1 / 255,
        ),
        letterbox=LetterboxSpec(anchor=Anchor.TOP_LEFT if yolox else Anchor.CENTER),
        outputs=YoloxOutputs(name=output, strides=_STRIDES)
        if yolox
        else Yolov8Outputs(name=output),
        postprocess=Postprocess(score_floor=_SCORE_FLOOR, nms_iou=0.65 if yolox else 0.7),
        opset=opset_of(model),
        runtime_min=RUNTIME_MIN,
        model_card=ModelCard(
            description=f"Imported from {path.name} as {family}; scores are not calibrated",
            parents=(hashlib.sha256(path.read_bytes()).hexdigest(),),
            script="model-workshop import",
        ),
    )
    pixels = draw_street() if smoke_pixels is None else smoke_pixels
    return assemble(info, model.SerializeToString(), pixels)


def _input_sides(path: Path, model: onnx.ModelProto) -> tuple[int, int]:
    """Width and height of the one image input."""
    inputs = graph_inputs(model)
    shapes = {value.name: shape_of(value) for value in inputs}
    shape = next(iter(shapes.values()), ())
    floating = all(v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for v in inputs)
    height, width = shape[2:] if len(shape) == 4 else (None, None)
    if len(inputs) != 1 or not floating or height is None or width is None or shape[1] != 3:
        raise ConfigError(
            f"{path} takes {shapes}, not one float32 image (N, 3, height, width) of fixed size",
            remedy="Export it with one image input of a fixed size",
        )
    return width, height


def _detection_output(
    path: Path, model: onnx.ModelProto, family: Family, width: int, height: int
) -> str:
    """Name of the output with the family's shape.

    Raises:
        ConfigError: no output has it; the message lists what there is.
    """
    cells = sum((width // stride) * (height // stride) for stride in _STRIDES)
    axis = 1 if family is Family.YOLOX else 2
    outputs = {value.name: shape_of(value) for value in model.graph.output}
    for name, shape in outputs.items():
        if len(shape) == 3 and shape[axis] in {cells, None}:
            return name
    wanted = f"(N, {cells}, 5 + classes)" if axis == 1 else f"(N, 4 + classes, {cells})"
    listed = ", ".join(f"{name} {shape}" for name, shape in outputs.items())
    raise ConfigError(
        f"{path} has the outputs {listed}; {family} for {width}x{height} has one of shape {wanted}",
        remedy=f"Choose another --family ({', '.join(Family)}), or export the model without "
        "decoding and non-maximum suppression",
    )


def _classes(model: onnx.ModelProto, output: str, family: Family) -> int | None:
    shape = next(shape_of(value) for value in model.graph.output if value.name == output)
    size, boxes = (shape[2], 5) if family is Family.YOLOX else (shape[1], 4)
    return None if size is None else size - boxes


def draw_street() -> Pixels:
    """A drawn scene with things that detectors of everyday objects know, 480x640.

    A stop sign, a traffic light, a clock and a ball: flat shapes are enough for a smoke test, whose
    point is that the same pixels give the same detections on another machine.
    """
    canvas = np.full((480, 640, 3), (200, 180, 150), np.uint8)
    canvas[330:] = (90, 95, 95)
    angles = np.deg2rad(np.arange(22.5, 360, 45))
    corners = np.stack([150 + 95 * np.cos(angles), 160 + 95 * np.sin(angles)], axis=1)
    cv2.rectangle(canvas, (144, 250), (156, 440), (120, 120, 120), -1)
    cv2.fillPoly(canvas, [corners.astype(np.int32)], (255, 255, 255))
    inner = (corners - (150, 160)) * 0.92 + (150, 160)
    cv2.fillPoly(canvas, [inner.astype(np.int32)], (35, 30, 190))
    font = cv2.FONT_HERSHEY_DUPLEX
    cv2.putText(canvas, "STOP", (88, 177), font, 1.6, (255, 255, 255), 4, cv2.LINE_AA)
    cv2.rectangle(canvas, (330, 60), (400, 250), (25, 30, 30), -1)
    for y, color in ((95, (40, 40, 235)), (155, (30, 120, 140)), (215, (40, 90, 40))):
        cv2.circle(canvas, (365, y), 24, color, -1, cv2.LINE_AA)
    cv2.circle(canvas, (530, 140), 72, (30, 30, 30), -1, cv2.LINE_AA)
    cv2.circle(canvas, (530, 140), 64, (245, 245, 245), -1, cv2.LINE_AA)
    for hour in range(12):
        angle = np.deg2rad(30 * hour)
        end = (int(530 + 56 * np.cos(angle)), int(140 + 56 * np.sin(angle)))
        start = (int(530 + 48 * np.cos(angle)), int(140 + 48 * np.sin(angle)))
        cv2.line(canvas, start, end, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.line(canvas, (530, 140), (530, 96), (0, 0, 0), 4, cv2.LINE_AA)
    cv2.line(canvas, (530, 140), (562, 152), (0, 0, 0), 5, cv2.LINE_AA)
    cv2.circle(canvas, (420, 400), 40, (30, 130, 235), -1, cv2.LINE_AA)
    return canvas
