"""Verdicts joining tracks that have moved, ended, or were never there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edge_node.config import FusionSettings, TrackSettings
from edge_node.logic.reconcile import Fusion, Reconciler
from edge_node.logic.records import Correction, Record
from edge_node.logic.reporting import Reporting
from edge_node.logic.track import Tracker
from edge_node.values import Cause, Effect, Ending, EscalationOutcome, IgnoredPart
from foundation.escalations import LabelledBoxes, Region
from foundation.frames import Detections
from tests.edge_node.logic.scene import (
    HEIGHT,
    LABELS,
    NOW_NS,
    REPORT,
    WIDTH,
    answered,
    ask,
    found,
    open_question,
    question,
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
    fusion = reconciler.end(answered(open_question(reconciler, id_), cloud, at_ns=LATER_NS))
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
    document = corrections[0].to_json()
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
    asked = ask(reconciler, 0, region=REGION)
    tracker.rows["pending"] = True
    first = reconciler.close_tracks(tracker.end_all())
    assert first[0]["escalation"]["outcome"] == "pending"
    assert first[0]["final"] is None
    corrections, revised = answer(reconciler, found((*BOX, 0.9, "open")))
    document = corrections[0].to_json()
    assert document["track_ended"]
    assert document["present_box"] is None
    assert revised[0]["revision"] == 1
    assert revised[0]["track_id"] == first[0]["track_id"]
    assert revised[0]["cloud"]["score"] == 0.9
    # Raised by the edge, which had said the same with 0.4.
    assert revised[0]["final"] == {"label": "open", "score": 0.912, "source": "cloud"}
    assert reconciler.end(answered(asked, found((*BOX, 0.9, "open")))) == Fusion()


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
        "level": "webp80",
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


def test_cut_box_confirms_a_class_and_leaves_the_box() -> None:
    """In the table as in the record, the place is the edge's."""
    tracker = tracker_with((510, 385, 570, 445))
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    before = tracker.rows["box"].copy()
    corrections, _ = answer(reconciler, found((500, 380, 574, 450, 0.9, "open")))
    assert [c.effect for c in corrections] == [Effect.CONFIRMED]
    assert tracker.rows["box"].tolist() == before.tolist()
    assert corrections[0].to_json()["cloud"]["box"] == [500, 380, 574, 450]
    record = reconciler.close_tracks(tracker.end_all())[0]
    assert record["cloud"]["box"] == [510, 385, 570, 445]
    assert record["final"]["source"] == "cloud"


def test_undecided_track_is_answered_and_stays_a_proposal() -> None:
    """The correction says what was seen of it; nothing stands."""
    tracker = tracker_with((510, 385, 570, 445))
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    corrections, _ = answer(reconciler, found((500, 380, 574, 450, 0.9, "spur")))
    assert [c.effect for c in corrections] == [Effect.UNDECIDED]
    assert tracker.rows["answered"].tolist() == [True]
    assert tracker.rows["asked_score"].tolist() == tracker.rows["score"].tolist()
    record = reconciler.close_tracks(tracker.end_all())[0]
    assert (record["refuted"], record["cloud"], record["final"]) == (False, None, None)


def test_later_refutation_takes_the_place_of_an_opinion_and_an_earlier_one_does_not() -> None:
    """A verdict about an earlier frame that comes late changes nothing, and is counted."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    for id_, sequence in (("early", 4), ("mid", 5), ("late", 6)):
        ask(reconciler, 0, region=REGION, id_=id_, sequence=sequence)
    answer(reconciler, found((*BOX, 0.9, "short")), "mid")
    early = open_question(reconciler, "early")
    fusion = reconciler.end(answered(early, LabelledBoxes.empty()))
    assert (fusion.corrections, fusion.ignored) == ([], {IgnoredPart.OUTRANKED: 1})
    assert tracker.rows["cloud_label"].tolist() == [1]
    corrections, _ = answer(reconciler, LabelledBoxes.empty(), "late")
    assert [c.effect for c in corrections] == [Effect.REFUTED]
    assert tracker.rows["cloud_label"].tolist() == [-1]


def test_crop_with_the_track_in_its_middle_outranks_one_with_it_at_its_edge() -> None:
    """Both were asked about it; one of them finds nothing at its very border."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=Region(410, 300, 613, 492), id_="edge")
    ask(reconciler, 0, region=REGION, id_="middle")
    answer(reconciler, found((*BOX, 0.9, "open")), "middle")
    assert answer(reconciler, LabelledBoxes.empty(), "edge") == ([], [])
    assert tracker.rows["refuted"].tolist() == [False]


def test_bystander_that_has_ended_gets_its_record_revised() -> None:
    """Nobody had asked about it, and still the verdict counts."""
    tracker = tracker_with(BOX, (640, 440, 652, 452))
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    reconciler.close_tracks(tracker.end_all())
    _, revised = answer(reconciler, found((*BOX, 0.9, "open"), (640, 440, 652, 452, 0.8, "spur")))
    assert [(r["track_id"], r["revision"], r["final"]["label"]) for r in revised] == [
        (1, 1, "open"),
        (2, 1, "spur"),
    ]


