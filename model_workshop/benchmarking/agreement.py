"""Whether a configuration still detects what the plain one detects.

Providers round otherwise, and some compute in fewer bits than the model has. What the edge would
act on in the plain run (its calibrated score reaches the low end of the escalation band) must be
found by the other, and the reverse, at the same place with nearly the same score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.frames import Detections, Pixels
from foundation.geometry import iou_matrix
from model_workshop.datasets import read_picture

SCORE_DIFFERENCE_MAX = 0.08
IOU_MIN = 0.6
IMAGES_MAX = 16
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two configurations compare over some images.

    Attributes:
        images: how many were compared.
        compared: detections that matter, in either.
        missing: those that the other does not have.
        score_difference_max: of those that it has.
        iou_min: of those that it has; 1 where there are none.
    """

    images: int
    compared: int
    missing: int
    score_difference_max: float
    iou_min: float

    @property
    def problem(self) -> str:
        """What speaks against it; empty where the outputs agree."""
        if self.compared == 0:
            return "nothing was detected in the images to compare on, which proves nothing"
        if self.missing:
            return f"{self.missing} of {self.compared} detections have no counterpart in the other"
        if self.score_difference_max > SCORE_DIFFERENCE_MAX:
            return f"scores differ by up to {self.score_difference_max:.2f}"
        return ""


def agreement_images(bundle: Bundle, directory: Path | None) -> list[Pixels]:
    """Images to compare on: those of a directory, or else views of the smoke input.

    Raises:
        ConfigError: the directory holds no images, or one cannot be read.
    """
    if directory is None:
        return views_of(bundle.smoke.pixels)
    found = sorted(path for path in directory.glob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise ConfigError(
            f"{directory} holds no images", remedy="Give a directory of pictures (--images)"
        )
    chosen = np.linspace(0, len(found) - 1, min(IMAGES_MAX, len(found))).round().astype(int)
    return [read_picture(found[index]) for index in chosen]


def views_of(pixels: Pixels) -> list[Pixels]:
    """An image, its mirror images, darker, brighter and blurred."""
    views = [
        pixels,
        pixels[:, ::-1],
        pixels[::-1],
        pixels[::-1, ::-1],
        cv2.convertScaleAbs(pixels, alpha=0.75),
        cv2.convertScaleAbs(pixels, alpha=1.25),
        cv2.GaussianBlur(pixels, (3, 3), 0),
    ]
    return [np.ascontiguousarray(view, np.uint8) for view in views]


def compare(bundle: Bundle, plain: Sequence[Detections], other: Sequence[Detections]) -> Agreement:
    """Compares the detections of two configurations, image by image.

    Args:
        bundle: for its calibration and thresholds.
        plain: detections with raw scores of the plain configuration.
        other: of the one in question.
    """
    floor = bundle.info.postprocess.score_floor
    compared = missing = 0
    difference, overlap = 0.0, 1.0
    for one, another in zip(plain, other, strict=True):
        for here, there in ((one, another), (another, one)):
            wanted = here.take(_matters(bundle, here))
            compared += len(wanted)
            ious, scores = _counterparts(wanted, there, bundle.info.postprocess.nms_iou)
            met = ious > 0.0
            # What is hardly above the floor here may be hardly below it there.
            missing += int((~met & (wanted.scores > floor + SCORE_DIFFERENCE_MAX)).sum())
            if met.any():
                overlap = min(overlap, float(ious[met].min()))
                off = np.abs(scores[met] - wanted.scores[met])
                difference = max(difference, float(off.max()))
    return Agreement(len(plain), compared, missing, difference, overlap)


def _matters(bundle: Bundle, found: Detections) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which detections (N,) an edge would report or ask about."""
    low = np.array([bundle.thresholds.of(label).escalate_low for label in bundle.labels])
    calibrated = bundle.calibration.apply(found, bundle.labels)
    return np.asarray(calibrated >= low[found.class_ids], np.bool_)


def _counterparts(
    wanted: Detections, found: Detections, nms_iou: float
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.float32]], np.ndarray[tuple[int], np.dtype[np.float32]]
]:
    """IoU and score (N,) of each detection's counterpart of the same class; 0 where it has none."""
    if len(wanted) == 0 or len(found) == 0:
        return np.zeros(len(wanted), np.float32), np.zeros(len(wanted), np.float32)
    overlap = iou_matrix(wanted.boxes, found.boxes)
    # Of two candidates that suppress each other either may win.
    near = min(IOU_MIN, nms_iou)
    same = wanted.class_ids[:, None] == found.class_ids[None, :]
    overlap = np.where(same & (overlap >= near), overlap, 0.0).astype(np.float32)
    best = overlap.argmax(axis=1)
    return overlap.max(axis=1), found.scores[best]
