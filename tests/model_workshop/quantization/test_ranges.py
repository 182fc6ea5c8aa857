from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import IntegrityError
from model_workshop.quantization.ranges import (
    BINS,
    Calibrator,
    Observation,
    choose_range,
    count_values,
    observe_range,
)


def _observation(images: list[np.ndarray]) -> Observation:
    parts = [observe_range(image) for image in images]
    lows, highs = (np.array([pair[i] for pair in parts]) for i in (0, 1))
    low, high = float(lows.min()), float(highs.max())
    counts = np.zeros(BINS, np.int64)
    if low < high:
        counts = sum((count_values(image.ravel(), low, high) for image in images), counts)
    return Observation(
        lows.min(axis=1), highs.max(axis=1), lows.min(axis=0), highs.max(axis=0), counts
    )


def test_an_outlier_is_kept_by_minmax_and_clipped_by_percentiles() -> None:
    """One value in 40,000 far out costs MinMax nine tenths of its levels."""
    random = np.random.default_rng(0)
    images = [random.normal(0, 1, (1, 4, 100, 100)).astype(np.float32) for _ in range(4)]
    images[0][0, 0, 0, 0] = 40.0
    observed = _observation(images)
    assert choose_range(observed, Calibrator.MINMAX)[1] == 40.0
    assert choose_range(observed, Calibrator.MEAN_MINMAX)[1] < 20.0
    assert 2.5 < choose_range(observed, Calibrator.PERCENTILE_99_9)[1] < 4.0
    assert choose_range(observed, Calibrator.ENTROPY)[1] < 20.0


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50))
def test_no_calibrator_goes_beyond_what_was_seen(values: list[float]) -> None:
    """Every range lies within the lowest and the highest value, and is one."""
    observed = _observation([np.array(values, np.float32)])
    lowest, highest = observed.range
    for calibrator in Calibrator:
        low, high = choose_range(observed, calibrator)
        assert lowest - 1e-4 <= low <= high <= highest + 1e-4


def test_parts_are_channels_or_the_shorter_axis() -> None:
    """In an image's planes, in rows of predictions, and in columns of them."""
    planes = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    assert observe_range(planes)[0].tolist() == [0, 12]
    rows = np.arange(12, dtype=np.float32).reshape(1, 6, 2)
    assert observe_range(rows)[0].tolist() == [0, 1]
    assert observe_range(rows.transpose(0, 2, 1))[0].tolist() == [0, 1]


def test_quiet_parts_get_few_levels() -> None:
    """Scores in 0..1 beside pixels in 0..510 are spread over half a level."""
    values = np.zeros((1, 100, 2), np.float32)
    values[0, :, 0] = np.linspace(0, 510, 100)
    values[0, :, 1] = np.linspace(0, 1, 100)
    levels = _observation([values]).part_levels()
    assert levels[0] == 256
    assert levels[1] == pytest.approx(0.5, abs=0.01)


def test_numbers_that_are_not_finite_are_refused() -> None:
    """They would make every range infinite."""
    with pytest.raises(IntegrityError, match="not finite"):
        observe_range(np.array([[1.0, np.inf]], np.float32))
