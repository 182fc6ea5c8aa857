"""From an answer to corrected tracks: writes what outranks what stands, and adds what is new.

A finding about a track takes effect where its standing is greater than that of the finding that
stands, which makes the order of arrival irrelevant. Single-threaded; owned by the frame lane
through its `Reconciler`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_node.config import FusionSettings
from edge_node.logic.fuse import shift_to_present
from edge_node.logic.memory import Memories
from edge_node.logic.opinions import REFUTED, Opinion, write_opinion
from edge_node.logic.pairing import Box, area_of, assign_cheapest, distance, near_pairs
from edge_node.logic.records import Correction, Found, Record
from edge_node.logic.rows import NO_LABEL, Rows, labels_of, take_rows
from edge_node.logic.track import Tracker
from edge_node.values import (
    Effect,
    EscalationOutcome,
    Finding,
    IgnoredPart,
    Judgement,
    Question,
    Subject,
)
from foundation.escalations import LabelledBoxes

LABELS_MAX = 4096
"""Class names that a camera may know; the cloud's further ones share one name."""
_OVERFLOW_LABEL = "(further label)"


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer while it is fused.

    Attributes:
        camera: Whose.
        arrived_at_ns: When it came.
        question: What had been asked.
        detections: What the cloud found.
        judged: What that means for the tracks.
        places: Where the question's subjects are in the table; -1 for those not alive.
        ignored: How many of its parts changed nothing, by cause; those of fusing are added.
    """

    camera: str
    arrived_at_ns: int
    question: Question
    detections: LabelledBoxes
    judged: Judgement
    places: list[int]
    ignored: Counter[IgnoredPart]

    def label(self, finding: Finding) -> str:
        """The class that was found."""
        return self.detections.labels[finding.detection]

    def box(self, finding: Finding) -> Box:
        """Where it was found, at capture."""
        return self.judged.boxes[finding.detection]

    def correction(
        self,
        finding: Finding,
        track_id: int | None,
        edge: Subject | None,
        present_box: Box | None,
        *,
        earlier_run: bool = False,
    ) -> Correction:
        """What a finding has corrected, for the results."""
        found = None
        if finding.detection >= 0:
            found = Found(self.label(finding), finding.standing.score, self.box(finding))
        return Correction(
            self.camera,
            self.arrived_at_ns,
            finding.effect,
            track_id,
            self.question,
            edge,
            found,
            present_box,
            earlier_run,
        )


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
        subjects, places = reading.question.subjects, reading.places
        about = (
            (finding, subjects[finding.subject], places[finding.subject])
            for finding in reading.judged.findings
            if finding.subject >= 0
        )
        return self._correct(reading, about)

    def join_additions(self, reading: Reading) -> list[Correction]:
        """Objects that were no track when the crop was cut: new tracks, if they are none now.

        One that is tracked since, or was added from another crop, is that track. Those of one
        verdict are different objects, and none is a track that the verdict judges anyway.
        """
        added = [one for one in reading.judged.findings if one.effect is Effect.ADDED]
        if not added:
            return []
        frames = self._frames_since(reading.question)
        x, y = (speed * frames for speed in self._tracker.scene_velocity.tolist())
        boxes = [reading.box(finding) for finding in added]
        presents = [_moved(box, x, y) for box in boxes]
        place_of = self._tracked(reading, boxes, presents)
        corrections = []
        if place_of:
            corrections = self._correct(reading, list(self._joined(reading, added, place_of)))
        for number, finding in enumerate(added):
            if number not in place_of:
                correction = self._add(reading, finding, presents[number])
                if correction is not None:
                    corrections.append(correction)
        return corrections

    def _frames_since(self, question: Question) -> int:
        return max(0, self._tracker.sequence - question.sequence)

    def _joined(
        self, reading: Reading, added: Sequence[Finding], place_of: dict[int, int]
    ) -> Iterator[tuple[Finding, Subject, int]]:
        """Additions that are tracks: findings about them, and the tracks as they were at capture.

        Where a track was then is reckoned back by its own velocity.
        """
        present, frames = self._tracker.sequence, self._frames_since(reading.question)
        rows = take_rows(self._tracker.rows, np.array(list(place_of.values()), np.intp))
        columns = (rows[name].tolist() for name in ("track_id", "box", "velocity", "score"))
        for number, label, track_id, box, (x, y), score in zip(
            place_of, labels_of(rows).tolist(), *columns, strict=True
        ):
            unfused = self._memories.of(track_id).box_before_fusion(box, present)
            then = np.array(_moved(unfused, -x * frames, -y * frames), np.float32)
            subject = Subject(track_id, then, self.labels[label], score, asked=False)
            same = subject.label == reading.label(added[number])
            effect = Effect.CONFIRMED if same else Effect.RECLASSIFIED
            yield added[number]._replace(effect=effect), subject, place_of[number]

    def _correct(
        self, reading: Reading, about: Iterable[tuple[Finding, Subject, int]]
    ) -> list[Correction]:
        """Writes findings about tracks, each with what the edge saw, where they outrank others."""
        table, ignored = self._tracker.rows, reading.ignored
        corrections = []
        for finding, subject, place in about:
            rows = table if place >= 0 else self._memories.of(subject.track_id).ended
            if rows is None:
                ignored[IgnoredPart.TRACK_GONE] += 1
            elif self._write(reading, finding, subject, rows, max(0, place)):
                present = rows["box"][place].tolist() if place >= 0 else None
                corrections.append(reading.correction(finding, subject.track_id, subject, present))
            else:
                ignored[IgnoredPart.OUTRANKED] += 1
        return corrections

    def _write(
        self, reading: Reading, finding: Finding, subject: Subject, rows: Rows, place: int
    ) -> bool:
        """Writes a finding to the row of its track, as far as it is later or outranks what stands.

        Args:
            reading: The answer.
            finding: What was found.
            subject: The track as the edge saw it.
            rows: The table that the row is in; of a track that has ended, its own.
            place: Where in it.

        Returns:
            Whether it outranks what stood.
        """
        sequence, memory = reading.question.sequence, self._memories.of(subject.track_id)
        seen: Box = subject.box.tolist()
        if sequence >= memory.asked_sequence:
            memory.asked_sequence = sequence
            rows["asked_score"][place], rows["asked_area"][place] = subject.score, area_of(seen)
        # The cloud saw it, and saw it whole.
        placed = finding.standing.whole and finding.detection >= 0
        if placed or subject.asked:
            rows["answered"][place] = True
        if placed:
            rows["confirmed"][place] = True
        if not memory.yields_to(finding):
            return False
        if finding.effect is Effect.UNDECIDED:
            return True
        memory.standing = finding.standing
        if rows is self._tracker.rows:
            present = rows["box"][place].tolist()
            box = memory.box_before_fusion(present, self._tracker.sequence)
            if placed:
                box = shift_to_present(reading.box(finding), seen, box)
            rows["box"][place] = box
        opinion = REFUTED
        if finding.detection >= 0:
            found = reading.box(finding) if placed else seen
            label, score = self._label_of(reading, finding), finding.standing.score
            opinion = Opinion(label, score, found, sequence)
        write_opinion(rows, place, opinion)
        return True

    def _tracked(
        self, reading: Reading, boxes: Sequence[Box], presents: Sequence[Box]
    ) -> dict[int, int]:
        """Tracks that objects are now, given where these were at capture and are at present.

        What another crop of the same frame has added is compared in that frame.

        Returns:
            Places in the table by number of the object.
        """
        rows, limit = self._tracker.rows, self._settings.centre_distance_max
        judged = set(reading.places)
        twins = rows["from_cloud"].nonzero()[0]
        if twins.size:
            same = rows["cloud_sequence"][twins] == reading.question.sequence
            twins = twins[same & (rows["cloud_label"][twins] != NO_LABEL)]
        places, then = twins.tolist(), rows["cloud_box"][twins].tolist()
        now, apart = rows["box"].tolist(), judged.union(places)
        costs = [
            (distance(now[place], presents[number]), place, number)
            for place, number in near_pairs(now, presents, limit)
            if place not in apart
        ]
        costs += [
            (distance(then[at], boxes[number]), places[at], number)
            for at, number in near_pairs(then, boxes, limit)
            if places[at] not in judged
        ]
        found = assign_cheapest(cost for cost in costs if cost[0] <= limit)
        return {number: place for place, number in found.items()}

    def _add(self, reading: Reading, finding: Finding, present: Box) -> Correction | None:
        label, score = self._label_of(reading, finding), finding.standing.score
        added = self._tracker.add_from_cloud(present, label=label, score=score)
        if added is None:
            reading.ignored[IgnoredPart.NO_ROOM] += 1
            return None
        rows = self._tracker.rows
        rows["cloud_box"][-1] = reading.box(finding)
        rows["cloud_sequence"][-1] = reading.question.sequence
        memory = self._memories.of(added)
        memory.standing, memory.asked_sequence = finding.standing, reading.question.sequence
        memory.note = note_of(reading.question, EscalationOutcome.ANSWERED.value)
        return reading.correction(finding, added, None, present)

    def _label_of(self, reading: Reading, finding: Finding) -> int:
        """The index of the class that was found, which may be new."""
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


def _moved(box: Box, x: float, y: float) -> Box:
    x1, y1, x2, y2 = box
    return x1 + x, y1 + y, x2 + x, y2 + y
