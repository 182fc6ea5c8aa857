"""What many runs say about one: percentiles, with the samples to bear them, and the work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
PERCENTILES = (50.0, 95.0, 99.0, 99.9)
SAMPLES_BEYOND = 10
"""A percentile with fewer samples beyond it tells of single events rather than of the model."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall time and work of one inference.

    Attributes:
        samples: how many were timed.
        p50_s: the median, in seconds.
        p95_s: its 95th percentile.
        p99_s: its 99th percentile.
        p99_9_s: its 99.9th percentile.
        cpu_s: processor seconds, over all threads, the mean.
        thin: percentiles with too few samples beyond them, such as `p99.9`.
    """

    samples: int
    p50_s: float
    p95_s: float
    p99_s: float
    p99_9_s: float
    cpu_s: float
    thin: tuple[str, ...]

    @property
    def tail(self) -> str:
        """The highest of p50, p95 and p99 that has samples enough."""
        return next(name for name in ("p99", "p95", "p50") if name not in self.thin)

    def at(self, percentile: str) -> float:
        """Seconds of `p50`, `p95`, `p99` or `p99.9`."""
        return float(getattr(self, f"{percentile.replace('.', '_')}_s"))


def samples_needed(percentile: float) -> int:
    """How many samples bear a percentile."""
    return round(SAMPLES_BEYOND / (1.0 - percentile / 100.0))


def summarize_latency(seconds: Seconds, cpu_s: float) -> Latency:
    """Percentiles of the wall times (runs,), and the mean of the processor time of them all."""
    p50, p95, p99, p99_9 = np.percentile(seconds, PERCENTILES).tolist()
    thin = tuple(
        f"p{percentile:g}"
        for percentile in PERCENTILES[1:]
        if len(seconds) < samples_needed(percentile)
    )
    return Latency(len(seconds), p50, p95, p99, p99_9, cpu_s / len(seconds), thin)
