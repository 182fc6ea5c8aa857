"""Gaps on tables written down by hand, and behind the tracker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.config import TrackSettings
from edge_node.logic.gaps import GapRules, Gaps, find_gaps, mark_asked, surprises
from edge_node.logic.rows import Rows
from edge_node.logic.track import Tracker
from foundation.frames import Detections
from tests.edge_node.logic.scene import HEIGHT, WIDTH, rows_of

LOW = np.full(3, 0.3, np.float32)
RULES = GapRules()
LOST: dict[str, Any] = {
    "detections": 10,
    "first_sequence": 0,
    "last_sequence": 9,
    "missed": 3,
    "coasted": 3,
}


def gaps(rows: Rows, rules: GapRules = RULES) -> Gaps:
    """The gaps of a frame of the usual size."""
    return find_gaps(rows, LOW, rules, frame_width=WIDTH, frame_height=HEIGHT, looks=0)


def test_a_regular_track_that_is_not_found_is_a_gap() -> None:
    """With what is to be known of it."""
    rows = rows_of({}, {**LOST, "box": (100, 100, 120, 130), "score": 0.5})
    found = gaps(rows)
    assert found.positions.tolist() == [1]
    assert found.track_ids.tolist() == [2]
    assert found.boxes.tolist() == [[100, 100, 120, 130]]
    assert found.scores.tolist() == [0.5]
    assert found.missed.tolist() == [3]
    share = 11 / 12
    np.testing.assert_allclose(found.weights, 0.5 * (1 - (1 - share) ** 3), rtol=1e-6)


@pytest.mark.parametrize(
    "different",
    [
        {"missed": 2},
        {"missed": 0, "coasted": 9},
        {"detections": 2},
        {"best_score": 0.29},
        {"pending": True},
        {"answered": True},
        {"from_cloud": True},
        {"refuted": True},
        {"box": (1, 400, 13, 412)},
        {"box": (600, 949, 612, 961)},
        {"box": (1250, 400, 1262, 412), "velocity": (6, 0)},
        {"box": (600, 20, 612, 32), "velocity": (0, -6)},
    ],
    ids=str,
)
def test_what_is_no_gap(different: dict[str, Any]) -> None:
    """Each differs from a gap in one thing."""
    assert len(gaps(rows_of(LOST))) == 1
    assert len(gaps(rows_of({**LOST, **different}))) == 0


def test_another_track_that_is_seen_there_explains_it() -> None:
    """It passes before it, or is the same object anew; one that is not seen explains nothing."""
    other = {"box": (596, 396, 616, 416)}
    assert len(gaps(rows_of(LOST, other))) == 0
    assert gaps(rows_of(LOST, {**other, "coasted": 1, "missed": 1})).positions.tolist() == [0]
    assert gaps(rows_of(LOST, {"box": (612, 412, 632, 432)})).positions.tolist() == [0]


def test_a_gap_is_asked_about_once_and_the_next_gap_again() -> None:
    """Not asked, for want of budget, it comes again."""
    rows = rows_of(LOST)
    assert len(gaps(rows)) == 1
    assert len(gaps(rows)) == 1
    mark_asked(rows, gaps(rows).positions)
    rows["missed"] = rows["coasted"] = 4
    assert len(gaps(rows)) == 0
    rows["last_sequence"] = 14
    assert len(gaps(rows)) == 1


def test_a_new_track_has_no_gap_that_was_asked_about() -> None:
    """Also one that began with the first frame, whose number is zero."""
    tracker = Tracker(TrackSettings(min_detections=1), LOW)
    found = Detections(
        np.array([[600, 400, 612, 412]], np.float32),
        np.array([0.5], np.float32),
        np.zeros(1, np.int32),
    )
    tracker.advance(0)
    tracker.observe(found)
    seen = []
    for sequence in range(1, 9):
        tracker.advance(sequence)
        tracker.observe(Detections.empty())
        tracker.retire(WIDTH, HEIGHT)
        due = gaps(tracker.rows, GapRules(detections_min=1))
        mark_asked(tracker.rows, due.positions)
        seen.append(len(due))
    assert seen == [0, 0, 1, 0, 0, 0, 0, 0]


def test_regular_tracks_come_before_those_that_blink() -> None:
    """A defect at the limit of resolution is seen now and then; missing it again tells little."""
    blinking = {**LOST, "detections": 10, "last_sequence": 60, "box": (100, 100, 112, 112)}
    found = gaps(rows_of(blinking, LOST))
    assert found.positions.tolist() == [1, 0]
    assert found.weights[1] < 0.5 * found.weights[0] / 0.9


@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 50))
def test_surprise_is_a_probability_that_grows(detections: int, blinks: int, missed: int) -> None:
    """With regularity and with every miss."""
    base = {"detections": detections, "last_sequence": detections + blinks - 1, "missed": missed}
    once_more = {**base, "missed": missed + 1}
    steadier = {**base, "last_sequence": detections - 1}
    usual, longer, steady = surprises(rows_of(base, once_more, steadier)).tolist()
    assert 0 <= usual <= longer <= 1
    assert usual <= steady <= 1


def test_an_empty_table_has_no_gaps() -> None:
    """Of the right shapes."""
    found = gaps(rows_of())
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
