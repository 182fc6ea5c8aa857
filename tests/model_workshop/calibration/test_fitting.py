from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.frames import Detections
from model_workshop.calibration.bundles import cross_fitted
from model_workshop.calibration.fitting import ScoredSplit, calibrated, fit_scores, with_scores
from model_workshop.datasets import Split, read_split
from model_workshop.evaluation.calibrate import calibration_error
from model_workshop.evaluation.matching import Matches
from tests.support.bundles import LABELS, make_bundle
from tests.support.datasets import write_split

IMAGES = 20


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Twenty pictures; what is seen in them, a test makes up."""
    folder = tmp_path_factory.mktemp("split")
    return read_split(write_split(folder / "val", images=IMAGES, width=64, height=64))


def scored(split: Split, count: int, *, few: int = 0, seed: int = 3) -> ScoredSplit:
    """Detections that are right half as often as their score says; `few` of them are red."""
    random = np.random.default_rng(seed)
    scores = random.random(count, np.float32)
    hits = random.random(count) < scores / 2
    class_ids = (np.arange(count) % 2).astype(np.int32)
    class_ids[:few] = LABELS.index("red")
    matches = Matches(scores, class_ids, hits, np.full(3, count))
    return ScoredSplit(split, matches, np.sort(random.integers(0, IMAGES, count)))


def test_a_class_with_too_few_hits_borrows_and_is_named(split: Split) -> None:
    """Ten detections say nothing; the reader is told which class got the map of all."""
    fit = fit_scores(scored(split, 2000, few=10))
    assert fit.pooled == ("red",)
    assert fit.raw == ()
    assert set(fit.calibration.knots) == set(LABELS)


def test_too_few_hits_in_all_classes_leave_raw_scores_and_say_so(split: Split) -> None:
    """An identity that nobody mentions would be taken for a fit."""
    fit = fit_scores(scored(split, 30))
    assert fit.raw == LABELS
    assert fit.pooled == ()
    assert fit.calibration.knots == {}


def test_nothing_right_is_an_error(split: Split) -> None:
    """Scores of detections that are all wrong mean nothing."""
    blind = scored(split, 100)
    blind = dataclasses.replace(
        blind, matches=dataclasses.replace(blind.matches, hits=np.zeros(100, np.bool_))
    )
    with pytest.raises(ConfigError, match="is right"):
        fit_scores(blind)


def test_cross_fitting_is_not_flattered_by_its_own_images(split: Split) -> None:
    """On few detections a fit looks better on its own images than it is anywhere else."""
    own, honest, elsewhere = [], [], []
    for seed in range(12):
        few = scored(split, 300, seed=seed)
        calibration = fit_scores(few).calibration
        own.append(calibration_error(calibrated(few, calibration), few.matches.hits))
        honest.append(calibration_error(cross_fitted(few), few.matches.hits))
        other = scored(split, 20_000, seed=1000 + seed)
        elsewhere.append(calibration_error(calibrated(other, calibration), other.matches.hits))
    # Both estimates hold the noise of 300 detections; cross-fitting adds what the fit has learnt
    # by heart, which the images of the fit hide.
    assert np.mean(honest) > np.mean(own)
    assert np.mean(honest) > np.mean(elsewhere)


def test_cross_fitting_never_judges_an_image_by_itself(split: Split) -> None:
    """What one image shows has no say in the scores of its own block."""
    first = scored(split, 2000)
    flipped = first.matches.hits.copy()
    block = first.images < IMAGES // 5
    flipped[block] = ~flipped[block]
    second = dataclasses.replace(first, matches=dataclasses.replace(first.matches, hits=flipped))
    same = cross_fitted(first) == cross_fitted(second)
    assert same[block].all()
    assert not same[~block].any()


def test_fewer_images_than_blocks_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An error that cannot be estimated is not made up."""
    folder = tmp_path_factory.mktemp("little")
    little = read_split(write_split(folder / "val", images=3))
    with pytest.raises(ConfigError, match="has 3 images, too few"):
        cross_fitted(dataclasses.replace(scored(little, 100), images=np.zeros(100, np.intp)))


# --- into the bundle ------------------------------------------------------------------------------


def test_a_fit_goes_into_the_bundle_whose_smoke_test_still_passes(split: Split) -> None:
    """The score floor follows the fit; the smoke test expects only what is above it."""
    fitted = with_scores(make_bundle(), fit_scores(scored(split, 2000)))
    assert set(fitted.calibration.knots) == set(LABELS)
    assert fitted.thresholds != make_bundle().thresholds
    Detector.open(fitted).check_smoke()


def test_thresholds_stay_where_asked(split: Split) -> None:
    """Those of the shipped pair are fitted per defect over its track, not in single pictures."""
    bundle = make_bundle()
    fitted = with_scores(bundle, fit_scores(scored(split, 2000)), keep_thresholds=True)
    assert fitted.thresholds == bundle.thresholds


def test_a_faint_smoke_picture_holds_the_floor_down(split: Split) -> None:
    """A floor above all that the smoke picture shows would leave the smoke test nothing."""
    bundle = make_bundle()
    expected = bundle.smoke.expected
    faint = Detections(expected.boxes, expected.scores * 0 + 0.12, expected.class_ids)
    bundle = dataclasses.replace(bundle, smoke=dataclasses.replace(bundle.smoke, expected=faint))
    fitted = with_scores(bundle, fit_scores(scored(split, 2000)))
    assert fitted.info.postprocess.score_floor <= 0.02
    assert len(fitted.smoke.expected) > 0
