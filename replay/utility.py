"""How good the results of a material are: mAP as COCO means it, quickly, under any weights. Pure.

Who matched whom is decided once for every result that a frame can have; a set of results, one a
frame, is then judged in milliseconds, and under a thousand weights in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.frames import Detections
from model_workshop.evaluation.precision import RECALLS
from model_workshop.evaluation.rankings import DETECTIONS_MAX, IOUS
from model_workshop.evaluation.truth import Array, Truth

COCO_IOUS = IOUS[1:]
_ROUNDING = 1e-9
_IOU_MAX = 1 - 1e-10

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Matched:
    """One result of one frame, matched with its objects.

    Attributes:
        class_ids: (D,) of classes that the material shows; others count nowhere.
        scores: (D,).
        hits: (D, 10) of an object, at each of COCO's overlaps.
        ignored: (D, 10) counted neither way, because it is of a crowd.
    """

    class_ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    hits: Flags
    ignored: Flags


@dataclass(frozen=True, slots=True)
class Figures:
    """How good a set of results is, 0 to 1."""

    map50_95: float
    map50: float
    f1: float


class Judge:
    """Knows the objects of a material's frames."""

    def __init__(
        self, truth: Truth, groups: Sequence[int], classes: int, report: npt.NDArray[np.float32]
    ) -> None:
        """Takes the objects, and what is needed to weigh and to count.

        Args:
            truth: of all frames; `images` are positions of frames.
            groups: number of each frame's group, from 0.
            classes: how many there are.
            report: (classes,) score from which a detection counts for F1.
        """
        self._groups = np.asarray(groups, np.intp)
        self._report = report
        self._of = [np.flatnonzero(truth.images == image) for image in range(len(groups))]
        self._boxes = truth.boxes.copy()
        self._boxes[:, 2:] += self._boxes[:, :2]
        self._class_ids, self._crowds = truth.class_ids, truth.crowds
        own = truth.objects
        self.objects = np.bincount(truth.class_ids[own], minlength=classes)
        """(classes,) how many objects there are."""
        self._of_group = np.zeros((self._groups.max(initial=-1) + 1, classes))
        np.add.at(self._of_group, (self._groups[truth.images[own]], truth.class_ids[own]), 1.0)

    def match(self, image: int, found: Detections) -> Matched:
        """Matches one result of a frame with its objects, as pycocotools does."""
        order = np.argsort(-found.scores, kind="stable")
        order = order[self.objects[found.class_ids[order]] > 0]
        order = order[_position_in_class(found.class_ids[order]) < DETECTIONS_MAX]
        found = found.take(order)
        hits = np.zeros((len(found), len(COCO_IOUS)), np.bool_)
        ignored = np.zeros_like(hits)
        there = self._of[image]
        boxes = found.boxes.astype(np.float64)
        for class_id in np.intersect1d(found.class_ids, self._class_ids[there]).tolist():
            rows = np.flatnonzero(found.class_ids == class_id)
            members = there[self._class_ids[there] == class_id]
            plain, crowds = members[~self._crowds[members]], members[self._crowds[members]]
            hits[rows] = _matches(_overlaps(boxes[rows], self._boxes[plain]))
            if len(crowds):
                within = _overlaps(boxes[rows], self._boxes[crowds], crowds=True).max(axis=1)
                ignored[rows] = (within[:, None] >= COCO_IOUS) & ~hits[rows]
        return Matched(found.class_ids, found.scores, hits, ignored)

    def figures(self, chosen: Sequence[Matched]) -> Figures:
        """Of one result a frame, in order."""
        pool = _Pool(chosen, self._groups)
        each = np.stack([pool.precisions(row, self.objects) for row in range(len(COCO_IOUS))])
        known = self.objects > 0
        kept = pool.scores >= self._report[pool.class_ids]
        right = int((kept & pool.hits[:, 0]).sum())
        wrong = int((kept & ~pool.hits[:, 0] & ~pool.ignored[:, 0]).sum())
        f1 = 2 * right / max(1, right + wrong + int(self.objects.sum()))
        return Figures(float(each[:, known].mean()), float(each[0, known].mean()), f1)

    def samples(self, chosen: Sequence[Matched], weights: Array) -> Array:
        """mAP50-95 (R,) under each row of weights (R, groups).

        A class counts by how much of its objects was drawn (docs/decisions/0019).
        """
        known = np.flatnonzero(self.objects)
        drawn = (weights @ self._of_group)[:, known]
        pool = _Pool(chosen, self._groups)
        total = np.zeros_like(drawn)
        for row in range(len(COCO_IOUS)):
            total += pool.weighted(row, weights, drawn, known)
        shares = drawn / self.objects[known]
        # Where nothing is drawn that could be found, nothing is found.
        whole = np.maximum(shares.sum(axis=1), np.finfo(np.float64).tiny)
        return np.asarray((total * shares).sum(axis=1) / len(COCO_IOUS) / whole)


