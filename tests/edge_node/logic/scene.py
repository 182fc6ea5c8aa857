"""Tables of tracks written down by hand, for tests of what reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_node.config import FusionSettings, TrackSettings
from edge_node.logic.fuse import judge
from edge_node.logic.plan import Ask
from edge_node.logic.policy import Decision
from edge_node.logic.reconcile import Reconciler
from edge_node.logic.reporting import Reporting
from edge_node.logic.rows import Rows, new_rows
from edge_node.logic.spending import Reservation
from edge_node.logic.track import Tracker
from edge_node.values import Cause, Ending, EscalationOutcome, Question, Reason, Subject
from foundation.escalations import Answer, LabelledBoxes, Region, Verdict
from foundation.frames import Detections

WIDTH, HEIGHT = 1280, 960
LABELS = ("open", "short", "spur")
REPORT = np.full(3, 0.5, np.float32)
NOW_NS = 1_700_000_000_000_000_000


def rows_of(*tracks: dict[str, Any]) -> Rows:
    """Rows of settled, doubtful tracks, with what each differs in."""
    rows = new_rows(len(tracks), len(LABELS))
    for position, track in enumerate(tracks):
        row = {
            "track_id": position + 1,
            "box": (600, 400, 612, 412),
            "score": 0.4,
            "best_score": 0.4,
            "edge_label": 0,
            "detections": 10,
            "confirmed": True,
            **track,
        }
        row.setdefault("seen_box", row["box"])
        for name, value in row.items():
            rows[name][position] = value
    return rows


def tracker_with(*boxes: tuple[float, float, float, float], frames: int = 6) -> Tracker:
    """A tracker that has followed still objects for some frames, class 0, score 0.4."""
    tracker = Tracker(TrackSettings(min_detections=2), np.full(3, 0.2, np.float32))
    found = Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), 0.4, np.float32),
        np.zeros(len(boxes), np.int32),
    )
    for sequence in range(frames):
        tracker.advance(sequence)
        tracker.observe(found)
        tracker.retire(WIDTH, HEIGHT)
    return tracker


def reconciler_for(tracker: Tracker) -> Reconciler:
    """A reconciler with the default rules of fusion."""
    return Reconciler(tracker, FusionSettings(), "cam", LABELS, Reporting(REPORT))


def ask(
    reconciler: Reconciler, *asked: int, region: Region, id_: str = "q1", sequence: int = 5
) -> Question:
    """An open question about these positions of the table."""
    crop = Ask(region, 0, np.array(asked, np.intp), 0.24, 1000, 784, 1.0, 0.0)
    return reconciler.ask(
        Decision(crop, asked, Reason.UNCERTAIN, 0.24, Reservation(1000)),
        level="webp80",
        escalation_id=id_,
        sequence=sequence,
        captured_at_ns=NOW_NS,
        expires_at_ns=NOW_NS + 5_000_000_000,
        frame_size=(WIDTH, HEIGHT),
    )


def open_question(reconciler: Reconciler, id_: str = "q1") -> Question:
    """One that `ask` has opened."""
    question = reconciler.question(id_)
    assert question is not None
    return question


def answered(
    asked: Question, cloud: LabelledBoxes, *, digest: str = "digest", at_ns: int = NOW_NS
) -> Ending:
    """The cloud's answer to a question, as the escalation lane brings it."""
    verdict, judged = (
        Verdict(asked.id, Answer(cloud), digest),
        judge(asked, cloud, FusionSettings()),
    )
    return Ending(asked.id, EscalationOutcome.ANSWERED, Cause.NONE, at_ns, verdict, judged)


def question(*subjects: Subject, region: Region, scene_moves: bool = False) -> Question:
    """A question about tracks written down by hand."""
    return Question(
        id="q",
        sequence=5,
        captured_at_ns=NOW_NS,
        expires_at_ns=NOW_NS + 5_000_000_000,
        region=region,
        frame_width=WIDTH,
        frame_height=HEIGHT,
        subjects=subjects,
        reason="uncertain",
        level="webp80",
        gain=0.24,
        scene_moves=scene_moves,
    )


def found(*rows: tuple[float, float, float, float, float, str]) -> LabelledBoxes:
    """Detections of the cloud: x1, y1, x2, y2, score, label."""
    return LabelledBoxes(
        np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[4] for row in rows], np.float32),
        tuple(row[5] for row in rows),
    )
