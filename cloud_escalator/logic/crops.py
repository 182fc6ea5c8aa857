"""What a crop must be to be looked at, and where its answer lies in the source frame.

That the region lies inside its frame has been checked when the message was read.
"""

from __future__ import annotations

import numpy as np

from foundation.errors import RejectedError, RejectReason
from foundation.escalations import LabelledBoxes, Region
from foundation.frames import Boxes, Detections, Pixels
from foundation.geometry import clip_boxes
from foundation.manifest import Calibration, Thresholds

_NO_PROPOSALS: Boxes = np.zeros((0, 4), np.float32)


def check_crop(region: Region, crop: Pixels) -> None:
    """Refuses a decoded crop that has more pixels than the region that it claims to cover.

    Raises:
        RejectedError: the image is wider or higher than its region.
    """
    height, width = crop.shape[:2]
    if width > region.width or height > region.height:
        raise RejectedError(
            f"The image of {width}x{height} is larger than its region of "
            f"{region.width}x{region.height}",
            reason=RejectReason.MALFORMED,
        )


class Reporter:
    """What an answer says of a model's detections.

    Args:
        labels: the model's classes.
        calibration: from raw scores to those that are reported.
        thresholds: from which calibrated score a detection counts as seen.
        classifies: the model says what a crop shows, but not where: its answer is given for each
            proposal, in the proposal's box. Without this, a box as large as the crop would be too
            unlike the proposal's to be taken for an answer about it.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        calibration: Calibration,
        thresholds: Thresholds,
        *,
        classifies: bool = False,
    ) -> None:
        self._labels = labels
        self._classifies = classifies
        self._calibration = calibration
        self._seen_from = np.array([thresholds.of(label).report for label in labels], np.float32)

    def report(
        self,
        detections: Detections,
        region: Region,
        crop: Pixels,
        proposals: Boxes = _NO_PROPOSALS,
    ) -> LabelledBoxes:
        """The detections that count as seen, placed in the source frame.

        Args:
            detections: boxes in pixels of the crop, raw scores.
            region: what the crop covers, source pixels.
            crop: (H, W, 3), the decoded crop.
            proposals: (N, 4), what was asked about, source pixels.

        Returns:
            Boxes in source pixels inside the region, none empty; calibrated scores; names.
        """
        scores = self._calibration.apply(detections, self._labels)
        seen = detections.with_scores(scores).take(scores >= self._seen_from[detections.class_ids])
        height, width = crop.shape[:2]
        scale = np.array([region.width / width, region.height / height] * 2, np.float32)
        boxes = seen.boxes * scale
        offset = np.array([region.x1, region.y1] * 2, np.float32)
        if self._classifies and len(seen) and len(proposals):
            boxes = proposals - offset
            seen = seen.take(np.zeros(len(proposals), np.intp))
        inside = clip_boxes(boxes, region.width, region.height)
        # A box that lay wholly outside the crop is clipped to a line and says nothing of it.
        kept = np.all(inside[:, 2:] > inside[:, :2], axis=1)
        placed = Detections(inside + offset, seen.scores, seen.class_ids).take(kept)
        return LabelledBoxes.from_detections(placed, self._labels)
