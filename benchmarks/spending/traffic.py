"""Traffic for the budget benchmark: traces of tracks that could be asked about.

Every trace is drawn from a seed. A track can be asked about between two instants, at one value and
one size; values are p(1 - p) times the frames it lives, sizes lognormal between 1 and 20 kB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

FRAME_RATE_HZ = 10.0
SIZE_MEDIAN_BYTES = 5_000.0
SIZE_BYTES_MIN, SIZE_BYTES_MAX = 1_000.0, 20_000.0
LIFE_S_MIN, LIFE_S_MAX = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Trace:
    """Tracks of one run, by arrival.

    Attributes:
        arrives_s: (N,) float64, when each can first be asked about.
        leaves_s: (N,) float64, when it no longer can.
        values: (N,) float64, what a verdict about it is worth.
        sizes: (N,) float64, bytes of its crop.
        cameras: (N,) int64, whose each is; the budget is the cameras' number times one camera's.
    """

    arrives_s: Array
    leaves_s: Array
    values: Array
    sizes: Array
    cameras: npt.NDArray[np.int64]

    @property
    def camera_count(self) -> int:
        """How many cameras share the budget."""
        return int(self.cameras.max(initial=0)) + 1


def poisson(random: np.random.Generator, duration_s: float) -> Trace:
    """One track a second, three times what the budget pays for."""
    return _tracks(random, _arrivals(random, np.ones_like, 1.0, duration_s))


def sparse(random: np.random.Generator, duration_s: float) -> Trace:
    """Two thirds of what the budget pays for: nearly everything should be sent."""
    rate = 0.22
    return _tracks(random, _arrivals(random, lambda at_s: 0 * at_s + rate, rate, duration_s))


def bursts(random: np.random.Generator, duration_s: float) -> Trace:
    """Four tracks a second or none, for stretches with heavy tails (Pareto, shape 1.5)."""
    busy = _stretches(random, duration_s)
    return _tracks(random, _arrivals(random, lambda at_s: 4.0 * busy(at_s), 4.0, duration_s))


def day_and_night(random: np.random.Generator, duration_s: float) -> Trace:
    """The rate swings between a thirtieth and twice its mean, five times in 10 000 s."""

    def rate(at_s: Array) -> Array:
        return np.asarray(1.5 - 1.45 * np.cos(2 * np.pi * at_s / 2_000.0))

    return _tracks(random, _arrivals(random, rate, 3.0, duration_s))


def rich_bursts(random: np.random.Generator, duration_s: float) -> Trace:
    """A steady stream of cheap tracks; in bursts there are more, each worth fourfold."""
    busy = _stretches(random, duration_s)
    arrives = _arrivals(random, lambda at_s: 0.7 + 1.3 * busy(at_s), 2.0, duration_s)
    return _tracks(random, arrives, 1.0 + 3.0 * busy(arrives))


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


def _tracks(random: np.random.Generator, arrives_s: Array, worth: float | Array = 1.0) -> Trace:
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


def _stretches(random: np.random.Generator, duration_s: float) -> Callable[[Array], Array]:
    """1 at busy instants, 0 at quiet ones: busy and quiet stretches of 30 and 60 s in the mean."""
    count = int(duration_s / 10.0) + 2
    lengths_s = (random.pareto(1.5, count) + 1.0) * np.where(np.arange(count) % 2, 20.0, 10.0)
    ends_s = np.cumsum(lengths_s)

    def busy(at_s: Array) -> Array:
        return np.asarray(np.searchsorted(ends_s, at_s, side="right") % 2 == 0, np.float64)

    return busy
