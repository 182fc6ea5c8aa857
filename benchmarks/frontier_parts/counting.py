"""Counts by board, F1, the gap that is recovered, and how sure that is. Pure.

Boards are drawn with replacement, the same for all systems: what is compared is paired.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reference_line.board import BOARD_PITCH_PX
from reference_line.evaluation import Claim, Judgement, RunTruth, judge_claims
from reference_line.line import Line

SAMPLES = 2000
_SEED = 20261125
Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
"""(boards, 3): right claims, wrong claims, missed defects."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the central 95 % of its resamples."""

    value: float
    low: float
    high: float


def board_counts(claims: Sequence[Claim], truth: RunTruth, line: Line, boards: int) -> Counts:
    """Right and wrong claims and missed defects of each board of one line."""
    counts = np.zeros((boards, 3), np.int64)
    for defect in truth.defects.values():
        counts[defect.board, 2] += 1
    for one in judge_claims(claims, truth):
        if one.judgement is Judgement.RIGHT and one.defect_id is not None:
            board = truth.defects[one.defect_id].board
            counts[board] += (1, 0, -1)
        elif one.judgement is not Judgement.IGNORED:
            box = one.claim.box
            centre = line.position(one.claim.sequence) + (box[0] + box[2]) / 2
            counts[min(boards - 1, max(0, int(centre // BOARD_PITCH_PX))), 1] += 1
    return counts


def f1_of(counts: npt.ArrayLike) -> Array:
    """F1 (...) of counts (..., 3)."""
    right, wrong, missed = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return np.asarray(2 * right / np.maximum(1, 2 * right + wrong + missed))


class Resamples:
    """Boards drawn again and again."""

    def __init__(self, boards: int, samples: int = SAMPLES) -> None:
        rng = np.random.default_rng(_SEED)
        drawn = rng.integers(0, boards, (samples, boards))
        self._weights = np.stack([np.bincount(row, minlength=boards) for row in drawn])

    def f1(self, counts: Counts) -> Array:
        """F1 of each resample, from counts (boards, 3)."""
        return f1_of(self._weights @ counts)

    def recovered(self, edge: Counts, hybrid: Counts, cloud: Counts) -> Interval:
        """Which share of the way from edge to cloud a system goes; never clipped."""
        whole = [f1_of(one.sum(axis=0)) for one in (edge, hybrid, cloud)]
        value = float((whole[1] - whole[0]) / (whole[2] - whole[0]))
        low, middle, high = (self.f1(one) for one in (edge, hybrid, cloud))
        gap = high - low
        shares = np.where(gap > 0, (middle - low) / np.where(gap > 0, gap, 1), np.nan)
        return _interval(value, shares)

    def ahead(self, first: Counts, second: Counts) -> Interval:
        """By how much F1 the first system is above the second."""
        value = float(f1_of(first.sum(axis=0)) - f1_of(second.sum(axis=0)))
        return _interval(value, self.f1(first) - self.f1(second))


def area(shares: Sequence[float], recovered: Sequence[float], end: float) -> float:
    """Mean of the gap recovered over shares of bytes from 0 to `end` (APGR).

    Straight between points and flat beyond the last: bytes need not be spent. Nothing is
    recovered with nothing.
    """
    points = sorted({(0.0, 0.0), *zip(shares, recovered, strict=True)})
    x, y = np.array(points).T
    grid = np.linspace(0.0, end, 2001)
    return float(np.interp(grid, x, y).mean())


def share_for(shares: Sequence[float], recovered: Sequence[float], wanted: float) -> float | None:
    """The least share of bytes that recovers so much; None where no point does."""
    points = sorted({(0.0, 0.0), *zip(shares, recovered, strict=True)})
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if y1 >= wanted:
            part = (wanted - y0) / (y1 - y0) if y1 > y0 else 1.0
            return float(x0 + part * (x1 - x0))
    return None


def _interval(value: float, samples: Array) -> Interval:
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    return Interval(value, float(low), float(high))
