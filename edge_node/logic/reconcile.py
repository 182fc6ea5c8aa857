"""The memory of what was asked, and what becomes of tracks and records when the answer comes.

Owns the open questions and the rows of ended tracks whose verdict is still on its way. Invariant:
every question is forgotten when its one `Ending` arrives, and an ended track's row is kept only
while a question about it is open, so both are bounded by the escalations outstanding.
Single-threaded; owned by the frame lane.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_node.config import FusionSettings
from edge_node.logic.associate import distances
from edge_node.logic.fuse import Finding, judge, shift_to_present
from edge_node.logic.policy import Decision
from edge_node.logic.records import (
    PENDING,
    Correction,
    Record,
    opinion_to_json,
    track_to_json,
)
from edge_node.logic.rows import Floats, Rows, labels_of, observed_boxes
from edge_node.logic.track import Tracker
from edge_node.values import Effect, Ending, EscalationOutcome, Question, Subject
from foundation.escalations import Answer, LabelledBoxes, Region

_LABELS_MAX = 4096
_OVERFLOW_LABEL = "(further label)"


class Reconciler:
    """Joins verdicts to tracks, alive or ended.

    Attributes:
        labels: Names by label index: the edge's, then further ones that the cloud has used.
    """

    def __init__(
        self,
        tracker: Tracker,
        settings: FusionSettings,
        camera: str,
        edge_labels: Sequence[str],
        report: Floats,
    ) -> None:
        self._tracker = tracker
        self._settings = settings
        self._camera = camera
        self._report = report
        self.labels = list(edge_labels)
        self._label_index = {label: index for index, label in enumerate(self.labels)}
        self._questions: dict[str, Question] = {}
        self._ended: dict[int, Rows] = {}
        self._notes: dict[int, Record] = {}

    def ask(
        self,
        decision: Decision,
        *,
        escalation_id: str,
        sequence: int,
        captured_at_ns: int,
        expires_at_ns: int,
        frame_size: tuple[int, int],
    ) -> Question:
        """Remembers a decision of the policy as an open question about the present frame."""
        question = Question(
            id=escalation_id,
            sequence=sequence,
            captured_at_ns=captured_at_ns,
            expires_at_ns=expires_at_ns,
            region=decision.region,
            frame_width=frame_size[0],
            frame_height=frame_size[1],
            subjects=self._subjects(decision),
            reason=decision.reason.value,
            bytes_reserved=decision.bytes_reserved,
        )
        self._questions[question.id] = question
        for subject in question.subjects:
            if subject.asked:
                self._notes[subject.track_id] = {
                    "id": question.id,
                    "outcome": PENDING,
                    "cause": "",
                    "reason": question.reason,
                }
        return question

    def question(self, escalation_id: str) -> Question | None:
        """The open question with this id."""
        return self._questions.get(escalation_id)

    def close_tracks(self, rows: Rows) -> list[Record]:
        """Track records, revision 0, for tracks that have ended."""
        records = []
        for position in range(len(rows)):
            row = rows[position : position + 1]
            track_id = int(row["track_id"][0])
            records.append(self._track_record(row))
            if row["pending"][0]:
                self._ended[track_id] = row.copy()
            else:
                self._notes.pop(track_id, None)
        return records

    def end(self, ending: Ending) -> tuple[list[Correction], list[Record]]:
        """Closes a question: corrections of its tracks, and revised records of ended ones.

        An ending without an open question changes nothing.
        """
        question = self._questions.pop(ending.escalation_id, None)
        if question is None:
            return [], []
        verdict = ending.verdict
        corrections: list[Correction] = []
        if verdict is not None and isinstance(verdict.outcome, Answer):
            detections = verdict.outcome.detections
            for finding in judge(question, detections, self._settings):
                correction = self._apply(question, finding, detections)
                if correction is not None:
                    corrections.append(correction)
        answered = ending.outcome is EscalationOutcome.ANSWERED
        revised = []
        for subject in question.subjects:
            row, _ = self._find(subject.track_id)
            touched = any(c.track_id == subject.track_id for c in corrections)
            if row is None or not (subject.asked or touched):
                continue
            if subject.asked:
                row["pending"] = False
                row["answered"] |= answered
                note = self._notes[subject.track_id]
                note.update(outcome=ending.outcome.value, cause=ending.cause.value)
            if subject.track_id in self._ended:
                revised.append({**self._track_record(row), "revision": 1})
                if not row["pending"][0]:
                    del self._ended[subject.track_id]
                    self._notes.pop(subject.track_id, None)
        return corrections, revised

    def _subjects(self, decision: Decision) -> tuple[Subject, ...]:
        """The asked-about tracks, first one first, then the others that lie whole in the crop."""
        rows = self._tracker.rows
        asked = list(decision.asked)
        others = np.setdiff1d(np.flatnonzero(_inside(rows, decision.region)), asked)
        labels, boxes = labels_of(rows), observed_boxes(rows)
        return tuple(
            Subject(
                track_id=int(rows["track_id"][position]),
                box=boxes[position],
                label=self.labels[int(labels[position])],
                score=float(rows["score"][position]),
                asked=order < len(asked),
            )
            for order, position in enumerate([*asked, *others.tolist()])
        )

    def _find(self, track_id: int) -> tuple[Rows | None, bool]:
        """The row (1,) of a track, as a view to write to, and whether the track is alive."""
        rows = self._tracker.rows
        position = int(np.searchsorted(rows["track_id"], track_id))
        if position < len(rows) and rows["track_id"][position] == track_id:
            return rows[position : position + 1], True
        return self._ended.get(track_id), False

    def _apply(
        self, question: Question, finding: Finding, detections: LabelledBoxes
    ) -> Correction | None:
        if finding.effect is Effect.ADDED:
            return self._add(question, finding, detections)
        subject = question.subjects[finding.subject]
        row, alive = self._find(subject.track_id)
        if row is None or (row["answered"][0] and not subject.asked):
            return None
        cloud = None
        if finding.effect is Effect.REFUTED:
            row["refuted"] = True
        else:
            cloud = self._write_opinion(row, question, finding.detection, detections)
            if alive:
                box = detections.boxes[finding.detection]
                row["box"] = shift_to_present(box, subject.box, row["box"][0])
        row["answered"] = True
        present = row["box"][0].copy() if alive else None
        return Correction(
            finding.effect, subject.track_id, question, subject, cloud, present_box=present
        )

    def _add(
        self, question: Question, finding: Finding, detections: LabelledBoxes
    ) -> Correction | None:
        box = detections.boxes[finding.detection]
        frames = max(0, self._tracker.sequence - question.sequence)
        motion = self._tracker.scene_velocity * np.float32(frames)
        present = np.concatenate([box[:2] + motion, box[2:] + motion]).astype(np.float32)
        position = self._covering(present)
        if position is not None:
            # Tracked since, or added by another crop: the opinion belongs to that track.
            row = self._tracker.rows[position : position + 1]
            if row["answered"][0]:
                return None
            row["confirmed"] = True
            label = int(labels_of(row)[0])
            same = self.labels[label] == detections.labels[finding.detection]
            before = self._subject_of(row)
            cloud = self._write_opinion(row, question, finding.detection, detections)
            row["answered"] = True
            effect = Effect.CONFIRMED if same else Effect.RECLASSIFIED
            track_id = int(row["track_id"][0])
            return Correction(effect, track_id, question, before, cloud, row["box"][0].copy())
        label = self._index(detections.labels[finding.detection])
        added = self._tracker.add_from_cloud(
            present, label=label, score=float(detections.scores[finding.detection])
        )
        if added is None:
            return None
        row = self._tracker.rows[-1:]
        cloud = self._write_opinion(row, question, finding.detection, detections)
        self._notes[added] = {
            "id": question.id,
            "outcome": EscalationOutcome.ANSWERED.value,
            "cause": "",
            "reason": question.reason,
        }
        return Correction(Effect.ADDED, added, question, None, cloud, present)

    def _covering(self, box: Floats) -> int | None:
        rows = self._tracker.rows
        if len(rows) == 0:
            return None
        costs = distances(rows["box"], box[None])[:, 0]
        nearest = int(costs.argmin())
        return nearest if costs[nearest] <= self._settings.centre_distance_max else None

    def _subject_of(self, row: Rows) -> Subject:
        return Subject(
            track_id=int(row["track_id"][0]),
            box=row["box"][0].copy(),
            label=self.labels[int(labels_of(row)[0])],
            score=float(row["score"][0]),
            asked=False,
        )

    def _write_opinion(
        self, row: Rows, question: Question, position: int, detections: LabelledBoxes
    ) -> Record:
        label, score = detections.labels[position], detections.scores[position]
        row["cloud_label"] = self._index(label)
        row["cloud_score"] = score
        row["cloud_box"] = detections.boxes[position]
        row["cloud_sequence"] = question.sequence
        row["refuted"] = False
        return opinion_to_json(label, float(score), detections.boxes[position])

    def _index(self, label: str) -> int:
        index = self._label_index.get(label)
        if index is None:
            if len(self.labels) >= _LABELS_MAX:
                label = _OVERFLOW_LABEL
            index = self._label_index.setdefault(label, len(self.labels))
            if index == len(self.labels):
                self.labels.append(label)
        return index

    def _track_record(self, row: Rows) -> Record:
        note = self._notes.get(int(row["track_id"][0]))
        return track_to_json(row, self._camera, self.labels, self._report, note and dict(note))


def _inside(rows: Rows, region: Region) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    box = observed_boxes(rows)
    inside = (box[:, 0] >= region.x1) & (box[:, 1] >= region.y1)
    inside &= (box[:, 2] <= region.x2) & (box[:, 3] <= region.y2)
    return np.asarray(inside & rows["confirmed"], np.bool_)
