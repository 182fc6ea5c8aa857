"""What a verdict means for the tracks in its crop. Pure: values in, findings out.

All boxes are source pixels of the frame in which the crop was cut; bringing them to the present is
the caller's business, since only it knows how the tracks have moved.

Rules, in the order of their worth as measured (docs/decisions/0011, 0029): the verdict counts for
every track in the crop, it may add objects, and what the crop's border cuts says that something is
there, not where. Nothing that the cloud sends raises: what cannot be used is counted by its cause.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from edge_node.config import FusionSettings
from edge_node.logic.pairing import (
    Box,
    Pair,
    area_of,
    assign_cheapest,
    distance,
    near_pairs,
    overlap_of,
    shared_area,
)
from edge_node.logic.rows import Mask
from edge_node.values import Effect, Finding, IgnoredPart, Judgement, Question, Standing
from foundation.escalations import LabelledBoxes
from foundation.frames import Boxes, Scores

BOXES_MAX = 300
"""Boxes of one verdict that are considered, best scores first: what one picture may hold."""
AGREEMENT = 0.3
"""How much of the doubt that the cloud leaves an agreeing edge takes away, at a score of one."""
_LABEL_AGREES = 0.25
"""How much nearer, in box sides, a detection with the same label counts."""
_COVERED_SHARE = 0.5
_TOUCHING_IOU = 0.1
_CUT_OVERLAP = 0.25
"""Intersection over union from which a cut box of another class may be the same object."""
_CONTEXT_MAX = 1.0
"""Box sides of surroundings beyond which more of them tell a detector nothing."""
_CONTEXT_ENOUGH = 0.25
_NOWHERE = (0.0, 0.0, 0.0, 0.0)


class _Known(NamedTuple):
    """A subject as the crop shows it."""

    box: Box
    label: str
    asked: bool
    inside: bool
    context: float


class _Sight(NamedTuple):
    """A usable box of a verdict; `cut` by the crop's border."""

    detection: int
    box: Box
    score: float
    label: str
    cut: bool
    context: float


class _Crop:
    """The crop of a question, and how it shows what lies in it."""

    def __init__(self, question: Question) -> None:
        region, width, height = question.region, question.frame_width, question.frame_height
        self.question = question
        self.low_x, self.low_y = float(region.x1), float(region.y1)
        self.high_x, self.high_y = float(region.x2), float(region.y2)
        # The frame's own border hides nothing.
        self._left = self.low_x if region.x1 > 0 else -math.inf
        self._top = self.low_y if region.y1 > 0 else -math.inf
        self._right = self.high_x if region.x2 < width else math.inf
        self._bottom = self.high_y if region.y2 < height else math.inf
        self._pixels_negated = -region.width * region.height

    def view_of(self, box: Box) -> tuple[float, float]:
        """How far a box lies from the nearest border that hides something.

        Returns:
            In pixels, and in the box's longer sides from 0 to 1.
        """
        x1, y1, x2, y2 = box
        gap = min(x1 - self._left, y1 - self._top, self._right - x2, self._bottom - y2)
        return gap, min(max(gap / max(x2 - x1, y2 - y1, 1.0), 0.0), _CONTEXT_MAX)

    def holds(self, box: Box) -> bool:
        """Whether a box lies whole inside."""
        x1, y1, x2, y2 = box
        return self.low_x <= x1 and self.low_y <= y1 and x2 <= self.high_x and y2 <= self.high_y

    def clip(self, box: Box) -> Box:
        """The part of a box that it shows."""
        x1, y1, x2, y2 = box
        return (
            *(min(max(x1, self.low_x), self.high_x), min(max(y1, self.low_y), self.high_y)),
            *(min(max(x2, self.low_x), self.high_x), min(max(y2, self.low_y), self.high_y)),
        )

    def standing(self, context: float, score: float, *, whole: bool) -> Standing:
        """The worth of what it says about an object."""
        asked = self.question
        enough = context >= _CONTEXT_ENOUGH
        return Standing(
            whole, enough, asked.sequence, context, self._pixels_negated, score, asked.id
        )


