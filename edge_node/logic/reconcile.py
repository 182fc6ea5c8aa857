"""What was asked, and what becomes of tracks and records when the answer comes.

Owns the open questions. Invariants: every question is forgotten when its one `Ending` arrives, and
an ended track when the last question that shows it is; and verdicts about one frame that arrive
between the same two frames leave the same tracks in any order, as long as objects lie apart.
Single-threaded; owned by the frame lane.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edge_node.config import FusionSettings
from edge_node.logic.amend import Amender, Reading, note_of
from edge_node.logic.fuse import gain_of, shows_whole
from edge_node.logic.memory import Memories
from edge_node.logic.policy import Decision
from edge_node.logic.records import DEFERRED, PENDING, Correction, Record, track_to_json
from edge_node.logic.reporting import Reporting
from edge_node.logic.rows import Positions, Rows, labels_of, observed_boxes
from edge_node.logic.track import Tracker
from edge_node.values import (
    Cause,
    Effect,
    Ending,
    EscalationOutcome,
    Finding,
    IgnoredPart,
    Question,
    Subject,
)
from foundation.escalations import Answer

_ADDED_FRAMES = 12
"""What the edge begins to see so soon after a crop has shown the place was there already."""
_HEAVINESS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Fusion:
    """What became of an ending.

    Attributes:
        corrections: Revision 1 of tracks, for the results.
        revised: Records of tracks that had ended, anew.
        ignored: What of an answer changed nothing, by cause.
        question: What was asked; None when no question with its id was open: nothing else is set.
        findings: What the answer says.
        other_model: Another model answered than the one that is expected.
    """

    corrections: list[Correction] = field(default_factory=list)
    revised: list[Record] = field(default_factory=list)
    ignored: Counter[IgnoredPart] = field(default_factory=Counter)
    question: Question | None = None
    findings: list[Finding] = field(default_factory=list)
    other_model: bool = False

    @property
    def gain(self) -> float:
        """What the answer gained, the cloud taken as right: the unit of `foundation.gains`."""
        if self.question is None:
            return 0.0
        return gain_of(self.question, self.findings)


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
        reporting: Reporting,
        *,
        cloud_digest: str = "",
    ) -> None:
        """Expects answers of the bundle with this digest; if empty, of the first that answers."""
        self._tracker = tracker
        self._camera = camera
        self._reporting = reporting
        self._cloud_digest = cloud_digest
        self._questions: dict[str, Question] = {}
        self._current: set[str] = set()  # of them those whose picture showed the present scene
        self._withheld: deque[Question] = deque()
        self._memories = Memories(tracker)
        self._amender = Amender(tracker, self._memories, settings, edge_labels)
        self.labels = self._amender.labels

    def ask(
        self,
        decision: Decision,
        *,
        level: str,
        escalation_id: str,
        sequence: int,
        captured_at_ns: int,
        expires_at_ns: int,
        frame_size: tuple[int, int],
    ) -> Question:
        """Remembers a decision as an open question about the present frame, or the held moment."""
        question = Question(
            id=escalation_id,
            sequence=sequence,
            captured_at_ns=captured_at_ns,
            expires_at_ns=expires_at_ns,
            region=decision.ask.region,
            frame_width=frame_size[0],
            frame_height=frame_size[1],
            subjects=self._subjects(decision),
            reason=decision.reason.value,
            level=level,
            gain=decision.gain,
            scene_moves=self._tracker.scene_moves,
        )
        self._questions[question.id] = question
        if self._tracker.carries_from(sequence):
            self._current.add(question.id)
        for subject in question.subjects:
            memory = self._memories.of(subject.track_id)
            memory.open_questions += 1
            if subject.asked:
                memory.note = note_of(question, PENDING)
        return question

    def question(self, escalation_id: str) -> Question | None:
        """The open question with this id."""
        return self._questions.get(escalation_id)

    def close_tracks(self, rows: Rows) -> list[Record]:
        """Track records, revision 0, for tracks that have ended."""
        records = []
        for position in range(len(rows)):
            row = rows[position : position + 1]
            records.append(self._track_record(row))
            self._memories.close(int(row["track_id"][0]), row)
        return records

    def end(self, ending: Ending) -> Fusion:
        """Closes a question: corrections of its tracks, and revised records of ended ones.

        An ending without an open question changes nothing, and says so. An answer of another model
        than the expected one counts like any other, and says so. What it adds becomes a track only
        where the picture that was asked about tells where it is now; else it is recorded.
        """
        question = self._questions.pop(ending.escalation_id, None)
        current = ending.escalation_id in self._current
        self._current.discard(ending.escalation_id)
        if question is None:
            return Fusion() if ending.late is None else self._end_late(ending.late, ending)
        places = self._memories.positions([subject.track_id for subject in question.subjects])
        reading, fusion = self._read(question, places, ending)
        if reading is not None:
            fusion.corrections.extend(self._amender.correct_subjects(reading))
            if current and self._tracker.has_seen(question.sequence):
                fusion.corrections.extend(self._amender.join_additions(reading))
            else:
                findings = reading.judged.findings
                fusion.corrections.extend(
                    _told(reading, [one for one in findings if one.effect is Effect.ADDED])
                )
        self._mark(question, places, ending)
        if current and _is_of_shadow(ending):
            self._withheld.append(question)
        corrected = {correction.track_id for correction in fusion.corrections}
        outcome, cause = ending.outcome.value, ending.cause.value
        fusion.revised.extend(self._let_go(question, places, (outcome, cause), corrected))
        return fusion

    def defer(self, escalation_id: str) -> list[Record]:
        """Lets go of a question that waits in the spool: its ending brings it along.

        Tracks that live on stay as they are, so that they are not asked about again.

        Returns:
            Records of tracks that had ended and waited for it, anew.
        """
        question = self._questions.pop(escalation_id, None)
        self._current.discard(escalation_id)
        if question is None:
            return []
        places = self._memories.positions([subject.track_id for subject in question.subjects])
        return list(self._let_go(question, places, (DEFERRED, ""), set()))

    def forgo(self, question: Question, heaviness: float, now_ns: int) -> None:
        """A crop is not sent, since it is larger than it is worth; its ending follows.

        Its tracks may be asked about again at once. What made it so large is taken to be the first
        one, which it was cut around.

        Args:
            question: Open, about it.
            heaviness: How many times as many bytes it took as are predicted of others now.
            now_ns: The present instant.
        """
        rows, asked = self._tracker.rows, [one.track_id for one in question.subjects if one.asked]
        places = self._memories.positions(asked)
        rows["asked_at_ns"][np.array([place for place in places if place >= 0], np.intp)] = 0
        if places and places[0] >= 0:
            rows["heaviness"][places[0]] = min(max(heaviness, 1.0), _HEAVINESS_MAX)
            rows["forgone_at_ns"][places[0]] = now_ns

    def foresee_additions(self) -> None:
        """Shadow: what begins where a withheld crop has just looked is not asked about either.

        It was there, so an answer would have added it, and the edge's detections of it would have
        joined that track. Call it with each frame, before what is asked about is decided.
        """
        sequence = self._tracker.sequence
        while self._withheld and sequence - self._withheld[0].sequence > _ADDED_FRAMES:
            self._withheld.popleft()
        rows = self._tracker.rows
        for question in self._withheld:
            began = rows["first_sequence"]
            at = ((began > question.sequence) > (rows["pending"] | rows["answered"])).nonzero()[0]
            if at.size:
                self._withhold(at[shows_whole(question, rows["box"][at])])

    def _read(
        self, question: Question, places: list[int], ending: Ending
    ) -> tuple[Reading | None, Fusion]:
        """What an ending says, if it is an answer, and what is known of it before it is applied."""
        verdict, judged = ending.verdict, ending.judged
        if verdict is None or judged is None or not isinstance(verdict.outcome, Answer):
            return None, Fusion(question=question)
        self._cloud_digest = self._cloud_digest or verdict.cloud_bundle_digest
        fusion = Fusion(
            ignored=judged.ignored.copy(),
            question=question,
            findings=judged.findings,
            other_model=verdict.cloud_bundle_digest != self._cloud_digest,
        )
        detections, at_ns = verdict.outcome.detections, ending.ended_at_ns
        ignored = fusion.ignored
        return Reading(self._camera, at_ns, question, detections, judged, places, ignored), fusion

    def _end_late(self, question: Question, ending: Ending) -> Fusion:
        """Ends a question that was deferred, in this run or an earlier one.

        Tracks of this run that are still alive are corrected. Of the others, and of objects that
        were no tracks, it is recorded what the answer says: where they are now nobody knows.
        """
        ids = [subject.track_id for subject in question.subjects]
        places = self._memories.positions(ids)
        if ending.other_run:
            places = [-1] * len(ids)
        reading, fusion = self._read(question, places, ending)
        if reading is not None:
            alive: list[Finding] = []
            gone: list[Finding] = []
            for finding in reading.judged.findings:
                lives = finding.subject >= 0 and places[finding.subject] >= 0
                (alive if lives else gone).append(finding)
            living = replace(reading, judged=replace(reading.judged, findings=alive))
            fusion.corrections.extend(self._amender.correct_subjects(living))
            fusion.corrections.extend(_told(reading, gone, earlier_run=ending.other_run))
        self._mark(question, places, ending)
        return fusion

    def _subjects(self, decision: Decision) -> tuple[Subject, ...]:
        """The asked-about tracks, first one first, then the others that the crop shows.

        Of the frame of a held moment nothing is known any more but the track that it was held for.
        """
        moment = decision.moment
        if moment is not None:
            label = self.labels[moment.label]
            return (Subject(moment.track_id, moment.box, label, moment.score, asked=True),)
        rows, region = self._tracker.rows, decision.ask.region
        boxes = observed_boxes(rows)
        shown = (boxes[:, 0] < region.x2) & (boxes[:, 1] < region.y2) & rows["confirmed"]
        shown &= (boxes[:, 2] > region.x1) & (boxes[:, 3] > region.y1)
        asked = list(decision.asked)
        shown[asked] = False
        at = np.array([*asked, *shown.nonzero()[0].tolist()], np.intp)
        columns = zip(
            rows["track_id"][at].tolist(),
            boxes[at],
            labels_of(rows)[at].tolist(),
            rows["score"][at].tolist(),
            strict=True,
        )
        return tuple(
            Subject(track_id, box, self.labels[label], score, order < len(asked))
            for order, (track_id, box, label, score) in enumerate(columns)
        )

    def _mark(self, question: Question, places: Sequence[int], ending: Ending) -> None:
        """Marks the tracks that were asked about, as far as they are alive."""
        rows, answered = self._tracker.rows, ending.outcome is EscalationOutcome.ANSWERED
        for subject, place in zip(question.subjects, places, strict=True):
            if subject.asked and place >= 0:
                rows["pending"][place] = False
                if answered:
                    rows["answered"][place] = True
        if ending.outcome is EscalationOutcome.WITHHELD:
            told = np.array([subject.asked for subject in question.subjects], np.bool_)
            if _is_of_shadow(ending):
                seen = np.array([subject.box for subject in question.subjects], np.float32)
                told |= shows_whole(question, seen.reshape(-1, 4))
            self._withhold(np.array(places, np.intp)[told])

    def _let_go(
        self,
        question: Question,
        places: Sequence[int],
        how: tuple[str, str],
        corrected: set[int | None],
    ) -> Iterator[Record]:
        """Lets go of the tracks; of ended ones that were asked about or corrected, the record.

        Args:
            question: Whose tracks.
            places: Where they are in the table; -1 for those not alive.
            how: Outcome and cause, for the records.
            corrected: Tracks about which something was said.
        """
        for subject, place in zip(question.subjects, places, strict=True):
            memory = self._memories.of(subject.track_id)
            memory.open_questions -= 1
            note = memory.note
            if subject.asked and note is not None and note["id"] == question.id:
                note.update(outcome=how[0], cause=how[1])
            if place < 0 and memory.ended is not None:
                if subject.asked:
                    memory.ended["pending"] = False
                if subject.asked or subject.track_id in corrected:
                    yield {**self._track_record(memory.ended), "revision": 1}
            if place < 0 and not memory.open_questions:
                self._memories.forget(subject.track_id)

    def _withhold(self, shown: Positions) -> None:
        """No track at these positions is asked about again; whether evidence changes is not known.

        In shadow that are all that the crop shows whole, as after an answer.
        """
        rows, shown = self._tracker.rows, shown[shown >= 0]
        rows["answered"][shown] = True
        rows["asked_score"][shown] = 1.0
        rows["asked_area"][shown] = np.inf

    def _track_record(self, row: Rows) -> Record:
        note = self._memories.note(int(row["track_id"][0]))
        return track_to_json(row, self._camera, self.labels, self._reporting, note)


def _is_of_shadow(ending: Ending) -> bool:
    """Whether it would have been sent; what may not leave would have told nothing."""
    return ending.outcome is EscalationOutcome.WITHHELD and ending.cause is Cause.NONE


def _told(
    reading: Reading, findings: Iterable[Finding], *, earlier_run: bool = False
) -> Iterator[Correction]:
    """What findings say of the frame of capture, where no live track is theirs any more."""
    for finding in findings:
        subject = reading.question.subjects[finding.subject] if finding.subject >= 0 else None
        track_id = None if subject is None else subject.track_id
        yield reading.correction(finding, track_id, subject, None, earlier_run=earlier_run)