def test_ended_bystander_that_nothing_is_said_about_is_not_revised() -> None:
    """Its record was complete."""
    tracker = tracker_with(BOX, (640, 440, 652, 452))
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    reconciler.close_tracks(tracker.end_all())
    _, revised = answer(reconciler, LabelledBoxes.empty())
    assert [record["track_id"] for record in revised] == [1]


def test_two_near_objects_of_one_verdict_are_two_tracks() -> None:
    """One model told them apart, even if another crop's box would be taken for the same."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    near = ((540, 340, 550, 350, 0.8, "spur"), (547, 340, 557, 350, 0.7, "spur"))
    corrections, _ = answer(reconciler, found((*BOX, 0.9, "open"), *near))
    assert [c.effect for c in corrections] == [Effect.CONFIRMED, Effect.ADDED, Effect.ADDED]


def test_added_objects_beyond_the_table_are_counted() -> None:
    """A cloud gone mad cannot fill the memory."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    for number in range(3):
        ask(reconciler, 0, region=Region(0, 0, WIDTH, HEIGHT), id_=f"q{number}")
    places = [
        (20.0 * x + 5, 20.0 * y + 5, 20.0 * x + 15, 20.0 * y + 15)
        for x in range(60)
        for y in range(45)
    ]
    ignored: Counter[IgnoredPart] = Counter()
    for number in range(3):
        chosen = places[number * 900 : (number + 1) * 900]
        cloud = found(*[(*place, 0.5, f"label {place}") for place in chosen])
        fusion = reconciler.end(answered(open_question(reconciler, f"q{number}"), cloud))
        ignored += fusion.ignored
        assert len(fusion.corrections) + fusion.ignored.total() >= 900
    assert len(tracker.rows) == TrackSettings().tracks_max
    assert ignored[IgnoredPart.EXCESS] == 3 * 600
    assert ignored[IgnoredPart.NO_ROOM] > 0


def test_answer_of_another_model_counts_and_is_told() -> None:
    """The first that answers is expected, or the one that the policy was fitted for."""
    tracker = tracker_with(BOX, (640, 440, 652, 452))
    reconciler = reconciler_for(tracker)
    told = []
    for number, digest in enumerate(("first", "first", "second")):
        asked = ask(reconciler, 0, region=REGION, id_=f"q{number}")
        ending = answered(asked, found((*BOX, 0.9, "short")), digest=digest)
        told.append(reconciler.end(ending).other_model)
    assert told == [False, False, True]
    fitted = Reconciler(
        tracker, FusionSettings(), "cam", LABELS, Reporting(REPORT), cloud_digest="second"
    )
    asked = ask(fitted, 0, region=REGION)
    assert fitted.end(answered(asked, LabelledBoxes.empty(), digest="first")).other_model


def test_track_that_vanished_unconfirmed_is_counted() -> None:
    """It has no record that could be revised."""
    tracker = tracker_with(BOX, frames=1)
    reconciler = reconciler_for(tracker)
    asked = ask(reconciler, 0, region=REGION)
    assert reconciler.close_tracks(tracker.end_all()) == []
    fusion = reconciler.end(answered(asked, found((*BOX, 0.9, "open"))))
    assert (fusion.corrections, fusion.ignored) == ([], {IgnoredPart.TRACK_GONE: 1})


def test_ending_of_an_unknown_escalation_changes_nothing() -> None:
    """A duplicate, or one of an earlier life."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ending = Ending("nobody", EscalationOutcome.FAILED, Cause.SHUTDOWN, LATER_NS)
    assert reconciler.end(ending) == Fusion()
    stranger = answered(question(region=REGION), found((*BOX, 0.9, "short")))
    assert reconciler.end(stranger) == Fusion()
    assert tracker.rows["cloud_label"].tolist() == [-1]


@pytest.mark.parametrize(("told", "kept"), [(3.0, 3.0), (0.5, 1.0), (99.0, 10.0)])
def test_forgone_crop_is_blamed_on_the_track_it_was_cut_around(told: float, kept: float) -> None:
    """All that it asked about may be asked about again at once."""
    tracker = tracker_with(BOX, (630, 400, 642, 412), (560, 400, 572, 412))
    reconciler = reconciler_for(tracker)
    tracker.rows["asked_at_ns"] = NOW_NS
    asked = ask(reconciler, 1, 0, region=REGION)
    reconciler.forgo(asked, told, LATER_NS)
    assert tracker.rows["heaviness"].tolist() == [1.0, kept, 1.0]
    assert tracker.rows["forgone_at_ns"].tolist() == [0, LATER_NS, 0]
    assert tracker.rows["asked_at_ns"].tolist() == [0, 0, NOW_NS]


def test_forgone_crop_of_a_track_that_has_ended_is_blamed_on_nobody() -> None:
    """Nor on whoever is in its place."""
    tracker = tracker_with(BOX, (630, 400, 642, 412))
    reconciler = reconciler_for(tracker)
    asked = ask(reconciler, 1, 0, region=REGION)
    reconciler.close_tracks(tracker.end_all())
    move(tracker, 4, 0.0)
    reconciler.forgo(asked, 3.0, LATER_NS)
    assert tracker.rows["heaviness"].tolist() == [1.0]
