from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.crops import Reporter, check_crop
from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Region
from foundation.frames import Detections, Pixels
from foundation.manifest import Calibration, ClassThresholds, Thresholds

LABELS = ("open", "short")


def image(width: int, height: int) -> Pixels:
    """A black image."""
    return np.zeros((height, width, 3), np.uint8)


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Detections of rows x1 y1 x2 y2 score class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


def thresholds(report: float, **classes: float) -> Thresholds:
    """Report thresholds: a default and exceptions."""

    def of(value: float) -> ClassThresholds:
        return ClassThresholds(report=value, escalate_low=0.1, escalate_high=0.9)

    return Thresholds(default=of(report), classes={k: of(v) for k, v in classes.items()})


def test_crop_larger_than_its_region_is_malformed() -> None:
    """More pixels than the region has cannot be native pixels of it."""
    region = Region(0, 0, 32, 32)
    check_crop(region, image(32, 32))
    check_crop(region, image(16, 16))
    with pytest.raises(RejectedError) as caught:
        check_crop(region, image(33, 32))
    assert caught.value.reason is RejectReason.MALFORMED


def test_boxes_land_in_the_source_frame() -> None:
    """A crop at half resolution is scaled up and moved to its region."""
    reporter = Reporter(LABELS, Calibration(), thresholds(0.5))
    found = reporter.report(
        detections((0, 0, 10, 20, 0.9, 1)), Region(100, 200, 164, 264), image(32, 32)
    )
    np.testing.assert_allclose(found.boxes, [[100, 200, 120, 240]])
    assert found.labels == ("short",)


def test_only_what_counts_as_seen_is_reported() -> None:
    """The threshold is per class and on the calibrated score, which is also what is reported."""
    calibration = Calibration(knots={"open": ((0.0, 0.0), (1.0, 0.5))})
    reporter = Reporter(LABELS, calibration, thresholds(0.4, short=0.95))
    found = reporter.report(
        detections((0, 0, 8, 8, 0.9, 0), (0, 0, 8, 8, 0.7, 0), (0, 0, 8, 8, 0.9, 1)),
        Region(0, 0, 32, 32),
        image(32, 32),
    )
    assert found.labels == ("open",)
    np.testing.assert_allclose(found.scores, [0.45])


def test_boxes_beside_the_crop_are_not_reported() -> None:
    """What the model places wholly outside what it was shown is no detection."""
    reporter = Reporter(LABELS, Calibration(), thresholds(0.5))
    found = reporter.report(
        detections((-20, 0, -5, 10, 0.9, 0), (5, 40, 9, 50, 0.9, 0), (5, 5, 9, 9, 0.9, 1)),
        Region(100, 200, 132, 232),
        image(32, 32),
    )
    assert found.labels == ("short",)


def test_a_classifier_answers_in_the_boxes_of_the_proposals() -> None:
    """It says what, not where; the edge looks for its answer where it asked."""
    reporter = Reporter(LABELS, Calibration(), thresholds(0.5), classifies=True)
    region, shown = Region(100, 200, 164, 264), image(32, 32)
    whole = detections((0, 0, 32, 32, 0.9, 1))
    proposals = np.array([[120, 220, 130, 250], [90, 200, 110, 210]], np.float32)
    found = reporter.report(whole, region, shown, proposals)
    assert found.boxes.tolist() == [[120, 220, 130, 250], [100, 200, 110, 210]]
    assert found.labels == ("short", "short")
    assert len(reporter.report(detections(), region, shown, proposals)) == 0
    unasked = reporter.report(whole, region, shown)
    assert unasked.boxes.tolist() == [[100, 200, 164, 264]]


@given(
    st.integers(0, 500),
    st.integers(0, 500),
    st.integers(1, 300),
    st.integers(1, 300),
    st.tuples(*(st.floats(-50, 350, width=32) for _ in range(4))),
)
def test_reported_boxes_lie_inside_the_region(
    x: int, y: int, width: int, height: int, corners: tuple[float, float, float, float]
) -> None:
    """Whatever the model says, no box leaves the pixels that it was shown."""
    reporter = Reporter(LABELS, Calibration(), thresholds(0.0))
    region = Region(x, y, x + width, y + height)
    x1, x2 = sorted((corners[0], corners[2]))
    y1, y2 = sorted((corners[1], corners[3]))
    shown = image(max(1, width // 2), max(1, height // 3))
    found = reporter.report(detections((x1, y1, x2, y2, 0.9, 0)), region, shown)
    for box in found.boxes:
        assert x <= box[0] <= box[2] <= x + width
        assert y <= box[1] <= box[3] <= y + height
