"""What the result of a frame is when verdicts about some of its regions have come. Pure.

A verdict's box replaces the edge's where both mean the same object; what the edge saw in a region
and the cloud did not keeps a part of its score; what the cloud saw besides is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.escalations import Region
from foundation.frames import Detections
from foundation.geometry import iou_matrix

PAIR_IOU_MIN = 0.55
AGREEMENT_SHARE = 0.3
"""How much of the cloud's remaining doubt an edge's score takes away."""
UNSEEN_SHARE = 0.3
"""What a detection keeps of its score when the cloud looked there and did not see it."""
BORDER_PX = 2.0

Origins = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Fused:
    """A frame's result.

    Attributes:
        detections: M of them.
        origins: (M,) position of the edge's detection that each stands for; -1 where the cloud
            added it.
    """

    detections: Detections
    origins: Origins


def fuse_still(
    edge: Detections, verdicts: Sequence[tuple[Region, Detections]], frame_size: tuple[int, int]
) -> Fused:
    """Reconciles the edge's detections of one still frame with verdicts about regions of it.

    Args:
        edge: N detections, calibrated, source pixels.
        verdicts: regions, and what the cloud saw in each; calibrated, source pixels.
        frame_size: width and height.
    """
    asked = np.zeros(len(edge), np.bool_)
    centres = (edge.boxes[:, :2] + edge.boxes[:, 2:]) / 2
    for region, _ in verdicts:
        asked |= ((centres >= [region.x1, region.y1]) & (centres < [region.x2, region.y2])).all(1)
    whole = [_whole(found, region, frame_size) for region, found in verdicts]
    cloud = _joined(whole)
    if len(verdicts) > 1:
        cloud = cloud.take(_unsuppressed(cloud))
    edge_at, cloud_at = _paired(edge, cloud)
    scores = cloud.scores.copy()
    scores[cloud_at] += AGREEMENT_SHARE * edge.scores[edge_at] * (1 - scores[cloud_at])
    origins = np.full(len(cloud), -1, np.intp)
    origins[cloud_at] = edge_at
    alone = np.ones(len(edge), np.bool_)
    alone[edge_at] = False
    rest = np.flatnonzero(alone)
    kept = edge.take(rest)
    kept = kept.with_scores(
        np.where(asked[rest], kept.scores * np.float32(UNSEEN_SHARE), kept.scores)
    )
    return Fused(
        _joined([cloud.with_scores(scores), kept]), np.concatenate([origins, rest]).astype(np.intp)
    )


def _joined(parts: Sequence[Detections]) -> Detections:
    parts = [Detections.empty(), *parts]
    return Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.class_ids for part in parts]),
    )


def _whole(found: Detections, region: Region, frame_size: tuple[int, int]) -> Detections:
    """What no border of the region cuts that is not one of the frame's."""
    low = [region.x1 + BORDER_PX if region.x1 > 0 else -np.inf,
           region.y1 + BORDER_PX if region.y1 > 0 else -np.inf]  # fmt: skip
    high = [region.x2 - BORDER_PX if region.x2 < frame_size[0] else np.inf,
            region.y2 - BORDER_PX if region.y2 < frame_size[1] else np.inf]  # fmt: skip
    cut = (found.boxes[:, :2] < low) | (found.boxes[:, 2:] > high)
    return found.take(np.flatnonzero(~cut.any(axis=1)))


def _unsuppressed(found: Detections) -> Origins:
    """Positions of what no better detection of its class covers, best first."""
    order = np.argsort(-found.scores, kind="stable")
    same = found.class_ids[order][:, None] == found.class_ids[order][None, :]
    near = np.triu((iou_matrix(found.boxes[order], found.boxes[order]) >= PAIR_IOU_MIN) & same, k=1)
    alive = np.ones(len(order), np.bool_)
    for row in np.flatnonzero(near.any(axis=1)).tolist():
        if alive[row]:
            alive &= ~near[row]
    return np.asarray(order[alive], np.intp)


def _paired(edge: Detections, cloud: Detections) -> tuple[Origins, Origins]:
    """Positions that mean the same object, each at most once, the edge's best first."""
    overlap = iou_matrix(edge.boxes, cloud.boxes)
    overlap[edge.class_ids[:, None] != cloud.class_ids[None, :]] = 0
    pairs = []
    if overlap.size:
        order = np.argsort(-edge.scores, kind="stable")
        for row in order[overlap[order].max(axis=1) >= PAIR_IOU_MIN].tolist():
            best = int(overlap[row].argmax())
            if overlap[row, best] >= PAIR_IOU_MIN:
                pairs.append((row, best))
                overlap[:, best] = 0
    table = np.array(pairs, np.intp).reshape(-1, 2)
    return table[:, 0], table[:, 1]
