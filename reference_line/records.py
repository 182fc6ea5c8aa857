"""What an edge node wrote about a run, read back as values (docs/results.md has the schema).

Only what the demo needs is kept. Pure: lines in, values out. All boxes are source pixels of the
frame with the given sequence number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from foundation.errors import IntegrityError

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one model says about an object: its box as it was in the frame `sequence`."""

    label: str
    score: float
    box: Box
    sequence: int


@dataclass(frozen=True, slots=True)
class Published:
    """One track as it was published with a frame."""

    track_id: int
    label: str
    score: float
    box: Box
    source: str
    reported: bool
    refuted: bool


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One captured frame and how it ended.

    Attributes:
        latency_s: from capture to publication.
        tracks: empty also for a frame about which nothing is known, such as a dropped one.
    """

    sequence: int
    captured_at_ns: int
    outcome: str
    latency_s: float
    tracks: tuple[Published, ...]


@dataclass(frozen=True, slots=True)
class CorrectionRecord:
    """What one verdict changed about one track, and how long after the capture."""

    track_id: int
    escalation_id: str
    effect: str
    reason: str
    sequence: int
    captured_at_ns: int
    verdict_latency_s: float
    edge: Opinion | None
    cloud: Opinion | None
    track_ended: bool


@dataclass(frozen=True, slots=True)
class EscalationEnd:
    """How an escalation ended, and why it was made; of a track its last one."""

    id: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """A track that has ended: both opinions, and what stands in the end.

    Attributes:
        detections: frames in which the edge's model saw it.
        edge: the edge's best opinion; None for an object that only the cloud saw.
        cloud: the cloud's opinion; None where it was not asked, or saw nothing.
        final_label: what stands; None for a track that the cloud refuted.
        final_score: its calibrated score.
        final_source: `edge` or `cloud`.
        double_of: the track that it turned out to be, too; None for an object of its own.
    """

    track_id: int
    revision: int
    first_sequence: int
    last_sequence: int
    detections: int
    edge: Opinion | None
    cloud: Opinion | None
    final_label: str | None
    final_score: float
    final_source: str
    escalation: EscalationEnd | None
    double_of: int | None = None


@dataclass(frozen=True, slots=True)
class RunRecords:
    """Everything of one run, in order of sequence, arrival, track id and end."""

    frames: tuple[FrameRecord, ...]
    corrections: tuple[CorrectionRecord, ...]
    tracks: tuple[TrackRecord, ...]
    escalations: tuple[EscalationEnd, ...] = ()


Record = FrameRecord | CorrectionRecord | TrackRecord | EscalationEnd


def parse_record(line: str) -> Record | None:
    """Reads one result line; None for a kind of record that the demo has no use for.

    Raises:
        IntegrityError: it is not a line of the documented schema.
    """
    try:
        document = json.loads(line)
        kind = document["type"]
        reader = _READERS.get(kind)
        return None if reader is None else reader(document)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"Not a result line ({type(error).__name__}: {error}): {line[:120]!r}",
            remedy="Run demo and edge node from the same version",
        ) from error


def read_records(lines: Iterable[str]) -> RunRecords:
    """Reads all result lines of a run; of a track's revisions the last one counts.

    Raises:
        IntegrityError: a line is not of the documented schema.
    """
    frames: dict[int, FrameRecord] = {}
    corrections: list[CorrectionRecord] = []
    tracks: dict[int, TrackRecord] = {}
    escalations: dict[str, EscalationEnd] = {}
    for line in lines:
        match parse_record(line):
            case FrameRecord() as frame:
                frames[frame.sequence] = frame
            case CorrectionRecord() as correction:
                corrections.append(correction)
            case TrackRecord() as track:
                known = tracks.get(track.track_id)
                if known is None or track.revision >= known.revision:
                    tracks[track.track_id] = track
            case EscalationEnd() as end:
                escalations[end.id] = end
            case None:
                pass
    return RunRecords(
        tuple(frames[sequence] for sequence in sorted(frames)),
        tuple(corrections),
        tuple(tracks[track_id] for track_id in sorted(tracks)),
        tuple(escalations.values()),
    )


def _frame(document: Mapping[str, Any]) -> FrameRecord:
    return FrameRecord(
        int(document["sequence"]),
        int(document["captured_at_ns"]),
        str(document["outcome"]),
        float(document["latency_s"]),
        tuple(
            Published(
                int(track["track_id"]),
                str(track["label"]),
                float(track["score"]),
                _box(track["box"]),
                str(track["source"]),
                bool(track["reported"]),
                bool(track["refuted"]),
            )
            for track in document.get("tracks") or ()
        ),
    )


def _correction(document: Mapping[str, Any]) -> CorrectionRecord | None:
    """A correction of a track of this run."""
    if document["track_id"] is None or document.get("earlier_run"):
        return None
    sequence = int(document["sequence"])
    return CorrectionRecord(
        int(document["track_id"]),
        str(document["escalation_id"]),
        str(document["effect"]),
        str(document["reason"]),
        sequence,
        int(document["captured_at_ns"]),
        float(document["verdict_latency_s"]),
        _opinion(document.get("edge"), sequence),
        _opinion(document.get("cloud"), sequence),
        bool(document["track_ended"]),
    )


def _escalation(document: Mapping[str, Any]) -> EscalationEnd | None:
    """The end of an escalation of this run."""
    if document["reason"] is None or document.get("earlier_run"):
        return None
    return EscalationEnd(
        str(document["escalation_id"]), str(document["outcome"]), str(document["reason"])
    )


def _track(document: Mapping[str, Any]) -> TrackRecord:
    final, escalation = document.get("final"), document.get("escalation")
    return TrackRecord(
        int(document["track_id"]),
        int(document.get("revision", 0)),
        int(document["first_sequence"]),
        int(document["last_sequence"]),
        int(document["detections"]),
        _opinion(document.get("edge")),
        _opinion(document.get("cloud")),
        None if final is None else str(final["label"]),
        0.0 if final is None else float(final["score"]),
        "" if final is None else str(final["source"]),
        None
        if escalation is None
        else EscalationEnd(
            str(escalation["id"]), str(escalation["outcome"]), str(escalation["reason"])
        ),
        document.get("double_of"),
    )


def _opinion(document: Mapping[str, Any] | None, sequence: int | None = None) -> Opinion | None:
    """An opinion; within a correction it is about the correction's own frame."""
    if document is None:
        return None
    return Opinion(
        str(document["label"]),
        float(document["score"]),
        _box(document["box"]),
        int(document["sequence"]) if sequence is None else sequence,
    )


def _box(values: Iterable[Any]) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return (x1, y1, x2, y2)


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Record | None]] = {
    "frame": _frame,
    "correction": _correction,
    "track": _track,
    "escalation": _escalation,
}
