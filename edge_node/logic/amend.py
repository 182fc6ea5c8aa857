"""From an answer to corrected tracks: writes what outranks what stands, and adds what is new.

A finding about a track takes effect where its standing is greater than that of the finding that
stands, which makes the order of arrival irrelevant. Single-threaded; owned by the frame lane
through its `Reconciler`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_node.config import FusionSettings
from edge_node.logic.associate import assign, distances
from edge_node.logic.fuse import Finding, Judgement, shift_to_present
from edge_node.logic.memory import Memories
from edge_node.logic.opinions import write_asked, write_verdict
from edge_node.logic.records import Correction, Record, opinion_to_json
from edge_node.logic.rows import NO_LABEL, Floats, Mask, Positions, Rows, labels_of
from edge_node.logic.track import Tracker
from edge_node.values import Effect, EscalationOutcome, IgnoredPart, Question, Subject
from foundation.escalations import LabelledBoxes
from foundation.frames import Boxes

LABELS_MAX = 4096
"""Class names that a camera may know; the cloud's further ones share one name."""
_OVERFLOW_LABEL = "(further label)"


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer while it is fused.

    Attributes:
        question: What had been asked.
        detections: What the cloud found.
        judged: What that means for the tracks.
        places: Where the question's subjects are in the table; -1 for those not alive.
    """

    question: Question
    detections: LabelledBoxes
    judged: Judgement
    places: Positions

    def label(self, finding: Finding) -> str:
        """The class that was found."""
        return self.detections.labels[finding.detection]

    def opinion(self, finding: Finding) -> Record | None:
        """The cloud's opinion, as it is published; None where it found nothing."""
        at = finding.detection
        if at < 0:
            return None
        score = float(self.detections.scores[at])
        return opinion_to_json(self.detections.labels[at], score, self.judged.boxes[at])

    def found(self, findings: Sequence[Finding]) -> tuple[Floats, Boxes]:
        """Scores (N,) and boxes (N, 4) of what was found; zeros where nothing was."""
        at = np.array([finding.detection for finding in findings], np.intp)
        scores, boxes = np.zeros(len(at), np.float32), np.zeros((len(at), 4), np.float32)
        some = at >= 0
        scores[some] = self.detections.scores[at[some]]
        boxes[some] = self.judged.boxes[at[some]]
        return scores, boxes


