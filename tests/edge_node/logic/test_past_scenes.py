"""Answers about a scene that is long past or over: what they add is told, and is no track."""

from __future__ import annotations

import numpy as np
import pytest

from edge_node.config import TrackSettings
from edge_node.logic.reconcile import Fusion, Reconciler
from edge_node.logic.track import Tracker
from edge_node.values import Effect
from foundation.escalations import LabelledBoxes, Region
from foundation.frames import Detections
from tests.edge_node.logic.scene import (
    HEIGHT,
    WIDTH,
    answered,
    ask,
    found,
    open_question,
    reconciler_for,
    tracker_with,
)

BOX = (600, 400, 612, 412)
REGION = Region(500, 300, 692, 492)
MOVE_X = np.array([1, 0, 1, 0], np.float32)


def answer(reconciler: Reconciler, cloud: LabelledBoxes) -> Fusion:
    """The verdict arrives."""
    return reconciler.end(answered(open_question(reconciler), cloud))


@pytest.mark.parametrize(
    ("frames", "dx", "joins"), [(16, 0.0, True), (17, 0.0, False), (17, 6.0, True)]
)
def test_added_object_is_a_track_while_the_tracker_would_still_carry_it(
    frames: int, dx: float, joins: bool
) -> None:
    """A held moment may be of long ago: what it showed beside its track is recorded, no more."""
    places = np.array([(100, 50), (100, 200), (100, 350)], np.float32)
    tracker = Tracker(TrackSettings(min_detections=2), np.full(3, 0.2, np.float32))
    for sequence in range(10 + frames):
        boxes = np.concatenate([places, places + 12], axis=1) + np.float32(dx * sequence) * MOVE_X
        tracker.advance(sequence)
        tracker.observe(Detections(boxes, np.full(3, 0.4, np.float32), np.zeros(3, np.int32)))
        tracker.retire(WIDTH, HEIGHT)
    reconciler = reconciler_for(tracker)
    ask(reconciler, region=REGION, sequence=9)
    corrections = answer(reconciler, found((540, 340, 550, 350, 0.8, "dent"))).corrections
    assert [c.effect for c in corrections] == [Effect.ADDED]
    assert [c.track_id is not None for c in corrections] == [joins]
    assert int(tracker.rows["from_cloud"].sum()) == int(joins)


def test_added_object_joins_no_scene_that_began_since() -> None:
    """Frames have changed size: what is in that place now is something else."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    reconciler.close_tracks(tracker.end_all())
    other = (540, 340, 550, 350)
    for sequence in range(6, 10):
        tracker.advance(sequence)
        tracker.observe(
            Detections(
                np.array([other], np.float32), np.full(1, 0.4, np.float32), np.zeros(1, np.int32)
            )
        )
    before = tracker.rows.copy()
    fusion = answer(
        reconciler,
        found((*BOX, 0.9, "open"), (*other, 0.8, "spur"), (620, 440, 630, 450, 0.7, "x")),
    )
    assert [(c.effect, c.track_id) for c in fusion.corrections] == [
        (Effect.CONFIRMED, 1),
        (Effect.ADDED, None),
        (Effect.ADDED, None),
    ]
    assert [record["track_id"] for record in fusion.revised] == [1]
    assert np.array_equal(tracker.rows, before)


def test_answer_after_the_last_frame_adds_no_track() -> None:
    """There is no frame any more in which one would be; the correction tells of the object."""
    tracker = tracker_with(BOX)
    reconciler = reconciler_for(tracker)
    ask(reconciler, 0, region=REGION)
    reconciler.close_tracks(tracker.end_all())
    corrections = answer(
        reconciler, found((*BOX, 0.9, "open"), (540, 340, 550, 350, 0.8, "dent"))
    ).corrections
    document = corrections[1].to_json()
    assert (document["effect"], document["track_id"]) == ("added", None)
    assert document["cloud"]["label"] == "dent"
    assert len(tracker.rows) == 0
