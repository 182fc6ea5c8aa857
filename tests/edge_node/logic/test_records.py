"""Result records: what a reader of the JSON lines gets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from edge_node.logic.records import FrameRecord, track_to_json
from edge_node.logic.reporting import Reporting
from edge_node.values import FrameOutcome
from tests.edge_node.logic.scene import HEIGHT, LABELS, NOW_NS, REPORT, WIDTH, rows_of


def frame_record(rows: np.ndarray | None, outcome: FrameOutcome) -> dict[str, Any]:
    """A frame record through JSON and back."""
    record = FrameRecord(
        camera="cam",
        sequence=7,
        captured_at_ns=NOW_NS,
        published_at_ns=NOW_NS + 12_345_678,
        outcome=outcome,
        frame_width=WIDTH,
        frame_height=HEIGHT,
        rows=rows,
        labels=[*LABELS, "dent"],
        reporting=Reporting(REPORT),
    )
    document: dict[str, Any] = json.loads(json.dumps(record.to_json()))
    return document


def test_frame_record_tells_tracks_by_whose_opinion_stands() -> None:
    """Edge alone below and above the report threshold, the cloud, and refuted."""
    rows = rows_of(
        {"score": 0.3, "best_score": 0.4},
        {"score": 0.6, "best_score": 0.7, "coasted": 2},
        {"cloud_label": 3, "cloud_score": 0.9},
        {"score": 0.6, "best_score": 0.7, "refuted": True},
    )
    tracks = frame_record(rows, FrameOutcome.ON_TIME)["tracks"]
    keys = ("label", "score", "source", "reported", "refuted", "state")
    assert [tuple(track[key] for key in keys) for track in tracks] == [
        ("open", 0.3, "edge", False, False, "detected"),
        ("open", 0.6, "edge", True, False, "coasted"),
        ("dent", 0.9, "cloud", True, False, "detected"),
        ("open", 0.6, "edge", False, True, "detected"),
    ]


def test_boxes_are_clipped_to_the_frame() -> None:
    """A coasted box may reach beyond it."""
    rows = rows_of({"box": (-5, 950, 20, 990)})
    tracks = frame_record(rows, FrameOutcome.COASTED)["tracks"]
    assert tracks[0]["box"] == [0, 950, 20, 960]


def test_nothing_known_is_not_an_empty_scene() -> None:
    """A dropped frame has null where an empty one has an empty list."""
    assert frame_record(None, FrameOutcome.DROPPED)["tracks"] is None
    assert frame_record(rows_of(), FrameOutcome.ON_TIME)["tracks"] == []


def test_latency_is_from_capture_to_publication() -> None:
    """In seconds, to a microsecond."""
    assert frame_record(rows_of(), FrameOutcome.LATE)["latency_s"] == 0.012346


def test_track_record_below_the_report_threshold_has_no_final_opinion() -> None:
    """It was a proposal and stays one."""
    record = track_to_json(rows_of({}), "cam", LABELS, Reporting(REPORT), None)
    assert record["final"] is None
    assert record["edge"]["score"] == 0.4
    assert record["escalation"] is None


def test_double_of_another_track_stands_for_nothing() -> None:
    """Whoever counts objects by their records counts it once."""
    row = rows_of({"best_score": 0.9, "double_of": 4})
    record = track_to_json(row, "cam", LABELS, Reporting(REPORT), None)
    assert record["double_of"] == 4
    assert record["final"] is None
    alone = track_to_json(rows_of({"best_score": 0.9}), "cam", LABELS, Reporting(REPORT), None)
    assert alone["double_of"] is None
    assert alone["final"]["label"] == "open"
