"""Which range of a tensor 256 levels are spread over. Pure functions of what was observed.

A calibrator is a rule from an observation to a range. MinMax keeps every value and pays with coarse
steps where a few are far out; the others clip those and pay with them. None is best for every
model, so several are tried (`model_workshop.quantization.search`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.errors import IntegrityError

LEVELS = 256
BINS = 2048
_ENTROPY_BINS_MIN = 128
_ENTROPY_BINS_STEP = 32

Array = npt.NDArray[np.float64]
Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value to represent, by tensor."""


class Calibrator(enum.StrEnum):
    """A rule for choosing ranges."""

    MINMAX = "minmax"
    """From the lowest to the highest value of all images."""
    MEAN_MINMAX = "mean minmax"
    """From the mean of the images' lowest values to that of their highest ones: what a moving
    average comes to, whatever the order of the images."""
    PERCENTILE_99_999 = "percentile 99.999"
    PERCENTILE_99_99 = "percentile 99.99"
    PERCENTILE_99_9 = "percentile 99.9"
    ENTROPY = "entropy"
    """The symmetric clip that keeps the distribution most alike (Migacz, GTC 2017)."""


_OUTSIDE_SHARES = {
    Calibrator.PERCENTILE_99_999: 1e-5,
    Calibrator.PERCENTILE_99_99: 1e-4,
    Calibrator.PERCENTILE_99_9: 1e-3,
}


@dataclass(frozen=True, slots=True)
class Observation:
    """The values of one tensor over the calibration images.

    Attributes:
        lows: (images,) lowest value of each image.
        highs: (images,) highest value of each image.
        part_lows: (parts,) lowest value of each part over all images; a part is a channel, or a
            column where the tensor has rows of different kinds of number.
        part_highs: (parts,) highest value of each part.
        counts: (BINS,) how often values fell into equal bins from the lowest to the highest one.
    """

    lows: Array
    highs: Array
    part_lows: Array
    part_highs: Array
    counts: npt.NDArray[np.int64]

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return float(self.lows.min()), float(self.highs.max())

    def part_levels(self) -> Array:
        """(parts,) how many of 256 common levels the values of each part are spread over."""
        low, high = self.range
        step = max(high, 0.0) - min(low, 0.0)
        return LEVELS * (self.part_highs - self.part_lows) / step if step else np.full(1, LEVELS)


def observe_range(values: npt.NDArray[np.floating]) -> tuple[Array, Array]:
    """Lowest and highest value of every part of one image's tensor.

    Parts lie along the channels of (1, channels, height, width), and along the shorter of the last
    two axes of (1, rows, columns), which is where detectors put different kinds of number.

    Raises:
        IntegrityError: a value is not a finite number.
    """
    parted = np.asarray(values)
    if parted.ndim == 4:
        parted = parted.reshape(parted.shape[0] * parted.shape[1], -1)
    elif parted.ndim == 3:
        parted = parted.reshape(-1, parted.shape[2])
        parted = parted.T if parted.shape[1] < parted.shape[0] else parted
    else:
        parted = parted.reshape(1, -1)
    lows, highs = parted.min(axis=1).astype(np.float64), parted.max(axis=1).astype(np.float64)
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise IntegrityError(
            "The float model computes values that are not finite numbers",
            remedy="Run it in float on these images and look for the operator that does",
        )
    return lows, highs


def count_values(
    values: npt.NDArray[np.floating], low: float, high: float
) -> npt.NDArray[np.int64]:
    """How many values (N,) fall into each of `BINS` equal bins between low and high."""
    bins = ((values - low) * (BINS / (high - low))).astype(np.int64)
    return np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)


def choose_range(observation: Observation, calibrator: Calibrator) -> tuple[float, float]:
    """The range that a calibrator gives a tensor."""
    low, high = observation.range
    if calibrator is Calibrator.MINMAX or not low < high:
        return low, high
    if calibrator is Calibrator.MEAN_MINMAX:
        return float(observation.lows.mean()), float(observation.highs.mean())
    edges = np.linspace(low, high, len(observation.counts) + 1)
    if calibrator is Calibrator.ENTROPY:
        limit = _entropy_limit(observation.counts, edges)
        return max(low, -limit), min(high, limit)
    below = np.cumsum(observation.counts) / max(1, observation.counts.sum())
    outside = _OUTSIDE_SHARES[calibrator]
    first = int(np.searchsorted(below, outside, side="right"))
    last = int(np.searchsorted(below, 1.0 - outside, side="left"))
    return float(edges[first]), float(edges[min(last, len(edges) - 2) + 1])


def _entropy_limit(counts: npt.NDArray[np.int64], edges: Array) -> float:
    """The magnitude to clip at so that 128 levels lose least information about magnitudes."""
    centres = np.abs((edges[:-1] + edges[1:]) / 2)
    top = float(np.abs(edges[[0, -1]]).max())
    magnitudes, bounds = np.histogram(centres, BINS, (0.0, top), weights=counts.astype(np.float64))
    # Exact zeros are exact in integers, too, and would drown the rest.
    magnitudes[0] = 0.0
    best, least = BINS, np.inf
    for kept in range(_ENTROPY_BINS_MIN, BINS + 1, _ENTROPY_BINS_STEP):
        divergence = _divergence(magnitudes, kept)
        if divergence < least:
            best, least = kept, divergence
    return float(bounds[best])


def _divergence(magnitudes: Array, kept: int) -> float:
    """Kullback-Leibler divergence of the first `kept` bins, clipped, from 128 levels of them."""
    clipped = magnitudes[:kept].copy()
    clipped[-1] += magnitudes[kept:].sum()
    level = np.arange(kept) * _ENTROPY_BINS_MIN // kept
    present = magnitudes[:kept] > 0
    masses = np.bincount(level, magnitudes[:kept], _ENTROPY_BINS_MIN)
    sizes = np.bincount(level, present, _ENTROPY_BINS_MIN)
    coarse = np.where(present, (masses / np.maximum(sizes, 1))[level], 0.0)
    if not clipped.sum() or not coarse.sum():
        return float(np.inf)
    p = clipped / clipped.sum()
    q = np.maximum(coarse / coarse.sum(), 1e-9)
    chosen = p > 0
    return float((p[chosen] * np.log(p[chosen] / q[chosen])).sum())
