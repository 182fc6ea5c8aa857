"""Decoding and suppression against slow implementations that are obviously right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.decoding import decode, suppress
from foundation.errors import RejectedError, RejectReason
from foundation.frames import Detections
from foundation.geometry import LetterboxSpec, iou_matrix
from foundation.manifest import (
    BundleInfo,
    GridOutputs,
    InputContract,
    Outputs,
    Postprocess,
    Yolov8Outputs,
    YoloxOutputs,
)

Array = npt.NDArray[Any]
Candidate = tuple[float, int, tuple[float, float, float, float]]
"""Score, class and box."""
CLASSES, WIDTH, HEIGHT, STRIDE = 3, 64, 32, 8
FLOOR = 0.31
SEEDS = st.integers(0, 2**32 - 1)


def describe(
    outputs: Outputs, *, multi_label: bool = False, detections_max: int = 300
) -> BundleInfo:
    """A bundle's description around these outputs."""
    return BundleInfo(
        name="test",
        version="1",
        license="Apache-2.0",
        labels=tuple(f"class {i}" for i in range(CLASSES)),
        input=InputContract(name="image", dtype="uint8", layout="NHWC", width=WIDTH, height=HEIGHT),
        letterbox=LetterboxSpec(),
        outputs=outputs,
        # Not a value that boxes on whole pixels hit exactly.
        postprocess=Postprocess(
            score_floor=FLOOR,
            nms_iou=0.4503,
            detections_max=detections_max,
            multi_label=multi_label,
        ),
        opset=17,
        runtime_min="1.17",
    )


def overlap(first: Candidate, second: Candidate) -> float:
    """Intersection over union of two boxes."""
    a, b = first[2], second[2]
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)


def suppressed(candidates: list[Candidate], info: BundleInfo) -> list[Candidate]:
    """Greedy class-wise suppression, as the textbook has it."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda candidate: -candidate[0]):
        rivals = [other for other in kept if other[1] == candidate[1]]
        if all(overlap(candidate, other) <= info.postprocess.nms_iou for other in rivals):
            kept.append(candidate)
    return kept[: info.postprocess.detections_max]


def assert_are(found: Detections, wanted: list[Candidate]) -> None:
    """The same detections in the same order."""
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.class_ids.dtype == np.int32
    assert found.class_ids.tolist() == [class_id for _, class_id, _ in wanted]
    np.testing.assert_allclose(found.scores, [score for score, _, _ in wanted], rtol=1e-4)
    boxes = np.array([box for _, _, box in wanted]).reshape(-1, 4)
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-4, atol=1e-3)


def above_floor(
    scores: list[float], box: tuple[float, float, float, float], *, multi_label: bool
) -> list[Candidate]:
    """What one place contributes."""
    named = [(score, class_id, box) for class_id, score in enumerate(scores) if score > FLOOR]
    return named if multi_label else sorted(named, key=lambda one: -one[0])[:1]


@given(seed=SEEDS)
def test_grid(seed: int) -> None:
    """Cell by cell, class by class."""
    rng = np.random.default_rng(seed)
    rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE
    heatmap = rng.normal(-1, 2, (2, CLASSES, rows, columns)).astype(np.float32)
    box = rng.uniform(0.2, 2.5, (2, 4, rows, columns)).astype(np.float32)
    info = describe(GridOutputs(stride=STRIDE))
    wanted: list[Candidate] = []
    for class_id in range(CLASSES):
        for row in range(rows):
            for column in range(columns):
                score = 1 / (1 + math.exp(-heatmap[1, class_id, row, column]))
                x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
                left, top, right, bottom = (box[1, :, row, column] * STRIDE).tolist()
                if score > FLOOR:
                    wanted.append((score, class_id, (x - left, y - top, x + right, y + bottom)))
    assert_are(decode({"heatmap": heatmap, "box": box}, 1, info), suppressed(wanted, info))


@given(seed=SEEDS, multi_label=st.booleans())
def test_yolox(seed: int, multi_label: bool) -> None:
    """Level after level, row after row; objectness times class."""
    rng = np.random.default_rng(seed)
    cells = [
        (row, column, stride)
        for stride in (8, 16)
        for row in range(HEIGHT // stride)
        for column in range(WIDTH // stride)
    ]
    place = rng.normal(0, 0.6, (2, len(cells), 4))
    scores = rng.uniform(0, 1, (2, len(cells), 1 + CLASSES))
    output = np.concatenate([place, scores], axis=2).astype(np.float32)
    info = describe(YoloxOutputs(name="rows", strides=(8, 16)), multi_label=multi_label)
    wanted: list[Candidate] = []
    for (row, column, stride), values in zip(cells, output[1].tolist(), strict=True):
        dx, dy, log_width, log_height, objectness, *classes = values
        x, y = (dx + column) * stride, (dy + row) * stride
        width, height = math.exp(log_width) * stride, math.exp(log_height) * stride
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        scored = [objectness * score for score in classes]
        wanted += above_floor(scored, box, multi_label=multi_label)
    assert_are(decode({"rows": output}, 1, info), suppressed(wanted, info))


@given(seed=SEEDS, multi_label=st.booleans())
def test_yolov8(seed: int, multi_label: bool) -> None:
    """Column by column: centre, size and classes."""
    rng = np.random.default_rng(seed)
    count = 42
    center = rng.uniform(-5, 69, (2, 2, count))
    size = rng.uniform(1, 40, (2, 2, count))
    scores = rng.uniform(0, 1, (2, CLASSES, count))
    output = np.concatenate([center, size, scores], axis=1).astype(np.float32)
    info = describe(Yolov8Outputs(name="columns"), multi_label=multi_label)
    wanted: list[Candidate] = []
    for x, y, width, height, *classes in output[1].T.tolist():
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        wanted += above_floor(classes, box, multi_label=multi_label)
    assert_are(decode({"columns": output}, 1, info), suppressed(wanted, info))


@given(seed=SEEDS, count=st.integers(1, 60), shift=st.integers(-2000, 2000))
def test_classes_never_suppress_each_other(seed: int, count: int, shift: int) -> None:
    """Wherever the boxes lie; those of models reach past the image on every side."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 200, (count, 2)) + shift
    boxes = np.concatenate([corner, corner + rng.integers(1, 100, (count, 2))], axis=1)
    candidates = Detections(
        boxes.astype(np.float32),
        rng.permutation(np.linspace(0.1, 0.99, count)).astype(np.float32),
        rng.integers(0, 4, count).astype(np.int32),
    )
    info = describe(GridOutputs(stride=STRIDE))
    rows: list[list[float]] = boxes.tolist()
    wanted = [
        (score, class_id, (x1, y1, x2, y2))
        for score, class_id, (x1, y1, x2, y2) in zip(
            candidates.scores.tolist(), candidates.class_ids.tolist(), rows, strict=True
        )
    ]
    assert_are(suppress(candidates, info.postprocess), suppressed(wanted, info))


