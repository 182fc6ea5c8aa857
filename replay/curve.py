"""Utility against the bytes that are really sent, for every policy, with what it leaves undone.

Where a policy's dial stands for a budget is settled on calibration material alone: by the bytes it
sends there. Without calibration material, groups of the material take turns in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from foundation.errors import ConfigError
from model_workshop.evaluation.truth import Array
from replay.outcomes import Asks, Outcomes
from replay.policies import Policy, Setting
from replay.views import Part, jitter

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Budgets of the tables, as shares of all frames at the base level."""
BETWEEN = (0.005, 0.015, 0.03, 0.04, 0.07, 0.14, 0.25, 0.4, 0.7, 1.0)
"""Budgets that only curves and areas need."""
FOLDS = 4
_AREA_STEPS = 2001


@dataclass(frozen=True)
class Fold:
    """Where dials are set, and the frames to which they then apply.

    Attributes:
        fit: the calibration part.
        positions: of frames of the material, rising.
    """

    fit: Part
    positions: tuple[int, ...]


def folds_of(outcomes: Outcomes, calibration: Outcomes | None) -> list[Fold]:
    """One fold with calibration material, else groups in turn.

    Raises:
        ConfigError: both materials share frames, or there is but one group to take turns.
    """
    everything = tuple(range(len(outcomes)))
    if calibration is not None:
        known = {frame.digest for frame in calibration.frames}
        if shared := sum(frame.digest in known for frame in outcomes.frames):
            raise ConfigError(
                f"{shared} frames of {outcomes.material.name} are in "
                f"{calibration.material.name} too",
                remedy="Set dials on other material than they are judged by",
            )
        return [Fold(Part.whole(calibration), everything)]
    count = int(outcomes.groups.max()) + 1
    if count < 2:
        raise ConfigError(
            f"{outcomes.material.name} is all one group, on which dials cannot be both set and "
            "judged",
            remedy="Give --calibration, or cut the material into groups (--group, --block-s)",
        )
    names = outcomes.material.groups
    order = sorted(range(count), key=lambda number: jitter("fold", names[number]))
    fold_of = np.empty(count, np.intp)
    fold_of[order] = np.arange(count) % min(FOLDS, count)
    of = fold_of[outcomes.groups]
    return [
        Fold(
            Part(outcomes, tuple(np.flatnonzero(of != k).tolist())),
            tuple(np.flatnonzero(of == k).tolist()),
        )
        for k in range(min(FOLDS, count))
    ]


def choose_within(
    policy: Policy, outcomes: Outcomes, folds: Sequence[Fold], shares: Sequence[float]
) -> list[list[Asks]]:
    """What a policy asks about every frame, for every budget.

    Args:
        policy: whose dial is set.
        outcomes: of the material.
        folds: where it is set, and what it then applies to.
        shares: of the base level's bytes, on calibration.
    """
    chosen: list[list[Asks]] = [[()] * len(outcomes) for _ in shares]
    for fold in folds:
        settings = policy.settings(fold.fit)
        size_at = _sizes(policy, fold.fit, settings)
        views = Part(outcomes, fold.positions).views
        base = fold.fit.base_bytes()
        for row, share in zip(chosen, shares, strict=True):
            setting = _most_lavish(size_at, len(settings), share * base)
            if setting is None:
                continue
            asks = policy.choose(views, settings[setting])
            for position, own in zip(fold.positions, asks, strict=True):
                row[position] = own
    return chosen


def _sizes(policy: Policy, fit: Part, settings: Sequence[Setting]) -> Callable[[int], int]:
    known: dict[int, int] = {}

    def size_at(number: int) -> int:
        if number not in known:
            known[number] = fit.bytes_of(policy.choose(fit.views, settings[number]))
        return known[number]

    return size_at


def _most_lavish(size_at: Callable[[int], int], count: int, budget: float) -> int | None:
    """The last of so many settings, from sparing to lavish, that keeps within a budget."""
    low, high = -1, count
    while high - low > 1:
        middle = (low + high) // 2
        if size_at(middle) <= budget:
            low = middle
        else:
            high = middle
    return low if low >= 0 else None


def area(shares: Sequence[float], recovered: Sequence[float]) -> float:
    """Mean of the gap recovered over all shares of bytes from 0 to 1 (APGR).

    Between points it is taken as straight, beyond the last one as flat: bytes need not be spent.
    """
    x, y = _path(shares, recovered)
    grid = np.linspace(0.0, 1.0, _AREA_STEPS)
    return float(np.interp(grid, x, y).mean())


def share_for(shares: Sequence[float], recovered: Sequence[float], wanted: float) -> float | None:
    """The least share of bytes that recovers so much of the gap; None where no point does."""
    x, y = _path(shares, recovered)
    for k in range(1, len(x)):
        if y[k] >= wanted:
            rise = y[k] - y[k - 1]
            part = (wanted - y[k - 1]) / rise if rise > 0 else 1.0
            return float(x[k - 1] + part * (x[k] - x[k - 1]))
    return None


def _path(shares: Sequence[float], recovered: Sequence[float]) -> tuple[Array, Array]:
    pairs = sorted({(0.0, 0.0), *zip(shares, recovered, strict=True)})
    table = np.array(pairs, np.float64)
    return table[:, 0], table[:, 1]
