"""Which tracks there may be something to ask about. Pure, on columns of the track table."""

from __future__ import annotations

import numpy as np

from edge_node.logic.reconsider import evidence_changed
from edge_node.logic.rows import Mask, Positions, Rows, observed_boxes

_BORDER_PX = 2.0
"""A box that ends this near to the frame's border is taken as cut: boxes are a pixel or two off."""
_NS_PER_S = 1_000_000_000


def due_tracks(rows: Rows) -> Positions:
    """Tracks that nobody is asked about, without an answer that stands, and seen or offered."""
    due = rows["confirmed"] & ~rows["pending"] & ~rows["from_cloud"]
    answered = rows["answered"]
    due &= (rows["coasted"] == 0) | (rows["offered"] & ~answered)
    if answered.any():
        due &= ~answered | evidence_changed(rows)
    return np.flatnonzero(due)


def touches_border(rows: Rows, frame_width: int, frame_height: int) -> Mask:
    """Boxes (N,) that the frame's border cuts."""
    boxes = observed_boxes(rows)
    far_corner = (frame_width - _BORDER_PX, frame_height - _BORDER_PX)
    cut = (boxes[:, :2] < _BORDER_PX) | (boxes[:, 2:] > far_corner)
    return np.asarray(cut.any(axis=1), np.bool_)


def about_to_leave(rows: Rows, frames: int, frame_width: int, frame_height: int) -> Mask:
    """Tracks (N,) that their motion carries out of the frame within so many frames."""
    motion = rows["velocity"] * np.float32(frames)
    low = rows["box"][:, :2] + motion
    high = rows["box"][:, 2:] + motion
    out = (low < 0) | (high > np.array([frame_width, frame_height], np.float32))
    return np.asarray(out.any(axis=1), np.bool_)


def cooling_down(rows: Rows, cooldown_s: float, now_ns: int) -> Mask:
    """Tracks (N,) asked about a short while ago; a clock that stepped back ends the while."""
    passed_ns = now_ns - rows["asked_at_ns"]
    recent = (passed_ns >= 0) & (passed_ns < cooldown_s * _NS_PER_S)
    return np.asarray((rows["asked_at_ns"] > 0) & recent, np.bool_)
