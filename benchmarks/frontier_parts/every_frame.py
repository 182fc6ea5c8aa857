"""The ablation of once-per-object: every proposal of every frame is a question of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_node.config import CropSettings
from edge_node.values import Candidate, Question, Subject
from foundation.escalations import LabelledBoxes
from foundation.geometry import crop_region
from foundation.levels import Level
from reference_line.asked import Answered
from reference_line.fit_asking import EverythingAsked
from reference_line.line import Line
from reference_line.records import FrameRecord, Published

_LEVEL = "webp80"


@dataclass(frozen=True, slots=True)
class Offer:
    """One track in one frame."""

    frame: FrameRecord
    track: Published

    @property
    def value(self) -> float:
        """p(1 - p)."""
        return self.track.score * (1 - self.track.score)


def offers(asked: EverythingAsked, low: float, high: float) -> list[Offer]:
    """All proposals of all frames inside a band of scores, the most doubtful first."""
    found = [
        Offer(frame, track)
        for frame in asked.alone.frames
        for track in frame.tracks
        if low <= track.score < high
    ]
    return sorted(found, key=lambda one: (-one.value, one.frame.sequence, one.track.track_id))


def ask(asked: EverythingAsked, chosen: Sequence[Offer]) -> list[Answered]:
    """The answers about some of them."""
    return list(_answers(asked, chosen, Line(asked.recorded.seed)))


def _answers(asked: EverythingAsked, chosen: Sequence[Offer], line: Line) -> Iterator[Answered]:
    settings = CropSettings()
    shown = -1
    # In order, because a line keeps only the boards it used last.
    for offer in sorted(chosen, key=lambda one: (one.frame.sequence, one.track.track_id)):
        sequence = offer.frame.sequence
        if sequence != shown:
            shown, pixels = sequence, line.frame(sequence)
        height, width = pixels.shape[:2]
        region = crop_region(
            np.array(offer.track.box, np.float32),
            margin=settings.margin,
            side_min_px=settings.side_min_px,
            frame_width=width,
            frame_height=height,
        )
        others = [t for t in offer.frame.tracks if t.track_id != offer.track.track_id]
        subjects = [_subject(offer.track, asked=True)]
        subjects += [_subject(track, asked=False) for track in others]
        first = subjects[0]
        proposals = LabelledBoxes(
            first.box[None], np.array([first.score], np.float32), (first.label,)
        )
        question = Question(
            id=f"{sequence:016x}{offer.track.track_id:016x}",
            sequence=sequence,
            captured_at_ns=1,
            expires_at_ns=2,
            region=region,
            frame_width=width,
            frame_height=height,
            subjects=tuple(subjects),
            reason="uncertain",
            level=_LEVEL,
            gain=0.0,
            scene_moves=True,
        )
        crop = pixels[region.y1 : region.y2, region.x1 : region.x2].copy()
        candidate = Candidate(question, crop, proposals, Level.parse(_LEVEL), 0.0, math.inf)
        yield asked.answered(candidate, _LEVEL)


def _subject(track: Published, *, asked: bool) -> Subject:
    box = np.array(track.box, np.float32)
    return Subject(track.track_id, box, track.label, track.score, asked)
