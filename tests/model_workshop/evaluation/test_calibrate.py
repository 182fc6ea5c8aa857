from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_workshop.evaluation.calibrate import (
    apply_calibration,
    calibration_error,
    fit_calibration,
    fit_knots,
    pool_adjacent_violators,
)
from model_workshop.evaluation.matching import Matches


@given(
    st.lists(
        st.tuples(st.floats(-5, 5, allow_nan=False), st.floats(0.1, 5)), min_size=1, max_size=40
    )
)
def test_pooled_sequence_rises_and_keeps_the_mean(pairs: list[tuple[float, float]]) -> None:
    """Isotonic regression is monotone and has the weighted mean of what it was given."""
    values = np.array([value for value, _ in pairs])
    weights = np.array([weight for _, weight in pairs])
    fitted = pool_adjacent_violators(values, weights)
    assert np.all(np.diff(fitted) >= -1e-12)
    assert np.isclose(np.sum(fitted * weights), np.sum(values * weights))


def test_rising_sequence_is_left_alone() -> None:
    """Nothing is pooled where nothing is out of order."""
    values = np.array([0.1, 0.2, 0.9])
    assert pool_adjacent_violators(values, np.ones(3)).tolist() == values.tolist()


def _overconfident(count: int = 4000) -> Matches:
    """Detections that are right half as often as their score says."""
    random = np.random.default_rng(3)
    scores = random.random(count, np.float32)
    hits = random.random(count) < scores / 2
    class_ids = random.integers(0, 2, count).astype(np.int32)
    return Matches(scores, class_ids, hits, np.array([count, count]))


def test_fitted_calibration_removes_overconfidence() -> None:
    """The calibration error of scores twice too high falls to a tenth."""
    matches = _overconfident()
    calibration = fit_calibration(matches, ("a", "b"))
    calibrated = apply_calibration(matches, calibration, ("a", "b"))
    before = calibration_error(matches.scores, matches.hits)
    assert before > 0.2
    assert calibration_error(calibrated.scores, calibrated.hits) < before / 10


def test_knots_are_a_strictly_rising_table_over_the_unit_interval() -> None:
    """Strictly rising, so that calibration never changes which detection is better."""
    matches = _overconfident()
    x, y = np.array(fit_knots(matches.scores, matches.hits)).T
    assert x[0] == 0
    assert x[-1] == 1
    assert np.all(np.diff(x) > 0)
    assert np.all(np.diff(y) > 0)
    assert 0 <= y.min() <= y.max() <= 1


def test_thin_class_borrows_the_knots_of_all() -> None:
    """Ten detections say nothing; the class is treated like the others together."""
    matches = _overconfident()
    class_ids = np.zeros_like(matches.class_ids)
    class_ids[:10] = 1
    thin = Matches(matches.scores, class_ids, matches.hits, matches.objects)
    knots = fit_calibration(thin, ("many", "few")).knots
    assert len(knots["few"]) > 2
    assert knots["few"] == fit_knots(matches.scores, matches.hits)


def test_too_few_detections_leave_scores_raw() -> None:
    """Without data there is no table, and the bundle keeps raw scores."""
    matches = _overconfident(20)
    assert fit_calibration(matches, ("a", "b")).knots == {}
