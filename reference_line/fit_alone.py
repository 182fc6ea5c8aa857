"""What the edge by itself makes of lines: its doubts, for a promised risk, and ordinary frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edge_node.adapters.rules import open_rules
from edge_node.logic.cells import small_picture
from edge_node.logic.novelty import NoveltyModel, describe_frame, fit_novelty
from foundation.bundle import Bundle
from foundation.gains import RiskUnits
from foundation.geometry import iou_matrix
from reference_line.board import BOARD_PITCH_PX
from reference_line.evaluation import IOU_MIN
from reference_line.recorded_line import (
    FRAME_RATE_HZ,
    RecordedLine,
    play,
    read_lines,
    settings_of,
)
from reference_line.records import RunRecords
from reference_line.truth import LABELS
from replay.recorded_lane import RecordedLane

MIN_TRACK_FRAMES = 5
"""How long a track must have lived before it may be asked about: the default of the settings."""
_ORDINARY_EVERY = 20


def ordinary_frames(recorded: Iterable[RecordedLine]) -> NoveltyModel:
    """What frames of the line are ordinarily like, from every twentieth."""
    features = []
    for one in recorded:
        for sequence, pixels in one.pictures():
            if sequence % _ORDINARY_EVERY == 0:
                scores = one.model.found[sequence].scores
                features.append(describe_frame(scores, small_picture(pixels), pixels))
    return fit_novelty(np.array(features))


def edge_alone(recorded: RecordedLine, path: Path) -> RunRecords:
    """What an edge node writes that asks nothing, frames included."""
    settings, bundle = settings_of(path), dataclasses.replace(Bundle.open(path), policy=None)
    with open_rules(settings, bundle, recorded.model.limits) as rules:
        lane = RecordedLane(
            settings,
            recorded.model,
            rules,
            None,
            frame_rate_hz=FRAME_RATE_HZ,
            keep_frames=True,
        )
        return read_lines(play(recorded, {"alone": lane})["alone"].records)


def risk_units(runs: Sequence[tuple[RecordedLine, RunRecords]], bundle: Bundle) -> RiskUnits:
    """What the edge node doubted of each track, had it kept all, and whether it was wrong.

    Its doubt is the greatest over the frames in which it might have asked about the track: it is
    asked about as soon as one exceeds the threshold. A track that is never in the band is never
    asked about, and its doubt is 0.
    """
    doubts: list[float] = []
    wrong: list[bool] = []
    groups: list[int] = []
    first = 0
    for recorded, records in runs:
        greatest = _greatest_doubts(records, bundle)
        line = recorded.known
        for track in sorted(records.tracks, key=lambda t: t.edge.sequence if t.edge else -1):
            edge = track.edge
            if edge is None:
                continue
            truth = line.truth(edge.sequence)
            overlaps = iou_matrix(np.array([edge.box], np.float32), truth.boxes)[0]
            there = {LABELS[k] for k in truth.class_ids[overlaps >= IOU_MIN].tolist()}
            reported = edge.score >= bundle.thresholds.of(edge.label).report
            doubts.append(round(greatest.get(track.track_id, 0.0), 4))
            wrong.append(edge.label not in there if reported else bool(there))
            centre = line.position(edge.sequence) + (edge.box[0] + edge.box[2]) / 2
            groups.append(first + int(centre // BOARD_PITCH_PX))
        first += recorded.boards
    return RiskUnits(
        doubts=tuple(doubts), wrong=tuple(wrong), groups=tuple(groups), group_count=first
    )


def _greatest_doubts(records: RunRecords, bundle: Bundle) -> dict[int, float]:
    """By track, over the frames in which it might have been asked about."""
    first: dict[int, int] = {}
    greatest: dict[int, float] = {}
    for frame in records.frames:
        for track in frame.tracks:
            limits = bundle.thresholds.of(track.label)
            age = frame.sequence - first.setdefault(track.track_id, frame.sequence) + 1
            if age < MIN_TRACK_FRAMES or track.score >= limits.escalate_high:
                continue
            doubt = 1 - track.score if track.score >= limits.report else track.score
            greatest[track.track_id] = max(greatest.get(track.track_id, 0.0), doubt)
    return greatest
