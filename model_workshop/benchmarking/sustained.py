"""The thirtieth minute against the first: what a machine keeps up when it has become warm.

Wall time grows when the processor slows down, and also when others want it. Processor time per
inference tells them apart: it grows with a falling clock, and hardly with company.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_workshop.benchmarking.worker import Block, Worker

SLOWER_RATIO = 1.10
"""The last minute's median over the first's, from which a run counts as not sustained."""
_SYSTEM_CPU = Path("/sys/devices/system/cpu")
_BLOCK_S = 1.0


class Verdict(enum.StrEnum):
    """What became of the speed."""

    STEADY = "steady"
    THROTTLED = "throttled"
    CONTENDED = "contended"


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of back-to-back inferences.

    Attributes:
        runs: how many there were.
        p50_s: median wall seconds of one.
        p99_s: its 99th percentile.
        cpu_s: processor seconds of one, the mean.
        frequency_hz: of the cores it ran on, the mean; None where the system does not tell.
    """

    runs: int
    p50_s: float
    p99_s: float
    cpu_s: float
    frequency_hz: float | None


@dataclass(frozen=True, slots=True)
class Sustained:
    """A long run, minute by minute."""

    minutes: tuple[Minute, ...]

    @property
    def wall_ratio(self) -> float:
        """Median wall time of the last minute over that of the first."""
        return self.minutes[-1].p50_s / self.minutes[0].p50_s

    @property
    def cpu_ratio(self) -> float:
        """Processor time per inference of the last minute over that of the first."""
        return self.minutes[-1].cpu_s / self.minutes[0].cpu_s

    @property
    def verdict(self) -> Verdict:
        """Throttled if one costs more work than at first, contended if it only lasts longer."""
        if self.cpu_ratio >= SLOWER_RATIO:
            return Verdict.THROTTLED
        return Verdict.CONTENDED if self.wall_ratio >= SLOWER_RATIO else Verdict.STEADY


def sustain(
    worker: Worker,
    minutes: int,
    *,
    minute_s: float = 60.0,
    on_minute: Callable[[int, Minute], None] = lambda _number, _minute: None,
) -> Sustained:
    """Runs one configuration without a pause.

    Args:
        worker: warmed up.
        minutes: how long, at least 2.
        minute_s: seconds of a minute.
        on_minute: told of every minute as it ends, counted from 1.
    """
    found = []
    for number in range(1, minutes + 1):
        found.append(_one_minute(worker, minute_s))
        on_minute(number, found[-1])
    return Sustained(tuple(found))


def _one_minute(worker: Worker, minute_s: float) -> Minute:
    blocks: list[Block] = []
    frequencies: list[float | None] = []
    end = time.monotonic() + minute_s
    while not blocks or time.monotonic() < end:
        blocks.append(worker.time_for(min(_BLOCK_S, minute_s)))
        frequencies.append(frequency_hz(worker.cores))
    seconds = np.concatenate([block.seconds for block in blocks])
    p50, p99 = np.percentile(seconds, (50, 99)).tolist()
    known = [frequency for frequency in frequencies if frequency is not None]
    return Minute(
        len(seconds),
        p50,
        p99,
        sum(block.cpu_s for block in blocks) / len(seconds),
        float(np.mean(known)) if known else None,
    )


def frequency_hz(cores: tuple[int, ...], system: Path = _SYSTEM_CPU) -> float | None:
    """The present clock of these cores, or of all where none are given; None where unknown."""
    names = [f"cpu{core}" for core in cores] or ["cpu[0-9]*"]
    found = []
    for name in names:
        for path in system.glob(f"{name}/cpufreq/scaling_cur_freq"):
            try:
                found.append(1000.0 * int(path.read_text("utf-8")))
            except (OSError, ValueError):
                return None
    return float(np.mean(found)) if found else None
