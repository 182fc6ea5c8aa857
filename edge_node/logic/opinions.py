"""How what the cloud says is written into rows of the track table. Pure, on columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_node.logic.rows import NO_LABEL, Floats, Mask, Rows
from foundation.frames import Boxes


def write_verdict(
    rows: Rows,
    found: Mask,
    *,
    sequence: int,
    labels: npt.NDArray[np.int32],
    scores: Floats,
    boxes: Boxes,
) -> None:
    """What the cloud says about tracks (N,) in the frame `sequence`.

    Where it found something, that is its opinion: label index, score and box there. Where it found
    nothing, the track is refuted and left without any other opinion. What the edge holds against
    an earlier verdict is void.
    """
    rows["refuted"] = ~found
    rows["cloud_label"] = np.where(found, labels, NO_LABEL)
    rows["cloud_score"] = np.where(found, scores, np.float32(0))
    rows["cloud_box"] = np.where(found[:, None], boxes, np.float32(0))
    rows["cloud_sequence"] = np.where(found, sequence, 0)
    rows["overruled"] = False
    rows["window_votes"] = rows["votes"]
    rows["window_detections"] = rows["detections"]


def write_asked(rows: Rows, newer: Mask, scores: Floats, boxes: Boxes) -> None:
    """What the edge saw of tracks (N,) when the cloud looked, where no later look is known."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    rows["asked_score"] = np.where(newer, scores, rows["asked_score"])
    rows["asked_area"] = np.where(newer, areas, rows["asked_area"])
