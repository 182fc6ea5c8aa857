"""What an edge's detections and a cloud's views of one still image say together. Pure.

There are no tracks here and so no memory: every detection has a score, down to the lowest, and what
is fused is judged by how it ranks. The rules are those of `fuse`, said for boxes: the cloud's box
replaces, agreement raises, silence lowers and never removes, the cloud may add, and what a crop's
border cuts is not used as a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foundation.escalations import Region
from foundation.frames import Detections

SAME_IOU = np.float32(0.55)
"""Intersection over union from which boxes of one class are one object."""
SILENCE = np.float32(0.3)
"""What is left of the score of a detection where the cloud looked and found nothing."""
INSIDE_SHARE = np.float32(0.9)
"""Share of its area from which a crop has shown a detection."""
_BORDER_PX = 2.0


@dataclass(frozen=True, slots=True)
class StillView:
    """One crop of an image and what the cloud found in it.

    Attributes:
        region: Where it lies in the image.
        detections: Boxes in pixels of the image, scores and classes that compare with the edge's.
    """

    region: Region
    detections: Detections


def fuse_still(
    edge: Detections, views: Sequence[StillView], frame_size: tuple[int, int]
) -> Detections:
    """Fuses what the edge saw in an image with what the cloud saw in crops of it.

    Args:
        edge: Of the whole image.
        views: In any order; it does not matter.
        frame_size: Width and height of the image in pixels.

    Returns:
        Best first, ties in the order of edge before cloud.
    """
    if not views:
        return _ranked(edge)
    cloud, cut = _seen(views, frame_size)
    same = (edge.class_ids[:, None] == cloud.class_ids) & (
        _overlaps(edge.boxes, cloud.boxes) >= SAME_IOU
    )
