"""What would have stood if certain questions had been asked, and no others. Pure.

A run of the edge alone and answers that are known make the result of any choice of questions:
crops, whole frames, or both. Verdicts are read by the edge node's own rules (`logic.fuse`) and the
one that stands is the greater by its `Standing`, as in the product. An object that a verdict adds
counts for the track that lies there at another time, if there is one: places are compared in
coordinates of the belt, in which nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edge_node.config import FusionSettings
from edge_node.logic.associate import distances
from edge_node.logic.fuse import judge
from edge_node.values import Effect, Finding, Question, Standing
from foundation.escalations import LabelledBoxes
from foundation.frames import Boxes
from foundation.pool import STANDS_FROM, Pool
from reference_line.evaluation import Claim
from reference_line.line import Line
from reference_line.records import Box, RunRecords


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, what was answered, and what asking took on the wire."""

    question: Question
    answer: LabelledBoxes
    sent_bytes: int


@dataclass(slots=True)
class _Verdicts:
    """By track the finding that stands, with its claim; and objects without a track."""

    standing: dict[int, tuple[Standing, Effect, Claim | None]] = field(default_factory=dict)
    added: list[Claim] = field(default_factory=list)

    def hear(self, track_id: int, standing: Standing, effect: Effect, claim: Claim | None) -> None:
        known = self.standing.get(track_id)
        if known is None or standing > known[0]:
            self.standing[track_id] = (standing, effect, claim)


class Hindsight:
    """One run of the edge alone, ready for any choice of answered questions.

    Attributes:
        edge: what the edge reports by itself.
    """

    def __init__(
        self,
        records: RunRecords,
        edge: Sequence[Claim],
        line: Line,
        settings: FusionSettings,
        pool: Pool | None = None,
    ) -> None:
        """Takes the run, whose tracks the questions are about, and how verdicts are read.

        With a pool, what the cloud names stands only where both opinions bear it.
        """
        self.edge = tuple(edge)
        self._pool = pool
        self._edge_scores = {t.track_id: t.edge.score for t in records.tracks if t.edge is not None}
        self._line = line
        self._settings = settings
        self._owners: list[int] = []
        places = []
        for track in records.tracks:
            if track.edge is not None:
                self._owners.append(track.track_id)
                places.append(self.on_belt(track.edge.box, track.edge.sequence))
        self._places = np.array(places, np.float32).reshape(-1, 4)

    def claims(self, asked: Sequence[Answered]) -> list[Claim]:
        """What stands after these verdicts.

        A claim about an added object has the id of the first track of its question, or -1.
        """
        verdicts = _Verdicts()
        for one in asked:
            self._read(one, verdicts)
        newly_seen = self._place(verdicts)
        claims = []
        for claim in self.edge:
            finding = verdicts.standing.pop(claim.track_id, None)
            if finding is None or finding[1] is Effect.UNDECIDED:
                claims.append(claim)
            elif finding[2] is not None:
                claims += self._pooled(finding[2])
        for _, _, left in verdicts.standing.values():
            if left is not None:
                claims += self._pooled(left)
        for claim in newly_seen:
            claims += self._pooled(claim, added=True)
        return claims

    def joined(self, claims: Sequence[Claim]) -> list[Claim]:
        """Each place once, by its best claim."""
        kept: list[Claim] = []
        taken = np.zeros((0, 4), np.float32)
        for claim in sorted(claims, key=lambda claim: -claim.score):
            place = self.on_belt(claim.box, claim.sequence)[None]
            apart = distances(taken, place)
            if apart.size == 0 or apart.min() > self._settings.centre_distance_max:
                kept.append(claim)
                taken = np.concatenate([taken, place])
        return kept

    def on_belt(self, box: Box, sequence: int) -> Boxes:
        """A box (4,) of a frame in coordinates of the belt."""
        shift = self._line.position(sequence)
        return np.array([box[0] + shift, box[1], box[2] + shift, box[3]], np.float32)

    def _pooled(self, claim: Claim, *, added: bool = False) -> list[Claim]:
        """The claim with the score of both opinions, or nothing where it does not stand."""
        if self._pool is None:
            return [claim]
        edge = 0.0 if added else self._edge_scores.get(claim.track_id, 0.0)
        scores = (np.array([edge], np.float32), np.array([claim.score], np.float32))
        together = float(self._pool.probability(*scores)[0])
        return [replace(claim, score=together)] if together >= STANDS_FROM else []

    def _read(self, one: Answered, verdicts: _Verdicts) -> None:
        question = one.question
        judged = judge(question, one.answer, self._settings)
        for finding in judged.findings:
            if finding.effect is Effect.ADDED:
                box = judged.boxes[finding.detection]
                owner = question.subjects[0].track_id if question.subjects else -1
                verdicts.added.append(_claim(owner, one, finding, box))
                continue
            subject = question.subjects[finding.subject]
            claim = None
            if finding.effect in (Effect.CONFIRMED, Effect.RECLASSIFIED):
                whole = finding.standing.whole
                box = judged.boxes[finding.detection] if whole else subject.box.tolist()
                claim = _claim(subject.track_id, one, finding, box)
            verdicts.hear(subject.track_id, finding.standing, finding.effect, claim)

    def _place(self, verdicts: _Verdicts) -> list[Claim]:
        """Gives added objects to tracks that lie there and were not asked about."""
        free = []
        for claim in sorted(verdicts.added, key=lambda claim: -claim.score):
            place = self.on_belt(claim.box, claim.sequence)
            apart = distances(self._places, place[None])[:, 0]
            if apart.size == 0 or apart.min() > self._settings.centre_distance_max:
                free.append(claim)
                continue
            owner = self._owners[int(apart.argmin())]
            if owner not in verdicts.standing:
                own = Claim(owner, claim.label, claim.score, claim.box, claim.sequence)
                standing = Standing(True, True, claim.sequence, 1.0, 0, claim.score, "")
                verdicts.standing[owner] = (standing, Effect.CONFIRMED, own)
        return self.joined(free)


def _claim(track_id: int, one: Answered, finding: Finding, box: Sequence[float]) -> Claim:
    x1, y1, x2, y2 = box
    at = finding.detection
    score = float(one.answer.scores[at])
    return Claim(track_id, one.answer.labels[at], score, (x1, y1, x2, y2), one.question.sequence)
