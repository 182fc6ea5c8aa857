"""Average precision of any choice of objects under any weights of images. Pure arithmetic.

A row of weights says how often each image is counted. The first row is all ones and gives the
figure itself, which for all objects is pycocotools's own; the other rows are the resamples from
which intervals come. One ranking serves all rows: only sums over images change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_workshop.evaluation.figures import Estimate
from model_workshop.evaluation.rankings import IOUS, MISS, Ranking
from model_workshop.evaluation.truth import Array, Mask, Truth

RECALLS = np.linspace(0.0, 1.0, 101)
_INTERVAL_PERCENT = (2.5, 97.5)
_ROUNDING = 1e-9
"""Sums of fractional weights miss a recall that they reach by rounding errors of this size."""


@dataclass(frozen=True, slots=True)
class _Hits:
    """The right detections of one class at one IoU, best first.

    Attributes:
        objects: (H,) index of the object.
        images: (H,) index of the picture.
        false_before: (I, H) false alarms of every image that are ranked above.
    """

    objects: npt.NDArray[np.intp]
    images: npt.NDArray[np.intp]
    false_before: Array


def draw_weights(images: int, resamples: int, seed: int) -> Array:
    """Weights (1 + resamples, images) with mean 1; the first row is all ones.

    The Bayesian bootstrap (Rubin, Annals of Statistics 1981): a resample weighs images by a draw
    from Dirichlet(1, ..., 1). Unlike drawing with replacement it never loses an image, so that a
    kind of object that only two images show has a figure in every resample.
    """
    draws = np.random.default_rng(seed).exponential(size=(resamples, images))
    draws *= images / draws.sum(axis=1, keepdims=True)
    return np.concatenate([np.ones((1, images)), draws])


def average_precisions(
    ranking: Ranking, truth: Truth, positives: Mask, chosen: Sequence[Mask], weights: Array
) -> list[Array | None]:
    """AP of one class for several choices of its objects.

    Objects of the class that are not chosen are ignored: detections of them count neither way.
    Chosen objects are over-sampled to the weight of all of them, so that a rare kind of object
    meets as many false alarms for each object as a frequent one and the figures are comparable
    (normalized precision: Hoiem et al., Diagnosing Error in Object Detectors, ECCV 2012).

    Args:
        ranking: of the class.
        truth: what its indices refer to.
        positives: (O,) the objects of the class that count.
        chosen: subsets (O,) of them.
        weights: (R, I) of the images.

    Returns:
        For every choice (R, IoU), or None where it is empty.
    """
    if not positives.any():
        return [None] * len(chosen)
    tables = [_hits(ranking, row, weights.shape[1]) for row in range(len(IOUS))]
    false_alarms = [weights @ table.false_before for table in tables]
    everything = weights[:, truth.images[positives]].sum(axis=1)
    known: dict[bytes, Array | None] = {}
    for subset in chosen:
        if subset.tobytes() in known:
            continue
        if not subset.any():
            known[subset.tobytes()] = None
            continue
        objects = weights[:, truth.images[subset]].sum(axis=1)
        columns = []
        for table, alarms in zip(tables, false_alarms, strict=True):
            own = subset[table.objects]
            right = np.cumsum(weights[:, table.images[own]], axis=1)
            columns.append(_interpolated(right, alarms[:, own], objects, everything / objects))
        known[subset.tobytes()] = np.stack(columns, axis=1)
    return [known[subset.tobytes()] for subset in chosen]


def _hits(ranking: Ranking, row: int, images: int) -> _Hits:
    matched = ranking.matched[row]
    places = np.flatnonzero(matched >= 0)
    wrong = np.flatnonzero(matched == MISS)
    before = np.searchsorted(places, wrong)  # which hit is the first below this false alarm
    counted = before < len(places)
    counts = np.zeros((images, len(places)))
    np.add.at(counts, (ranking.images[wrong[counted]], before[counted]), 1.0)
    return _Hits(matched[places], ranking.images[places], np.cumsum(counts, axis=1))


def _interpolated(right: Array, alarms: Array, objects: Array, boost: Array) -> Array:
    """COCO's AP (R,): mean over 101 recalls of the best precision at that recall or more.

    Precision need only be known at hits, because it falls everywhere else.

    Args:
        right: (R, H) weight of the hits so far.
        alarms: (R, H) weight of the false alarms so far.
        objects: (R,) weight of the objects.
        boost: (R,) how often each object counts against false alarms.
    """
    if right.shape[1] == 0:
        return np.zeros(len(objects))
    boosted = right * boost[:, None]
    precision = boosted / np.maximum(boosted + alarms, np.finfo(np.float64).tiny)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / objects[:, None]
    recall[1:] += _ROUNDING
    reached = np.searchsorted(RECALLS, recall, side="right")
    steps = np.diff(reached, axis=1, prepend=0)
    return np.asarray((best * steps).sum(axis=1) / len(RECALLS))


def estimate(samples: Array | None) -> Estimate:
    """The figure and its interval from (R,) of `draw_weights`; unknown where there is nothing."""
    if samples is None:
        return Estimate(value=None)
    if len(samples) == 1:
        return Estimate(value=float(samples[0]))
    low, high = np.percentile(samples[1:], _INTERVAL_PERCENT)
    return Estimate(value=float(samples[0]), low=float(low), high=float(high))
