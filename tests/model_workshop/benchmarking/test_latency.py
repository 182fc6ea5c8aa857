"""Percentiles, and how many samples bear them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_workshop.benchmarking.latency import samples_needed, summarize_latency


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_within_the_samples(values: list[float]) -> None:
    """Whatever was measured."""
    found = summarize_latency(np.array(values), 1.0)
    ordered = [min(values), found.p50_s, found.p95_s, found.p99_s, found.p99_9_s, max(values)]
    assert all(low <= high * (1 + 1e-9) for low, high in itertools.pairwise(ordered))
    assert found.samples == len(values)
    assert found.cpu_s == pytest.approx(1.0 / len(values))


@pytest.mark.parametrize(
    ("samples", "thin", "tail"),
    [
        (199, ("p95", "p99", "p99.9"), "p50"),
        (200, ("p99", "p99.9"), "p95"),
        (1000, ("p99.9",), "p99"),
        (10_000, (), "p99"),
    ],
)
def test_tails_of_few_samples_are_said_to_be_thin(
    samples: int, thin: tuple[str, ...], tail: str
) -> None:
    """Ten samples beyond a percentile bear it."""
    found = summarize_latency(np.linspace(1.0, 2.0, samples), 1.0)
    assert found.thin == thin
    assert found.tail == tail
    assert found.at("p99.9") == found.p99_9_s
    assert samples_needed(99.9) == 10_000
