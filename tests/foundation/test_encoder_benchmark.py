"""The comparison of encoders at equal quality, and the detection of a held interpreter lock."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from benchmarks.encoders import Cost, bytes_at_equal_psnr, line_crops, pauses


def curve(sizes: Sequence[int], errors: Sequence[float]) -> dict[int, Cost]:
    """A way's costs at rising quality."""
    return {
        number: Cost(size_bytes=[size], errors=[error])
        for number, (size, error) in enumerate(zip(sizes, errors, strict=True))
    }


BASE = curve([100, 200, 400], [400.0, 200.0, 100.0])


@pytest.mark.parametrize(
    ("other", "ratio"),
    [
        (curve([100, 200, 400], [400.0, 200.0, 100.0]), 1.0),
        (curve([50, 100, 200], [400.0, 200.0, 100.0]), 0.5),
        (curve([200, 400, 800], [200.0, 100.0, 50.0]), 1.0),
        (curve([600, 1200], [200.0, 100.0]), 3.0),
        (curve([100, 200], [10.0, 5.0]), None),
    ],
    ids=["the same", "half everywhere", "the same line, further up", "a part of it", "apart"],
)
def test_bytes_are_compared_where_both_reach(other: dict[int, Cost], ratio: float | None) -> None:
    """Quality numbers do not matter, only what came out."""
    found = bytes_at_equal_psnr(other, BASE)
    assert found == (None if ratio is None else pytest.approx(ratio))


def test_a_held_lock_shows() -> None:
    """A thread beside a long power pauses about as long; beside a sleep it goes on."""
    held = pauses(lambda: 3**600_000, 3)
    assert held["longest_pause_ms"] > 0.5 * held["duration_ms"]
    free = pauses(lambda: time.sleep(0.3), 3)
    assert free["longest_pause_ms"] < 0.9 * free["duration_ms"]


def test_line_crops_are_whole_and_differ() -> None:
    """Of the size that the table names."""
    crops = line_crops(2)
    assert [crop.shape for crop in crops] == [(192, 192, 3)] * 2
    assert (crops[0] != crops[1]).any()
