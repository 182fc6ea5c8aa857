"""Chooses decision thresholds on calibrated scores."""

from __future__ import annotations

import math

import numpy as np

from foundation.manifest import Calibration, ClassThresholds, Thresholds
from model_workshop.evaluation.matching import Matches, best_operating_point

_COVERED = 0.9
_SURE = 0.9
_RAW_FLOOR_MIN = 0.02


def fit_thresholds(matches: Matches) -> Thresholds:
    """Thresholds on calibrated scores, one for all classes: few objects overfit one for each.

    `report` has the highest F1 in single pictures. The escalation band begins where nine tenths of
    the objects that were found at all are above, and ends where nine in ten detections are right.
    """
    objects = int(matches.objects.sum())
    report = best_operating_point(matches.scores, matches.hits, objects).threshold
    right = np.sort(matches.scores[matches.hits])
    low = float(right[int((1 - _COVERED) * len(right))]) if len(right) else report / 2
    high = _SURE
    values = sorted((min(low, report), report, max(high, report)))
    # Downwards: INT8 gives many detections the same score, and a threshold that is rounded up past
    # the score that it was found at loses every one of them.
    low, report, high = (math.floor(value * 1e4) / 1e4 for value in values)
    return Thresholds(default=ClassThresholds(report=report, escalate_low=low, escalate_high=high))


def score_floor(calibration: Calibration, thresholds: Thresholds, labels: tuple[str, ...]) -> float:
    """The raw score below which nothing is worth decoding, because nothing would follow from it.

    Half of the lowest score that is escalated, in the class that reaches it first: what lies below
    still helps a track to begin, and what lies far below only costs time.
    """
    floors = []
    for label in labels:
        wanted = thresholds.of(label).escalate_low / 2
        raw, calibrated = np.array(calibration.knots.get(label) or ((0, 0), (1, 1))).T
        floors.append(float(np.interp(wanted, calibrated, raw)))
    return round(max(_RAW_FLOOR_MIN, min(floors)), 4)
