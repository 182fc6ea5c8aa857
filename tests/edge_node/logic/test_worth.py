"""What a verdict is worth by the time it can come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.config import PolicySettings
from edge_node.logic.worth import Latency, Worth
from tests.edge_node.logic.scene import HEIGHT, NOW_NS, WIDTH, rows_of

EVEN = np.ones(3, np.float32)
FRAME_NS = 40_000_000


def settled(latency_s: float | None, count: int = 400) -> Latency:
    """A belief after so many verdicts that took so long."""
    latency = Latency()
    for _ in range(count):
        latency.learn(latency_s)
    return latency


def worth(latency_s: float | None, **values: float) -> Worth:
    """Where verdicts take so long, on a camera of 25 frames a second."""
    made = Worth(PolicySettings.model_validate(values), EVEN)
    made.latency = settled(latency_s)
    for number in range(300):
        made.note_frame(number, NOW_NS + number * FRAME_NS)
    return made


def test_gain_is_multiplied_by_what_the_class_costs() -> None:
    """Per track, by the edge's own class."""
    rows = rows_of({"edge_label": 0}, {"edge_label": 1}, {"edge_label": 2})
    costs = np.array([1.0, 5.0, 0.0], np.float32)
    values = Worth(PolicySettings(), costs).of(rows, np.arange(len(rows)), WIDTH, HEIGHT)
    assert values == pytest.approx(values[0] * costs)


def test_what_stays_longer_in_view_is_worth_more() -> None:
    """Until the horizon; what leaves before the verdict is worth its record part alone."""
    rows = rows_of(
        {"box": (640, 400, 652, 412), "velocity": (0, 0)},
        {"box": (1200, 400, 1212, 412), "velocity": (0, 0)},
        {"box": (640, 400, 652, 412), "velocity": (10, 0)},
        {"box": (1200, 400, 1212, 412), "velocity": (10, 0)},
        {"box": (1260, 400, 1272, 412), "velocity": (10, 0)},
    )
    made = worth(0.5, live_share=0.5, live_horizon_s=5.0)
    still, edge, crossing, leaving, gone = made.of(
        rows, np.arange(len(rows)), WIDTH, HEIGHT
    ).tolist()
    assert still == edge
    assert still > crossing > leaving > gone
    assert still == pytest.approx(0.5 + 0.5 * 4.5 / 5.0, abs=0.03)
    # 634 pixels at 10 a frame of 40 ms are 2.54 s, less the half second of the verdict.
    assert crossing == pytest.approx(0.5 + 0.5 * 2.04 / 5.0, abs=0.03)
    assert gone == pytest.approx(0.5, abs=0.01)


def test_verdict_that_comes_too_late_is_worth_nothing_to_the_live_result() -> None:
    """And what comes after the expiry is worth next to nothing at all."""
    rows = rows_of({"velocity": (0, 0)})
    slow = worth(3.0, live_share=0.3, live_horizon_s=2.0).of(
        rows, np.arange(len(rows)), WIDTH, HEIGHT
    )
    assert slow[0] == pytest.approx(0.7, abs=0.02)
    late = worth(8.0, live_share=0.3, live_horizon_s=2.0).of(
        rows, np.arange(len(rows)), WIDTH, HEIGHT
    )
    assert late[0] < 0.03


def test_verdicts_that_never_come_make_asking_worth_less() -> None:
    """By their share."""
    latency = settled(0.2)
    assert latency.within(5.0) == pytest.approx(1.0)
    for _ in range(69):  # half of a memory of a hundred
        latency.learn(None)
    assert latency.within(5.0) == pytest.approx(0.5, abs=0.02)


def test_outage_of_days_leaves_something_worth_asking_for() -> None:
    """Or nothing would ever be asked again, and nobody would notice that the link is back."""
    latency = settled(None, 200_000)
    assert 0.001 < latency.within(5.0) < 0.05
    assert latency.time_left(np.array([5.0]))[0] > 0.01
    for _ in range(200):
        latency.learn(0.2)
    assert latency.within(5.0) > 0.8


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=60), st.floats(0, 1e3))
def test_latency_is_a_distribution(latencies: list[float | None], seconds: float) -> None:
    """Shares lie in 0 to 1 and rise with time; what is left is never more than there was."""
    latency = Latency()
    for one in latencies:
        latency.learn(one)
    assert 0 <= latency.within(seconds) <= latency.within(2 * seconds) <= 1 + 1e-9
    assert 0 <= latency.time_left(np.array([seconds]))[0] <= seconds + 1e-9


@given(st.lists(st.integers(-(10**13), 10**13), max_size=30))
def test_clock_that_jumps_says_nothing_about_the_camera(jumps: list[int]) -> None:
    """The time between frames stays that of a camera, whatever the instants."""
    made = worth(0.5, live_share=1.0, live_horizon_s=100.0)
    rows = rows_of({"box": (640, 400, 652, 412), "velocity": (10, 0)})
    now_ns, sequence = NOW_NS + 300 * FRAME_NS, 300
    for jump in jumps:
        now_ns += jump
        sequence += 1
        made.note_frame(sequence, now_ns)
    value = made.of(rows, np.arange(len(rows)), WIDTH, HEIGHT)[0]
    assert np.isfinite(value)
    assert 0 < value <= 1


def test_dropped_frames_are_not_taken_for_a_slow_camera() -> None:
    """Time is divided by what the sequence has moved on."""
    rows = rows_of({"box": (640, 400, 652, 412), "velocity": (10, 0)})
    steady, sparse = worth(0.5), worth(0.5)
    for number in range(300, 600, 5):
        sparse.note_frame(number, NOW_NS + number * FRAME_NS)
    assert sparse.of(rows, np.arange(len(rows)), WIDTH, HEIGHT) == pytest.approx(
        steady.of(rows, np.arange(len(rows)), WIDTH, HEIGHT)
    )
