"""Still images: what an edge's and a cloud's detections say together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.logic.fuse_still import RULES, StillView, fuse_still, trace_still
from foundation.escalations import Region
from foundation.frames import Detections

SIZE = (640, 480)
REGION = Region(100, 100, 300, 300)


def seen(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Detections: x1, y1, x2, y2, score, class."""
    return Detections(
        np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[4] for row in rows], np.float32),
        np.array([row[5] for row in rows], np.int32),
    )


def rows_of(found: Detections) -> list[tuple[float, ...]]:
    """Detections as tuples: box, score to three digits, class."""
    columns = zip(
        found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True
    )
    return [(*box, round(score, 3), label) for box, score, label in columns]


def fused(edge: Detections, *views: Detections, region: Region = REGION) -> list[tuple[float, ...]]:
    """Of views of one region."""
    return rows_of(fuse_still(edge, [StillView(region, view) for view in views], SIZE))


def test_agreement_takes_the_box_of_the_cloud_and_raises_its_score() -> None:
    """By three tenths of the edge's score of the doubt that is left."""
    edge, cloud = seen((150, 150, 200, 200, 0.5, 3)), seen((152, 150, 204, 202, 0.8, 3))
    assert fused(edge, cloud) == [(152, 150, 204, 202, 0.83, 3)]


def test_silence_lowers_what_the_crop_has_shown() -> None:
    """And leaves alone what it has not shown, or shown in part."""
    edge = seen(
        (150, 150, 200, 200, 0.5, 3), (400, 150, 450, 200, 0.4, 3), (280, 150, 330, 200, 0.3, 3)
    )
    assert sorted(fused(edge, seen())) == sorted(
        [
            (150, 150, 200, 200, round(0.5 * RULES.silence, 3), 3),
            (400, 150, 450, 200, 0.4, 3),
            (280, 150, 330, 200, 0.3, 3),
        ]
    )


def test_other_class_in_the_same_place_adds_and_lowers() -> None:
    """Both opinions stay, ranked."""
    edge, cloud = seen((150, 150, 200, 200, 0.5, 3)), seen((150, 150, 200, 200, 0.8, 4))
    assert fused(edge, cloud) == [(150, 150, 200, 200, 0.8, 4), (150, 150, 200, 200, 0.15, 3)]


def test_cut_box_is_dropped() -> None:
    """It neither replaces nor adds."""
    edge = seen((90, 150, 160, 200, 0.5, 3))
    assert fused(edge, seen((100, 150, 158, 200, 0.9, 3))) == [(90, 150, 160, 200, 0.5, 3)]
    assert fused(seen(), seen((100, 150, 158, 200, 0.9, 3))) == []


def test_box_cut_by_the_frame_is_used() -> None:
    """Nobody can see more of it."""
    corner = Region(0, 0, 200, 200)
    cloud = seen((0, 0, 50, 50, 0.9, 3))
    assert fused(seen(), cloud, region=corner) == rows_of(cloud)


def test_object_in_two_crops_is_there_once() -> None:
    """The better score stays; one crop's own two boxes are two objects."""
    first = seen((150, 150, 200, 200, 0.8, 3), (160, 150, 210, 200, 0.7, 3))
    second = seen((151, 150, 201, 200, 0.9, 3))
    assert fused(seen(), first) == rows_of(first)
    assert fused(seen(), first, second)[0] == (151, 150, 201, 200, 0.9, 3)
    assert (150, 150, 200, 200, 0.8, 3) not in fused(seen(), first, second)


def test_no_crop_changes_nothing() -> None:
    """But the order, best first."""
    edge = seen((150, 150, 200, 200, 0.2, 3), (300, 150, 350, 200, 0.5, 3))
    assert rows_of(fuse_still(edge, [], SIZE)) == rows_of(edge)[::-1]


@pytest.mark.parametrize("count", [0, 1, 300])
def test_every_detection_is_accounted_for(count: int) -> None:
    """With hundreds of boxes of one class, too: no more come out than went in, best first."""
    rng = np.random.default_rng(count)

    def draw() -> Detections:
        corners = rng.uniform(110, 240, (count, 2)).astype(np.float32)
        boxes = np.concatenate([corners, corners + 40], axis=1)
        return Detections(
            boxes, rng.uniform(0, 1, count).astype(np.float32), np.zeros(count, np.int32)
        )

    edge, views = draw(), [StillView(REGION, draw()), StillView(REGION, draw())]
    out = fuse_still(edge, views, SIZE)
    assert len(out) <= len(edge) + sum(len(view.detections) for view in views)
    assert (np.diff(out.scores) <= 0).all()


BOXES = st.tuples(
    *[st.integers(100, 250), st.integers(100, 250), st.integers(20, 50), st.integers(20, 50)],
    *[st.floats(0, 1, width=32), st.integers(0, 1)],
)


@settings(deadline=None)
@given(
    st.lists(BOXES, max_size=6),
    # A model has suppressed its own doubles.
    st.lists(st.lists(BOXES, max_size=5, unique_by=lambda row: row[:4]), max_size=3),
    st.data(),
)
def test_order_of_views_does_not_matter_and_scores_stay_scores(
    edge: list[tuple[int, int, int, int, float, int]],
    views: list[list[tuple[int, int, int, int, float, int]]],
    data: st.DataObject,
) -> None:
    """Whatever overlaps whatever."""
    parts = [
        seen(*[(x, y, x + w, y + h, score, label) for x, y, w, h, score, label in rows])
        for rows in [edge, *views]
    ]
    seen_by_cloud = [StillView(REGION, part) for part in parts[1:]]
    out = fuse_still(parts[0], seen_by_cloud, SIZE)
    shuffled = fuse_still(parts[0], data.draw(st.permutations(seen_by_cloud)), SIZE)
    assert sorted(rows_of(out)) == sorted(rows_of(shuffled))
    assert ((out.scores >= 0) & (out.scores <= 1)).all()


@settings(deadline=None)
@given(st.lists(BOXES, max_size=6), st.lists(BOXES, max_size=5, unique_by=lambda row: row[:4]))
def test_every_detection_of_the_edge_stands_for_one_result(
    edge: list[tuple[int, int, int, int, float, int]],
    view: list[tuple[int, int, int, int, float, int]],
) -> None:
    """Nothing is lost: each is paired with one of the cloud's or stays, and the rest is added."""
    parts = [
        seen(*[(x, y, x + w, y + h, score, label) for x, y, w, h, score, label in rows])
        for rows in (edge, view)
    ]
    result, origins = trace_still(parts[0], [StillView(REGION, parts[1])], SIZE)
    assert sorted(origins[origins >= 0].tolist()) == list(range(len(edge)))
    assert len(result) == len(origins)
    classes = parts[0].class_ids[origins[origins >= 0]]
    assert (result.class_ids[origins >= 0] == classes).all()
