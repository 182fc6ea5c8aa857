"""Verdicts joining tracks that have moved, ended, or were never there."""

from __future__ import annotations

import numpy as np

from edge_node.logic.reconcile import Reconciler
from edge_node.logic.records import Correction, Record
from edge_node.logic.track import Tracker
from edge_node.values import Cause, Effect, Ending, EscalationOutcome
from foundation.escalations import Answer, LabelledBoxes, Region, Verdict
from foundation.frames import Detections
from tests.edge_node.logic.scene import (
    HEIGHT,
    NOW_NS,
    WIDTH,
    ask,
    found,
    reconciler_for,
    tracker_with,
)

BOX = (600, 400, 612, 412)
REGION = Region(500, 300, 692, 492)
LATER_NS = NOW_NS + 120_000_000


def answer(
    reconciler: Reconciler, cloud: LabelledBoxes, id_: str = "q1"
) -> tuple[list[Correction], list[Record]]:
    """The verdict arrives."""
    verdict = Verdict(id_, Answer(cloud), "digest")
    fusion = reconciler.end(Ending(id_, EscalationOutcome.ANSWERED, Cause.NONE, LATER_NS, verdict))
    return fusion.corrections, fusion.revised


def move(tracker: Tracker, frames: int, dx: float, *, start: int = 6) -> None:
    """The first object moves on."""
    for number in range(frames):
        shift = dx * (number + 1)
        box = np.array([[BOX[0] + shift, BOX[1], BOX[2] + shift, BOX[3]]], np.float32)
        tracker.advance(start + number)
        tracker.observe(Detections(box, np.full(1, 0.4, np.float32), np.zeros(1, np.int32)))
        tracker.retire(WIDTH, HEIGHT)


def test_verdict_joins_its_track_where_it_is_now() -> None:
    """The cloud's box belongs to the frame of capture and is carried along."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    move(tracker, 10, 6.0)
    corrections, revised = answer(reconciler, found((599, 399, 613, 413, 0.95, "short")))
    assert revised == []
    document = corrections[0].to_json("cam", LATER_NS)
    assert document["effect"] == "reclassified"
    assert document["edge"]["label"] == "open"
    assert document["cloud"]["label"] == "short"
    assert document["verdict_latency_s"] == 0.12
    assert abs(document["present_box"][0] - 659) < 4
    row = tracker.rows[0]
    assert (row["cloud_label"], row["edge_label"]) == (1, 0)
    assert row["box"][2] - row["box"][0] == 14
    assert row["answered"]
    assert not row["pending"]


def test_refuted_track_stays_known_as_refuted() -> None:
    """Both opinions stay in the record."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    corrections, _ = answer(reconciler, LabelledBoxes.empty())
    assert [c.effect for c in corrections] == [Effect.REFUTED]
    record = reconciler.close_tracks(tracker.end_all())[0]
    assert record["refuted"]
    assert record["final"] is None
    assert record["edge"]["label"] == "open"
    assert record["escalation"]["outcome"] == "answered"


def test_verdict_after_the_end_corrects_the_record() -> None:
    """The first record says pending, the second, revision 1, has the cloud's opinion."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    tracker.rows["pending"] = True
    first = reconciler.close_tracks(tracker.end_all())
    assert first[0]["escalation"]["outcome"] == "pending"
    assert first[0]["final"] is None
    corrections, revised = answer(reconciler, found((*BOX, 0.9, "open")))
    document = corrections[0].to_json("cam", LATER_NS)
    assert document["track_ended"]
    assert document["present_box"] is None
    assert revised[0]["revision"] == 1
    assert revised[0]["track_id"] == first[0]["track_id"]
    assert revised[0]["cloud"]["score"] == 0.9
    # Raised by the edge, which had said the same with 0.4.
    assert revised[0]["final"] == {"label": "open", "score": 0.912, "source": "cloud"}
    assert answer(reconciler, found((*BOX, 0.9, "open"))) == ([], [])


def test_escalation_that_failed_after_the_end_is_told_in_the_record() -> None:
    """No record stays pending for ever."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    tracker.rows["pending"] = True
    reconciler.close_tracks(tracker.end_all())
    fusion = reconciler.end(Ending("q1", EscalationOutcome.FAILED, Cause.SHUTDOWN, LATER_NS))
    assert fusion.revised[0]["escalation"] == {
        "id": "q1",
        "outcome": "failed",
        "cause": "shutdown",
        "reason": "uncertain",
    }


def test_unanswered_escalation_frees_its_track() -> None:
    """It may be asked about again after the cooldown."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    tracker.rows["pending"] = True
    reconciler.end(Ending("q1", EscalationOutcome.SHED, Cause.NONE, LATER_NS))
    assert tracker.rows["pending"].tolist() == [False]
    assert tracker.rows["answered"].tolist() == [False]


def test_added_object_becomes_a_track_of_the_cloud() -> None:
    """It is carried by the scene from the frame of capture to the present one."""
    tracker = tracker_with(BOX, (600, 100, 612, 112), (600, 700, 612, 712))
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    corrections, _ = answer(
        reconciler, found((*BOX, 0.9, "open"), (540, 340, 550, 350, 0.8, "dent"))
    )
    assert [c.effect for c in corrections] == [Effect.CONFIRMED, Effect.ADDED]
    added = tracker.rows[tracker.rows["from_cloud"]]
    assert reconciler.labels[int(added["cloud_label"][0])] == "dent"
    record = reconciler.close_tracks(tracker.end_all())[-1]
    assert record["edge"] is None
    assert record["detections"] == 0
    assert record["final"] == {"label": "dent", "score": 0.8, "source": "cloud"}
    assert record["escalation"]["id"] == "q1"


def test_object_seen_in_two_crops_is_added_once() -> None:
    """The second crop finds the track that the first one added."""
    tracker = tracker_with(BOX, (640, 440, 652, 452))
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    ask(reconciler, 1, region=REGION, id_="q2")
    extra = (560, 340, 570, 350, 0.8, "spur")
    first, _ = answer(reconciler, found((*BOX, 0.9, "open"), extra))
    second, _ = answer(reconciler, found((640, 440, 652, 452, 0.9, "open"), extra), "q2")
    assert Effect.ADDED in [c.effect for c in first]
    assert Effect.ADDED not in [c.effect for c in second]
    assert int(tracker.rows["from_cloud"].sum()) == 1


def test_object_tracked_since_capture_is_not_added() -> None:
    """The edge found it meanwhile; the opinion joins that track."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    late = np.array([BOX, (640, 340, 652, 352)], np.float32)
    for sequence in range(6, 10):
        tracker.advance(sequence)
        tracker.observe(Detections(late, np.full(2, 0.4, np.float32), np.zeros(2, np.int32)))
    corrections, _ = answer(
        reconciler, found((*BOX, 0.9, "open"), (640, 340, 652, 352, 0.8, "spur"))
    )
    assert [c.effect for c in corrections] == [Effect.CONFIRMED, Effect.RECLASSIFIED]
    assert corrections[1].track_id == 2


def test_ending_of_an_unknown_escalation_changes_nothing() -> None:
    """A duplicate, or one of an earlier life."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    assert answer(reconciler, found((*BOX, 0.9, "short")), "nobody") == ([], [])
    assert tracker.rows["cloud_label"].tolist() == [-1]
