"""Calibrates a bundle and says how well calibrated it is, on images that had no part in the fit.

The images are cut into blocks of neighbours, so that frames of one scene stay together, and each
block is calibrated by a fit to the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.frames import Scores
from model_workshop.calibration.fitting import (
    ScoredSplit,
    ScoreFit,
    calibrated,
    fit_scores,
    score_split,
    with_scores,
)
from model_workshop.datasets import Split, check_disjoint, check_unseen, split_digest
from model_workshop.evaluation.calibrate import fit_calibration
from model_workshop.evaluation.figures import Estimate
from model_workshop.evaluation.measure import RESAMPLES, SEED
from model_workshop.evaluation.precision import draw_weights
from model_workshop.evaluation.reliability import reliability

FOLDS = 5
ALL = "all"


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """The calibration error of detections from 0.05 on, by label and of `all` together.

    Attributes:
        split: where it was measured.
        role: `cross_fitted` on the images of the fit, `check` on others.
        hits: right detections.
        raw: of raw scores.
        before: of the scores as the bundle calibrated them until now.
        after: of the scores as the new fit calibrates them.
    """

    split: Split
    role: Literal["cross_fitted", "check"]
    hits: Mapping[str, int]
    raw: Mapping[str, Estimate]
    before: Mapping[str, Estimate]
    after: Mapping[str, Estimate]

    def figures(self) -> dict[str, Any]:
        """What the model card says: of all classes together."""
        return {
            "images": len(self.split.pictures),
            **{name: _rounded(getattr(self, name)[ALL]) for name in ("raw", "before", "after")},
        }


@dataclass(frozen=True, slots=True)
class CalibratedBundle:
    """A bundle with its fit, and how well calibrated it is.

    Attributes:
        bundle: with calibration, thresholds and card.
        fit: what was fitted.
        tables: the errors, on the images of the fit and where there are any on others.
    """

    bundle: Bundle
    fit: ScoreFit
    tables: tuple[ErrorTable, ...]


def cross_fitted(scored: ScoredSplit) -> Scores:
    """Calibrated scores (N,), each by a fit to the images of all other blocks.

    Raises:
        ConfigError: there are fewer images than blocks.
    """
    images = len(scored.split.pictures)
    if images < FOLDS:
        raise ConfigError(
            f"{scored.split.directory} has {images} images, too few to fit on some and check on "
            "others",
            remedy=f"Give a split of {FOLDS} images or more, hundreds for a good fit",
        )
    block = scored.images * FOLDS // images
    scores = scored.matches.scores.copy()
    for number in range(FOLDS):
        held_out = block == number
        calibration = fit_calibration(scored.at(~held_out), scored.split.labels)
        scores[held_out] = calibrated(scored, calibration)[held_out]
    return scores


def calibrate_bundle(
    bundle: Bundle,
    split: Split,
    *,
    check: Split | None = None,
    proposer: Bundle | None = None,
    keep_thresholds: bool = False,
    threads: int = 1,
) -> CalibratedBundle:
    """Fits a bundle's calibration and thresholds on a held-out split.

    Args:
        bundle: whose scores are to mean something.
        split: held-out images to fit on.
        check: other images, on which the error is measured as well.
        proposer: for a crop model, the frame model at whose proposals it is asked.
        keep_thresholds: see `with_scores`.
        threads: of one inference.

    Raises:
        ConfigError: the model was trained on a split, the splits share images, there is too little
            to fit, or labels differ.
        IntegrityError: the model does not load, or fails on a picture.
    """
    given = [split] if check is None else [split, check]
    for one in given:
        check_unseen(bundle.info, one)
    check_disjoint(*given)
    scored = score_split(bundle, split, proposer=proposer, threads=threads)
    fit = fit_scores(scored)
    tables = [_table(bundle, scored, cross_fitted(scored), "cross_fitted")]
    if check is not None:
        other = score_split(bundle, check, proposer=proposer, threads=threads)
        tables.append(_table(bundle, other, calibrated(other, fit.calibration), "check"))
    fitted = with_scores(bundle, fit, keep_thresholds=keep_thresholds)
    old = bundle.info.model_card
    card = old.model_copy(
        update={
            "parents": (bundle.digest, *((proposer.digest,) if proposer else ())),
            "script": "model-workshop calibrate",
            "dataset_digests": {**old.dataset_digests, "scores": split_digest(split)},
            "figures": {"calibration_error": {table.role: table.figures() for table in tables}},
        }
    )
    info = fitted.info.model_copy(update={"model_card": card})
    return CalibratedBundle(dataclasses.replace(fitted, info=info), fit, tuple(tables))


def _errors(scored: ScoredSplit, scores: Scores) -> dict[str, Estimate]:
    """The calibration error of scores (N,) by label, and of all together."""
    weights = draw_weights(len(scored.split.pictures), RESAMPLES, SEED)
    groups = {ALL: np.ones(len(scores), np.bool_)}
    for class_id, label in enumerate(scored.split.labels):
        groups[label] = scored.matches.class_ids == class_id
    return {
        label: reliability(
            scores[chosen], scored.matches.hits[chosen], scored.images[chosen], weights
        ).error
        for label, chosen in groups.items()
    }


def _rounded(estimate: Estimate) -> dict[str, float | None]:
    return {
        name: None if value is None else round(value, 4)
        for name, value in estimate.model_dump().items()
    }


def _table(
    bundle: Bundle, scored: ScoredSplit, fitted: Scores, role: Literal["cross_fitted", "check"]
) -> ErrorTable:
    matches = scored.matches
    hits = {ALL: int(matches.hits.sum())}
    for class_id, label in enumerate(scored.split.labels):
        hits[label] = int(matches.of(class_id).hits.sum())
    return ErrorTable(
        scored.split,
        role,
        hits,
        raw=_errors(scored, matches.scores),
        before=_errors(scored, calibrated(scored, bundle.calibration)),
        after=_errors(scored, fitted),
    )
