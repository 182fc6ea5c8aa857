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

from edge_node.logic.associate import assign
from edge_node.logic.fuse import AGREEMENT, agreed_scores
from edge_node.logic.rows import Floats, Mask, Positions
from foundation.escalations import Region
from foundation.frames import Boxes, Detections
from foundation.geometry import box_areas, intersection_matrix

_CONTEXT_MAX = np.float32(1.0)
"""Box sides of surroundings beyond which more of them tell a detector nothing."""
_INWARDS = np.array([1, 1, -1, -1], np.float32)


@dataclass(frozen=True, slots=True)
class StillRules:
    """What is fused how; each was measured (docs/decisions/0029).

    Attributes:
        same_iou: Intersection over union from which boxes of one class are one object.
        silence: What is left of the score of a detection where the cloud found nothing.
        inside_share: Share of its area from which a crop has shown a detection.
        agreement: How much of the cloud's doubt an edge that is sure takes away.
        border_px: What ends this near to a crop's border is cut, unless the frame ends there.
    """

    same_iou: float = 0.55
    silence: float = 0.3
    inside_share: float = 0.9
    agreement: float = AGREEMENT
    border_px: float = 4.0


RULES = StillRules()


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
    edge: Detections,
    views: Sequence[StillView],
    frame_size: tuple[int, int],
    rules: StillRules = RULES,
) -> Detections:
    """Fuses what the edge saw in an image with what the cloud saw in crops of it.

    Args:
        edge: Of the whole image.
        views: In any order; it does not matter.
        frame_size: Width and height of the image in pixels.
        rules: What is fused how.

    Returns:
        Best first, ties in the order of edge before cloud.
    """
    return trace_still(edge, views, frame_size, rules)[0]


def trace_still(
    edge: Detections,
    views: Sequence[StillView],
    frame_size: tuple[int, int],
    rules: StillRules = RULES,
) -> tuple[Detections, Positions]:
    """`fuse_still`, and for each of its detections (M,) the edge's that it stands for.

    Returns:
        The detections, and positions in `edge`; -1 for what the cloud added.
    """
    if not views:
        return _ranked(edge, np.arange(len(edge)))
    cloud = _pooled(views, frame_size, rules)
    row, column, overlap = _same_objects(edge, cloud, rules.same_iou)
    costs = np.full((len(edge), len(cloud)), np.inf, np.float32)
    costs[row, column] = column + 1 - overlap  # the cloud's best first, then the nearest to it
    own, theirs = assign(costs, float(len(cloud) + 1))
    scores = cloud.scores.copy()
    scores[theirs] = agreed_scores(edge.scores[own], scores[theirs], rules.agreement)
    left = np.ones(len(edge), np.bool_)
    left[own] = False
    quiet = left & _shown(edge.boxes, views, rules.inside_share)
    kept = edge.with_scores(
        np.where(quiet, np.float32(rules.silence) * edge.scores, edge.scores)
    ).take(left)
    origins = np.full(len(cloud), -1, np.intp)
    origins[theirs] = own
    parts = [kept, cloud.with_scores(scores)]
    return _ranked(_joined(parts), np.concatenate([np.flatnonzero(left), origins]))


def _pooled(
    views: Sequence[StillView], frame_size: tuple[int, int], rules: StillRules
) -> Detections:
    """What the views found whole, each object once, best first."""
    found = _joined([view.detections for view in views])
    gaps = np.concatenate(
        [border_gaps(view.detections.boxes, view.region, frame_size) for view in views]
    )
    view_of = np.repeat(np.arange(len(views)), [len(view.detections) for view in views])
    whole = np.flatnonzero((gaps >= np.float32(rules.border_px)).all(axis=1))
    around = contexts(found.boxes[whole], gaps[whole])
    # Ties are broken by what is seen and where from, never by the order of the views.
    places = np.array([[v.region.x1, v.region.y1, v.region.x2, v.region.y2] for v in views])
    ties = (*places[view_of[whole]].T, found.class_ids[whole], *found.boxes[whole].T)
    order = whole[np.lexsort((*ties, -around, -found.scores[whole]))]
    ranked, view_of = found.take(order), view_of[order]
    # A view's own detections have been suppressed against each other by its model.
    row, column, _ = _same_objects(ranked, ranked, rules.same_iou)
    doubles = column[(row < column) & (view_of[row] != view_of[column])]
    single = np.ones(len(ranked), np.bool_)
    single[doubles] = False
    return ranked.take(single)


def border_gaps(boxes: Boxes, region: Region, frame_size: tuple[int, int]) -> Floats:
    """From the sides of boxes (N, 4) to those of a crop; infinite where the frame ends too."""
    never = float("inf")
    borders = (
        *(region.x1 if region.x1 > 0 else -never, region.y1 if region.y1 > 0 else -never),
        *(region.x2 if region.x2 < frame_size[0] else never,),
        *(region.y2 if region.y2 < frame_size[1] else never,),
    )
    gaps: Floats = (boxes - np.array(borders, np.float32)) * _INWARDS
    return gaps


def contexts(boxes: Boxes, gaps: Floats) -> Floats:
    """How far (N,) boxes lie from the crop's nearest border, in their longer sides, 0 to 1."""
    sides = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), np.float32(1))
    nearest: Floats = gaps.min(axis=1) / sides
    return np.minimum(np.maximum(nearest, np.float32(0)), _CONTEXT_MAX)


def _same_objects(
    first: Detections, second: Detections, iou: float
) -> tuple[Positions, Positions, Floats]:
    """Pairs of one class that overlap enough: positions in both, and how much they do.

    Of a few hundred boxes each only the pairs that touch are worth more than a comparison.
    """
    x1, y1, x2, y2 = np.ascontiguousarray(first.boxes.T)
    left, top, right, bottom = np.ascontiguousarray(second.boxes.T)
    near = first.class_ids[:, None] == second.class_ids
    near &= x1[:, None] < right
    near &= x2[:, None] > left
    row, column = np.divmod(np.flatnonzero(near), max(1, len(second)))
    touching = (y1[row] < bottom[column]) & (y2[row] > top[column])
    row, column = row[touching], column[touching]
    one, other = first.boxes[row], second.boxes[column]
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = sides[:, 0] * sides[:, 1]
    overlap: Floats = shared / (box_areas(one) + box_areas(other) - shared)
    same = overlap >= np.float32(iou)
    return row[same], column[same], overlap[same]


def _shown(boxes: Boxes, views: Sequence[StillView], share: float) -> Mask:
    """Which boxes (N, 4) some view has shown, centre and nearly all of it."""
    regions = np.array([[v.region.x1, v.region.y1, v.region.x2, v.region.y2] for v in views])
    shared = intersection_matrix(boxes, regions.astype(np.float32))
    enough = shared >= np.float32(share) * np.maximum(box_areas(boxes), np.float32(1e-9))[:, None]
    return np.asarray(enough.any(axis=1), np.bool_)


def _joined(parts: Sequence[Detections]) -> Detections:
    return Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.class_ids for part in parts]),
    )


def _ranked(detections: Detections, origins: Positions) -> tuple[Detections, Positions]:
    order = np.argsort(-detections.scores, kind="stable")
    return detections.take(order), np.asarray(origins[order], np.intp)
