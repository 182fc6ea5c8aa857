from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foundation.frames import Detections
from model_workshop.evaluation.matching import best_operating_point, match, operating_point


def _detections(rows: list[tuple[float, float, float, int]]) -> Detections:
    """Boxes of 10x10 at x, y with score and class."""
    boxes = np.array([[x, y, x + 10, y + 10] for x, y, _, _ in rows], np.float32).reshape(-1, 4)
    return Detections(
        boxes,
        np.array([score for _, _, score, _ in rows], np.float32),
        np.array([class_id for *_, class_id in rows], np.int32),
    )


def test_each_object_is_found_once_by_its_best_detection() -> None:
    """A second detection of the same object is wrong, as is one of another class."""
    truth = _detections([(0, 0, 1, 0), (50, 0, 1, 1)])
    found = _detections([(1, 0, 0.6, 0), (0, 0, 0.9, 0), (50, 0, 0.8, 0), (90, 90, 0.7, 1)])
    matches = match([found], [(truth.boxes, truth.class_ids)], classes=2)
    assert matches.hits.tolist() == [False, True, False, False]
    assert matches.objects.tolist() == [1, 1]


def test_image_without_detections_still_counts_its_objects() -> None:
    """What was missed lowers recall."""
    truth = _detections([(0, 0, 1, 0)])
    matches = match([Detections.empty()], [(truth.boxes, truth.class_ids)], classes=1)
    assert matches.objects.tolist() == [1]
    assert best_operating_point(matches.scores, matches.hits, 1).f1 == 0.0


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 10),
)
def test_best_threshold_is_no_worse_than_any_other(
    scored: list[tuple[int, bool]], missed: int
) -> None:
    """Trying every score as the threshold finds nothing better, ties included."""
    scores = np.array([score / 8 for score, _ in scored], np.float32)
    hits = np.array([hit for _, hit in scored])
    objects = int(hits.sum()) + missed
    best = best_operating_point(scores, hits, objects)
    every = [operating_point(scores, hits, objects, float(score)).f1 for score in scores]
    assert best.f1 == max(every)
