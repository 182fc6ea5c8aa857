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
    ClassifierOutputs,
    EndToEndOutputs,
    FastestDetOutputs,
    GridOutputs,
    InputContract,
    Outputs,
    Postprocess,
    Yolov5Outputs,
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


@given(seed=SEEDS, multi_label=st.booleans())
def test_yolov5(seed: int, multi_label: bool) -> None:
    """Row after row: centre, size, objectness and classes."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(1, 60, (2, 90, 4))
    scores = rng.uniform(0, 1, (2, 90, 1 + CLASSES))
    output = np.concatenate([place, scores], axis=2).astype(np.float32)
    info = describe(Yolov5Outputs(name="rows"), multi_label=multi_label)
    wanted: list[Candidate] = []
    for x, y, width, height, objectness, *classes in output[1].tolist():
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        scored = [objectness * score for score in classes]
        wanted += above_floor(scored, box, multi_label=multi_label)
    assert_are(decode({"rows": output}, 1, info), suppressed(wanted, info))


@given(seed=SEEDS, multi_label=st.booleans())
def test_fastestdet(seed: int, multi_label: bool) -> None:
    """Cell by cell one class; a place is a shift within its cell, a size a share of the input."""
    rng = np.random.default_rng(seed)
    rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE
    output = rng.normal(0, 1.5, (2, 5 + CLASSES, rows, columns)).astype(np.float32)
    output[:, 0] = rng.uniform(0, 1, output[:, 0].shape)
    output[:, 5:] = rng.uniform(0, 1, output[:, 5:].shape)
    info = describe(FastestDetOutputs(name="planes"), multi_label=multi_label)
    wanted: list[Candidate] = []
    for row in range(rows):
        for column in range(columns):
            objectness, dx, dy, width, height, *classes = output[1, :, row, column].tolist()
            x, y = (column + math.tanh(dx)) * STRIDE, (row + math.tanh(dy)) * STRIDE
            half_width = WIDTH / 2 / (1 + math.exp(-width))
            half_height = HEIGHT / 2 / (1 + math.exp(-height))
            box = (x - half_width, y - half_height, x + half_width, y + half_height)
            scored = [objectness**0.6 * score**0.4 for score in classes]
            wanted += above_floor(scored, box, multi_label=False)
    assert_are(decode({"planes": output}, 1, info), suppressed(wanted, info))


@given(seed=SEEDS, multi_label=st.booleans(), integers=st.booleans())
def test_end_to_end(seed: int, multi_label: bool, integers: bool) -> None:
    """What is listed is ranked, and one box stays under several classes only if asked for."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (2, 40, 2))
    boxes = np.concatenate([corner, corner + 10], axis=2).astype(np.float32)
    boxes[:, 20:] = boxes[:, :20]
    outputs = {
        "boxes": boxes,
        "scores": rng.permuted(np.linspace(0, 1, 80)).reshape(2, 40).astype(np.float32),
        "class_ids": rng.integers(0, CLASSES, (2, 40)).astype(np.int64 if integers else np.float32),
    }
    info = describe(EndToEndOutputs(), multi_label=multi_label)
    ranked = sorted(
        (float(score), int(class_id), tuple(box.tolist()))
        for box, score, class_id in zip(
            boxes[1], outputs["scores"][1], outputs["class_ids"][1], strict=True
        )
        if score > FLOOR
    )[::-1]
    wanted = [
        one
        for position, one in enumerate(ranked)
        if multi_label or one[2] not in [other[2] for other in ranked[:position]]
    ]
    assert_are(decode(outputs, 1, info), wanted)


@pytest.mark.parametrize("class_id", [-1, CLASSES])
def test_a_class_without_a_label_fails_the_image(class_id: int) -> None:
    """It cannot be named, and dropping it would hide an object."""
    outputs = {
        "boxes": np.ones((1, 1, 4), np.float32),
        "scores": np.ones((1, 1), np.float32),
        "class_ids": np.full((1, 1), class_id),
    }
    with pytest.raises(RejectedError, match=f"class {class_id}, but has 3 labels") as caught:
        decode(outputs, 0, describe(EndToEndOutputs()))
    assert caught.value.reason is RejectReason.INFERENCE_FAILED


def test_a_class_of_padding_need_not_have_a_label() -> None:
    """Below the floor there is nothing to name."""
    outputs = {
        "boxes": np.zeros((1, 2, 4), np.float32),
        "scores": np.zeros((1, 2), np.float32),
        "class_ids": np.full((1, 2), -1),
    }
    assert len(decode(outputs, 0, describe(EndToEndOutputs()))) == 0


@pytest.mark.parametrize("logits", [False, True])
def test_a_classifier_says_what_fills_the_image(logits: bool) -> None:
    """The best class alone, or all above the floor; the box is the whole input."""
    shares = np.array([[0.4, 0.15, 0.45]], np.float32)
    outputs = {"shares": np.log(shares) + 7 if logits else shares}
    for multi_label, named in ((False, [2]), (True, [2, 0])):
        info = describe(ClassifierOutputs(name="shares", logits=logits), multi_label=multi_label)
        found = decode(outputs, 0, info)
        assert found.class_ids.tolist() == named
        np.testing.assert_allclose(found.scores, shares[0, named], rtol=1e-5)
        assert found.boxes.tolist() == [[0, 0, WIDTH, HEIGHT]] * len(named)


def test_a_class_that_stands_for_nothing_is_no_detection() -> None:
    """Not even where others follow it closely."""
    outputs = {"shares": np.array([[0.4, 0.15, 0.45]], np.float32)}
    assert len(decode(outputs, 0, describe(ClassifierOutputs(name="shares", nothing=2)))) == 0
    found = decode(outputs, 0, describe(ClassifierOutputs(name="shares", nothing=1)))
    assert found.class_ids.tolist() == [2]


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
    outputs: dict[str, Array]
    if family == "grid":
        heatmap, box = np.ones((1, CLASSES, 4, 8)), np.ones((1, 4, 4, 8))
        outputs = {"heatmap": heatmap, "box": box}
        return describe(GridOutputs(stride=STRIDE)), outputs, heatmap, box
    if family == "end_to_end":
        boxes, scores = np.ones((1, 9, 4)), np.ones((1, 9))
        outputs = {"boxes": boxes, "scores": scores, "class_ids": np.zeros((1, 9))}
        return describe(EndToEndOutputs()), outputs, scores[None], boxes
    if family == "fastestdet":
        planes = np.full((1, 5 + CLASSES, 4, 8), 0.9)
        outputs = {"planes": planes}
        return describe(FastestDetOutputs(name="planes")), outputs, planes[0, 5:], planes[0, 1:5]
    if family in {"yolox", "yolov5"}:
        rows = np.full((1, 32, 5 + CLASSES), 0.9)
        spec = YoloxOutputs(name="rows", strides=(8,)) if family == "yolox" else None
        info = describe(spec or Yolov5Outputs(name="rows"))
        return info, {"rows": rows}, rows[:, :, 5:], rows[:, :, :4]
    if family == "classifier":
        shares = np.full((1, 1, CLASSES), 0.9)
        return describe(ClassifierOutputs(name="shares")), {"shares": shares[0]}, shares, shares
    columns = np.full((1, 4 + CLASSES, 32), 0.9)
    info = describe(Yolov8Outputs(name="columns"))
    return info, {"columns": columns}, columns[:, 4:], columns[:, :4]


FAMILIES = ["grid", "yolox", "yolov8", "yolov5", "fastestdet", "end_to_end", "classifier"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["score", "place"])
@pytest.mark.parametrize("family", FAMILIES)
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