class Amender:
    """Writes answers into the tracks of one camera.

    Attributes:
        labels: Names by label index: the edge's, then further ones that the cloud has used.
    """

    def __init__(
        self,
        tracker: Tracker,
        memories: Memories,
        settings: FusionSettings,
        edge_labels: Sequence[str],
    ) -> None:
        self._tracker = tracker
        self._memories = memories
        self._settings = settings
        self.labels = list(edge_labels)
        self._label_index = {label: index for index, label in enumerate(self.labels)}

    def correct_subjects(self, reading: Reading) -> list[Correction]:
        """What the verdict says about the tracks in the crop."""
        question = reading.question
        about = [finding for finding in reading.judged.findings if finding.subject >= 0]
        subjects = [question.subjects[finding.subject] for finding in about]
        at = reading.places[[finding.subject for finding in about]]
        return self._correct(reading, about, subjects, at)

    def join_additions(self, reading: Reading) -> list[Correction]:
        """Objects that were no track when the crop was cut: new tracks, if they are none now.

        One that is tracked since, or was added from another crop, is that track. Those of one
        verdict are different objects, and none is a track that the verdict judges anyway.
        """
        question = reading.question
        added = [one for one in reading.judged.findings if one.effect is Effect.ADDED]
        if not added:
            return []
        scores, boxes = reading.found(added)
        frames = np.float32(max(0, self._tracker.sequence - question.sequence))
        presents = _moved(boxes, self._tracker.scene_velocity[None] * frames)
        numbers, places = self._tracked(reading, boxes, presents)
        corrections = []
        if numbers.size:
            joined, subjects = self._joined(reading, added, numbers, self._tracker.rows[places])
            corrections = self._correct(reading, joined, subjects, places)
        tracked = set(numbers.tolist())
        for number, finding in enumerate(added):
            if number not in tracked:
                correction = self._add(reading, finding, float(scores[number]), presents[number])
                if correction is not None:
                    corrections.append(correction)
        return corrections

    def _joined(
        self, reading: Reading, added: Sequence[Finding], numbers: Positions, rows: Rows
    ) -> tuple[list[Finding], list[Subject]]:
        """Additions that are tracks: findings about them, and the tracks as they were at capture.

        Where a track was then is reckoned back by its own velocity.
        """
        frames = np.float32(max(0, self._tracker.sequence - reading.question.sequence))
        present = self._tracker.sequence
        unfused = [
            self._memories.of(track_id).box_before_fusion(box, present)
            for track_id, box in zip(rows["track_id"].tolist(), rows["box"], strict=True)
        ]
        then = _moved(np.stack(unfused), -rows["velocity"] * frames)
        joined, subjects = [], []
        columns = zip(
            rows["track_id"].tolist(), then, labels_of(rows), rows["score"].tolist(), strict=True
        )
        for number, (track_id, box, label, score) in zip(numbers.tolist(), columns, strict=True):
            subject = Subject(track_id, box, self.labels[label], score, asked=False)
            same = subject.label == reading.label(added[number])
            effect = Effect.CONFIRMED if same else Effect.RECLASSIFIED
            joined.append(replace(added[number], effect=effect))
            subjects.append(subject)
        return joined, subjects

    def _correct(
        self,
        reading: Reading,
        findings: Sequence[Finding],
        subjects: Sequence[Subject],
        at: Positions,
    ) -> list[Correction]:
        """Writes findings about tracks, each with what the edge saw, where they outrank others."""
        ids = [subject.track_id for subject in subjects]
        kept = self._memories.with_rows(ids, at)
        ignored = reading.judged.ignored
        if len(kept) < len(ids):
            ignored[IgnoredPart.TRACK_GONE] += len(ids) - len(kept)
            findings = [findings[number] for number in kept]
            subjects = [subjects[number] for number in kept]
            ids, at = [ids[number] for number in kept], at[kept]
        if not kept:
            return []
        rows = self._memories.read(ids, at)
        stands = self._write(reading, findings, subjects, rows, at >= 0)
        self._memories.write(ids, at, rows)
        if not all(stands):
            ignored[IgnoredPart.OUTRANKED] += len(stands) - sum(stands)
        presents, alive = rows["box"], (at >= 0).tolist()
        return [
            Correction(
                finding.effect,
                subject.track_id,
                reading.question,
                subject,
                reading.opinion(finding),
                presents[number] if alive[number] else None,
            )
            for number, (finding, subject) in enumerate(zip(findings, subjects, strict=True))
            if stands[number]
        ]

    def _write(
        self,
        reading: Reading,
        findings: Sequence[Finding],
        subjects: Sequence[Subject],
        rows: Rows,
        alive: Mask,
    ) -> list[bool]:
        """Writes into rows (N,) what outranks what stands there; tells which findings do."""
        sequence, present = reading.question.sequence, self._tracker.sequence
        memories = [self._memories.of(subject.track_id) for subject in subjects]
        stands, newer, unfused = [], [], rows["box"].copy()
        for number, (memory, finding) in enumerate(zip(memories, findings, strict=True)):
            newer.append(sequence >= memory.asked_sequence)
            memory.asked_sequence = max(memory.asked_sequence, sequence)
            stands.append(memory.yields_to(finding))
            if stands[-1] and finding.effect is not Effect.UNDECIDED:
                memory.standing = finding.standing
                unfused[number] = memory.box_before_fusion(unfused[number], present)
        seen = np.concatenate([subject.box for subject in subjects]).reshape(-1, 4)
        own_scores = np.array([subject.score for subject in subjects], np.float32)
        write_asked(rows, np.array(newer), own_scores, seen)
        placed = np.array([one.standing.whole and one.detection >= 0 for one in findings])
        rows["answered"] |= placed | np.array([subject.asked for subject in subjects])
        rows["confirmed"] |= placed
        written = [
            number
            for number, finding in enumerate(findings)
            if stands[number] and finding.effect is not Effect.UNDECIDED
        ]
        if not written:
            return stands
        scores, boxes = reading.found(findings)
        whole = placed[:, None]
        part = rows[written]
        now = np.where(whole, shift_to_present(boxes, seen, unfused), unfused)
        part["box"] = np.where(alive[:, None], now, rows["box"])[written]
        labels = [self._label_of(reading, findings[number]) for number in written]
        write_verdict(
            part,
            sequence=sequence,
            labels=np.array(labels, np.int32),
            scores=scores[written],
            boxes=np.where(whole, boxes, seen)[written],
        )
        rows[written] = part
        return stands

    def _tracked(
        self, reading: Reading, boxes: Boxes, presents: Boxes
    ) -> tuple[Positions, Positions]:
        """Pairs objects (N, 4), at capture and at present, with tracks that they are now.

        What another crop of the same frame has added is compared in that frame.
        """
        rows = self._tracker.rows
        costs = distances(rows["box"], presents)
        at_capture = (rows["cloud_label"] != NO_LABEL) & rows["from_cloud"]
        at_capture &= rows["cloud_sequence"] == reading.question.sequence
        if at_capture.any():
            costs[at_capture] = distances(rows["cloud_box"][at_capture], boxes)
        costs[reading.places[reading.places >= 0]] = np.inf
        places, numbers = assign(costs, self._settings.centre_distance_max)
        return numbers, places

    def _add(
        self, reading: Reading, finding: Finding, score: float, present: Boxes
    ) -> Correction | None:
        label = self._label_of(reading, finding)
        added = self._tracker.add_from_cloud(present, label=label, score=score)
        if added is None:
            reading.judged.ignored[IgnoredPart.NO_ROOM] += 1
            return None
        row = self._tracker.rows[-1:]
        row["cloud_box"] = reading.judged.boxes[finding.detection]
        row["cloud_sequence"] = reading.question.sequence
        memory = self._memories.of(added)
        memory.standing, memory.asked_sequence = finding.standing, reading.question.sequence
        memory.note = note_of(reading.question, EscalationOutcome.ANSWERED.value)
        return Correction(
            Effect.ADDED, added, reading.question, None, reading.opinion(finding), present
        )

    def _label_of(self, reading: Reading, finding: Finding) -> int:
        """The index of the class that was found, which may be new; NO_LABEL if nothing was."""
        if finding.detection < 0:
            return NO_LABEL
        label = reading.label(finding)
        index = self._label_index.get(label)
        if index is None:
            if len(self.labels) >= LABELS_MAX:
                label = _OVERFLOW_LABEL
            index = self._label_index.setdefault(label, len(self.labels))
            if index == len(self.labels):
                self.labels.append(label)
        return index


def note_of(question: Question, outcome: str) -> Record:
    """What a track's record tells of an escalation."""
    return {
        "id": question.id,
        "outcome": outcome,
        "cause": "",
        "reason": question.reason,
        "level": question.level,
    }


def _moved(boxes: Boxes, motion: Floats) -> Boxes:
    return np.concatenate([boxes[:, :2] + motion, boxes[:, 2:] + motion], axis=1)
