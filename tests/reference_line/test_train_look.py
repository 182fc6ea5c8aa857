from pathlib import Path

import cv2
import numpy as np
import pytest

from model_workshop.datasets import Picture, Split
from reference_line.binary.picture import PADDING_AFTER_PX, PADDING_BEFORE_PX
from reference_line.binary.scenes import SIDE_PX
from reference_line.truth import LABELS

pytest.importorskip("torch", reason="torch is in the extra 'train'")

from reference_line.train_look import WindowSampler

WINDOW = 128
STROKE = (300, 310, 320, 316)


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """One white picture with one black stroke, boxed after the convention."""
    pixels = np.full((SIDE_PX, SIDE_PX, 3), 255, np.uint8)
    x1, y1, x2, y2 = STROKE
    pixels[y1:y2, x1:x2] = 0
    path = tmp_path / "stroke.png"
    cv2.imwrite(str(path), pixels)
    before, after = PADDING_BEFORE_PX, PADDING_AFTER_PX
    boxes = np.array([[x1 - before, y1 - before, x2 + after, y2 + after]], np.float32)
    picture = Picture(1, path, SIDE_PX, SIDE_PX, boxes, np.array([4], np.int32))
    return Split(tmp_path, LABELS, (1, 2, 3, 4, 5, 6), (picture,))


def test_turned_windows_keep_the_box_convention(split: Split) -> None:
    """However a window is turned and mirrored, the box lies about the stroke as elsewhere."""
    sampler, random = WindowSampler(split, WINDOW), np.random.default_rng(0)
    shown = 0
    for _ in range(40):
        window = sampler.draw(random)
        assert window.pixels.shape == (WINDOW, WINDOW, 3)
        rows, columns = np.nonzero(window.pixels[:, :, 0] == 0)
        if len(window.boxes) == 0 or len(rows) < 120:
            continue
        shown += 1
        expected = np.array(
            [
                columns.min() - PADDING_BEFORE_PX,
                rows.min() - PADDING_BEFORE_PX,
                columns.max() + 1 + PADDING_AFTER_PX,
                rows.max() + 1 + PADDING_AFTER_PX,
            ]
        )
        assert window.boxes[0].tolist() == np.clip(expected, 0, WINDOW).tolist()
    assert shown > 20