def judge(
    question: Question,
    detections: LabelledBoxes,
    settings: FusionSettings,
) -> Judgement:
    """Reconciles a verdict's detections with the tracks that its crop shows.

    Asked-about tracks are confirmed, reclassified or, when nothing is found in their place,
    refuted; where only something that the border cut is found, they are confirmed by its class or
    left undecided. Tracks that merely lie in the crop are confirmed or reclassified when something
    is found, and left alone otherwise; those that it shows in part can only be confirmed. Further
    whole objects are added. What the frame's own border cuts is as whole as it will be, unless the
    scene moves as one: then it is about to come into view, or was seen whole before.
    """
    crop = _Crop(question)
    boxes, sights, ignored = _sift(crop, detections, settings)
    known = _known(crop)
    limit = settings.centre_distance_max
    reach = max(1.0, limit + _LABEL_AGREES)
    seen = [sight.box for sight in sights]
    pairs = list(near_pairs([one.box for one in known], seen, reach))
    found = assign_cheapest(_costs(pairs, known, sights, limit))
    hints = _cut_hints(pairs, known, found, crop, sights)
    findings = list(_about_subjects(crop, known, found, hints, sights))
    border_px = settings.border_px
    cut = [
        sight.cut or (question.scene_moves and _frame_cuts(question, sight.box, border_px))
        for sight in sights
    ]
    free = {column for column, is_cut in enumerate(cut) if not is_cut}.difference(found.values())
    for column in _uncovered(free, pairs, known, seen):
        sight = sights[column]
        worth = crop.standing(sight.context, sight.score, whole=True)
        findings.append(Finding(Effect.ADDED, -1, sight.detection, worth))
    used = {finding.detection for finding in findings}
    for sight, is_cut in zip(sights, cut, strict=True):
        if sight.detection not in used:
            ignored[IgnoredPart.CUT if is_cut else IgnoredPart.DOUBLE] += 1
    return Judgement(findings, boxes, ignored)


def shows_whole(question: Question, boxes: Boxes) -> Mask:
    """Which boxes (N, 4) the crop of a question does not cut, but at the frame's own border."""
    crop = _Crop(question)
    return np.array([crop.view_of(box)[0] >= 0 for box in boxes.tolist()], np.bool_)


def agreed_scores(edge: Scores, cloud: Scores, agreement: float = AGREEMENT) -> Scores:
    """The cloud's scores (N,) where the edge, with its own scores (N,), names the same class."""
    raised: Scores = cloud + np.float32(agreement) * edge * (1 - cloud)
    return raised


def shift_to_present(box: Box, from_box: Box, to_box: Box) -> Box:
    """Moves a box by what a track's centre moved from one of its boxes to another."""
    x1, y1, x2, y2 = box
    x = (to_box[0] - from_box[0] + to_box[2] - from_box[2]) / 2
    y = (to_box[1] - from_box[1] + to_box[3] - from_box[3]) / 2
    return x1 + x, y1 + y, x2 + x, y2 + y


def _sift(
    crop: _Crop, detections: LabelledBoxes, settings: FusionSettings
) -> tuple[list[Box], list[_Sight], Counter[IgnoredPart]]:
    """The verdict's boxes within the crop, which to consider, best first, and why not others."""
    score_min = float(np.float32(settings.verdict_score_min))
    scores = detections.scores.tolist()
    boxes: list[Box] = []
    usable: list[int] = []
    ignored: Counter[IgnoredPart] = Counter()
    for number, (box, score) in enumerate(zip(detections.boxes.tolist(), scores, strict=True)):
        x1, y1, x2, y2 = box
        finite = -math.inf < x1 < x2 < math.inf and -math.inf < y1 < y2 < math.inf
        sound = finite and 0 <= score <= 1
        inside = box if crop.holds(box) else crop.clip(box if sound else _NOWHERE)
        boxes.append(inside)
        if not sound:
            ignored[IgnoredPart.MALFORMED] += 1
        elif not (inside[0] < inside[2] and inside[1] < inside[3]):
            ignored[IgnoredPart.OUTSIDE_CROP] += 1
        elif score < score_min:
            ignored[IgnoredPart.WEAK] += 1
        else:
            usable.append(number)
    usable.sort(key=scores.__getitem__, reverse=True)
    if len(usable) > BOXES_MAX:
        ignored[IgnoredPart.EXCESS] = len(usable) - BOXES_MAX
    sights = []
    for number in usable[:BOXES_MAX]:
        gap, context = crop.view_of(boxes[number])
        cut, label = gap < settings.border_px, detections.labels[number]
        sights.append(_Sight(number, boxes[number], scores[number], label, cut, context))
    return boxes, sights, ignored


