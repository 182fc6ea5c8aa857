"""Whether a score is a probability: the calibration error of detections and its bins.

D-ECE (Küppers et al., CVPR workshops 2020) over confidence alone: the mean over detections of the
distance between the mean score of their bin and the share of it that is right.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_workshop.evaluation.figures import Reliability, ReliabilityBin
from model_workshop.evaluation.precision import estimate
from model_workshop.evaluation.truth import Array, Mask

BINS = 10
SCORE_FLOOR = 0.05
"""Over all detections the error is mostly easy negatives, which no threshold ever meets."""


def reliability(
    scores: npt.NDArray[np.float32],
    right: Mask,
    images: npt.NDArray[np.intp],
    weights: Array,
    *,
    floor: float = SCORE_FLOOR,
) -> Reliability:
    """What the scores of some detections are worth.

    Args:
        scores: (N,) in 0..1.
        right: (N,) which detections are right.
        images: (N,) index of the picture.
        weights: (R, I) of the images; see `precision.draw_weights`.
        floor: scores below are left out.
    """
    kept = scores >= floor
    bins = np.minimum((scores[kept] * BINS).astype(np.intp), BINS - 1)
    shape = (weights.shape[1], BINS)
    counts, totals, rights = (np.zeros(shape) for _ in range(3))
    place = (images[kept], bins)
    np.add.at(counts, place, 1.0)
    np.add.at(totals, place, scores[kept].astype(np.float64))
    np.add.at(rights, place, right[kept].astype(np.float64))
    # Bin by bin |mean score - share right| times its part of the detections.
    wrong = np.abs(weights @ totals - weights @ rights).sum(axis=1)
    samples = wrong / np.maximum(weights @ counts.sum(axis=1), 1.0)
    count = counts.sum(axis=0)
    return Reliability(
        floor=floor,
        error=estimate(samples if count.any() else None),
        bins=tuple(
            ReliabilityBin(
                detections=int(count[index]),
                score=float(totals[:, index].sum() / count[index]),
                right=float(rights[:, index].sum() / count[index]),
            )
            for index in np.flatnonzero(count).tolist()
        ),
    )
