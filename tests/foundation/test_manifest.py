"""Calibration and thresholds: from a raw score to a decision."""

from __future__ import annotations

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.frames import Detections
from foundation.manifest import Calibration, ClassThresholds, Thresholds, YoloxOutputs

LABELS = ("open", "short", "spur")
UNIT = st.floats(0, 1, width=32)


def detections(scores: list[float], class_ids: list[int]) -> Detections:
    """Detections of which only scores and classes matter."""
    return Detections(
        np.zeros((len(scores), 4), np.float32),
        np.array(scores, np.float32),
        np.array(class_ids, np.int32),
    )


@st.composite
def rising_knots(draw: st.DrawFn) -> tuple[tuple[float, float], ...]:
    """Knots as a fit writes them."""
    count = draw(st.integers(1, 6))
    raw = sorted(draw(st.lists(UNIT, min_size=count, max_size=count, unique=True)))
    calibrated = sorted(draw(st.lists(UNIT, min_size=count, max_size=count)))
    return tuple(zip(raw, calibrated, strict=True))


@given(knots=rising_knots(), scores=st.lists(UNIT, max_size=8))
def test_calibration_keeps_the_order_of_a_class(
    knots: tuple[tuple[float, float], ...], scores: list[float]
) -> None:
    """Monotone, within 0 to 1, float32; the detections themselves are not touched."""
    found = detections(sorted(scores), [0] * len(scores))
    before = found.scores.copy()
    calibrated = Calibration(knots={"open": knots}).apply(found, LABELS)
    assert calibrated.dtype == np.float32
    assert calibrated.shape == before.shape
    assert (np.diff(calibrated) >= 0).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    np.testing.assert_array_equal(found.scores, before)


def test_each_class_has_its_own_table() -> None:
    """Between knots it interpolates, beyond them it stays; a class without any keeps its score."""
    calibration = Calibration(
        knots={"open": ((0.2, 0.0), (0.6, 0.4)), "short": ((0.0, 0.5), (1.0, 1.0)), "spur": ()}
    )
    found = detections([0.9, 0.4, 0.1, 0.5, 0.3], [0, 0, 0, 1, 2])
    np.testing.assert_allclose(
        calibration.apply(found, LABELS), [0.4, 0.2, 0.0, 0.75, 0.3], atol=1e-6
    )


def test_no_calibration_keeps_every_score() -> None:
    """And gives a copy, which the caller may change."""
    found = detections([0.9, 0.1], [0, 2])
    calibrated = Calibration().apply(found, LABELS)
    np.testing.assert_array_equal(calibrated, found.scores)
    assert calibrated is not found.scores


def test_no_detections_calibrate_to_none() -> None:
    """An empty scene is no special case."""
    knots = {"open": ((0.0, 0.0), (1.0, 1.0))}
    assert Calibration(knots=knots).apply(Detections.empty(), LABELS).shape == (0,)


def test_thresholds_are_the_classes_own_or_the_default() -> None:
    """An exception holds for its class alone."""
    default = ClassThresholds(report=0.5, escalate_low=0.1, escalate_high=0.8)
    strict = ClassThresholds(report=0.9, escalate_low=0.5, escalate_high=0.9)
    thresholds = Thresholds(default=default, classes={"spur": strict})
    assert thresholds.of("spur") == strict
    assert thresholds.of("open") == default


@pytest.mark.parametrize(("low", "high"), [(0.8, 0.1), (-0.1, 0.5), (0.5, 1.1)])
def test_a_band_is_a_band(low: float, high: float) -> None:
    """Neither upside down nor outside 0 to 1."""
    with pytest.raises(pydantic.ValidationError):
        ClassThresholds(report=0.5, escalate_low=low, escalate_high=high)


@pytest.mark.parametrize("strides", [(), (0,), (8, -16)])
def test_strides_that_make_no_grid_are_refused(strides: tuple[int, ...]) -> None:
    """Where the bundle is read, and not by a division in the service."""
    with pytest.raises(pydantic.ValidationError, match="strides"):
        YoloxOutputs(name="rows", strides=strides)
