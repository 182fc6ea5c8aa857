"""When the frame lane does its chores."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.rhythm import PERIOD_NS, Rhythm

CHORES = 4


def test_chores_of_a_fast_camera_fall_into_different_frames() -> None:
    """At thirty frames a second each has its turn, and none meets another after the first frame."""
    rhythm = Rhythm(CHORES)
    assert rhythm.turns(0) == [True] * CHORES
    turns = [rhythm.turns(round(frame * 1e9 / 30)) for frame in range(1, 300)]
    assert max(sum(turn) for turn in turns) == 1
    for chore in range(CHORES):
        frames = [at for at, turn in enumerate(turns) if turn[chore]]
        assert {later - earlier for earlier, later in pairwise(frames)} <= {3, 4, 5}


def test_no_chore_of_a_slow_camera_waits() -> None:
    """Where frames are two periods apart, each frame has all of them."""
    rhythm = Rhythm(CHORES)
    for frame in range(10):
        assert rhythm.turns(2 * PERIOD_NS * frame) == [True] * CHORES


def test_chores_wait_while_a_frame_is_busy_but_not_for_long() -> None:
    """A verdict in every third frame moves them; verdicts in all frames cannot stop them."""
    rhythm = Rhythm(CHORES)
    rhythm.turns(0)
    for frame in range(1, 90):
        busy = frame % 3 == 0
        turns = rhythm.turns(round(frame * 1e9 / 30), busy=busy)
        assert sum(turns) <= (0 if busy else 2)
    last = [frame] * CHORES
    for frame in range(90, 200):
        for chore, turn in enumerate(rhythm.turns(round(frame * 1e9 / 30), busy=True)):
            last[chore] = frame if turn else last[chore]
        assert frame - min(last) <= 13


@given(st.lists(st.integers(-(10**12), 10**9), max_size=50))
def test_no_chore_waits_for_long_whatever_the_clock_does(steps: list[int]) -> None:
    """Each is done within two periods of its last turn and one frame, also after a step back."""
    rhythm, now_ns = Rhythm(CHORES), 0
    last = [-2 * PERIOD_NS] * CHORES
    for step in steps:
        now_ns += step
        for chore, turn in enumerate(rhythm.turns(now_ns)):
            assert turn or 0 <= now_ns - last[chore] < 2 * PERIOD_NS
            if turn:
                last[chore] = now_ns
