from __future__ import annotations

import numpy as np
import pytest

from foundation.manifest import Calibration, ClassThresholds, Thresholds
from model_workshop.evaluation.matching import Matches, operating_point
from model_workshop.evaluation.thresholds import fit_thresholds, score_floor


@pytest.mark.parametrize("score", [0.776367723941803, 0.5, 0.99999, 0.00012])
def test_a_threshold_keeps_the_detections_that_it_was_found_at(score: float) -> None:
    """INT8 gives many detections one score; rounded up past it, a threshold loses them all."""
    scores = np.array([score] * 20 + [score / 2] * 5, np.float32)
    hits = scores == scores[0]
    matches = Matches(scores, np.zeros(25, np.int32), hits, np.array([20]))
    chosen = fit_thresholds(matches).default
    assert operating_point(scores, hits, 20, chosen.report).f1 == 1.0
    assert (scores[hits] >= chosen.escalate_low).all()
    assert chosen.report == pytest.approx(score, abs=1e-4)


def test_the_score_floor_leaves_every_class_what_its_own_thresholds_want() -> None:
    """A class with lower thresholds than the others would otherwise never be decoded."""
    low = ClassThresholds(report=0.2, escalate_low=0.1, escalate_high=0.9)
    high = ClassThresholds(report=0.8, escalate_low=0.7, escalate_high=0.9)
    thresholds = Thresholds(default=high, classes={"red": low})
    assert score_floor(Calibration(), thresholds, ("blue", "red")) == 0.05
    assert score_floor(Calibration(), thresholds, ("blue",)) == 0.35