def _known(crop: _Crop) -> list[_Known]:
    known = []
    for subject in crop.question.subjects:
        box = subject.box.tolist()
        gap, context = crop.view_of(box)
        known.append(_Known(box, subject.label, subject.asked, gap >= 0, context))
    return known


def _costs(
    pairs: Iterable[Pair], known: Sequence[_Known], sights: Sequence[_Sight], limit: float
) -> Iterator[tuple[float, int, int]]:
    """Which whole box may be which subject, at what cost."""
    for row, column in pairs:
        one, sight = known[row], sights[column]
        if not sight.cut:
            cost = distance(one.box, sight.box)
            if sight.label == one.label:
                cost -= _LABEL_AGREES
            if cost <= limit:
                yield cost, row, column


def _cut_hints(
    pairs: Iterable[Pair],
    known: Sequence[_Known],
    found: dict[int, int],
    crop: _Crop,
    sights: Sequence[_Sight],
) -> dict[int, int]:
    """Cut boxes, by subject, that may be the subjects of which nothing whole was found.

    One that agrees about the class goes before others, then the best score.
    """
    hints: dict[int, tuple[bool, int]] = {}
    for row, column in pairs:
        one, sight = known[row], sights[column]
        if row in found or not sight.cut:
            continue
        visible, differs = crop.clip(one.box), sight.label != one.label
        shared = shared_area(visible, sight.box)
        if shared < _COVERED_SHARE * max(area_of(visible), 1.0):
            continue
        if differs and overlap_of(visible, sight.box) < _CUT_OVERLAP:
            continue
        hints[row] = min(hints.get(row, (True, len(sights))), (differs, column))
    return {row: column for row, (_, column) in hints.items()}


def _about_subjects(
    crop: _Crop,
    known: Sequence[_Known],
    found: dict[int, int],
    hints: dict[int, int],
    sights: Sequence[_Sight],
) -> Iterator[Finding]:
    for row, one in enumerate(known):
        column, whole = found.get(row), one.inside
        if column is None and row in hints:
            column, whole = hints[row], False
        if column is None:
            if one.asked:
                yield Finding(Effect.REFUTED, row, -1, crop.standing(one.context, 0.0, whole=whole))
            continue
        sight = sights[column]
        worth = crop.standing(one.context, sight.score, whole=whole)
        if sight.label == one.label:
            yield Finding(Effect.CONFIRMED, row, sight.detection, worth)
        elif whole:
            yield Finding(Effect.RECLASSIFIED, row, sight.detection, worth)
        elif one.asked:
            yield Finding(Effect.UNDECIDED, row, sight.detection, worth)


def _frame_cuts(question: Question, box: Box, border_px: float) -> bool:
    """Whether a box ends nearer than this to the frame's border."""
    x1, y1, x2, y2 = box
    far_x, far_y = question.frame_width - border_px, question.frame_height - border_px
    return x1 < border_px or y1 < border_px or x2 > far_x or y2 > far_y


def _uncovered(
    free: set[int], pairs: Iterable[Pair], known: Sequence[_Known], seen: Sequence[Box]
) -> list[int]:
    """Free detections that neither a known track nor a better free detection covers."""
    covered = {
        column for row, column in pairs if column in free and _covers(known[row].box, seen[column])
    }
    left = sorted(free - covered)
    boxes = [seen[column] for column in left]
    doubles: set[int] = set()
    for better, number in near_pairs(boxes, boxes, 1.0):
        known_double = better >= number or number in doubles
        if not known_double and overlap_of(boxes[better], boxes[number]) > _COVERED_SHARE:
            doubles.add(number)
    return [column for number, column in enumerate(left) if number not in doubles]


def _covers(track: Box, box: Box) -> bool:
    """Whether a track's box holds most of another, and is not so large that it holds others too."""
    shared, own = shared_area(track, box), area_of(box)
    together = own + area_of(track) - shared
    return shared >= _COVERED_SHARE * own and shared >= _TOUCHING_IOU * together


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
