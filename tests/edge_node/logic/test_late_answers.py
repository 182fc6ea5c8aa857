"""Answers to questions that were deferred: hours later, or in another run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_node.logic.reconcile import Fusion, Reconciler
from edge_node.values import Cause, Effect, Ending, EscalationOutcome, Question
from foundation.escalations import LabelledBoxes, Region
from tests.edge_node.logic.scene import (
    NOW_NS,
    answered,
    ask,
    found,
    open_question,
    reconciler_for,
    tracker_with,
)

BOX = (600, 400, 612, 412)
REGION = Region(500, 300, 692, 492)
BESIDE = (530, 330, 545, 345, 0.9, "short")


def end_late(
    reconciler: Reconciler,
    question: Question,
    cloud: LabelledBoxes | None,
    *,
    other_run: bool = False,
) -> Fusion:
    """It ends, with an answer or evicted."""
    ending = Ending(question.id, EscalationOutcome.EVICTED, Cause.NONE, NOW_NS)
    if cloud is not None:
        ending = answered(question, cloud)
    return reconciler.end(replace(ending, late=question, other_run=other_run))


def test_living_track_is_not_asked_again_and_is_corrected_late() -> None:
    """It stays pending while its question waits in the spool."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    tracker.rows["pending"] = True
    question = open_question(reconciler)
    assert reconciler.defer("q1") == []
    assert tracker.rows["pending"].all()
    assert reconciler.question("q1") is None
    fusion = end_late(reconciler, question, found((599, 399, 613, 413, 0.95, "short")))
    [correction] = fusion.corrections
    assert correction.effect is Effect.RECLASSIFIED
    assert correction.present_box is not None
    assert tracker.rows["cloud_label"][0] == 1
    assert not tracker.rows["pending"].any()


def test_record_of_an_ended_track_says_that_the_answer_is_to_come() -> None:
    """And its memory is let go of."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    tracker.rows["pending"] = True
    question = open_question(reconciler)
    reconciler.close_tracks(tracker.end_all())
    [record] = reconciler.defer("q1")
    assert record["revision"] == 1
    assert record["escalation"]["outcome"] == "deferred"
    fusion = end_late(reconciler, question, found((*BOX, 0.9, "open"), BESIDE))
    assert fusion.revised == []
    confirmed, added = (one.to_json() for one in fusion.corrections)
    assert (confirmed["effect"], added["effect"]) == ("confirmed", "added")
    assert confirmed["track_id"] == record["track_id"]
    assert confirmed["track_ended"]
    assert confirmed["edge"]["label"] == "open"
    assert (added["track_id"], added["edge"]) == (None, None)
    assert added["cloud"]["label"] == "short"


def test_late_answer_adds_no_track() -> None:
    """Where the object is now, nobody knows."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    question = open_question(reconciler)
    reconciler.defer("q1")
    fusion = end_late(reconciler, question, found((*BOX, 0.9, "open"), BESIDE))
    assert {one.effect for one in fusion.corrections} == {Effect.CONFIRMED, Effect.ADDED}
    assert len(tracker.rows) == 1


def test_answer_of_an_earlier_run_leaves_the_tracks_of_this_one_alone() -> None:
    """Their ids are the same by chance."""
    earlier = reconciler_for(tracker_with(BOX))
    ask(earlier, 0, region=REGION)
    question = open_question(earlier)
    tracker = tracker_with((100, 100, 120, 120))
    reconciler = reconciler_for(tracker)
    before = tracker.rows.copy()
    assert question.subjects[0].track_id in tracker.rows["track_id"]
    fusion = end_late(reconciler, question, LabelledBoxes.empty(), other_run=True)
    [correction] = fusion.corrections
    assert correction.effect is Effect.REFUTED
    assert correction.to_json()["earlier_run"]
    assert np.array_equal(tracker.rows, before)


def test_deferred_question_that_is_given_up_frees_its_track() -> None:
    """The spool was full."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    tracker.rows["pending"] = True
    question = open_question(reconciler)
    reconciler.defer("q1")
    assert end_late(reconciler, question, None).corrections == []
    assert not tracker.rows["pending"].any()
    assert not tracker.rows["answered"].any()


def test_deferring_what_is_not_open_changes_nothing() -> None:
    """The ending and the deferral have crossed."""
    assert reconciler_for(tracker_with(BOX)).defer("unknown") == []
