"""Whole frames sent to the cloud: rules that choose them, and what the cloud says of them.

The rules are those of others, as far as they are published, and regular sampling. The cloud looks
at native tiles of what is decoded, as many as see every place of the frame, and their doubles are
joined by the edge node's own rules for still images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_escalator.config import LimitSettings
from cloud_escalator.logic.crops import Reporter
from edge_node.logic.fuse_still import StillView, fuse_still
from edge_node.values import Candidate, Question, Subject
from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.escalations import LabelledBoxes, Region
from foundation.frames import Detections, Pixels
from foundation.images import decode_image
from foundation.levels import Level, encode_at
from reference_line.asked import Answered
from reference_line.line import Line
from reference_line.recorded_line import RecordedLine
from reference_line.records import FrameRecord
from replay.recorded_lane import wire_bytes

TILE_PX = 192
OVERLAP_PX = 36
"""Larger than nearly all defects: what one tile cuts, its neighbour shows whole."""
COOLDOWN_FRAMES = 60
"""Groundlight's stream example pauses for two seconds after a question."""
_BATCH = 8
_BORDER_PX = 2.0
_SURE = 0.5
_SEED = 20261125

Array = npt.NDArray[np.float64]


class TiledCloud:
    """Answers whole frames of one line; each frame at each level once."""

    def __init__(
        self, bundle: Bundle, recorded: RecordedLine, frames: Sequence[FrameRecord]
    ) -> None:
        self._labels = bundle.labels
        self._detector = Detector.open(bundle, intra_op_threads=1, batch_max=_BATCH)
        self._reporter = Reporter(bundle.labels, bundle.calibration, bundle.thresholds)
        self._limits = LimitSettings()
        self._recorded = recorded
        self._line = Line(recorded.seed)
        self._frames = {frame.sequence: frame for frame in frames}
        self._known: dict[tuple[int, str], Answered] = {}

    def ask(self, sequences: Sequence[int], level: str) -> list[Answered]:
        """What asking about whole frames came to, in order."""
        # In order, because a line keeps only the boards it used last.
        for sequence in sorted(set(sequences)):
            if (sequence, level) not in self._known:
                self._known[sequence, level] = self._ask(sequence, level)
        return [self._known[sequence, level] for sequence in sequences]

    def _ask(self, sequence: int, level: str) -> Answered:
        pixels = self._line.frame(sequence)
        height, width = pixels.shape[:2]
        question = Question(
            id=f"{sequence:032x}",
            sequence=sequence,
            captured_at_ns=1,
            expires_at_ns=2,
            region=Region(0, 0, width, height),
            frame_width=width,
            frame_height=height,
            subjects=tuple(_subjects(self._frames[sequence], width, height)),
            reason="frame",
            level=level,
            gain=0.0,
            scene_moves=True,
        )
        parsed = Level.parse(level)
        image = encode_at(pixels, parsed)
        shown = decode_image(
            image,
            parsed.encoding,
            side_min_px=self._limits.image_side_min_px,
            pixels_max=self._limits.image_pixels_max,
        )
        candidate = Candidate(
            question, pixels[:1, :1], LabelledBoxes.empty(), parsed, 0.0, math.inf
        )
        found = self._look(shown, (width, height))
        return Answered(question, found, wire_bytes(candidate, image))

    def _look(self, shown: Pixels, size: tuple[int, int]) -> LabelledBoxes:
        """What the cloud finds in all tiles of a decoded frame of `size` source pixels."""
        scale = shown.shape[1] / size[0]
        regions = tiles(*size)
        crops = [
            shown[
                round(r.y1 * scale) : round(r.y2 * scale), round(r.x1 * scale) : round(r.x2 * scale)
            ]
            for r in regions
        ]
        views = []
        for region, crop, found in zip(
            regions, crops, self._detector.detect_batch(crops), strict=True
        ):
            named = self._reporter.report(found, region, crop)
            ids = np.array([self._labels.index(label) for label in named.labels], np.int32)
            views.append(StillView(region, Detections(named.boxes, named.scores, ids)))
        joined = fuse_still(Detections.empty(), views, size)
        return LabelledBoxes.from_detections(joined, self._labels)


