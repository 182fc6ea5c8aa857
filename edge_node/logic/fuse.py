"""What a verdict means for the tracks in its crop. Pure: values in, findings out.

All boxes are source pixels of the frame in which the crop was cut; bringing them to the present is
the caller's business, since only it knows how the tracks have moved.

Rules, in the order of their worth as measured (docs/decisions/0011, 0029): the verdict counts for
every track in the crop, it may add objects, and what the crop's border cuts says that something is
there, not where. Nothing that the cloud sends raises: what cannot be used is counted by its cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edge_node.config import FusionSettings
from edge_node.logic.associate import assign, distances
from edge_node.logic.rows import Floats, Mask, Positions
from edge_node.values import Effect, IgnoredPart, Question, Subject
from foundation.escalations import LabelledBoxes, Region
from foundation.frames import Boxes, Scores
from foundation.geometry import box_areas, intersection_matrix, iou_matrix

BOXES_MAX = 300
"""Boxes of one verdict that are considered, best scores first: what one picture may hold."""
AGREEMENT = 0.3
"""How much of the doubt that the cloud leaves an agreeing edge takes away, at a score of one."""
_LABEL_AGREES = np.float32(0.25)
"""How much nearer, in box sides, a detection with the same label counts."""
_COVERED_SHARE = 0.5
_TOUCHING_IOU = 0.1
_CUT_OVERLAP = 0.25
"""Intersection over union from which a cut box of another class may be the same object."""
_CONTEXT_MAX = np.float32(1.0)
"""Box sides of surroundings beyond which more of them tell a detector nothing."""
_CONTEXT_ENOUGH = 0.25
_INWARDS = np.array([1, 1, -1, -1], np.float32)


class Standing(NamedTuple):
    """How much a finding is worth beside another one about the same track; the greater stands.

    The order is total and knows nothing of arrival, so verdicts may come in any order. What the
    crop's border did not cut goes before what it cut, a crop with surroundings before one without;
    then the later frame, the wider surroundings, and the smaller crop, which the cloud saw at the
    higher resolution.
    """

    whole: bool
    in_context: bool
    sequence: int
    context: float
    pixels_negated: int
    score: float
    escalation_id: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What the verdict says about one track, or about an object without a track.

    Attributes:
        effect: What changes.
        subject: Position in the question's subjects; -1 for an added object.
        detection: Position in the verdict's detections; -1 for a refuted track.
        standing: Its worth; where `whole` is false the detection's box says nothing about where.
    """

    effect: Effect
    subject: int
    detection: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, read.

    Attributes:
        findings: About subjects, in their order, then added objects.
        boxes: (N, 4) float32, the verdict's boxes without what lies outside the crop.
        ignored: How many of its boxes changed nothing, by cause.
    """

    findings: list[Finding]
    boxes: Boxes
    ignored: Counter[IgnoredPart]


@dataclass(frozen=True, slots=True)
class _Sight:
    """The usable boxes of a verdict, best first."""

    at: Positions
    boxes: Boxes
    scores: Scores
    cut: Mask


def judge(
    question: Question,
    detections: LabelledBoxes,
    settings: FusionSettings,
    *,
    scene_moves: bool = False,
) -> Judgement:
    """Reconciles a verdict's detections with the tracks that its crop shows.

    Asked-about tracks are confirmed, reclassified or, when nothing is found in their place,
    refuted; where only something that the border cut is found, they are confirmed by its class or
    left undecided. Tracks that merely lie in the crop are confirmed or reclassified when something
    is found, and left alone otherwise; those that it shows in part can only be confirmed. Further
    whole objects are added. What the frame's own border cuts is as whole as it will be, unless the
    scene moves as one: then it is about to come into view, or was seen whole before.
    """
    subjects = question.subjects
    boxes, best, ignored = _sift(question, detections, settings)
    known, seen = _boxes_of(subjects), boxes[best]
    everything = np.concatenate([known, seen])
    frame_size = (question.frame_width, question.frame_height)
    gaps = border_gaps(everything, question.region, frame_size)
    around = contexts(everything, gaps).tolist()
    whole_from = np.zeros(len(everything), np.float32)
    whole_from[len(known) :] = settings.border_px
    whole = np.asarray((gaps >= whole_from[:, None]).all(axis=1), np.bool_)
    inside, cut = whole[: len(known)], ~whole[len(known) :]
    sight = _Sight(best, seen, detections.scores[best], cut)
    same = _same_labels(subjects, detections, sight.at)
    costs = distances(known, sight.boxes)
    costs[same] -= _LABEL_AGREES
    costs[:, cut] = np.inf
    rows, columns = assign(costs, settings.centre_distance_max)
    found = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    missing = np.ones(len(subjects), np.bool_)
    missing[rows] = False
    hints = _cut_hints(np.flatnonzero(missing), known, question, sight, same)
    findings = list(_about_subjects(question, found, hints, inside, around, same, sight))
    if scene_moves:
        cut = cut | _cut_by_frame(seen, frame_size, settings.border_px)
    free = ~cut
    free[columns] = False
    added = _uncovered(free, seen, known).tolist()
    findings += _additions(question, added, around[len(known) :], sight)
    used = {finding.detection for finding in findings}
    for detection, is_cut in zip(best.tolist(), cut.tolist(), strict=True):
        if detection not in used:
            ignored[IgnoredPart.CUT if is_cut else IgnoredPart.DOUBLE] += 1
    return Judgement(findings, boxes, ignored)


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


def _cut_by_frame(boxes: Boxes, frame_size: tuple[int, int], border_px: float) -> Mask:
    """Which boxes (N, 4) end nearer than this to the frame's border."""
    low = (boxes[:, :2] < border_px).any(axis=1)
    high = (boxes[:, 2:] > np.array(frame_size, np.float32) - border_px).any(axis=1)
    return np.asarray(low | high, np.bool_)


