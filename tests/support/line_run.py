"""A run of the reference line as an edge node would have recorded it, scripted from the truth.

Every defect gets one track, whose fate follows from its number; a few further tracks see something
where there is nothing. No process runs, and the same arguments give the same run.
"""

from __future__ import annotations

from reference_line.line import Line
from reference_line.live import Sample
from reference_line.records import (
    Box,
    CorrectionRecord,
    EscalationEnd,
    FrameRecord,
    Opinion,
    Published,
    RunRecords,
    TrackRecord,
)
from reference_line.truth import LABELS

FRAME_NS = 33_333_333
BEGUN_NS = 1_700_000_000_000_000_000


def record_run(line: Line, frames: int) -> RunRecords:
    """What an edge node might have written about the first frames of a line."""
    tracks, corrections = [], []
    middle = frames // 2
    for number, (label, box) in enumerate(_seen(line, middle)):
        track, correction = _track(number, label, box, middle)
        tracks.append(track)
        if correction is not None:
            corrections.append(correction)
    return RunRecords(
        tuple(_frame(line, sequence) for sequence in range(frames)),
        tuple(corrections),
        tuple(tracks),
        tuple(track.escalation for track in tracks if track.escalation is not None),
    )


def samples_of(records: RunRecords) -> list[Sample]:
    """What the metrics would have said at the end of such a run."""
    answered = sum(track.escalation is not None for track in records.tracks)
    outcomes: dict[str, int] = {}
    for frame in records.frames:
        outcomes[frame.outcome] = outcomes.get(frame.outcome, 0) + 1
    escalations = {("uncertain", "answered"): answered, ("uncertain", "shed"): 1}
    return [
        Sample(0.5, {}, {}, 0, 0, {}),
        Sample(2.0, outcomes, escalations, 0, 2100 * answered, {}),
    ]


def _seen(line: Line, sequence: int) -> list[tuple[str, Box]]:
    truth = line.truth(sequence)
    seen = []
    for class_id, row in zip(truth.class_ids.tolist(), truth.boxes.tolist(), strict=True):
        x1, y1, x2, y2 = row
        seen.append((LABELS[class_id], (x1, y1, x2, y2)))
    return [*seen, ("spur", (600.0, 5.0, 612.0, 17.0)), ("open", (640.0, 940.0, 652.0, 952.0))]


def _track(
    number: int, label: str, box: Box, sequence: int
) -> tuple[TrackRecord, CorrectionRecord | None]:
    fate = ("sure", "confirmed", "reclassified", "refuted", "doubted")[number % 5]
    other = LABELS[(LABELS.index(label) + 1) % len(LABELS)]
    score = 0.9 if fate == "sure" else 0.4
    edge = Opinion(other if fate == "reclassified" else label, score, box, sequence)
    asked = fate not in ("sure", "doubted")
    cloud = Opinion(label, 0.8, box, sequence) if asked and fate != "refuted" else None
    final = cloud or (edge if fate == "sure" else None)
    track = TrackRecord(
        number + 1,
        0,
        max(0, sequence - 9),
        sequence + 9,
        18,
        edge,
        cloud,
        final.label if final else None,
        final.score if final else 0.0,
        "" if final is None else ("cloud" if cloud else "edge"),
        EscalationEnd(f"id-{number}", "answered", "uncertain") if asked else None,
    )
    if not asked:
        return track, None
    return track, CorrectionRecord(
        number + 1,
        f"id-{number}",
        fate,
        "uncertain",
        sequence,
        BEGUN_NS + sequence * FRAME_NS,
        0.1 + 0.01 * number,
        edge,
        cloud,
        False,
    )


def _frame(line: Line, sequence: int) -> FrameRecord:
    truth = line.truth(sequence)
    outcome = {7: "late", 9: "coasted", 11: "dropped"}.get(sequence, "on_time")
    published = []
    for defect_id, row in zip(truth.defect_ids.tolist(), truth.boxes.tolist(), strict=True):
        x1, y1, x2, y2 = row
        source = "cloud" if defect_id % 3 else "edge"
        refuted = defect_id % 5 == 0
        published.append(
            Published(
                defect_id + 1, "open", 0.5, (x1, y1, x2, y2), source, defect_id % 2 == 0, refuted
            )
        )
    latency_s = 0.04 if outcome == "late" else 0.01 + 0.001 * (sequence % 5)
    tracks = () if outcome == "dropped" else tuple(published)
    return FrameRecord(sequence, BEGUN_NS + sequence * FRAME_NS, outcome, latency_s, tracks)
