"""How much of what a byte budget could buy is bought, under traffic that comes in bursts.

    python -m benchmarks.budget [--duration-s S] [--burst-s S] [--pattern NAME] [--json FILE]

Tracks come and go (benchmarks/spending/traffic.py) on a driven clock; five times a second those
that live and are not sent are offered, best value per byte first (to `first come`, oldest first).
Sizes are predicted with an error of 20 % and known once a crop is encoded. Each rule has the same
bucket: 2 kB/s a camera, a burst of some seconds of that, 10 kB of it left to settlements.

    value    what was sent is worth, as a share of the most that the bucket could buy with the trace
             known in advance (benchmarks/spending/optimum.py: an upper bound)
    used     bytes sent, as a share of the most that the bucket could pay for
    overrun  the most bytes, over all stretches of time, above burst + rate x time; 0 when never
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.spending.foreknowing import ForeknowingRule
from benchmarks.spending.optimum import optimum, payable_bytes
from benchmarks.spending.rules import (
    DualDescent,
    FirstCome,
    FixedThreshold,
    Priced,
    Rule,
    Split,
    ValueIteration,
)
from benchmarks.spending.traffic import PATTERNS, Array, Trace
from foundation.clock import NS_PER_S

SEED = 1
RATE_BYTES_PER_S = 2_000.0
HEADROOM_BYTES = 10_000.0
PREDICTION_ERROR = 0.2
DECISIONS_HZ = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one rule did with one trace; shares are those of the program's description."""

    value: float
    used: float
    overrun_bytes: float
    sent: int
    decision_us: float


def play(trace: Trace, rule: Rule, predicted: Array, end_s: float, *, oldest_first: bool) -> Array:
    """Plays a trace to a rule.

    Returns:
        (N,) float64, when each track was sent, in seconds; nan for those that were not.
    """
    sent_s: Array = np.full(len(trace.values), np.nan)
    arrives, leaves = trace.arrives_s.tolist(), trace.leaves_s.tolist()
    values, sizes, guesses = trace.values.tolist(), trace.sizes.tolist(), predicted.tolist()
    cameras = trace.cameras.tolist()
    rank = trace.arrives_s if oldest_first else -trace.values / predicted
    ranks = rank.tolist()
    live: list[int] = []
    coming = 0
    for tick in range(1, int(end_s * DECISIONS_HZ) + 1):
        now_s = tick / DECISIONS_HZ
        now_ns = round(now_s * NS_PER_S)
        live = [track for track in live if leaves[track] >= now_s]
        while coming < len(arrives) and arrives[coming] <= now_s:
            if leaves[coming] >= now_s:
                rule.learn(values[coming], guesses[coming], cameras[coming], now_ns)
                live.append(coming)
            coming += 1
        live.sort(key=ranks.__getitem__)
        left = []
        for track in live:
            paid = rule.pay(values[track], guesses[track], sizes[track], cameras[track], now_ns)
            if paid:
                sent_s[track] = now_s
            else:
                left.append(track)
        live = left
    return sent_s


def worst_overrun(sent_s: Array, sizes: Array, rate: float, burst: float) -> float:
    """The most bytes that any stretch of time saw above burst + rate x its length; at least 0."""
    chosen = np.flatnonzero(~np.isnan(sent_s))
    chosen = chosen[np.argsort(sent_s[chosen], kind="stable")]
    if not len(chosen):
        return 0.0
    total = np.cumsum(sizes[chosen])
    made = rate * sent_s[chosen]
    before = np.minimum.accumulate(total - sizes[chosen] - made)
    return max(0.0, float((total - made - before).max()) - burst)


def measure(trace: Trace, end_s: float, burst_s: float) -> dict[str, Figures]:
    """All rules on one trace."""
    rate = RATE_BYTES_PER_S * trace.camera_count
    burst = rate * burst_s
    bucket = (rate, burst, HEADROOM_BYTES)
    _, best = optimum(trace, rate, burst, end_s)
    payable = payable_bytes(trace, np.arange(len(trace.values)), rate, burst, end_s)
    error = np.random.default_rng(SEED).normal(0.0, PREDICTION_ERROR, len(trace.sizes))
    predicted: Array = trace.sizes * np.exp(error)
    rules: dict[str, Callable[[], Rule]] = {
        "first come": lambda: FirstCome(*bucket),
        "fixed threshold": lambda: FixedThreshold(*bucket, trace, end_s),
        "dual descent": lambda: DualDescent(*bucket, trace, end_s),
        "value iteration": lambda: ValueIteration(*bucket, trace, end_s),
        "price": lambda: Priced(*bucket),
    }
    if trace.camera_count > 1:
        rules["price, split"] = lambda: Split(*bucket, trace.camera_count)
    if (stretches := trace.stretches) is not None:
        rules["foreknowing"] = lambda: ForeknowingRule(*bucket, stretches)
    found = {}
    for name, build in rules.items():
        rule = build()
        begun_s = time.perf_counter()
        sent_s = play(trace, rule, predicted, end_s, oldest_first=name == "first come")
        took_s = time.perf_counter() - begun_s
        sent = ~np.isnan(sent_s)
        found[name] = Figures(
            value=float(trace.values[sent].sum()) / best,
            used=float(trace.sizes[sent].sum()) / payable,
            overrun_bytes=worst_overrun(sent_s, trace.sizes, rate, burst),
            sent=int(sent.sum()),
            decision_us=1e6 * took_s / max(1, len(sent)),
        )
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration-s", type=float, default=10_000.0)
    parser.add_argument("--burst-s", type=float, nargs="+", default=[60.0, 120.0])
    parser.add_argument("--pattern", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args()
    report: dict[str, dict[str, dict[str, object]]] = {}
    for burst_s in arguments.burst_s:
        for pattern in arguments.pattern:
            trace = PATTERNS[pattern](np.random.default_rng(SEED), arguments.duration_s)
            found = measure(trace, arguments.duration_s, burst_s)
            name = f"{pattern}, burst of {burst_s:g} s"
            report[name] = {rule: asdict(figures) for rule, figures in found.items()}
            print(name)
            for rule, figures in found.items():
                print(
                    f"  {rule:<16} value {figures.value:6.1%}  used {figures.used:6.1%}  "
                    f"overrun {figures.overrun_bytes:6.0f} B  sent {figures.sent:6d}",
                    flush=True,
                )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
