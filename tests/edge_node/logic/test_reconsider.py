"""When the edge's later evidence counts against a verdict, and when it may ask again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.reconsider import WINDOW_DETECTIONS, evidence_changed, overrule
from edge_node.logic.reporting import Reporting
from edge_node.logic.rows import Rows, labels_of
from tests.edge_node.logic.scene import REPORT, rows_of

RECLASSIFIED = {
    "cloud_label": 1,
    "cloud_score": 0.7,
    "answered": True,
    "asked_score": 0.4,
    "asked_area": 144,
    "votes": (4.0, 0, 0),
    "window_votes": (4.0, 0, 0),
    "window_detections": 10,
}
REFUTED = {"refuted": True, "answered": True, "asked_score": 0.4, "asked_area": 144}


def see(rows: Rows, label: int, score: float, frames: int = WINDOW_DETECTIONS) -> int:
    """The edge sees the object again and again; how often was its verdict overruled?"""
    overruled = 0
    for _ in range(frames):
        rows["votes"][:, label] += score
        rows["detections"] += 1
        overruled += overrule(rows)
    rows["edge_label"] = rows["votes"].argmax(axis=1)
    return overruled


def test_votes_for_the_old_class_do_not_change_it_back() -> None:
    """The cloud knew that the edge saw it so, and how surely."""
    rows = rows_of(RECLASSIFIED)
    assert see(rows, 0, 0.65, frames=500) == 0
    assert labels_of(rows).tolist() == [1]


def test_clearly_surer_edge_overrules_after_a_whole_window() -> None:
    """Halfway from what it was to certainty, and surer than the cloud."""
    rows = rows_of(RECLASSIFIED)
    assert see(rows, 0, 0.75, frames=WINDOW_DETECTIONS - 1) == 0
    assert labels_of(rows).tolist() == [1]
    assert see(rows, 0, 0.75, frames=1) == 1
    assert labels_of(rows).tolist() == [0]
    assert rows["cloud_label"].tolist() == [1]


def test_edge_that_is_not_surer_than_the_cloud_does_not_overrule() -> None:
    """However much surer than before."""
    rows = rows_of({**RECLASSIFIED, "cloud_score": 0.95})
    assert see(rows, 0, 0.9, frames=100) == 0


def test_edge_that_comes_to_agree_confirms_and_does_not_overrule() -> None:
    """Although its votes still name the old class."""
    rows = rows_of(RECLASSIFIED)
    assert see(rows, 1, 0.95) == 0
    assert labels_of(rows).tolist() == [1]


def test_class_that_only_the_cloud_has_may_be_overruled() -> None:
    """Its index lies beyond the edge's votes."""
    rows = rows_of({**RECLASSIFIED, "cloud_label": 7})
    assert see(rows, 0, 0.9) == 1


def test_long_quiet_time_does_not_delay_contrary_evidence() -> None:
    """Each window is judged by itself."""
    rows = rows_of(RECLASSIFIED)
    assert see(rows, 0, 0.4, frames=50 * WINDOW_DETECTIONS) == 0
    assert see(rows, 0, 0.9) == 1


def test_votes_of_days_do_not_round_what_a_window_adds() -> None:
    """Two days of a parked object: in single precision each vote would count as 1."""
    days = {"votes": (4.5e6, 0, 0), "window_votes": (4.5e6, 0, 0)}
    rows = rows_of({**RECLASSIFIED, **days, "asked_score": 0.7})
    assert see(rows, 0, 0.8) == 0
    assert labels_of(rows).tolist() == [1]


@pytest.mark.parametrize(
    ("differs", "changed"),
    [
        ({}, False),
        ({"score": 0.69}, False),
        ({"score": 0.71}, True),
        ({"box": (600, 400, 620, 420)}, False),
        ({"box": (600, 400, 624, 424)}, True),
        ({"score": 0.9, "answered": False}, False),
    ],
)
def test_refuted_track_is_worth_asking_again_once_the_evidence_changed(
    differs: dict[str, Any], changed: bool
) -> None:
    """A much higher score, or a box of twice the sides; and it stays refuted meanwhile."""
    rows = rows_of({**REFUTED, **differs})
    assert evidence_changed(rows, np.arange(len(rows))).tolist() == [changed]
    assert Reporting(REPORT).stands(rows).tolist() == [False]


def test_what_stands_is_not_asked_about_again() -> None:
    """A confirmed track may grow and be as sure as it likes; an overruled one is open again."""
    stands = {**RECLASSIFIED, "score": 0.95}
    rows = rows_of(stands, {**stands, "overruled": True})
    assert evidence_changed(rows, np.arange(len(rows))).tolist() == [False, True]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), max_size=60),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_evidence_no_better_than_at_capture_never_overrules(
    seen: list[tuple[int, float]], asked: float, cloud: float
) -> None:
    """Whatever the edge names, as long as it is not surer than it was."""
    rows = rows_of({**RECLASSIFIED, "asked_score": asked, "cloud_score": cloud})
    ceiling = max(asked + 0.5 * (1 - asked), cloud)
    for label, score in seen:
        assert see(rows, label, min(score, ceiling - 1e-3), frames=1) == 0
    assert np.flatnonzero(rows["overruled"]).size == 0