@given(seed=SEEDS)
def test_suppression_leaves_no_rivals(seed: int) -> None:
    """Best first, within the limit, and no two of a class overlap more than allowed."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (200, 2))
    candidates = Detections(
        np.concatenate([corner, corner + rng.uniform(5, 30, (200, 2))], 1).astype(np.float32),
        rng.uniform(0.01, 1, 200).astype(np.float32),
        rng.integers(0, 2, 200).astype(np.int32),
    )
    postprocess = Postprocess(score_floor=0.01, nms_iou=0.5, detections_max=20)
    kept = suppress(candidates, postprocess)
    assert 0 < len(kept) <= 20
    assert (np.diff(kept.scores) <= 0).all()
    rivals = iou_matrix(kept.boxes, kept.boxes) * (1 - np.eye(len(kept)))
    rivals[kept.class_ids[:, None] != kept.class_ids[None, :]] = 0
    assert rivals.max() <= 0.5 + 1e-4
    assert kept.scores[0] == candidates.scores.max()


def test_nothing_above_the_floor_is_nothing() -> None:
    """Shapes of an empty answer."""
    outputs = {
        "heatmap": np.full((1, CLASSES, 4, 8), -9, np.float32),
        "box": np.ones((1, 4, 4, 8), np.float32),
    }
    found = decode(outputs, 0, describe(GridOutputs(stride=STRIDE)))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_the_best_are_kept_where_there_are_too_many() -> None:
    """A floor that lets everything pass costs the weakest candidates, not the best."""
    heatmap = np.random.default_rng(0).normal(0, 1, (1, 1, 100, 100)).astype(np.float32)
    box = np.full((1, 4, 100, 100), 0.5, np.float32)
    info = describe(GridOutputs(stride=STRIDE), detections_max=100)
    found = decode({"heatmap": heatmap, "box": box}, 0, info)
    best = np.sort(1 / (1 + np.exp(-heatmap.ravel())))[::-1][:100]
    np.testing.assert_allclose(found.scores, best, rtol=1e-5)


def outputs_of(family: str) -> tuple[BundleInfo, dict[str, Array], Array, Array]:
    """A description, outputs in which everything is detected, and views of scores and places."""
    if family == "grid":
        heatmap, box = np.ones((1, CLASSES, 4, 8)), np.ones((1, 4, 4, 8))
        outputs = {"heatmap": heatmap, "box": box}
        return describe(GridOutputs(stride=STRIDE)), outputs, heatmap, box
    if family == "yolox":
        rows = np.full((1, 32, 5 + CLASSES), 0.9)
        info = describe(YoloxOutputs(name="rows", strides=(8,)))
        return info, {"rows": rows}, rows[:, :, 5:], rows[:, :, :4]
    columns = np.full((1, 4 + CLASSES, 32), 0.9)
    info = describe(Yolov8Outputs(name="columns"))
    return info, {"columns": columns}, columns[:, 4:], columns[:, :4]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["score", "place"])
@pytest.mark.parametrize("family", ["grid", "yolox", "yolov8"])
def test_one_value_that_is_no_number_fails_the_image(family: str, where: str, value: float) -> None:
    """A broken model must not look like a scene, empty or not."""
    info, outputs, scores, places = outputs_of(family)
    assert len(decode(outputs, 0, info)) > 0
    (scores if where == "score" else places)[0, -1, -1] = value
    if family == "grid" and where == "place":
        places[0, -1, -1, -1] = value
    with pytest.raises(RejectedError, match="not finite") as caught:
        decode(outputs, 0, info)
    assert caught.value.reason is RejectReason.INFERENCE_FAILED


def test_an_infinite_size_fails_the_image() -> None:
    """The exponential of YOLOX may overflow although the model's output was finite."""
    info, outputs, _, places = outputs_of("yolox")
    places[0, 0, 2] = 2000.0
    with pytest.raises(RejectedError, match="not finite"):
        decode(outputs, 0, info)
