"""One picture of the binary look: artwork, threshold of a noisy capture, strokes, boxes.

The box convention is the one measured on binarized boards with published boxes: the bounding box
of all that the brush touched, seen or not, grown by 11 px to the left and the top and 8 px to the
right and the bottom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reference_line.artwork import SUPERSAMPLE, Mask
from reference_line.binary.scenes import SIDE_PX, draw_scene
from reference_line.binary.strokes import DrawnDefect, Hand
from reference_line.truth import LABELS

PADDING_BEFORE_PX: Final = 11
PADDING_AFTER_PX: Final = 8
BOX_CONVENTION: Final = (
    f"box of all that the brush touched + {PADDING_BEFORE_PX} px left and top, "
    f"{PADDING_AFTER_PX} px right and bottom"
)
JPEG_QUALITY: Final = 75
_DEFECTS: Final = (8, 15)
_SKEW_MAX_DEG: Final = 0.4
_DISTURBANCE_MAX: Final = 100.0

Pixels = NDArray[np.uint8]
Random = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class BinaryPicture:
    """A finished picture and what is wrong on it.

    Attributes:
        tested: uint8 BGR (SIDE_PX, SIDE_PX, 3), copper black.
        template: The same capture without defects.
        boxes: float32 (N, 4), truth boxes clipped to the picture.
        class_ids: int32 (N,), index into ``LABELS``.
        sizes_px: float32 (N,), square root of the area of what the brush touched.
    """

    tested: Pixels
    template: Pixels
    boxes: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    sizes_px: NDArray[np.float32]


def render_picture(seed: int, board: int, frame: int = 0) -> BinaryPicture:
    """Make one picture; its pixels depend on nothing but the arguments.

    Args:
        seed: Seed of the boards, non-negative.
        board: Number of the artwork, from 0.
        frame: Number of the specimen; each has its own defects and capture.

    Returns:
        The picture.
    """
    layout = np.random.default_rng((seed, 21, board))
    flaws, capture = (np.random.default_rng((seed, 21 + k, board, frame)) for k in (1, 2))
    clean, grey = _image(draw_scene(layout), capture)
    good = _binarize(grey, capture)
    hand = Hand(clean, flaws)
    first = int(flaws.integers(len(LABELS)))
    count = int(flaws.integers(*_DEFECTS))
    drawn = [hand.draw(LABELS[(first + k) % len(LABELS)]) for k in range(count)]
    defects = [defect for defect in drawn if defect is not None]
    bad = good.copy()
    for defect in defects:
        x1, y1, x2, y2 = defect.box
        bad[y1:y2, x1:x2][defect.mask > 0] = 0 if defect.erases else 255
    return BinaryPicture(
        _as_picture(bad),
        _as_picture(good),
        np.array([_truth_box(d) for d in defects], np.float32).reshape(-1, 4),
        np.array([d.class_id for d in defects], np.int32),
        np.array([_size_px(d) for d in defects], np.float32),
    )


def _truth_box(defect: DrawnDefect) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = defect.box
    return (
        max(x1 - PADDING_BEFORE_PX, 0),
        max(y1 - PADDING_BEFORE_PX, 0),
        min(x2 + PADDING_AFTER_PX, SIDE_PX),
        min(y2 + PADDING_AFTER_PX, SIDE_PX),
    )


def _size_px(defect: DrawnDefect) -> float:
    x1, y1, x2, y2 = defect.box
    return float(np.sqrt((x2 - x1) * (y2 - y1)))


def _image(copper: Mask, rng: Random) -> tuple[Mask, NDArray[np.float32]]:
    """Image artwork through lens and skew: clean copper (0 or 255) and its grey, native size."""
    angle = float(rng.uniform(-_SKEW_MAX_DEG, _SKEW_MAX_DEG))
    centre = copper.shape[0] / 2
    turn = cv2.getRotationMatrix2D((centre, centre), angle, 1.0)
    matrix = np.array(turn, dtype=np.float64)
    matrix[:, 2] += rng.uniform(-1.0, 1.0, 2) - 0.25
    matrix /= SUPERSAMPLE
    soft = cv2.GaussianBlur(copper, (0, 0), float(rng.uniform(0.8, 1.6)) * SUPERSAMPLE)
    grey = cv2.warpAffine(soft, matrix, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    clean = cv2.threshold(grey, 127, 255, cv2.THRESH_BINARY)[1]
    return np.asarray(clean, np.uint8), grey.astype(np.float32)


def _binarize(grey: NDArray[np.float32], rng: Random) -> Mask:
    """Threshold a noisy capture: ragged edges from pixel noise, wavering ones from etching."""
    noise = rng.standard_normal(grey.shape, np.float32) * np.float32(rng.uniform(1.0, 20.0))
    height, width = grey.shape
    coarse = rng.standard_normal((height // 4, width // 4), np.float32)
    smooth = cv2.GaussianBlur(coarse, (0, 0), float(rng.uniform(0.8, 3.0)))
    gain = float(rng.uniform(0.0, 40.0)) / float(smooth.std())
    waver = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR) * gain
    level = float(rng.uniform(112, 142))
    # Limited, or the tails of both together would sprinkle specks far from any edge.
    disturbed = grey + np.clip(noise + waver, -_DISTURBANCE_MAX, _DISTURBANCE_MAX)
    return np.where(disturbed > level, 255, 0).astype(np.uint8)


def _as_picture(copper: Mask) -> Pixels:
    """Show copper black on white, three equal channels."""
    return np.asarray(cv2.cvtColor(cv2.bitwise_not(copper), cv2.COLOR_GRAY2BGR), np.uint8)
