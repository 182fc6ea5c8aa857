"""How what the cloud says is written into rows of the track table. Pure, on columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_node.logic.rows import NO_LABEL, Floats, Mask, Rows
from foundation.frames import Boxes


def write_verdict(
    rows: Rows, *, sequence: int, labels: npt.NDArray[np.int32], scores: Floats, boxes: Boxes
) -> None:
    """What the cloud says about tracks (N,) in the frame `sequence`.

    Where it found something, that is its opinion: label index, score and box there. Where it found
    nothing, which is `NO_LABEL`, the track is refuted and left without any other opinion. What the
    edge held against an earlier verdict is void.
    """
    refuted = labels == NO_LABEL
    rows["refuted"] = refuted
    rows["cloud_label"], rows["cloud_score"] = labels, scores
    rows["cloud_box"], rows["cloud_sequence"] = boxes, sequence
    if refuted.any():
        rows["cloud_score"][refuted] = rows["cloud_box"][refuted] = 0
        rows["cloud_sequence"][refuted] = 0
    rows["overruled"] = False
    rows["window_votes"] = rows["votes"]
    rows["window_detections"] = rows["detections"]


def write_asked(rows: Rows, newer: Mask, scores: Floats, boxes: Boxes) -> None:
    """What the edge saw of tracks (N,) when the cloud looked, where no later look is known."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    rows["asked_score"] = np.where(newer, scores, rows["asked_score"])
    rows["asked_area"] = np.where(newer, areas, rows["asked_area"])