def contexts(boxes: Boxes, gaps: Floats) -> Floats:
    """How far (N,) boxes lie from the crop's nearest border, in their longer sides, 0 to 1."""
    sides = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), np.float32(1))
    nearest: Floats = gaps.min(axis=1) / sides
    return np.minimum(np.maximum(nearest, np.float32(0)), _CONTEXT_MAX)


def agreed_scores(edge: Scores, cloud: Scores, agreement: float = AGREEMENT) -> Scores:
    """The cloud's scores (N,) where the edge, with its own scores (N,), names the same class."""
    raised: Scores = cloud + np.float32(agreement) * edge * (1 - cloud)
    return raised


def shift_to_present(boxes: Boxes, from_boxes: Boxes, to_boxes: Boxes) -> Boxes:
    """Moves boxes (..., 4) by what tracks' centres moved from one of their boxes to another."""
    moved = to_boxes - from_boxes
    motion = (moved[..., :2] + moved[..., 2:]) * np.float32(0.5)
    return np.concatenate([boxes[..., :2] + motion, boxes[..., 2:] + motion], axis=-1)


def _sift(
    question: Question, detections: LabelledBoxes, settings: FusionSettings
) -> tuple[Boxes, Positions, Counter[IgnoredPart]]:
    """The verdict's boxes within the crop, which to consider, best first, and why not others."""
    region = question.region
    boxes, scores = detections.boxes, detections.scores
    ignored: Counter[IgnoredPart] = Counter()
    sound = (boxes[:, :2] < boxes[:, 2:]).all(axis=1) & np.isfinite(boxes).all(axis=1)
    sound &= (scores >= 0) & (scores <= 1)
    low = np.array([region.x1, region.y1] * 2, np.float32)
    high = np.array([region.x2, region.y2] * 2, np.float32)
    if not sound.all():
        _count(ignored, IgnoredPart.MALFORMED, len(sound) - int(np.count_nonzero(sound)))
        boxes = np.where(sound[:, None], boxes, low)
    boxes = np.minimum(np.maximum(boxes, low), high)
    inside = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    _count(ignored, IgnoredPart.OUTSIDE_CROP, int(np.count_nonzero(sound > inside)))
    strong = inside & (scores >= np.float32(settings.verdict_score_min))
    usable = strong.nonzero()[0]
    _count(ignored, IgnoredPart.WEAK, int(np.count_nonzero(inside)) - len(usable))
    best = usable[np.argsort(-scores[usable], kind="stable")[:BOXES_MAX]]
    _count(ignored, IgnoredPart.EXCESS, len(usable) - len(best))
    return boxes, best, ignored


def _count(ignored: Counter[IgnoredPart], part: IgnoredPart, count: int) -> None:
    if count:
        ignored[part] += count


def _boxes_of(subjects: tuple[Subject, ...]) -> Boxes:
    if not subjects:
        return np.zeros((0, 4), np.float32)
    return np.concatenate([subject.box for subject in subjects]).reshape(-1, 4)


def _same_labels(subjects: tuple[Subject, ...], detections: LabelledBoxes, at: Positions) -> Mask:
    """Whether (S, N) each subject has the class of each detection."""
    numbers: dict[str, int] = {}
    own = [numbers.setdefault(subject.label, len(numbers)) for subject in subjects]
    theirs = [numbers.setdefault(detections.labels[each], len(numbers)) for each in at.tolist()]
    return np.asarray(np.array(own, np.intp)[:, None] == np.array(theirs, np.intp), np.bool_)


