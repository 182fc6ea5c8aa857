"""What a rule could buy that knew the traffic as well as anything but its future can be known.

A product has to learn what comes; this rule is told. It knows how tracks are distributed in busy
and in quiet stretches, how long such stretches last, whether one is busy, and for how long it has
been: all that the past can tell about the future of this traffic. Its thresholds are those of the
best rule for that (value iteration over the level of the bucket, the kind of stretch and its age,
with spending taken as a steady flow within a step). So what it falls short of the optimum is the
price of not knowing the future, and hardly any rule can buy more. At a share of those thresholds it
uses more of the budget and buys less, and hardly any rule buys more at that use.
"""

from __future__ import annotations

import numpy as np

from benchmarks.spending.rules import FirstCome
from benchmarks.spending.traffic import (
    STRETCH_S_MIN,
    STRETCH_SHAPE,
    Array,
    Stretches,
    draw_tracks,
)
from foundation.clock import NS_PER_S

_STEP_S = 0.5
_STEPS = 6_000
"""3,000 s ahead: fifty fillings of the bucket."""
_LEVELS = 111
_AGE_GROWTH, _AGES_YOUNG, _AGES_OLD = 1.22, 5, 25
_TRACKS_DRAWN = 8_000
_QUANTILES = 60


class ForeknowingRule(FirstCome):
    """Sends what is worth more than the tokens that it takes are worth in this stretch."""

    def __init__(
        self, rate: float, burst: float, headroom: float, stretches: Stretches, share: float = 1.0
    ) -> None:
        """Takes the law, and the share of the best thresholds at which it spends."""
        super().__init__(rate, burst, headroom)
        self._stretches = stretches
        self._share = share
        self._levels: Array = np.linspace(0.0, burst - headroom, _LEVELS)
        self._ages = [_ages(shortest_s) for shortest_s in STRETCH_S_MIN]
        self._worth = self._iterate(rate)

    def cost(self, predicted: float, now_ns: int) -> float:
        """What the bucket is worth more with these bytes in it."""
        now_s = now_ns / NS_PER_S
        number = int(np.searchsorted(self._stretches.ends_s, now_s, side="right"))
        began_s = self._stretches.ends_s[number - 1] if number else 0.0
        ages = self._ages[number % 2]
        worth = self._worth[number % 2][np.searchsorted(ages, now_s - began_s, side="right") - 1]
        level = self.bucket.available(now_ns)
        with_, without = np.interp([level, level - predicted], self._levels, worth)
        return self._share * float(with_ - without)

    def _iterate(self, rate: float) -> list[Array]:
        """The worth (ages, levels) of the bucket in busy and in quiet stretches."""
        worth: list[Array] = [np.zeros((len(ages), _LEVELS)) for ages in self._ages]
        choices = [self._choices(kind) for kind in (0, 1)]
        for _ in range(_STEPS):
            later = [self._after_a_step(worth, kind) for kind in (0, 1)]
            worth = [
                self._best(later[kind], *choices[kind], made=rate * _STEP_S) for kind in (0, 1)
            ]
            worth = [each - worth[0][0, 0] for each in worth]
        return worth

    def _choices(self, kind: int) -> tuple[Array, Array]:
        """At each price: the value bought in a step, and the bytes spent."""
        random = np.random.default_rng(0)
        rate_hz, factor = self._stretches.rates_hz[kind], self._stretches.worths[kind]
        tracks = draw_tracks(random, np.zeros(_TRACKS_DRAWN), factor)
        density = tracks.values / tracks.sizes
        prices = np.quantile(density, np.linspace(0.0, 1.0, _QUANTILES))
        bought = density[:, None] >= np.append(prices, np.inf)
        per_step = rate_hz * _STEP_S / _TRACKS_DRAWN
        return per_step * (tracks.values @ bought), per_step * (tracks.sizes @ bought)

    def _after_a_step(self, worth: list[Array], kind: int) -> Array:
        """Expected worth (ages, levels) when a step has passed: older, or another stretch."""
        ages, mine = self._ages[kind], worth[kind]
        older = np.minimum(_STEP_S / np.append(np.diff(ages), np.inf), 1.0)[:, None]
        stays = (1 - older) * mine + older * np.concatenate([mine[1:], mine[-1:]])
        # The hazard of a Pareto distribution.
        may_end = ages >= STRETCH_S_MIN[kind]
        ends = np.where(may_end, STRETCH_SHAPE / np.maximum(ages, 1e-9), 0.0)[:, None] * _STEP_S
        return np.asarray((1 - ends) * stays + ends * worth[1 - kind][0])

    def _best(self, later: Array, values: Array, sizes: Array, *, made: float) -> Array:
        """Worth (ages, levels) at the price that is best at each."""
        best = np.full_like(later, -np.inf)
        for value, size in zip(values, sizes, strict=True):
            after = self._levels + made - size
            place = np.clip(after / self._levels[1], 0, _LEVELS - 1)
            below = np.minimum(place.astype(np.intp), _LEVELS - 2)
            above = place - below
            reached = value + (1 - above) * later[:, below] + above * later[:, below + 1]
            best = np.where(after >= 0, np.maximum(best, reached), best)
        return best


def _ages(shortest_s: float) -> Array:
    """Seconds since a stretch began, that are told apart."""
    young = np.linspace(0.0, shortest_s, _AGES_YOUNG)
    return np.concatenate([young, shortest_s * _AGE_GROWTH ** np.arange(1, _AGES_OLD + 1)])