def tiles(width: int, height: int) -> list[Region]:
    """Square tiles that cover a frame and overlap their neighbours."""
    return [Region(x, y, x + TILE_PX, y + TILE_PX) for y in _starts(height) for x in _starts(width)]


def _starts(side: int) -> list[int]:
    count = int(np.ceil((side - TILE_PX) / (TILE_PX - OVERLAP_PX))) + 1
    return [round(start) for start in np.linspace(0, side - TILE_PX, count).tolist()]


def _subjects(frame: FrameRecord, width: int, height: int) -> list[Subject]:
    """Tracks that lie whole in the frame; of the others an answer could not speak."""
    limits = (width - _BORDER_PX, height - _BORDER_PX)
    return [
        Subject(track.track_id, np.array(track.box, np.float32), track.label, track.score, True)
        for track in frame.tracks
        if track.box[0] >= _BORDER_PX
        and track.box[1] >= _BORDER_PX
        and track.box[2] <= limits[0]
        and track.box[3] <= limits[1]
    ]


@dataclass(frozen=True, slots=True)
class FrameRule:
    """A rule that ranks frames by what the edge detects in them, the most wanted first.

    Attributes:
        name: what the tables call it.
        wanted: of the calibrated scores (N,) of one frame's detections.
        cooldown_frames: after a question.
    """

    name: str
    wanted: Callable[[npt.NDArray[np.float32]], float]
    cooldown_frames: int = 0

    def preferences(self, recorded: RecordedLine) -> Array:
        """How much each frame (F,) is wanted; equal ones are told apart by chance."""
        found = recorded.model.found
        values = [self.wanted(found[k].scores) for k in range(recorded.frames)]
        chance = np.random.default_rng((_SEED, recorded.seed)).random(recorded.frames)
        return np.array(values) + 1e-7 * chance

    def choose(self, preferences: Array, threshold: float) -> list[int]:
        """The frames that are asked about."""
        chosen: list[int] = []
        for sequence in np.flatnonzero(preferences >= threshold).tolist():
            if not chosen or sequence - chosen[-1] >= max(1, self.cooldown_frames):
                chosen.append(sequence)
        return chosen

    def threshold(self, preferences: Sequence[Array], frames: float) -> float:
        """The lowest threshold at which so many frames at most are chosen from some lines."""
        values = np.sort(np.concatenate(preferences))[::-1]
        low, high = -1, len(values)
        while high - low > 1:
            middle = (low + high) // 2
            count = sum(len(self.choose(p, values[middle])) for p in preferences)
            low, high = (middle, high) if count <= frames else (low, middle)
        return float(values[low]) if low >= 0 else np.inf


def frame_rules() -> list[FrameRule]:
    """The rules of others, on calibrated scores above the tracker's floor."""
    return [
        FrameRule("frames at random", lambda _: 0.0),
        FrameRule("frames, lowest score", lambda s: -float(s.min(initial=1.0))),
        FrameRule("frames, mean score (Sedna)", lambda s: -float(s.mean()) if len(s) else -1.0),
        FrameRule("frames, IBT (Sedna)", lambda s: float((s <= _SURE).mean()) if len(s) else 0.0),
        FrameRule("frames, entropy (Sedna)", _entropy),
        FrameRule("frames, box count (DCSB-like)", lambda s: float((s < _SURE).sum())),
        FrameRule("frames, sum of p(1-p)", lambda s: float((s * (1 - s)).sum())),
        FrameRule(
            "frames, threshold and pause (Groundlight-like)",
            lambda s: -float(s.min(initial=1.0)),
            COOLDOWN_FRAMES,
        ),
    ]


def regular(recorded: RecordedLine, count: float) -> list[int]:
    """So many frames at most, as far apart as can be."""
    number = int(count)
    return [int((k + 0.5) * recorded.frames / number) for k in range(number)]


def _entropy(scores: npt.NDArray[np.float32]) -> float:
    if len(scores) == 0:
        return 0.0
    kept = np.clip(scores, 1e-6, 1)
    return -float((kept * np.log(kept)).sum() / np.log(max(2, len(kept))))
