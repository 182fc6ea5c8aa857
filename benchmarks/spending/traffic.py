"""Traffic for the budget benchmark: traces of tracks that could be asked about.

Every trace is drawn from a seed. A track can be asked about between two instants, at one value and
one size; values are p(1 - p) times the frames it lives, sizes lognormal between 1 and 20 kB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

FRAME_RATE_HZ = 10.0
SIZE_MEDIAN_BYTES = 5_000.0
SIZE_BYTES_MIN, SIZE_BYTES_MAX = 1_000.0, 20_000.0
LIFE_S_MIN, LIFE_S_MAX = 0.5, 10.0
STRETCH_SHAPE, STRETCH_S_MIN = 1.5, (10.0, 20.0)
"""Busy and quiet stretches last 30 and 60 s in the mean, with heavy tails (Pareto)."""


@dataclass(frozen=True, slots=True)
class Stretches:
    """Busy and quiet stretches by turns, the first one busy, each with tracks of its own.

    Attributes:
        ends_s: (N,) float64, when each stretch ends.
        rates_hz: Tracks a second in busy and in quiet ones.
        worths: What they are worth there, beside those of other traffic.
    """

    ends_s: Array
    rates_hz: tuple[float, float]
    worths: tuple[float, float]

    def quiet(self, at_s: Array) -> npt.NDArray[np.int64]:
        """1 at quiet instants, 0 at busy ones."""
        return np.asarray(np.searchsorted(self.ends_s, at_s, side="right") % 2, np.int64)

    def tracks(self, random: np.random.Generator, duration_s: float) -> Trace:
        """What comes in them."""
        rates_hz, worths = np.array(self.rates_hz), np.array(self.worths)
        top_hz = float(rates_hz.max())
        arrives = _arrivals(random, lambda at_s: rates_hz[self.quiet(at_s)], top_hz, duration_s)
        trace = draw_tracks(random, arrives, worths[self.quiet(arrives)])
        return replace(trace, stretches=self)


@dataclass(frozen=True, slots=True)
class Trace:
    """Tracks of one run, by arrival.

    Attributes:
        arrives_s: (N,) float64, when each can first be asked about.
        leaves_s: (N,) float64, when it no longer can.
        values: (N,) float64, what a verdict about it is worth.
        sizes: (N,) float64, bytes of its crop.
        cameras: (N,) int64, whose each is; the budget is the cameras' number times one camera's.
        stretches: What it was drawn from, where it comes in stretches.
    """

    arrives_s: Array
    leaves_s: Array
    values: Array
    sizes: Array
    cameras: npt.NDArray[np.int64]
    stretches: Stretches | None = None

    @property
    def camera_count(self) -> int:
        """How many cameras share the budget."""
        return int(self.cameras.max(initial=0)) + 1


def poisson(random: np.random.Generator, duration_s: float) -> Trace:
    """One track a second, three times what the budget pays for."""
    return draw_tracks(random, _arrivals(random, np.ones_like, 1.0, duration_s))


def sparse(random: np.random.Generator, duration_s: float) -> Trace:
    """Two thirds of what the budget pays for: nearly everything should be sent."""
    rate = 0.22
    return draw_tracks(random, _arrivals(random, lambda at_s: 0 * at_s + rate, rate, duration_s))


def bursts(random: np.random.Generator, duration_s: float) -> Trace:
    """Four tracks a second or none, for stretches with heavy tails (Pareto, shape 1.5)."""
    return _stretches(random, duration_s, (4.0, 0.0), (1.0, 1.0)).tracks(random, duration_s)


def day_and_night(random: np.random.Generator, duration_s: float) -> Trace:
    """The rate swings between a thirtieth and twice its mean, five times in 10 000 s."""

    def rate(at_s: Array) -> Array:
        return np.asarray(1.5 - 1.45 * np.cos(2 * np.pi * at_s / 2_000.0))

    return draw_tracks(random, _arrivals(random, rate, 3.0, duration_s))


def rich_bursts(random: np.random.Generator, duration_s: float) -> Trace:
    """A steady stream of cheap tracks; in bursts there are more, each worth fourfold."""
    return _stretches(random, duration_s, (2.0, 0.7), (4.0, 1.0)).tracks(random, duration_s)


def shared(random: np.random.Generator, duration_s: float) -> Trace:
    """Four cameras of unequal value and kind share one budget of four cameras."""
    parts = [
        (poisson(random, duration_s), 1.0),
        (bursts(random, duration_s), 1.0),
        (day_and_night(random, duration_s), 0.3),
        (poisson(random, duration_s), 3.0),
    ]
    arrives = np.concatenate([part.arrives_s for part, _ in parts])
    order = np.argsort(arrives, kind="stable")
    return Trace(
        arrives[order],
        np.concatenate([part.leaves_s for part, _ in parts])[order],
        np.concatenate([part.values * worth for part, worth in parts])[order],
        np.concatenate([part.sizes for part, _ in parts])[order],
        np.repeat(np.arange(len(parts)), [len(part.sizes) for part, _ in parts])[order],
    )


PATTERNS: dict[str, Callable[[np.random.Generator, float], Trace]] = {
    "sparse": sparse,
    "poisson": poisson,
    "bursts": bursts,
    "day_and_night": day_and_night,
    "rich_bursts": rich_bursts,
    "shared": shared,
}


def draw_tracks(random: np.random.Generator, arrives_s: Array, worth: float | Array = 1.0) -> Trace:
    """Tracks that arrive then, of random value, life and size; `worth` multiplies the value."""
    count = len(arrives_s)
    life_s = np.exp(random.uniform(np.log(LIFE_S_MIN), np.log(LIFE_S_MAX), count))
    score = random.beta(1.5, 1.5, count)
    sizes = SIZE_MEDIAN_BYTES * np.exp(random.normal(0.0, 0.7, count))
    return Trace(
        arrives_s,
        arrives_s + life_s,
        worth * score * (1.0 - score) * life_s * FRAME_RATE_HZ,
        np.clip(sizes, SIZE_BYTES_MIN, SIZE_BYTES_MAX),
        np.zeros(count, np.int64),
    )


def _arrivals(
    random: np.random.Generator,
    rate_hz: Callable[[Array], Array],
    rate_hz_max: float,
    duration_s: float,
) -> Array:
    """A Poisson process of a rate that changes, by thinning."""
    count = random.poisson(rate_hz_max * duration_s)
    at_s: Array = np.sort(random.uniform(0.0, duration_s, count))
    return at_s[random.uniform(0.0, rate_hz_max, count) < rate_hz(at_s)]


def _stretches(
    random: np.random.Generator,
    duration_s: float,
    rates_hz: tuple[float, float],
    worths: tuple[float, float],
) -> Stretches:
    count = int(duration_s / 10.0) + 2
    shortest_s = np.where(np.arange(count) % 2, *STRETCH_S_MIN[::-1])
    lengths_s = (random.pareto(STRETCH_SHAPE, count) + 1.0) * shortest_s
    return Stretches(np.cumsum(lengths_s), rates_hz, worths)