def _cut_hints(
    missing: Positions, known: Boxes, question: Question, sight: _Sight, same: Mask
) -> dict[int, tuple[int, bool]]:
    """Cut boxes that may be the subjects of which nothing whole was found.

    Returns:
        By subject: position in the sight, and whether the class agrees.
    """
    columns = sight.cut.nonzero()[0]
    if missing.size == 0 or columns.size == 0:
        return {}
    region = question.region
    low = np.array([region.x1, region.y1] * 2, np.float32)
    high = np.array([region.x2, region.y2] * 2, np.float32)
    visible, pieces = np.clip(known[missing], low, high), sight.boxes[columns]
    covered = intersection_matrix(visible, pieces) / np.maximum(box_areas(visible), 1)[:, None]
    agrees = same[missing[:, None], columns]
    may_be = (covered >= _COVERED_SHARE) & (agrees | (iou_matrix(visible, pieces) >= _CUT_OVERLAP))
    # Columns are in the order of their scores, so the first of the best kind is the best.
    best = (may_be * (1 + agrees)).argmax(axis=1)
    chosen = np.flatnonzero(may_be.any(axis=1))
    return {
        int(missing[row]): (int(columns[best[row]]), bool(agrees[row, best[row]]))
        for row in chosen.tolist()
    }


def _about_subjects(
    question: Question,
    found: dict[int, int],
    hints: dict[int, tuple[int, bool]],
    inside: Mask,
    around: list[float],
    same: Mask,
    sight: _Sight,
) -> Iterator[Finding]:
    at, scores = sight.at.tolist(), sight.scores.tolist()
    for row, subject in enumerate(question.subjects):
        column, whole = found.get(row), bool(inside[row])
        if column is None and row in hints:
            (column, agrees), whole = hints[row], False
        elif column is not None:
            agrees = bool(same[row, column])
        if column is None:
            if subject.asked:
                worth = _standing(question, around[row], 0.0, whole=whole)
                yield Finding(Effect.REFUTED, row, -1, worth)
            continue
        worth = _standing(question, around[row], scores[column], whole=whole)
        if agrees:
            yield Finding(Effect.CONFIRMED, row, at[column], worth)
        elif whole:
            yield Finding(Effect.RECLASSIFIED, row, at[column], worth)
        elif subject.asked:
            yield Finding(Effect.UNDECIDED, row, at[column], worth)


def _additions(
    question: Question, added: list[int], around: list[float], sight: _Sight
) -> Iterator[Finding]:
    for column in added:
        worth = _standing(question, around[column], float(sight.scores[column]), whole=True)
        yield Finding(Effect.ADDED, -1, int(sight.at[column]), worth)


def _standing(question: Question, context: float, score: float, *, whole: bool) -> Standing:
    pixels = question.region.width * question.region.height
    enough = context >= _CONTEXT_ENOUGH
    return Standing(whole, enough, question.sequence, context, -pixels, score, question.id)


def _uncovered(free: Mask, boxes: Boxes, known: Boxes) -> Positions:
    """Free detections that neither a known track nor a better free detection covers."""
    chosen = free.nonzero()[0]
    if chosen.size == 0:
        return chosen
    left = boxes[chosen]
    if len(known):
        shared, own = intersection_matrix(left, known), box_areas(left)[:, None]
        covered = shared >= _COVERED_SHARE * own
        covered &= shared >= _TOUCHING_IOU * (own + box_areas(known) - shared)
        chosen = chosen[~covered.any(axis=1)]
        left = boxes[chosen]
    if chosen.size > 1:
        doubled = np.triu(iou_matrix(left, left), k=1) > _COVERED_SHARE
        chosen = chosen[~doubled.any(axis=0)]
    return chosen


def gain_of(question: Question, findings: Iterable[Finding]) -> float:
    """How much better the result is by a verdict, the cloud taken as right.

    The change of the quadratic score of `foundation.gains`: a box published with score p counts
    2p - p² where it is right and -p² where it is not. In expectation it is p(1 - p) about a track
    whose score is calibrated, and what a gain model forecasts otherwise.
    """
    total = 0.0
    for finding in findings:
        subject = question.subjects[finding.subject] if finding.subject >= 0 else None
        if subject is None:
            total += 1.0
        elif finding.effect is Effect.CONFIRMED:
            total += (1 - subject.score) ** 2
        elif finding.effect is Effect.REFUTED:
            total += subject.score**2
        elif finding.effect is Effect.RECLASSIFIED:
            total += 1 + subject.score**2
    return total
