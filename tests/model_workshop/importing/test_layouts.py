"""Recognition from what a run puts out: every public shape, and those that fit twice or never."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from foundation.decoding import yolox_grid
from foundation.errors import ConfigError
from model_workshop.importing.layouts import LAYOUTS, Family, fit, recognize
from model_workshop.importing.matching import Observation

Array = npt.NDArray[Any]


def scores(*shape: int) -> Array:
    """Numbers of 0..1."""
    return np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)


def rows(places: int, columns: int, *, decoded_side: int = 0) -> Array:
    """Scores behind centre and size; centres in the cells of a decoded side, else near zero."""
    values = scores(1, places, columns)
    if decoded_side:
        grid = yolox_grid(decoded_side, decoded_side, (8, 16, 32))
        values[0, :, :2] = (grid[:, :2] + values[0, :, :2]) * grid[:, 2:]
    return values


def columns(classes: int, places: int) -> Array:
    """Centre and size in pixels above scores."""
    values = scores(1, 4 + classes, places)
    values[:, :4] *= 300
    return values


def listed(count: int) -> Array:
    """Rows of x1 y1 x2 y2 score class."""
    values = scores(1, count, 6)
    values[..., :4] *= 300
    values[..., 5] = 3
    return values


def whole(*shape: int) -> Array:
    """Class ids."""
    return np.zeros(shape, np.int64)


PUBLIC: list[tuple[Family, int, bool, dict[str, Array], int | None]] = [
    (Family.YOLOX, 416, False, {"output": rows(3549, 85)}, 80),
    (Family.YOLOX_DECODED, 416, False, {"output": rows(3549, 85, decoded_side=416)}, 80),
    (Family.YOLOV5, 640, False, {"output0": columns(81, 25200).transpose(0, 2, 1)}, 80),
    (Family.YOLOV5, 1280, False, {"output0": columns(3, 102000).transpose(0, 2, 1)}, 2),
    (Family.YOLOV8, 640, False, {"output0": columns(80, 8400)}, 80),
    (Family.YOLOV8, 640, False, {"output0": columns(1, 8400)}, 1),
    (Family.YOLO_END2END, 640, False, {"output0": listed(300)}, None),
    (
        Family.DETR,
        640,
        True,
        {"labels": whole(1, 300), "boxes": scores(1, 300, 4), "scores": scores(1, 300)},
        None,
    ),
    (
        Family.DETR,
        320,
        True,
        {"labels": whole(100), "boxes": scores(100, 4), "scores": scores(100)},
        None,
    ),
    (
        Family.NMS,
        416,
        False,
        {"boxes": scores(7, 4), "scores": scores(7), "classes": whole(7)},
        None,
    ),
    (
        Family.NMS,
        416,
        False,
        {"boxes": scores(0, 4), "scores": scores(0), "classes": whole(0)},
        None,
    ),
    (
        Family.NMS,
        300,
        False,
        {
            "detection_boxes": scores(1, 100, 4),
            "detection_classes": scores(1, 100),
            "detection_scores": scores(1, 100),
            "num_detections": scores(1),
        },
        None,
    ),
    (Family.NMS, 640, False, {"dets": scores(1, 9, 5), "labels": whole(1, 9)}, None),
    (Family.FASTESTDET, 352, False, {"758": scores(1, 85, 22, 22)}, 80),
    (
        Family.GRID,
        416,
        False,
        {"heatmap": scores(1, 6, 104, 104), "box": scores(1, 4, 104, 104)},
        6,
    ),
    (Family.CLASSIFIER, 224, False, {"softmax": np.full((1, 1000), 1e-3, np.float32)}, 1000),
    (Family.CLASSIFIER, 224, False, {"logits": 9 * scores(1, 1001, 1, 1)}, 1001),
]


@pytest.mark.parametrize(
    ("family", "side", "takes_size", "arrays", "classes"),
    PUBLIC,
    ids=[f"{case[0]}-{next(iter(case[3].values())).shape}" for case in PUBLIC],
)
def test_public_shapes_are_recognized(
    family: Family, side: int, takes_size: bool, arrays: dict[str, Array], classes: int | None
) -> None:
    """Without a word from a person, and with the number of classes where it shows."""
    observed = Observation(arrays, side, side, takes_size)
    layout, match = recognize(observed, classes, "m.onnx")
    assert layout.family is family
    assert match.classes == classes
    assert fit(observed, family, "m.onnx")[0] is layout


def test_a_shape_that_fits_twice_is_asked_about() -> None:
    """252 rows of 6 are three places a cell of one class, or a list; 80 labels decide."""
    rows_of_six = np.minimum(listed(252), [300, 300, 300, 300, 1, 1]).astype(np.float32)
    observed = Observation({"output0": rows_of_six}, 64, 64, takes_size=False)
    with pytest.raises(ConfigError, match="several layouts fit") as caught:
        recognize(observed, 1, "m.onnx")
    assert "yolov5: " in caught.value.message
    assert "yolo-end2end: " in caught.value.message
    assert "--family" in caught.value.remedy
    assert recognize(observed, 80, "m.onnx")[0].family is Family.YOLO_END2END
    assert fit(observed, Family.YOLOV5, "m.onnx")[1].classes == 1


@pytest.mark.parametrize(
    "arrays",
    [
        {"output": 5 * scores(1, 3549, 85)},
        {"output0": 5 * scores(1, 84, 3549)},
        {"output0": scores(1, 84, 3549)},
        {"output0": scores(1, 10647, 85)},
        {"output0": scores(1, 300, 6)},
        {"output": scores(1, 3550, 85)},
        {"a": scores(1, 3, 52, 52, 85), "b": scores(1, 3, 26, 26, 85)},
        {"boxes": scores(1, 3549, 4), "scores": scores(1, 3549, 80)},
        {"mask": scores(1, 21, 416, 416)},
        {"count": whole(1)},
    ],
    ids=[
        "logits",
        "logits-columns",
        "sides",
        "sides-rows",
        "no-classes",
        "odd-places",
        "heads",
        "raw-boxes",
        "mask",
        "count",
    ],
)
def test_what_only_looks_alike_is_unknown(arrays: dict[str, Array]) -> None:
    """Decoding it as its nearest relative would detect nonsense."""
    observed = Observation(arrays, 416, 416, takes_size=False)
    with pytest.raises(ConfigError, match="a layout that is not known") as caught:
        recognize(observed, 80, "m.onnx")
    assert str(next(iter(arrays.values())).shape) in caught.value.message
    for layout in LAYOUTS:
        assert f"{layout.family}: {layout.looks_like}" in caught.value.remedy
