"""What INT8 buys: a float bundle beside the INT8 one that was made from it, on one thread.

    python -m benchmarks.int8 FLOAT INT8 [--rounds N] [--json FILE]

The two take turns, inference by inference, and who begins changes every round, so that both see the
same machine. Wall time is what a camera waits; processor time leaves out what other programs of a
shared machine took meanwhile. The ratio is given for every tenth of the rounds as well: its spread
says how far to trust it. The runtime's trace then names the operators that limit each of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import EXIT_CONFIG, EXIT_OK, HardcaseError
from foundation.session import RUNTIME_VERSION
from model_workshop.benchmarking.operators import KernelCost, profile_bundle

_WARM_UP_ROUNDS = 20
_PARTS = 10
_OPERATORS = 10
Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall and processor seconds (rounds, 2) of the float and the INT8 bundle."""

    wall: Seconds
    cpu: Seconds

    def document(self) -> dict[str, Any]:
        """Milliseconds and ratios."""
        sides = {}
        for position, name in enumerate(("float", "int8")):
            wall, cpu = 1e3 * self.wall[:, position], 1e3 * self.cpu[:, position]
            p50, p95, p99 = np.percentile(wall, (50, 95, 99)).round(3).tolist()
            sides[name] = {
                "wall_p50_ms": p50,
                "wall_p95_ms": p95,
                "wall_p99_ms": p99,
                "wall_min_ms": round(float(wall.min()), 3),
                "cpu_p50_ms": round(float(np.median(cpu)), 3),
            }
        return {**sides, "faster_wall": _ratio(self.wall), "faster_cpu": _ratio(self.cpu)}


def _ratio(seconds: Seconds) -> dict[str, float]:
    """How many times as fast INT8 is: over all rounds, and the extremes of their tenths."""
    parts = [np.median(part, axis=0) for part in np.array_split(seconds, _PARTS)]
    ratios = [float(part[0] / part[1]) for part in parts]
    whole = np.median(seconds, axis=0)
    return {
        "median": round(float(whole[0] / whole[1]), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
    }


def time_in_turns(bundles: tuple[Bundle, Bundle], rounds: int) -> Timing:
    """Times single inferences of two bundles on their smoke inputs."""
    runs = [Detector.open(bundle).load([bundle.smoke.pixels]) for bundle in bundles]
    wall, cpu = (np.zeros((_WARM_UP_ROUNDS + rounds, 2)) for _ in range(2))
    for number in range(len(wall)):
        for turn in range(2):
            side = (number + turn) % 2
            started, worked = time.perf_counter(), time.thread_time()
            runs[side].run()
            cpu[number, side] = time.thread_time() - worked
            wall[number, side] = time.perf_counter() - started
    return Timing(wall[_WARM_UP_ROUNDS:], cpu[_WARM_UP_ROUNDS:])


def _operators(bundle: Bundle) -> list[dict[str, Any]]:
    return [_operator(cost) for cost in profile_bundle(bundle).by_type[:_OPERATORS]]


def _operator(cost: KernelCost) -> dict[str, Any]:
    return {
        "operator": cost.op_type,
        "dtype": cost.dtype,
        "kernels": cost.calls,
        "ms": round(1e3 * cost.seconds, 3),
        "share": round(cost.share, 3),
    }


def _print(document: dict[str, Any]) -> None:
    print(f"{'':<8}{'wall p50':>10}{'p95':>10}{'p99':>10}{'least':>10}{'cpu p50':>10}   ms")
    for name in ("float", "int8"):
        figures = document["timing"][name].values()
        wall_p50, p95, p99, least, cpu = figures
        print(f"{name:<8}{wall_p50:>10.2f}{p95:>10.2f}{p99:>10.2f}{least:>10.2f}{cpu:>10.2f}")
    for kind in ("wall", "cpu"):
        ratio = document["timing"][f"faster_{kind}"]
        print(
            f"INT8 is {ratio['median']:.2f} times as fast by {kind} time "
            f"({ratio['least']:.2f} to {ratio['most']:.2f} in tenths of the rounds)"
        )
    for name in ("float", "int8"):
        print(f"the costliest operators of {name}")
        for row in document["operators"][name]:
            print(
                f"  {row['share']:>6.1%} {row['ms']:>8.2f} ms {row['kernels']:>4} x "
                f"{row['operator']} {row['dtype']}"
            )


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8")
    parser.add_argument("float_bundle", type=Path, metavar="FLOAT")
    parser.add_argument("int8_bundle", type=Path, metavar="INT8")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    try:
        bundles = Bundle.open(arguments.float_bundle), Bundle.open(arguments.int8_bundle)
        timing = time_in_turns(bundles, arguments.rounds)
        document = {
            "bundles": [bundle.digest for bundle in bundles],
            "runtime": RUNTIME_VERSION,
            "rounds": arguments.rounds,
            "timing": timing.document(),
            "operators": {
                name: _operators(bundle)
                for name, bundle in zip(("float", "int8"), bundles, strict=True)
            },
        }
    except HardcaseError as error:
        print(f"int8: {error}", file=sys.stderr)
        return EXIT_CONFIG
    _print(document)
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
