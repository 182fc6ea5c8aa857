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
    """

    question: Question
    detections: LabelledBoxes
    judged: Judgement

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
        return self._correct(reading, about, subjects)

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
        numbers, places = self._tracked(question, boxes, presents)
        rows = self._tracker.rows[places]
        then = _moved(rows["box"], -rows["velocity"] * frames)
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
        corrections = self._correct(reading, joined, subjects)
        for number in np.setdiff1d(np.arange(len(added)), numbers).tolist():
            correction = self._add(reading, added[number], float(scores[number]), presents[number])
            if correction is not None:
                corrections.append(correction)
        return corrections

    def _correct(
        self, reading: Reading, findings: Sequence[Finding], subjects: Sequence[Subject]
    ) -> list[Correction]:
        """Writes findings about tracks, each with what the edge saw, where they outrank others."""
        ids = [subject.track_id for subject in subjects]
        at = self._memories.positions(ids)
        kept = np.flatnonzero(self._memories.have_rows(ids, at)).tolist()
        ignored = reading.judged.ignored
        ignored[IgnoredPart.TRACK_GONE] += len(ids) - len(kept)
        if not kept:
            return []
        ids, at = [ids[number] for number in kept], at[kept]
        findings = [findings[number] for number in kept]
        subjects = [subjects[number] for number in kept]
        rows = self._memories.read(ids, at)
        stands = self._write(reading, findings, subjects, rows, at >= 0)
        self._memories.write(ids, at, rows)
        ignored[IgnoredPart.OUTRANKED] += len(stands) - sum(stands)
        return [
            Correction(
                findings[number].effect,
                ids[number],
                reading.question,
                subjects[number],
                reading.opinion(findings[number]),
                rows["box"][number].copy() if at[number] >= 0 else None,
            )
            for number in np.flatnonzero(stands).tolist()
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
        whole = np.array([finding.standing.whole for finding in findings])
        found = np.array([finding.detection >= 0 for finding in findings])
        asked = np.array([subject.asked for subject in subjects])
        rows["answered"] |= asked | (found & whole)
        rows["confirmed"] |= found & whole
        decided = np.array([one.effect is not Effect.UNDECIDED for one in findings])
        written = np.flatnonzero(np.array(stands) & decided)
        scores, boxes = reading.found(findings)
        placed = (found & whole)[:, None]
        part = rows[written]
        write_verdict(
            part,
            found[written],
            sequence=sequence,
            labels=np.array(
                [self._label_of(reading, findings[n]) for n in written.tolist()], np.int32
            ),
            scores=scores[written],
            boxes=np.where(placed, boxes, seen)[written],
        )
        now = np.where(placed, shift_to_present(boxes, seen, unfused), unfused)
        part["box"] = np.where(alive[:, None], now, rows["box"])[written]
        rows[written] = part
        return stands

    def _tracked(
        self, question: Question, boxes: Boxes, presents: Boxes
    ) -> tuple[Positions, Positions]:
        """Pairs objects (N, 4), at capture and at present, with tracks that they are now.

        What another crop of the same frame has added is compared in that frame.
        """
        rows = self._tracker.rows
        judged = np.array([subject.track_id for subject in question.subjects], np.int64)
        costs = distances(rows["box"], presents)
        at_capture = (rows["cloud_label"] != NO_LABEL) & rows["from_cloud"]
        at_capture &= rows["cloud_sequence"] == question.sequence
        if at_capture.any():
            costs[at_capture] = distances(rows["cloud_box"][at_capture], boxes)
        costs[np.isin(rows["track_id"], judged)] = np.inf
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
