"""Fits what a model's scores are worth, sets its thresholds, and puts both into its bundle."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.bundle import Bundle
from foundation.errors import ConfigError, IntegrityError
from foundation.frames import Scores
from foundation.manifest import Calibration, Thresholds
from model_workshop.datasets import Split
from model_workshop.evaluation.calibrate import apply_calibration, fit_calibration, fit_knots
from model_workshop.evaluation.coco import matches_of, outside_crowds
from model_workshop.evaluation.detecting import find
from model_workshop.evaluation.matching import Matches
from model_workshop.evaluation.thresholds import fit_thresholds, score_floor

_SMOKE_MARGIN = 0.1
_FLOOR_MIN = 0.001


@dataclass(frozen=True, slots=True)
class ScoredSplit:
    """Every detection of a bundle on a split, those of crowds aside, with what became of it.

    Attributes:
        split: what was looked at.
        matches: detections of all images in order, with raw scores.
        images: (N,) index of each detection's image within the split.
    """

    split: Split
    matches: Matches
    images: npt.NDArray[np.intp]

    def at(self, chosen: npt.NDArray[np.bool_]) -> Matches:
        """Some of the detections; the counts of objects stay those of the split."""
        matches = self.matches
        return Matches(
            matches.scores[chosen], matches.class_ids[chosen], matches.hits[chosen], matches.objects
        )


@dataclass(frozen=True, slots=True)
class ScoreFit:
    """What was fitted, and from how little.

    Attributes:
        calibration: knots by label.
        thresholds: for all classes, fitted on single images.
        pooled: labels with too few hits, which borrow the knots of all classes together.
        raw: labels that keep raw scores, because all classes together have too few.
    """

    calibration: Calibration
    thresholds: Thresholds
    pooled: tuple[str, ...]
    raw: tuple[str, ...]


def score_split(
    bundle: Bundle, split: Split, *, proposer: Bundle | None = None, threads: int = 1
) -> ScoredSplit:
    """Runs a bundle over a split and matches what it finds with the objects.

    Args:
        bundle: whose raw scores are wanted.
        split: with the bundle's labels.
        proposer: for a crop model, the frame model at whose proposals it is asked.
        threads: of one inference.

    Raises:
        ConfigError: the labels differ, or a picture cannot be read.
        IntegrityError: the model does not load, or fails on a picture.
    """
    found = find(bundle, split, proposer=proposer, threads=threads)
    if found.failed_images:
        raise IntegrityError(
            f"Bundle {bundle.info.name} fails on {len(found.failed_images)} images of "
            f"{split.directory} (first id {found.failed_images[0]})",
            remedy="Check its model; `model-workshop evaluate` counts such images",
        )
    counted = outside_crowds(split, found.detections)
    images = np.repeat(np.arange(len(split.pictures)), [len(one) for one in counted])
    return ScoredSplit(split, matches_of(split, counted), images)


def fit_scores(scored: ScoredSplit) -> ScoreFit:
    """Fits calibration and thresholds, and says which classes had too few hits for their own.

    Raises:
        ConfigError: no detection is right, so that there is nothing to fit.
    """
    labels, matches = scored.split.labels, scored.matches
    if not matches.hits.any():
        raise ConfigError(
            f"No detection on {scored.split.directory} is right: scores can mean nothing",
            remedy="Give a split that shows what the model knows",
        )
    calibration = fit_calibration(matches, labels)
    thin = [
        label
        for class_id, label in enumerate(labels)
        if not fit_knots(matches.of(class_id).scores, matches.of(class_id).hits)
    ]
    return ScoreFit(
        calibration,
        fit_thresholds(apply_calibration(matches, calibration, labels)),
        pooled=tuple(label for label in thin if label in calibration.knots),
        raw=tuple(label for label in thin if label not in calibration.knots),
    )


def with_scores(bundle: Bundle, fit: ScoreFit, *, keep_thresholds: bool = False) -> Bundle:
    """The bundle with a fit in it; its score floor and smoke test follow.

    A policy holds for the scores that it was fitted on and stays only where they stay the same.

    Args:
        bundle: whose model the fit was made on.
        fit: from `fit_scores`.
        keep_thresholds: leave the thresholds, which are on calibrated scores and may have been
            fitted on something better than single images.

    Raises:
        ConfigError: the bundle's smoke test expects nothing.
    """
    if len(bundle.smoke.expected) == 0:
        raise ConfigError(
            f"Bundle {bundle.info.name}: its smoke test expects nothing and so proves nothing",
            remedy="Build it again with a picture that shows something it knows",
        )
    thresholds = bundle.thresholds if keep_thresholds else fit.thresholds
    expected = bundle.smoke.expected
    best = float(expected.scores.max())
    floor = score_floor(fit.calibration, thresholds, bundle.labels)
    # What is below the floor is no longer found, and what is only just above it not on every
    # processor; a floor that leaves the smoke test nothing would leave it no meaning.
    floor = max(_FLOOR_MIN, min(floor, round(best - _SMOKE_MARGIN, 4)))
    sure = expected.take(np.flatnonzero(expected.scores >= min(floor + _SMOKE_MARGIN, best)))
    postprocess = bundle.info.postprocess.model_copy(update={"score_floor": floor})
    fitted = dataclasses.replace(
        bundle,
        info=bundle.info.model_copy(update={"postprocess": postprocess}),
        calibration=fit.calibration,
        thresholds=thresholds,
        smoke=dataclasses.replace(bundle.smoke, expected=sure),
    )
    if fitted.scores_digest == bundle.scores_digest:
        return fitted
    return dataclasses.replace(fitted, policy=None)


def calibrated(scored: ScoredSplit, calibration: Calibration) -> Scores:
    """Calibrated scores (N,)."""
    return apply_calibration(scored.matches, calibration, scored.split.labels).scores
