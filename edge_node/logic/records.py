"""Result records: what the JSON lines of docs/results.md are made from.

Frames and corrections are snapshots that the results thread turns into JSON, so that the frame lane
spends no time on it; track records are rare and are built at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from edge_node.logic.pairing import Box
from edge_node.logic.reporting import Reporting
from edge_node.logic.rows import NO_LABEL, Rows, cloud_stands, labels_of
from edge_node.values import Effect, Ending, FrameOutcome, Question, Subject
from foundation.frames import Boxes

SCHEMA = 1
PENDING = "pending"
DEFERRED = "deferred"

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame as it was published.

    Attributes:
        camera: Name of the camera.
        sequence: Position in its stream.
        captured_at_ns: When it was captured.
        published_at_ns: When the record was handed over.
        outcome: How it ended.
        frame_width: Source pixels per row; 0 when no picture was seen.
        frame_height: Source rows.
        rows: Copy of the confirmed rows of the track table; None when nothing is known, which is
            not the same as an empty scene.
        labels: Names by label index; only ever grows.
        reporting: What the system stands by.
    """

    camera: str
    sequence: int
    captured_at_ns: int
    published_at_ns: int
    outcome: FrameOutcome
    frame_width: int
    frame_height: int
    rows: Rows | None
    labels: Sequence[str]
    reporting: Reporting

    def to_json(self) -> Record:
        """The record as the JSON object of docs/results.md."""
        return {
            "type": "frame",
            "schema": SCHEMA,
            "camera": self.camera,
            "sequence": self.sequence,
            "captured_at_ns": self.captured_at_ns,
            "published_at_ns": self.published_at_ns,
            "outcome": self.outcome.value,
            "revision": 0,
            "latency_s": round((self.published_at_ns - self.captured_at_ns) / 1e9, 6),
            "tracks": None if self.rows is None else self._tracks(self.rows),
        }

    def _tracks(self, rows: Rows) -> list[Record]:
        limits = np.array([self.frame_width, self.frame_height] * 2, np.float32)
        boxes = np.clip(rows["box"], 0, limits)
        stands = self.reporting.stands(rows)
        columns = zip(
            rows["track_id"].tolist(),
            labels_of(rows).tolist(),
            self.reporting.scores(rows).astype(float).round(4).tolist(),
            boxes.astype(float).round(1).tolist(),
            (rows["coasted"] == 0).tolist(),
            cloud_stands(rows).tolist(),
            stands.tolist(),
            rows["refuted"].tolist(),
            strict=True,
        )
        return [
            {
                "track_id": track_id,
                "label": self.labels[label],
                "score": score,
                "box": box,
                "state": "detected" if detected else "coasted",
                "source": "cloud" if cloud else "edge",
                "reported": stand,
                "refuted": refuted,
            }
            for track_id, label, score, box, detected, cloud, stand, refuted in columns
        ]


def box_to_json(box: Box | Boxes) -> list[float]:
    """A box (4,) to a tenth of a pixel."""
    return [round(float(side), 1) for side in box]


def opinion_to_json(label: str, score: float, box: Box | Boxes) -> Record:
    """One side's opinion about an object."""
    return {"label": label, "score": round(float(score), 4), "box": box_to_json(box)}


class Found(NamedTuple):
    """What the cloud found, at capture."""

    label: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Correction:
    """Revision 1 of one track: what the verdict said about it, with both opinions.

    Attributes:
        camera: Name of the camera.
        arrived_at_ns: When the verdict came.
        effect: What changed.
        track_id: Which track; None for an object that has none, because the answer came too late.
        question: What had been asked.
        edge: The track as the edge saw it at capture; None for an added object.
        cloud: The cloud's opinion; None where it found nothing.
        present_box: Where the object is now; None after its track's end.
        earlier_run: The track is one of an earlier run of the edge node.
    """

    camera: str
    arrived_at_ns: int
    effect: Effect
    track_id: int | None
    question: Question
    edge: Subject | None
    cloud: Found | None
    present_box: Box | None
    earlier_run: bool

    def to_json(self) -> Record:
        """The record as the JSON object of docs/results.md."""
        edge, present = self.edge, self.present_box
        region = self.question.region
        return {
            "type": "correction",
            "schema": SCHEMA,
            "revision": 1,
            "camera": self.camera,
            "track_id": self.track_id,
            "escalation_id": self.question.id,
            "effect": self.effect.value,
            "sequence": self.question.sequence,
            "captured_at_ns": self.question.captured_at_ns,
            "verdict_latency_s": round(
                (self.arrived_at_ns - self.question.captured_at_ns) / 1e9, 6
            ),
            "reason": self.question.reason,
            "region": [region.x1, region.y1, region.x2, region.y2],
            "edge": None if edge is None else opinion_to_json(edge.label, edge.score, edge.box),
            "cloud": None if self.cloud is None else opinion_to_json(*self.cloud),
            "present_box": None if present is None else box_to_json(present),
            "track_ended": present is None,
            "earlier_run": self.earlier_run,
        }


def ending_to_json(ending: Ending, camera: str, question: Question | None) -> Record:
    """The record that closes an escalation; written after all others about it."""
    return {
        "type": "escalation",
        "schema": SCHEMA,
        "camera": camera,
        "escalation_id": ending.escalation_id,
        "outcome": ending.outcome.value,
        "cause": ending.cause.value,
        "ended_at_ns": ending.ended_at_ns,
        "reason": None if question is None else question.reason,
        "sequence": None if question is None else question.sequence,
        "captured_at_ns": None if question is None else question.captured_at_ns,
        "late": ending.late is not None,
        "earlier_run": ending.other_run,
    }


def track_to_json(
    row: Rows, camera: str, labels: Sequence[str], reporting: Reporting, note: Record | None
) -> Record:
    """The record of an ended track.

    Args:
        row: One row (1,) of the track table.
        camera: Name of the camera.
        labels: Names by label index.
        reporting: What the system stands by.
        note: Its last escalation with outcome and cause, or None when it was never asked about.
    """
    edge_label, cloud_label = int(row["edge_label"][0]), int(row["cloud_label"][0])
    edge = cloud = final = None
    if edge_label != NO_LABEL:
        edge = opinion_to_json(labels[edge_label], row["best_score"][0], row["best_box"][0])
        edge["sequence"] = int(row["best_sequence"][0])
    if cloud_label != NO_LABEL:
        cloud = opinion_to_json(labels[cloud_label], row["cloud_score"][0], row["cloud_box"][0])
        cloud["sequence"] = int(row["cloud_sequence"][0])
    if bool(reporting.stands(row)[0]):
        if bool(cloud_stands(row)[0]):
            score = round(float(reporting.scores(row)[0]), 4)
            final = {"label": labels[cloud_label], "score": score, "source": "cloud"}
        elif edge is not None:
            final = {"label": edge["label"], "score": edge["score"], "source": "edge"}
    return {
        "type": "track",
        "schema": SCHEMA,
        "revision": 0,
        "camera": camera,
        "track_id": int(row["track_id"][0]),
        "first_sequence": int(row["first_sequence"][0]),
        "last_sequence": int(row["last_sequence"][0]),
        "detections": int(row["detections"][0]),
        "edge": edge,
        "cloud": cloud,
        "refuted": bool(row["refuted"][0]),
        "overruled": bool(row["overruled"][0]),
        "final": final,
        "double_of": int(row["double_of"][0]) or None,
        "escalation": note,
    }
