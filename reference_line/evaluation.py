"""How good a run was, per physical defect: claims, matching, precision and recall. Pure.

A *claim* says "a defect of this class is here": a track whose calibrated score reaches the report
threshold of the model that had the last word on it, with the box in the frame of its best
evidence. Rules, the same for every system that is compared:

* A claim and a defect belong together when their classes agree and the IoU of their boxes in the
  claim's frame is at least `IOU_MIN`.
* One claim for one defect. Claims choose in order of their score, each the free defect it overlaps
  most. A further claim on a defect that is taken is a false positive, also when it belongs to
  another time: a line that reports one defect twice has reported one too many.
* A claim of the wrong class on a defect is a false positive, and the defect is still to be found.
* A defect counts when it was whole in view for at least `FRAMES_MIN` captured frames of the run,
  dropped ones included. The others, in view when the run began or ended, are neither missed nor
  found; a claim that matches nothing but one of those, of whatever class, is left out.
* Overall figures count all classes together (micro average).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foundation.geometry import iou_matrix
from foundation.manifest import Thresholds
from reference_line.records import Box, TrackRecord
from reference_line.truth import LABELS, FrameTruth, PhysicalDefect

IOU_MIN = 0.33
FRAMES_MIN = 10
SIZE_BINS_PX = ((0.0, 6.0), (6.0, 8.0), (8.0, 12.0), (12.0, float("inf")))
"""Lower end inclusive, upper end exclusive; of `PhysicalDefect.size_px`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A defect that a system reports; `box` is where it was in the frame `sequence`."""

    track_id: int
    label: str
    score: float
    box: Box
    sequence: int


class Judgement(enum.StrEnum):
    """What became of a claim."""

    RIGHT = "right"
    DUPLICATE = "duplicate"
    WRONG_CLASS = "wrong_class"
    NOTHING_THERE = "nothing_there"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with its judgement and the defect it was judged by (None: no defect there)."""

    claim: Claim
    judgement: Judgement
    defect_id: int | None


@dataclass(frozen=True, slots=True)
class RunTruth:
    """The truth about one run.

    Attributes:
        defects: those that count, by id.
        frames: what each frame shows in which a claim has its box.
    """

    defects: Mapping[int, PhysicalDefect]
    frames: Mapping[int, FrameTruth]


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of one class or of all; the ratios are 0 where there is nothing to divide by."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of the claims that are right."""
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        """Share of the defects that are found."""
        return self.right / max(1, self.right + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)


@dataclass(frozen=True, slots=True)
class SizeRecall:
    """How many of the defects of one size class were found."""

    low_px: float
    high_px: float
    found: int
    defects: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good one system was in a run."""

    overall: Score
    classes: Mapping[str, Score]
    sizes: tuple[SizeRecall, ...]
    judged: tuple[Judged, ...]


class TruthSource(Protocol):
    """The part of `reference_line.line.Line` that an evaluation needs."""

    def truth(self, index: int) -> FrameTruth:
        """What frame `index` shows."""
        ...

    def defects(self, first_index: int, last_index: int) -> tuple[PhysicalDefect, ...]:
        """The defects shown whole in at least one of these frames, both ends inclusive."""
        ...


def edge_claims(
    tracks: Iterable[TrackRecord], thresholds: Thresholds, *, detections_min: int
) -> list[Claim]:
    """What the edge alone would have reported, by its own bundle's thresholds.

    Args:
        tracks: of a run, in which the cloud may have been asked.
        thresholds: of the edge bundle.
        detections_min: what the tracker asks for before it stands by a track; below it the track
            is known only because the cloud added it.
    """
    return [
        Claim(track.track_id, edge.label, edge.score, edge.box, edge.sequence)
        for track in tracks
        if (edge := track.edge) is not None
        and track.double_of is None
        and track.detections >= detections_min
        and edge.score >= thresholds.of(edge.label).report
    ]


def final_claims(tracks: Iterable[TrackRecord]) -> list[Claim]:
    """What stands after all verdicts, as the edge node says: by either bundle's thresholds."""
    claims = []
    for track in tracks:
        opinion = track.cloud if track.final_source == "cloud" else track.edge
        if track.final_label is not None and opinion is not None:
            where = (opinion.box, opinion.sequence)
            claims.append(Claim(track.track_id, track.final_label, track.final_score, *where))
    return claims


def run_truth(line: TruthSource, last_sequence: int, claims: Iterable[Claim]) -> RunTruth:
    """Collects what judging these claims needs, of a run with frames 0 to `last_sequence`."""
    counted = {}
    for defect in line.defects(0, last_sequence):
        seen = min(defect.last_frame, last_sequence) - max(defect.first_frame, 0) + 1
        if seen >= FRAMES_MIN:
            counted[defect.defect_id] = defect
    # In order, because a line keeps only the boards it used last.
    sequences = sorted({claim.sequence for claim in claims})
    return RunTruth(counted, {sequence: line.truth(sequence) for sequence in sequences})


def judge_claims(claims: Sequence[Claim], truth: RunTruth) -> list[Judged]:
    """Matches claims with defects by the rules above; the result is in order of score."""
    taken: set[int] = set()
    judged = []
    for claim in sorted(claims, key=lambda claim: (-claim.score, claim.track_id)):
        verdict = _judge(claim, truth, taken)
        if verdict.judgement is Judgement.RIGHT and verdict.defect_id is not None:
            taken.add(verdict.defect_id)
        judged.append(verdict)
    return judged


def evaluate(claims: Sequence[Claim], truth: RunTruth) -> Evaluation:
    """Judges the claims and counts them, per class, overall and by the defects' sizes."""
    judged = judge_claims(claims, truth)
    found = {one.defect_id for one in judged if one.judgement is Judgement.RIGHT}
    classes = {}
    for label in LABELS:
        of_class = [one for one in judged if one.claim.label == label]
        right = sum(one.judgement is Judgement.RIGHT for one in of_class)
        ignored = sum(one.judgement is Judgement.IGNORED for one in of_class)
        there = sum(defect.label == label for defect in truth.defects.values())
        classes[label] = Score(right, len(of_class) - right - ignored, there - right)
    ignored = sum(one.judgement is Judgement.IGNORED for one in judged)
    overall = Score(len(found), len(judged) - len(found) - ignored, len(truth.defects) - len(found))
    sizes = []
    for low, high in SIZE_BINS_PX:
        inside = [d.defect_id for d in truth.defects.values() if low <= d.size_px < high]
        sizes.append(SizeRecall(low, high, len(found.intersection(inside)), len(inside)))
    return Evaluation(overall, classes, tuple(sizes), tuple(judged))


def _judge(claim: Claim, truth: RunTruth, taken: set[int]) -> Judged:
    frame = truth.frames[claim.sequence]
    overlaps = iou_matrix(np.array([claim.box], np.float32), frame.boxes)[0]
    near = [int(i) for i in np.argsort(-overlaps, kind="stable") if overlaps[i] >= IOU_MIN]
    ids = [int(frame.defect_ids[i]) for i in near]
    counted = [defect_id for defect_id in ids if defect_id in truth.defects]
    same = [defect_id for defect_id in counted if truth.defects[defect_id].label == claim.label]
    free = [defect_id for defect_id in same if defect_id not in taken]
    if free:
        return Judged(claim, Judgement.RIGHT, free[0])
    if same:
        return Judged(claim, Judgement.DUPLICATE, same[0])
    if counted:
        return Judged(claim, Judgement.WRONG_CLASS, counted[0])
    if ids:
        return Judged(claim, Judgement.IGNORED, ids[0])
    return Judged(claim, Judgement.NOTHING_THERE, None)
