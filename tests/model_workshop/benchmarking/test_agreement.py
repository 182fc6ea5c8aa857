"""Whether two configurations detect the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.errors import ConfigError
from foundation.frames import Detections
from model_workshop.benchmarking.agreement import agreement_images, compare
from tests.support.bundles import make_bundle

BUNDLE = make_bundle(escalate_low=0.3)


def seen(*rows: tuple[float, float, int]) -> Detections:
    """Detections of 20x20 px with left edge, score and class."""
    lefts = np.array([row[0] for row in rows], np.float32)
    boxes = np.stack([lefts, lefts * 0, lefts + 20, lefts * 0 + 20], axis=1)
    scores = np.array([row[1] for row in rows], np.float32)
    return Detections(boxes, scores, np.array([row[2] for row in rows], np.int32))


def test_small_differences_agree() -> None:
    """Boxes off by a pixel and scores off by a step of INT8."""
    found = compare(BUNDLE, [seen((0, 0.9, 0))], [seen((1, 0.93, 0))])
    assert found.problem == ""
    assert found.compared == 2
    assert found.score_difference_max == pytest.approx(0.03, abs=1e-4)
    assert 0.85 < found.iou_min < 1.0


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (seen(), "1 of 1 detections have no counterpart"),
        (seen((40, 0.9, 0)), "2 of 2 detections"),
        (seen((0, 0.9, 1)), "2 of 2 detections"),
        (seen((0, 0.7, 0)), "scores differ by up to 0.20"),
    ],
    ids=["nothing", "elsewhere", "another class", "another score"],
)
def test_what_is_missing_or_moved_disagrees(other: Detections, words: str) -> None:
    """From either side: what one configuration makes up is as wrong as what it misses."""
    plain = seen((0, 0.9, 0))
    assert words in compare(BUNDLE, [plain], [other]).problem
    assert words in compare(BUNDLE, [other], [plain]).problem


def test_what_no_edge_acts_on_is_not_compared() -> None:
    """Below the escalation band, on either side."""
    found = compare(BUNDLE, [seen((0, 0.9, 0), (40, 0.2, 1))], [seen((0, 0.9, 0), (80, 0.1, 2))])
    assert found.problem == ""
    assert found.compared == 2


def test_a_score_across_the_band_s_edge_is_no_loss() -> None:
    """The counterpart counts, though it alone would not matter."""
    assert compare(BUNDLE, [seen((0, 0.31, 0))], [seen((0, 0.29, 0))]).problem == ""


def test_nothing_seen_proves_nothing() -> None:
    """Two blind models agree about everything."""
    assert "proves nothing" in compare(BUNDLE, [seen()], [seen()]).problem


def test_images_are_those_of_a_folder_or_views_of_the_smoke_input(tmp_path: Path) -> None:
    """Several either way."""
    views = agreement_images(BUNDLE, None)
    assert len(views) > 3
    assert {view.shape for view in views} == {BUNDLE.smoke.pixels.shape}
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", views[0])[1].tobytes())
    assert len(agreement_images(BUNDLE, tmp_path)) == 2


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    """Nothing would be compared."""
    with pytest.raises(ConfigError, match="holds no images"):
        agreement_images(BUNDLE, tmp_path)
