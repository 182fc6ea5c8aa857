from __future__ import annotations

import numpy as np
import pytest

from model_workshop.evaluation.calibrate import calibration_error
from model_workshop.evaluation.precision import draw_weights
from model_workshop.evaluation.reliability import reliability


def test_error_is_the_one_that_calibration_reports() -> None:
    """One measure of what a score is worth, here with an interval over images."""
    random = np.random.default_rng(5)
    scores = random.random(3000, np.float32)
    right = random.random(3000) < scores / 2
    images = random.integers(0, 30, 3000)
    measured = reliability(scores, right, images, draw_weights(30, 200, 1))
    error = measured.error
    assert error.value == pytest.approx(calibration_error(scores, right), abs=1e-6)
    assert error.value is not None
    assert error.low is not None
    assert error.high is not None
    assert error.low < error.value < error.high
    assert sum(one.detections for one in measured.bins) == np.count_nonzero(scores >= 0.05)


def test_nothing_above_the_floor_has_no_error() -> None:
    """No detections, no figure: 0 would be a perfect one."""
    nothing = np.zeros(0, np.float32)
    measured = reliability(
        nothing, np.zeros(0, np.bool_), np.zeros(0, np.intp), draw_weights(3, 10, 1)
    )
    assert measured.error.value is None
    assert measured.bins == ()
