"""Gaps: tracks that were there and are not found, in places where an object does not vanish.

A detector that loses an object near its limit loses it where it is hardest to see, so nothing in
the frame is doubtful: there is no detection to doubt. The doubtful place is where the track is
expected. It is worth asking about when the track was seen so regularly that it does not miss by
chance, when nothing else that is seen there explains the miss, and when it is not about to leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_node.logic.rows import Floats, Mask, Positions, Rows, take_rows
from foundation.frames import Boxes
from foundation.geometry import box_areas, intersection_matrix

_COVERED = np.float32(0.5)
"""Share of an expected box that another track's box must cover to explain the miss."""


@dataclass(frozen=True, slots=True)
class GapRules:
    """What counts as a gap.

    Attributes:
        missed_min: Frames in a row in which the model looked and did not find the track.
        detections_min: Detections of the track before. Below the tracker's own minimum it is a
            track that died young: seen, and gone before anyone was told.
        leaving_frames: A track that its motion carries out of the frame in this many frames is
            about to leave, and misses for that reason.
        border_px: So near to the frame's border a box is taken as cut.
    """

    missed_min: int = 3
    detections_min: int = 3
    leaving_frames: int = 4
    border_px: float = 2.0


@dataclass(frozen=True, slots=True)
class Gaps:
    """The gaps of one frame, most worth asking about first.

    Attributes:
        positions: (N,) positions in the track table.
        track_ids: (N,) int64.
        boxes: (N, 4) float32, where the track is expected in the present frame, source pixels.
        scores: (N,) float32, the track's mean calibrated score when it was seen last.
        missed: (N,) int32, frames in a row in which the model looked in vain.
        weights: (N,) float32 in 0..1, how likely it is that something is there and the misses are
            no ordinary blinking: the score times `surprises`.
    """

    positions: Positions
    track_ids: Positions
    boxes: Boxes
    scores: Floats
    missed: Positions
    weights: Floats

    def __len__(self) -> int:
        return len(self.positions)


def find_gaps(
    rows: Rows, low: Floats, rules: GapRules, *, frame_width: int, frame_height: int, looks: int
) -> Gaps:
    """The tracks of the present frame that are in a gap nobody was asked about.

    Call it after `observe` and `retire` in a frame in which the model looked. Whoever asks
    calls `mark_asked`, and whoever is refused `put_off`, to ask again later in the same gap.

    Args:
        rows: The track table; not changed.
        low: Calibrated score (classes,) from which a track of the class is worth asking about.
        rules: What counts.
        frame_width: Source pixels per row.
        frame_height: Source rows.
        looks: How often the model has looked, as `put_off` counts.
    """
    missing, waits = rows["missed"] >= rules.missed_min, rows["gap_waits_until"] > looks
    at = (missing > waits).nonzero()[0]
    if at.size:
        lost = take_rows(rows, at)
        due = lost["gap_sequence"] != lost["last_sequence"]
        due &= lost["detections"] >= rules.detections_min
        due &= lost["best_score"] >= low[lost["edge_label"]]
        due &= ~(lost["pending"] | lost["answered"] | lost["from_cloud"] | lost["refuted"])
        due &= _stays_inside(lost, (frame_width, frame_height), rules)
        at = at[due]
    if at.size:
        at = at[~_explained(rows, at)]
    chosen = take_rows(rows, at)
    weights = chosen["score"] * surprises(chosen) if at.size else chosen["score"]
    if at.size > 1:
        order = np.argsort(-weights, kind="stable")
        at, chosen, weights = at[order], chosen[order], weights[order]
    return Gaps(
        at,
        chosen["track_id"],
        chosen["box"],
        chosen["score"],
        chosen["missed"],
        weights,
    )


def put_off(rows: Rows, position: int, looks: int) -> None:
    """Leaves the gap of a track out until the model has looked so often."""
    rows["gap_waits_until"][position] = looks


def mark_asked(rows: Rows, positions: Positions) -> None:
    """Remembers that the present gaps of these tracks have been asked about."""
    rows["gap_sequence"][positions] = rows["last_sequence"][positions]


def surprises(rows: Rows) -> Floats:
    """How unlikely so many misses are for tracks as regular as these (N,), 0..1.

    With k detections in n frames the share of frames in which the track is found is taken as
    (k + 1) / (n + 2), the mean of its posterior under a flat prior (Laplace's rule of succession);
    m misses in a row then happen by chance with (1 - share) ** m.
    """
    frames = rows["last_sequence"] - rows["first_sequence"] + 1
    share = (rows["detections"] + 1) / (np.maximum(frames, rows["detections"]) + 2)
    return np.asarray(1 - (1 - share) ** rows["missed"], np.float32)


def _stays_inside(rows: Rows, size: tuple[int, int], rules: GapRules) -> Mask:
    """Whether the expected boxes lie whole in the frame, and will for a while."""
    box = rows["box"]
    ahead = rows["velocity"] * np.float32(rules.leaving_frames)
    first = box[:, :2] + np.minimum(ahead, 0)
    last = box[:, 2:] + np.maximum(ahead, 0)
    inside = first >= rules.border_px
    inside &= last <= np.array(size, np.float32) - np.float32(rules.border_px)
    return np.asarray(inside[:, 0] & inside[:, 1], np.bool_)


def _explained(rows: Rows, at: Positions) -> Mask:
    """Whether another track that is seen now covers the expected place: before it, or it anew."""
    seen = rows["seen_box"][rows["coasted"] == 0]
    if len(seen) == 0:
        return np.zeros(len(at), np.bool_)
    expected = rows["box"][at]
    covered = intersection_matrix(expected, seen).max(axis=1)
    return np.asarray(covered >= _COVERED * np.maximum(box_areas(expected), 1), np.bool_)
