"""The program that prints the budget's figures: its bound is one, its ruler measures, it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.budget import worst_overrun
from benchmarks.spending.optimum import optimum, payable_bytes
from benchmarks.spending.traffic import Trace

RATE, BURST, END_S = 1.0, 3.0, 12.0

tracks = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 4), st.integers(1, 9), st.integers(1, 3)),
    min_size=1,
    max_size=5,
)


def trace_of(drawn: list[tuple[int, int, int, int]]) -> Trace:
    """From (arrival, life, value, size)."""
    arrives, lives, values, sizes = np.array(sorted(drawn), np.float64).T
    return Trace(arrives, arrives + lives, values, sizes, np.zeros(len(values), np.int64))


def can_send(trace: Trace, order: tuple[int, ...]) -> bool:
    """Whether a bucket pays for these tracks whole, in this order, each as early as it can."""
    level, now_s = BURST, 0.0
    for track in order:
        at_s = max(now_s, trace.arrives_s[track])
        level = min(BURST, level + RATE * (at_s - now_s))
        wait_s = max(0.0, trace.sizes[track] - level) / RATE
        now_s = at_s + wait_s
        level = level + RATE * wait_s - trace.sizes[track]
        if now_s > min(trace.leaves_s[track], END_S):
            return False
    return True


def best_by_trying(trace: Trace) -> float:
    """The most valuable set of whole tracks that the bucket pays for in some order."""
    best = 0.0
    for count in range(1, len(trace.values) + 1):
        for chosen in combinations(range(len(trace.values)), count):
            value = float(trace.values[list(chosen)].sum())
            if value > best and any(can_send(trace, order) for order in permutations(chosen)):
                best = value
    return best


def largest_flow(trace: Trace) -> float:
    """The most bytes payable, by Hall's condition for intervals.

    Only the tokens of an interval pay for the tracks whose own lie within it; what cannot be paid
    is the most that disjoint intervals lack.
    """
    first = trace.arrives_s * RATE - BURST
    last = np.minimum(trace.leaves_s, END_S) * RATE
    points = sorted({*first.tolist(), *last.tolist()})
    # What intervals from each point on can lack.
    excess = [0.0] * (len(points) + 1)
    for k in range(len(points) - 1, -1, -1):
        excess[k] = excess[k + 1]
        for m in range(k, len(points)):
            inside = (first >= points[k]) & (last <= points[m])
            lacks = float(trace.sizes[inside].sum()) - (points[m] - points[k])
            excess[k] = max(excess[k], lacks + excess[m])
    return float(trace.sizes.sum()) - excess[0]


@settings(max_examples=60, deadline=None)
@given(tracks)
def test_optimum_is_never_below_the_best_of_whole_crops(
    drawn: list[tuple[int, int, int, int]],
) -> None:
    """Every set in every order is tried."""
    trace = trace_of(drawn)
    lower, upper = optimum(trace, RATE, BURST, END_S)
    assert lower <= upper + 1e-9
    assert upper >= best_by_trying(trace) - 1e-9


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(1, 9), st.just(1)),
        min_size=1,
        max_size=5,
    )
)
def test_optimum_of_unit_crops_at_whole_seconds_is_attained(
    drawn: list[tuple[int, int, int, int]],
) -> None:
    """With one byte each and integer instants nothing is gained by sending in part."""
    trace = trace_of(drawn)
    _, upper = optimum(trace, RATE, BURST, END_S, gap=0.0)
    assert upper == pytest.approx(best_by_trying(trace))


@settings(deadline=None)
@given(tracks)
def test_payable_bytes_are_the_largest_flow(drawn: list[tuple[int, int, int, int]]) -> None:
    """Earliest deadline first against the law of intervals."""
    trace = trace_of(drawn)
    chosen = np.arange(len(trace.values))
    assert payable_bytes(trace, chosen, RATE, BURST, END_S) == pytest.approx(largest_flow(trace))


def test_overrun_is_measured_over_every_stretch() -> None:
    """Six bytes in two seconds are one more than three and one a second."""
    sent_s = np.array([100.0, 100.0, 101.0, np.nan, 102.0])
    sizes = np.array([2.0, 1.5, 1.5, 50.0, 1.0])
    assert worst_overrun(sent_s, sizes, RATE, BURST) == pytest.approx(1.0)
    assert worst_overrun(sent_s, sizes, RATE, 4.0) == 0.0
    assert worst_overrun(np.full(5, np.nan), sizes, RATE, BURST) == 0.0


def test_benchmark_writes_its_figures(tmp_path: Path) -> None:
    """A short run leaves a JSON file, seed by seed; no price overruns, none beats the optimum."""
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.budget", "--duration-s", "300"]
    arguments = ["--burst-s", "30", "--pattern", "bursts", "shared", "--seeds", "1", "2"]
    arguments += ["--rule", "price", "price, split", "first come", "--json", str(out)]
    ran = subprocess.run(
        [*command, *arguments], check=True, timeout=120, capture_output=True, text=True
    )
    report = json.loads(out.read_text())
    assert set(report) == {"bursts, burst of 30 s", "shared, burst of 30 s"}
    for name, rules in report.items():
        assert set(rules) == {"price", "first come"} | (
            {"price, split"} if "shared" in name else set()
        )
        for runs in rules.values():
            assert len(runs) == 2
            assert runs[0] != runs[1]
            assert all(0 < run["value"] <= 1 and 0 < run["used"] <= 1 for run in runs)
        assert all(run["overrun_bytes"] == 0 for run in rules["price"])
    runs = report["bursts, burst of 30 s"]["price"]
    mean = sum(run["value"] for run in runs) / 2
    assert f"price            value {mean:6.1%} ±" in ran.stdout
