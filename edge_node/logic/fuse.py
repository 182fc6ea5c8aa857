"""What a verdict means for the tracks in its crop. Pure: values in, findings out.

All boxes are source pixels of the frame in which the crop was cut; bringing them to the present is
the caller's business, since only it knows how the tracks have moved.

Rules, in the order of their worth as measured (docs/decisions/0011): the verdict counts for every
track in the crop, it may add objects, and what the crop's border cuts is not added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_node.config import FusionSettings
from edge_node.logic.associate import assign, distances
from edge_node.logic.rows import Mask, Positions
from edge_node.values import Effect, Question
from foundation.escalations import LabelledBoxes, Region
from foundation.frames import Boxes
from foundation.geometry import intersection_matrix, iou_matrix

_LABEL_AGREES = np.float32(0.25)
"""How much nearer, in box sides, a detection with the same label counts."""
_COVERED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """What the verdict says about one track, or about an object without a track.

    Attributes:
        effect: What changes.
        subject: Position in the question's subjects; -1 for an added object.
        detection: Position in the verdict's detections; -1 for a refuted track.
    """

    effect: Effect
    subject: int
    detection: int


def judge(question: Question, detections: LabelledBoxes, settings: FusionSettings) -> list[Finding]:
    """Reconciles a verdict's detections with the tracks that were in the crop.

    Asked-about tracks are confirmed, reclassified or, when nothing is found in their place,
    refuted. Tracks that merely lay in the crop are confirmed or reclassified when something is
    found, and left alone otherwise. Further whole objects are added.
    """
    usable = np.flatnonzero(detections.scores >= settings.verdict_score_min)
    subjects = question.subjects
    known = np.array([subject.box for subject in subjects], np.float32).reshape(-1, 4)
    boxes = detections.boxes[usable]
    costs = distances(known, boxes)
    for row, subject in enumerate(subjects):
        for column, position in enumerate(usable.tolist()):
            if detections.labels[position] == subject.label:
                costs[row, column] -= _LABEL_AGREES
    paired_rows, paired_columns = assign(costs, settings.centre_distance_max)
    found = dict(zip(paired_rows.tolist(), paired_columns.tolist(), strict=True))
    findings = []
    for row, subject in enumerate(subjects):
        if row in found:
            position = int(usable[found[row]])
            same = detections.labels[position] == subject.label
            effect = Effect.CONFIRMED if same else Effect.RECLASSIFIED
            findings.append(Finding(effect, row, position))
        elif subject.asked:
            findings.append(Finding(Effect.REFUTED, row, -1))
    free = np.ones(len(usable), np.bool_)
    free[paired_columns] = False
    free &= ~cut_by_crop(boxes, question, settings.border_px)
    added = usable[_uncovered(free, boxes, known)].tolist()
    return findings + [Finding(Effect.ADDED, -1, position) for position in added]


def cut_by_crop(boxes: Boxes, question: Question, border_px: float) -> Mask:
    """Which boxes (N, 4) end at a border of the crop that is not one of the frame's."""
    region: Region = question.region
    never = np.float32(np.inf)
    low = np.array(
        [
            -never if region.x1 <= 0 else region.x1 + border_px,
            -never if region.y1 <= 0 else region.y1 + border_px,
        ],
        np.float32,
    )
    high = np.array(
        [
            never if region.x2 >= question.frame_width else region.x2 - border_px,
            never if region.y2 >= question.frame_height else region.y2 - border_px,
        ],
        np.float32,
    )
    outside = (boxes[:, :2] < low) | (boxes[:, 2:] > high)
    return np.asarray(outside.any(axis=1), np.bool_)


def shift_to_present(box: Boxes, from_box: Boxes, to_box: Boxes) -> Boxes:
    """Moves a box (4,) by what a track's centre has moved from one of its boxes to another."""
    motion = (to_box[:2] + to_box[2:] - from_box[:2] - from_box[2:]) * np.float32(0.5)
    return np.concatenate([box[:2] + motion, box[2:] + motion]).astype(np.float32, copy=False)


def _uncovered(free: Mask, boxes: Boxes, known: Boxes) -> Positions:
    """Free detections that neither a known track nor a better free detection covers."""
    if len(known):
        shared = intersection_matrix(boxes, known).max(axis=1)
        own = np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1)
        free &= (shared / own < _COVERED_SHARE) | (iou_matrix(boxes, known).max(axis=1) < 0.1)
    chosen = np.flatnonzero(free)
    doubled = np.triu(iou_matrix(boxes[chosen], boxes[chosen]), k=1) > _COVERED_SHARE
    kept: Positions = chosen[~doubled.any(axis=0)]
    return kept
