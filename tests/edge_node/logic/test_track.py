"""The tracker on scenes whose truth is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_node.config import TrackSettings
from edge_node.logic.track import Tracker
from foundation.frames import Detections

WIDTH, HEIGHT = 1280, 960
RULES = TrackSettings(min_detections=3, max_missed_frames=8)


def tracker(rules: TrackSettings = RULES, classes: int = 3) -> Tracker:
    """A tracker that starts tracks at a score of 0.2."""
    return Tracker(rules, np.full(classes, 0.2, np.float32))


def detections(
    *centers: tuple[float, float], side: float = 10.0, score: float = 0.6, class_id: int = 0
) -> Detections:
    """Square detections at these centres."""
    middle = np.array(centers, np.float32).reshape(-1, 2)
    boxes = np.concatenate([middle - side / 2, middle + side / 2], axis=1).astype(np.float32)
    count = len(middle)
    return Detections(boxes, np.full(count, score, np.float32), np.full(count, class_id, np.int32))


def step(tracked: Tracker, sequence: int, found: Detections | None) -> np.ndarray:
    """One frame; None coasts it. Returns the rows that ended."""
    tracked.advance(sequence)
    if found is not None:
        tracked.observe(found)
    return tracked.retire(WIDTH, HEIGHT)


def test_object_on_a_conveyor_is_one_track() -> None:
    """Ten pixels wide, six pixels a frame, never overlapping itself for long: one id."""
    tracked = tracker()
    for sequence in range(60):
        step(tracked, sequence, detections((100 + 6 * sequence, 300)))
    assert tracked.rows["track_id"].tolist() == [1]
    assert tracked.rows["detections"][0] == 60
    np.testing.assert_allclose(tracked.rows["velocity"][0], [6, 0], atol=0.1)


def test_new_track_starts_with_the_motion_of_the_scene() -> None:
    """When the belt is known to move, a new object is expected to move with it at once."""
    tracked = tracker()
    for sequence in range(20):
        step(tracked, sequence, detections(*[(100 + 12 * sequence, y) for y in (100, 300, 500)]))
    assert tracked.scene_moves
    fresh = [(100 + 12 * 20, y) for y in (100, 300, 500)] + [(700.0, 700.0)]
    step(tracked, 20, detections(*fresh))
    np.testing.assert_allclose(tracked.rows["velocity"][-1], [12, 0], atol=0.5)


def after_traffic(rules: TrackSettings = RULES) -> Tracker:
    """A tracker that has seen three cars pass at one pace, and then nothing any more."""
    tracked = tracker(rules)
    for sequence in range(40):
        step(tracked, sequence, detections(*[(100 + 12 * sequence, y) for y in (100, 300, 500)]))
    assert tracked.scene_moves
    return tracked


def test_motion_that_nothing_shows_any_more_is_forgotten() -> None:
    """After so many frames that were looked at: a camera over a road is no conveyor for ever."""
    tracked = after_traffic(RULES.model_copy(update={"carried_frames_max": 20}))
    for sequence in range(40, 60):
        step(tracked, sequence, detections())
    for sequence in range(60, 200):
        step(tracked, sequence, None)
    assert tracked.scene_moves
    step(tracked, 200, detections())
    assert not tracked.scene_moves
    step(tracked, 201, detections((600, 700)))
    assert tracked.rows["velocity"][-1].tolist() == [0, 0]


def test_motion_that_the_only_settled_track_contradicts_is_forgotten_at_once() -> None:
    """Something stands where cars went by; once gone, it is not carried as on a belt."""
    tracked = after_traffic()
    for sequence in range(40, 46):
        step(tracked, sequence, detections((600, 700)))
    assert not tracked.scene_moves
    ended = [len(step(tracked, sequence, detections())) for sequence in range(46, 56)]
    assert sum(ended) >= 1
    assert len(tracked.rows) == 0


def test_motion_of_a_belt_outlasts_the_gap_between_boards() -> None:
    """Also while one or two tracks are seen that share it."""
    tracked = after_traffic()
    for sequence in range(40, 100):
        step(tracked, sequence, detections())
    for sequence in range(100, 140):
        step(tracked, sequence, detections((100 + 12 * (sequence - 100), 300)))
    assert tracked.scene_moves


def test_scene_without_common_motion_has_none() -> None:
    """Objects that go their own ways do not push new ones."""
    tracked = tracker()
    for sequence in range(20):
        places = [(300 + 8 * sequence, 100), (900 - 8 * sequence, 400), (600, 100 + 8 * sequence)]
        step(tracked, sequence, detections(*places, side=30))
    assert not tracked.scene_moves
    assert len(tracked.rows) == 3


def test_track_survives_missing_detections_and_dropped_frames() -> None:
    """Gaps within the limit are carried by motion, also where sequence numbers jump."""
    tracked = tracker()
    for sequence in [*range(10), 14, 15, 16, 20, 21, 28]:
        found = None if sequence in (15, 16) else detections((100 + 6 * sequence, 300))
        step(tracked, sequence, found)
    assert tracked.rows["track_id"].tolist() == [1]


def test_stall_ends_no_track() -> None:
    """Forty frames that nobody looked at are no evidence that an object has gone."""
    tracked = tracker()
    for sequence in range(10):
        step(tracked, sequence, detections((100 + 6 * sequence, 300)))
    for sequence in range(10, 40):
        step(tracked, sequence, None)
    step(tracked, 50, detections((100 + 6 * 50, 300)))
    assert tracked.rows["track_id"].tolist() == [1]


def test_object_that_blinks_on_a_belt_stays_one_track() -> None:
    """Where everything moves as one, an object that is not found for a while has not gone."""
    tracked = tracker()
    for sequence in range(100):
        belt = [(50 + 6 * sequence, y) for y in (100, 300, 500)]
        if sequence < 10 or sequence % 40 < 3:
            belt.append((200 + 6 * sequence, 700))
        step(tracked, sequence, detections(*belt))
    assert tracked.rows["track_id"].tolist() == [1, 2, 3, 4]


def test_object_that_vanishes_in_traffic_ends() -> None:
    """Cars that go the same way at their own speeds are no belt."""
    tracked = tracker()
    for sequence in range(60):
        speeds = (5.0, 6.0, 7.0) if sequence >= 20 else (5.0, 6.0, 7.0, 6.5)
        places = [(50 + v * sequence, 100 + 200 * i) for i, v in enumerate(speeds)]
        step(tracked, sequence, detections(*places, side=30))
    assert tracked.rows["track_id"].tolist() == [1, 2, 3]


def test_track_ends_after_too_many_looks_in_vain() -> None:
    """It is returned once, by the frame that ends it."""
    tracked = tracker()
    for sequence in range(5):
        step(tracked, sequence, detections((100, 100)))
    ended = [len(step(tracked, sequence, detections())) for sequence in range(5, 15)]
    assert ended == [0] * 8 + [1, 0]


def test_track_ends_where_it_leaves_the_frame() -> None:
    """It does not coast outside."""
    tracked = tracker()
    ended = 0
    for sequence in range(20):
        x = 1200 + 8 * sequence
        found = detections((x, 300)) if x < 1275 else detections()
        ended += len(step(tracked, sequence, found))
    assert ended == 1
    assert len(tracked.rows) == 0


def test_flicker_never_becomes_known() -> None:
    """Fewer detections than the minimum are noise and leave no record."""
    tracked = tracker()
    step(tracked, 0, detections((100, 100)))
    step(tracked, 1, detections((100, 100)))
    assert not tracked.rows["confirmed"].any()
    assert sum(len(step(tracked, sequence, detections())) for sequence in range(2, 12)) == 0
    assert len(tracked.rows) == 0


def test_weak_detection_prolongs_but_does_not_start() -> None:
    """Between half the start score and the start score."""
    tracked = tracker()
    step(tracked, 0, detections((500, 500), score=0.15))
    assert len(tracked.rows) == 0
    for sequence in range(1, 6):
        step(tracked, sequence, detections((100, 100)))
    for sequence in range(6, 30):
        step(tracked, sequence, detections((100, 100), score=0.15))
    assert tracked.rows["detections"].tolist() == [29]


def test_class_is_decided_by_weighted_votes() -> None:
    """One confident mistake does not rename a track."""
    tracked = tracker()
    for sequence in range(6):
        step(tracked, sequence, detections((100, 100), class_id=1, score=0.5))
    step(tracked, 6, detections((100, 100), class_id=2, score=0.9))
    assert tracked.rows["edge_label"].tolist() == [1]
    assert tracked.rows["best_score"][0] == np.float32(0.9)
    assert tracked.rows["best_sequence"][0] == 6


def test_one_object_under_two_classes_is_one_track() -> None:
    """Suppression is by class, so a detector may report both."""
    tracked = tracker()
    both = Detections(
        np.array([[90, 90, 110, 110], [91, 90, 111, 110]], np.float32),
        np.array([0.6, 0.5], np.float32),
        np.array([0, 1], np.int32),
    )
    for sequence in range(5):
        step(tracked, sequence, both)
    assert len(tracked.rows) == 1


def doubled(**second: object) -> Tracker:
    """Two tracks, the second of which has come to lie where the first one is expected."""
    tracked = tracker()
    for sequence in range(8):
        step(tracked, sequence, detections((300 + 6 * sequence, 300), (300 + 6 * sequence, 500)))
    tracked.rows["box"][1] = tracked.rows["box"][0]
    for name, value in second.items():
        tracked.rows[name][1] = value
    return tracked


def test_second_track_of_one_object_ends_and_says_whose_it_was() -> None:
    """Its detections fall to the two by turns; one is enough."""
    tracked = doubled(detections=5)
    gone = step(tracked, 8, detections((348, 300)))
    assert gone["track_id"].tolist() == [2]
    assert gone["double_of"].tolist() == [1]
    assert tracked.rows["track_id"].tolist() == [1]
    assert tracked.rows["double_of"].tolist() == [0]


def test_of_two_tracks_of_one_object_the_one_that_the_cloud_knows_goes_on() -> None:
    """A verdict that was paid for is not thrown away with the shorter track."""
    tracked = doubled(detections=5, cloud_label=1)
    assert step(tracked, 8, detections((348, 300)))["double_of"].tolist() == [2]
    assert tracked.rows["track_id"].tolist() == [2]


def test_objects_that_the_cloud_tells_apart_or_that_move_apart_are_two() -> None:
    """One may hide the other."""
    apart = doubled(velocity=(0, 0))
    assert len(step(apart, 8, detections((348, 300)))) == 0
    told = doubled(cloud_label=1)
    told.rows["cloud_label"][0] = 2
    assert len(step(told, 8, detections((348, 300)))) == 0
    assert told.rows["track_id"].tolist() == [1, 2]


def test_crossing_objects_keep_their_ids() -> None:
    """Velocity tells two cars apart that pass each other."""
    tracked = tracker()
    for sequence in range(80):
        step(
            tracked,
            sequence,
            detections((200 + 6 * sequence, 300), (700 - 6 * sequence, 318), side=24),
        )
    assert tracked.rows["track_id"].tolist() == [1, 2]
    assert (tracked.rows["velocity"][:, 0] > 0).tolist() == [True, False]


def test_object_that_grows_as_it_enters_is_followed() -> None:
    """The smoothed box lags little, and the box as it was seen does not lag at all."""
    tracked = tracker()
    for sequence in range(20):
        box = np.array([[400, 960 - 8 * sequence - 8, 500, 960]], np.float32)
        score = np.full(1, 0.6, np.float32)
        step(tracked, sequence, Detections(box, score, np.zeros(1, np.int32)))
    assert len(tracked.rows) == 1
    assert tracked.rows["seen_box"][0].tolist() == [400, 800, 500, 960]
    np.testing.assert_allclose(tracked.rows["box"][0], [400, 800, 500, 960], atol=16)


def test_tracks_are_bounded_and_refusals_counted() -> None:
    """A detector gone mad costs bounded memory and time."""
    tracked = tracker(TrackSettings(tracks_max=10))
    crowd = detections(
        *[(40.0 * column + 20, 40.0 * row + 20) for row in range(5) for column in range(5)]
    )
    step(tracked, 0, crowd)
    assert len(tracked.rows) == 10
    assert tracked.refused_starts == 15
    assert tracked.add_from_cloud((0, 0, 0, 0), label=0, score=0.5) is None


def test_object_of_the_cloud_is_carried_by_the_scene_until_it_leaves() -> None:
    """The edge cannot see it; the belt moves it all the same."""
    tracked = tracker()
    for sequence in range(10):
        step(tracked, sequence, detections(*[(100 + 6 * sequence, y) for y in (100, 300, 500)]))
    added = tracked.add_from_cloud((400, 700, 410, 710), label=2, score=0.9)
    for sequence in range(10, 60):
        step(tracked, sequence, detections(*[(100 + 6 * sequence, y) for y in (100, 300, 500)]))
    row = tracked.rows[tracked.rows["track_id"] == added][0]
    np.testing.assert_allclose(row["box"][:2], [400 + 6 * 50, 700], atol=3)


def test_object_of_the_cloud_in_a_scene_without_motion_ends_soon() -> None:
    """Where nothing says how it moves, it is not kept as a ghost."""
    tracked = tracker()
    step(tracked, 0, detections())
    tracked.add_from_cloud((400, 700, 410, 710), label=2, score=0.9)
    ended = [len(step(tracked, sequence, detections())) for sequence in range(1, 30)]
    assert sum(ended) == 1


FOUND = st.lists(
    st.tuples(
        st.floats(-50, 1400, width=32),
        st.floats(-50, 1000, width=32),
        st.floats(0, 300, width=32),
        st.floats(0, 1, width=32),
        st.integers(0, 2),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), FOUND), max_size=25))
def test_any_detections_keep_the_table_sound(frames: list[list[tuple[float, ...]] | None]) -> None:
    """Ids rise and are never used again, ended tracks are gone, nothing becomes NaN."""
    tracked = tracker()
    seen_ended: set[int] = set()
    for sequence, found in enumerate(frames):
        arrays = None
        if found is not None:
            rows = np.array(found, np.float32).reshape(-1, 5)
            boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:3]], axis=1)
            arrays = Detections(boxes, rows[:, 3], rows[:, 4].astype(np.int32))
        ended = step(tracked, sequence, arrays)
        ids = tracked.rows["track_id"].tolist()
        assert ids == sorted(set(ids))
        assert seen_ended.isdisjoint(ids)
        assert seen_ended.isdisjoint(ended["track_id"].tolist())
        seen_ended.update(ended["track_id"].tolist())
        assert np.isfinite(tracked.rows["box"]).all()
        assert np.isfinite(tracked.rows["velocity"]).all()
        assert (tracked.rows["missed"] <= RULES.max_missed_frames).all()
    known = int(tracked.rows["confirmed"].sum())
    assert len(tracked.end_all()) == known
    assert len(tracked.rows) == 0


@settings(max_examples=40)
@given(
    hnp.arrays(np.float32, (40, 2), elements=st.floats(-1, 1, width=32)),
    st.floats(-9, 9),
    st.floats(-6, 6),
)
def test_one_noisy_object_is_one_track(noise: np.ndarray, dx: float, dy: float) -> None:
    """Any constant velocity up to a box a frame, localised to a pixel."""
    tracked = tracker()
    for sequence in range(40):
        place = (640 + dx * (sequence - 20), 480 + dy * (sequence - 20)) + noise[sequence]
        step(tracked, sequence, detections(tuple(place)))
    assert tracked.rows["track_id"].tolist() == [1]
    assert tracked.rows["detections"].tolist() == [40]
