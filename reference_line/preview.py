"""A mosaic for a person to look at: frames with truth drawn, and crops of every class and size."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reference_line.line import Line
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH
from reference_line.truth import LABELS, FrameTruth

_SIZE_EDGES_PX: Final = (0.0, 6.0, 8.0, 11.0, 99.0)
_CROP_PX: Final = 64
_ZOOM: Final = 4
_PER_CLASS: Final = 7

Pixels = NDArray[np.uint8]


def draw_truth(pixels: Pixels, truth: FrameTruth) -> Pixels:
    """Return a copy of a frame with its truth drawn."""
    canvas = pixels.copy()
    for box, class_id in zip(truth.boxes, truth.class_ids, strict=True):
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        cv2.rectangle(canvas, (x1 - 3, y1 - 3), (x2 + 3, y2 + 3), (0, 255, 255), 1)
        _write(canvas, LABELS[class_id], (x1 - 3, y1 - 7))
    return canvas


def downscale(pixels: Pixels) -> Pixels:
    """Return the 416x312 picture that an edge model sees: halved by area, then linear."""
    half = cv2.resize(pixels, (FRAME_WIDTH // 2, FRAME_HEIGHT // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(half, (416, 312), interpolation=cv2.INTER_LINEAR), np.uint8)


def build_mosaic(seed: int, frames: int = 4) -> Pixels:
    """Build the mosaic of a line: whole frames on top, then one row of crops for each class.

    Each crop shows a defect at native resolution and beside it the same place after the
    downscaling, both enlarged four times.

    Args:
        seed: The line's seed.
        frames: Whole frames on top, an even number.

    Returns:
        uint8 BGR picture.
    """
    line = Line(seed)
    step = round(FRAME_WIDTH / line.settings.speed_px)
    crops: dict[tuple[int, int], Pixels] = {}
    wholes = []
    for k in range(max(frames, 24)):
        pixels, truth = line.frame(k * step), line.truth(k * step)
        if k < frames:
            wholes.append(draw_truth(pixels, truth))
        small = cv2.resize(
            downscale(pixels), (FRAME_WIDTH, FRAME_HEIGHT), interpolation=cv2.INTER_NEAREST
        )
        _collect(crops, pixels, np.asarray(small, np.uint8), truth)
    rows = [np.hstack(wholes[k : k + 2]) for k in range(0, len(wholes), 2)]
    blank = np.zeros((_CROP_PX * _ZOOM, 2 * _CROP_PX * _ZOOM, 3), np.uint8)
    for class_id in range(len(LABELS)):
        row = [crops.get((class_id, k), blank) for k in range(_PER_CLASS)]
        rows.append(np.hstack(row))
    width = max(row.shape[1] for row in rows)
    return np.vstack(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    ).astype(np.uint8)


def _collect(
    crops: dict[tuple[int, int], Pixels], pixels: Pixels, small: Pixels, truth: FrameTruth
) -> None:
    """Keep crops until each class has its row, taking sizes in turn from small to large."""
    for box, class_id, size in zip(truth.boxes, truth.class_ids, truth.sizes_px, strict=True):
        taken = [
            k
            for k in range(_PER_CLASS)
            if (int(class_id), k) not in crops
            and _SIZE_EDGES_PX[min(k // 2, 3)] <= size < _SIZE_EDGES_PX[min(k // 2, 3) + 1]
        ]
        if not taken:
            continue
        cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        x = int(np.clip(cx - _CROP_PX / 2, 0, FRAME_WIDTH - _CROP_PX))
        y = int(np.clip(cy - _CROP_PX / 2, 0, FRAME_HEIGHT - _CROP_PX))
        pair = np.hstack([p[y : y + _CROP_PX, x : x + _CROP_PX] for p in (pixels, small)])
        tile = np.asarray(
            cv2.resize(pair, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_NEAREST), np.uint8
        )
        _write(tile, f"{LABELS[class_id]} {size:.1f} px", (4, 14))
        crops[int(class_id), taken[0]] = tile


def _write(canvas: Pixels, text: str, at: tuple[int, int]) -> None:
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness)
