"""How much of what a byte budget could buy is bought, under traffic that comes in bursts.

    python -m benchmarks.budget [--duration-s S] [--burst-s S...] [--pattern NAME...]
        [--rule NAME...] [--seeds N...] [--json FILE]

Tracks come and go (benchmarks/spending/traffic.py) on a driven clock; five times a second those
that live and are not sent are offered, best value per byte first (to `first come`, oldest first).
Sizes are predicted with an error of 20 % and known once a crop is encoded; one that is not worth
its price then is not sent, and is offered at its true size from then on. Each rule has the same
bucket: 2 kB/s a camera, a burst of some seconds of that, 10 kB of it left to settlements.

    value    what was sent is worth, as a share of the most that the bucket could buy with the trace
             known in advance (benchmarks/spending/optimum.py: an upper bound)
    used     bytes sent, as a share of the most that the bucket could pay for
    overrun  the most bytes, over all stretches of time, above burst + rate x time; 0 when never
    encoded  crops encoded for each one that was sent

Stretches have heavy tails, so a trace of 10 000 s is no typical one: what is printed is the mean
over several seeds with its spread (the standard deviation between seeds), and the worst overrun.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Collection, Sequence
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
    Reply,
    Rule,
    Split,
    ValueIteration,
)
from benchmarks.spending.traffic import PATTERNS, Array, Trace
from foundation.clock import NS_PER_S

SEEDS = (1, 2, 3, 4, 5)
RATE_BYTES_PER_S = 2_000.0
HEADROOM_BYTES = 10_000.0
PREDICTION_ERROR = 0.2
DECISIONS_HZ = 5.0
RULES = (
    "first come",
    "fixed threshold",
    "dual descent",
    "value iteration",
    "price",
    "price, split",
    "foreknowing",
    "foreknowing 0.9",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one rule did with one trace; shares are those of the program's description."""

    value: float
    used: float
    overrun_bytes: float
    sent: int
    encoded: int
    decision_us: float


def play(
    trace: Trace, rule: Rule, predicted: Array, end_s: float, *, oldest_first: bool
) -> tuple[Array, int]:
    """Plays a trace to a rule.

    Returns:
        (N,) float64, when each track was sent, in seconds, nan for those that were not; and how
        many crops were encoded and not sent.
    """
    sent_s: Array = np.full(len(trace.values), np.nan)
    arrives, leaves = trace.arrives_s.tolist(), trace.leaves_s.tolist()
    values, sizes, guesses = trace.values.tolist(), trace.sizes.tolist(), predicted.tolist()
    cameras = trace.cameras.tolist()
    rank = trace.arrives_s if oldest_first else -trace.values / predicted
    ranks = rank.tolist()
    live: list[int] = []
    coming = forgone = 0
    for tick in range(1, int(end_s * DECISIONS_HZ) + 1):
        now_s = tick / DECISIONS_HZ
        now_ns = round(now_s * NS_PER_S)
        rule.pass_time(now_ns)
        live = [track for track in live if leaves[track] >= now_s]
        while coming < len(arrives) and arrives[coming] <= now_s:
            if leaves[coming] >= now_s:
                rule.learn(values[coming], guesses[coming], cameras[coming], now_ns)
                live.append(coming)
            coming += 1
        live.sort(key=ranks.__getitem__)
        left = []
        for track in live:
            offer = (values[track], guesses[track], sizes[track], cameras[track])
            reply = rule.pay(*offer, now_ns)
            if reply is Reply.SENT:
                sent_s[track] = now_s
                continue
            left.append(track)
            if reply is Reply.FORGONE:
                forgone += 1
                guesses[track] = sizes[track]
                ranks[track] = -values[track] / sizes[track]
        live = left
    return sent_s, forgone


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


def builders(trace: Trace, burst: float, end_s: float) -> dict[str, Callable[[], Rule]]:
    """What makes each rule anew, by the names of `RULES`; those that this trace allows."""
    rate = RATE_BYTES_PER_S * trace.camera_count
    bucket = (rate, burst, HEADROOM_BYTES)
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
        rules["foreknowing 0.9"] = lambda: ForeknowingRule(*bucket, stretches, 0.9)
    return rules


def measure(
    trace: Trace, end_s: float, burst_s: float, seed: int, chosen: Collection[str]
) -> dict[str, Figures]:
    """The chosen rules on one trace, errors of prediction drawn from the seed."""
    rate = RATE_BYTES_PER_S * trace.camera_count
    burst = rate * burst_s
    _, best = optimum(trace, rate, burst, end_s)
    payable = payable_bytes(trace, np.arange(len(trace.values)), rate, burst, end_s)
    error = np.random.default_rng(seed).normal(0.0, PREDICTION_ERROR, len(trace.sizes))
    predicted: Array = trace.sizes * np.exp(error)
    found = {}
    for name, build in builders(trace, burst, end_s).items():
        if name not in chosen:
            continue
        rule = build()
        begun_s = time.perf_counter()
        sent_s, forgone = play(trace, rule, predicted, end_s, oldest_first=name == "first come")
        took_s = time.perf_counter() - begun_s
        sent = ~np.isnan(sent_s)
        found[name] = Figures(
            value=float(trace.values[sent].sum()) / best,
            used=float(trace.sizes[sent].sum()) / payable,
            overrun_bytes=worst_overrun(sent_s, trace.sizes, rate, burst),
            sent=int(sent.sum()),
            encoded=int(sent.sum()) + forgone,
            decision_us=1e6 * took_s / max(1, len(sent)),
        )
    return found


def measure_seeds(
    pattern: str, end_s: float, burst_s: float, seeds: Sequence[int], chosen: Collection[str]
) -> dict[str, list[Figures]]:
    """The chosen rules on a trace of each seed, in the order of the seeds."""
    found: dict[str, list[Figures]] = {}
    for seed in seeds:
        trace = PATTERNS[pattern](np.random.default_rng(seed), end_s)
        for rule, figures in measure(trace, end_s, burst_s, seed, chosen).items():
            found.setdefault(rule, []).append(figures)
    return found


def summary(rule: str, runs: Sequence[Figures]) -> str:
    """One line: means over the runs, spreads, the worst overrun."""
    values, used = (np.array([getattr(run, of) for run in runs]) for of in ("value", "used"))
    return (
        f"  {rule:<16} value {values.mean():6.1%} ± {values.std():4.1%}  "
        f"used {used.mean():6.1%} ± {used.std():4.1%}  "
        f"overrun {max(run.overrun_bytes for run in runs):6.0f} B  "
        f"sent {np.mean([run.sent for run in runs]):6.0f}  "
        f"encoded {np.mean([run.encoded / max(1, run.sent) for run in runs]):5.2f}"
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration-s", type=float, default=10_000.0)
    parser.add_argument("--burst-s", type=float, nargs="+", default=[60.0, 120.0])
    parser.add_argument("--pattern", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--rule", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of the traces")
    parser.add_argument("--json", type=Path, help="write all figures there, seed by seed")
    arguments = parser.parse_args()
    report: dict[str, dict[str, list[dict[str, object]]]] = {}
    for burst_s in arguments.burst_s:
        for pattern in arguments.pattern:
            found = measure_seeds(
                pattern, arguments.duration_s, burst_s, arguments.seeds, arguments.rule
            )
            name = f"{pattern}, burst of {burst_s:g} s"
            report[name] = {rule: [asdict(run) for run in runs] for rule, runs in found.items()}
            print(name)
            for rule, runs in found.items():
                print(summary(rule, runs), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
