"""Detections, labelled boxes and regions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foundation.escalations import LabelledBoxes, Region
from foundation.frames import Detections


def three() -> Detections:
    """Three detections that can be told apart."""
    return Detections(
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.array([0.9, 0.5, 0.1], np.float32),
        np.array([2, 0, 1], np.int32),
    )


def test_detections_are_taken_in_order_or_by_mask() -> None:
    """Boxes, scores and classes together."""
    picked = three().take(np.array([2, 0]))
    assert picked.class_ids.tolist() == [1, 2]
    assert picked.boxes[:, 0].tolist() == [8, 0]
    sure = three().take(three().scores >= 0.5)
    assert sure.class_ids.tolist() == [2, 0]
    assert len(sure) == 2
    assert len(three().take(np.zeros(0, np.intp))) == 0


def test_other_scores_leave_boxes_and_classes() -> None:
    """Calibration changes nothing else, and not the original."""
    found = three()
    other = found.with_scores(np.zeros(3, np.float32))
    assert other.boxes is found.boxes
    assert other.class_ids is found.class_ids
    assert found.scores[0] > 0


def test_labels_replace_class_numbers() -> None:
    """By the list of the model that detected."""
    named = LabelledBoxes.from_detections(three(), ("open", "short", "spur"))
    assert named.labels == ("spur", "open", "short")
    assert len(named) == 3
    assert len(LabelledBoxes.empty()) == len(Detections.empty()) == 0
    assert LabelledBoxes.empty().boxes.shape == Detections.empty().boxes.shape == (0, 4)


SIDE = st.integers(-20, 20)


@given(x1=SIDE, y1=SIDE, x2=SIDE, y2=SIDE, width=SIDE, height=SIDE)
def test_a_region_lies_inside_where_all_its_pixels_do(
    x1: int, y1: int, x2: int, y2: int, width: int, height: int
) -> None:
    """And has some: pixel by pixel."""
    columns, rows = range(x1, x2), range(y1, y2)
    wanted = bool(columns) and bool(rows)
    wanted = wanted and all(0 <= x < width for x in columns)
    wanted = wanted and all(0 <= y < height for y in rows)
    region = Region(x1, y1, x2, y2)
    assert region.lies_inside(width, height) == wanted
    assert (region.width, region.height) == (x2 - x1, y2 - y1)
