"""Fits what a raw score is worth: isotonic regression per class, thinned to a table of knots.

Isotonic, because it keeps the order and beats training-time calibrators on detectors (Kuzucu et
al., ECCV 2024). Fitted on the outputs that ship: INT8 moves scores.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from foundation.frames import Detections
from foundation.manifest import Calibration
from model_workshop.evaluation.matching import Matches

_BLOCK_MIN = 25
"""Fewest detections behind a knot; smaller blocks are noise that looks like knowledge."""
_DETECTIONS_MIN = 50
_RIGHT_MIN = 8


def pool_adjacent_violators(
    values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The non-decreasing sequence (N,) nearest to `values` in weighted squares."""
    means: list[float] = []
    masses: list[float] = []
    counts: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        masses.append(weight)
        counts.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            mass = masses[-2] + masses[-1]
            mean = (means[-2] * masses[-2] + means[-1] * masses[-1]) / mass
            count = counts[-2] + counts[-1]
            del means[-2:], masses[-2:], counts[-2:]
            means.append(mean)
            masses.append(mass)
            counts.append(count)
    return np.repeat(np.array(means, np.float64), counts)


def fit_knots(
    scores: npt.NDArray[np.float32], hits: npt.NDArray[np.bool_]
) -> tuple[tuple[float, float], ...]:
    """Knots (raw, calibrated) of a monotone map from 0..1 to 0..1; empty where data is too thin.

    Detections are pooled into blocks of similar score first, isotonic regression runs over the
    blocks, and lines join the blocks' centres, so that distinct scores stay distinct.
    """
    if len(scores) < _DETECTIONS_MIN or np.count_nonzero(hits) < _RIGHT_MIN:
        return ()
    order = np.argsort(scores, kind="stable")
    raw, right = scores[order].astype(np.float64), hits[order].astype(np.float64)
    # Most detections are easy negatives; blocks of equal width in the logit see the rest as well.
    logits = np.log(np.clip(raw, 1e-4, 1 - 1e-4) / (1 - np.clip(raw, 1e-4, 1 - 1e-4)))
    block = _blocks(logits)
    weights = np.bincount(block).astype(np.float64)
    centres = np.bincount(block, raw) / weights
    # Half a success and half a failure keep the ends off certainty.
    shares = (np.bincount(block, right) + 0.5) / (weights + 1.0)
    fitted = pool_adjacent_violators(shares, weights)
    # One knot a level, in its middle: a flat stretch would make different scores equal.
    level = np.unique(fitted.round(5), return_inverse=True)[1]
    middles = np.bincount(level, centres * weights) / np.bincount(level, weights)
    knots = [(0.0, 0.0)]
    for x, y in zip(middles.round(5).tolist(), np.unique(fitted.round(5)).tolist(), strict=True):
        if x > knots[-1][0] and y > knots[-1][1]:
            knots.append((x, y))
    knots.append((1.0, round((1 + knots[-1][1]) / 2, 5)))
    return tuple(knots)


def _blocks(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Block index (N,) of ascending logits: steps of about 0.35, none smaller than the least."""
    block = np.zeros(len(logits), np.int64)
    current, start = 0, 0
    for index in range(len(logits)):
        wide = logits[index] - logits[start] >= 0.35
        if index - start >= _BLOCK_MIN and wide and len(logits) - index >= _BLOCK_MIN:
            current, start = current + 1, index
        block[index] = current
    return block


def fit_calibration(matches: Matches, labels: tuple[str, ...]) -> Calibration:
    """Knots for every class that has enough detections, those of all classes together elsewhere."""
    together = fit_knots(matches.scores, matches.hits)
    knots = {}
    for class_id, label in enumerate(labels):
        own = matches.of(class_id)
        found = fit_knots(own.scores, own.hits) or together
        if found:
            knots[label] = found
    return Calibration(knots=knots)


def apply_calibration(
    matches: Matches, calibration: Calibration, labels: tuple[str, ...]
) -> Matches:
    """The same matches with calibrated scores."""
    boxes = np.zeros((len(matches.scores), 4), np.float32)
    detections = Detections(boxes, matches.scores, matches.class_ids)
    return dataclasses.replace(matches, scores=calibration.apply(detections, labels))


def calibration_error(
    scores: npt.NDArray[np.float32], hits: npt.NDArray[np.bool_], *, above: float = 0.05
) -> float:
    """Expected calibration error over ten equal bins of the scores above a floor.

    The floor matters: over all detections the figure is mostly easy negatives.
    """
    chosen = scores >= above
    if not np.any(chosen):
        return 0.0
    kept, right = scores[chosen], hits[chosen]
    bins = np.minimum((kept * 10).astype(np.int64), 9)
    error = 0.0
    for index in np.unique(bins):
        inside = bins == index
        error += abs(float(kept[inside].mean()) - float(right[inside].mean())) * inside.mean()
    return float(error)