class _Pool:
    """The results of all frames, class after class, best first."""

    def __init__(self, chosen: Sequence[Matched], groups: Places) -> None:
        counts = [len(one.scores) for one in chosen]
        class_ids = np.concatenate([np.zeros(0, np.int32), *(one.class_ids for one in chosen)])
        scores = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in chosen)])
        order = np.lexsort((-scores, class_ids))
        nothing = np.zeros((0, len(COCO_IOUS)), np.bool_)
        self.class_ids, self.scores = class_ids[order], scores[order]
        self.hits = np.concatenate([nothing, *(one.hits for one in chosen)])[order]
        self.ignored = np.concatenate([nothing, *(one.ignored for one in chosen)])[order]
        self._groups = np.repeat(groups, counts)[order]

    def precisions(self, row: int, objects: npt.NDArray[np.intp]) -> Array:
        """COCO's AP (classes,) at one overlap; 0 for a class that nothing hit."""
        places = np.flatnonzero(self.hits[:, row])
        of = self.class_ids[places]
        first = np.searchsorted(of, of, side="left")
        right = np.arange(len(places)) - first + 1.0
        alarms = np.cumsum(~self.hits[:, row] & ~self.ignored[:, row])
        before = np.concatenate([[0], alarms])[np.searchsorted(self.class_ids, of, side="left")]
        precision = right / (right + alarms[places] - before)
        best = _falling(precision[None], of)[0]
        reached = np.searchsorted(RECALLS, right / objects[of], side="right")
        steps = np.diff(reached, prepend=0)
        starts = first == np.arange(len(places))
        steps[starts] = reached[starts]
        return np.bincount(of, best * steps, len(objects)) / len(RECALLS)

    def weighted(self, row: int, weights: Array, drawn: Array, known: Places) -> Array:
        """The same (R, known classes) under weights (R, groups) and objects drawn (R, known)."""
        result = np.zeros_like(drawn)
        places = np.flatnonzero(self.hits[:, row])
        if len(places) == 0:
            return result
        of = self.class_ids[places]
        starts = np.flatnonzero(np.diff(of, prepend=-1))
        first = np.searchsorted(of, of, side="left")
        right = _cumulated(weights[:, self._groups[places]], first)
        wrong = np.flatnonzero(~self.hits[:, row] & ~self.ignored[:, row])
        before = np.searchsorted(places, wrong)
        counted = before < len(places)
        counted[counted] = of[before[counted]] == self.class_ids[wrong[counted]]
        counts = np.zeros((weights.shape[1], len(places)))
        np.add.at(counts, (self._groups[wrong[counted]], before[counted]), 1.0)
        alarms = weights @ _cumulated(counts, first)
        best = _falling(right / np.maximum(right + alarms, np.finfo(np.float64).tiny), of)
        columns = np.searchsorted(known, of)
        recall = right / np.maximum(drawn[:, columns], np.finfo(np.float64).tiny)
        # Sums of drawn weights are rounded; those of the first row, the figure, are whole numbers.
        recall[1:] += _ROUNDING
        reached = np.searchsorted(RECALLS, recall, side="right")
        steps = np.diff(reached, axis=1, prepend=0)
        steps[:, starts] = reached[:, starts]
        result[:, columns[starts]] = np.add.reduceat(best * steps, starts, axis=1) / len(RECALLS)
        return result


def _position_in_class(class_ids: npt.NDArray[np.int32]) -> Places:
    """How many before it are of the same class (N,)."""
    order = np.argsort(class_ids, kind="stable")
    ordered = class_ids[order]
    position = np.empty(len(order), np.intp)
    position[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered, side="left")
    return position


def _overlaps(found: Array, objects: Array, *, crowds: bool = False) -> Array:
    """IoU (D, O) of corner boxes; with crowds the share of the detection that lies inside."""
    low = np.maximum(found[:, None, :2], objects[None, :, :2])
    sides = np.maximum(np.minimum(found[:, None, 2:], objects[None, :, 2:]) - low, 0)
    shared = sides.prod(axis=2)
    own = (found[:, 2:] - found[:, :2]).prod(axis=1)[:, None]
    if crowds:
        return np.asarray(shared / np.maximum(own, _ROUNDING))
    theirs = (objects[:, 2:] - objects[:, :2]).prod(axis=1)[None, :]
    return np.asarray(shared / np.maximum(own + theirs - shared, _ROUNDING))


def _matches(overlaps: Array) -> Flags:
    """Which detections (D, 10) take an object, best first, each the one that it covers most."""
    hits = np.zeros((len(overlaps), len(COCO_IOUS)), np.bool_)
    if overlaps.shape[1] == 0:
        return hits
    least = np.minimum(COCO_IOUS, _IOU_MAX)
    free = np.ones((len(COCO_IOUS), overlaps.shape[1]), np.bool_)
    every = np.arange(len(COCO_IOUS))
    for row in np.flatnonzero(overlaps.max(axis=1) >= least[0]).tolist():
        open_to = np.where(free, overlaps[row], -1.0)
        # Of equals pycocotools takes the last.
        best = open_to.shape[1] - 1 - open_to[:, ::-1].argmax(axis=1)
        hits[row] = open_to[every, best] >= least
        free[every[hits[row]], best[hits[row]]] = False
    return hits


def _falling(precision: Array, of: npt.NDArray[np.int32]) -> Array:
    """The best precision (R, H) at a hit or a later one of the same class."""
    # Raised class by class so that the running maximum, from the end, never leaves a class.
    lift = 2.0 * (of[-1:] - of) if len(of) else np.zeros(0)
    lifted = (precision + lift)[:, ::-1]
    return np.asarray(np.maximum.accumulate(lifted, axis=1)[:, ::-1] - lift)


def _cumulated(values: Array, first: Places) -> Array:
    """Sums (R, H) along each class's hits; `first` (H,) is where the class of a hit begins."""
    total = np.cumsum(values, axis=1)
    before = np.concatenate([np.zeros((len(total), 1)), total[:, :-1]], axis=1)
    return np.asarray(total - before[:, first])
