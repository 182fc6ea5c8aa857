"""Which tracks there may be something to ask about, on columns of the track table.

This runs on every frame, and mostly finds little: each step takes only the columns it needs, of the
tracks that the steps before have left.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_node.logic.reconsider import evidence_changed
from edge_node.logic.rows import (
    FORESEEN_DRAWN,
    FORESEEN_NOT,
    FORESEEN_UNKNOWN,
    Floats,
    Mask,
    Positions,
    Rows,
)
from foundation.frames import Boxes

_BORDER_PX = 2.0
"""A box that ends this near to the frame's border is taken as cut: boxes are a pixel or two off."""
_INWARDS = np.array([1, 1, -1, -1], np.float32)
_LOOKUPS_MAX = 8
"""Tracks of one frame that are looked up in the lottery; the others have their turn later."""
_HEAVY_S, _HEAVY_FADES_S = 3.0, 5.0
"""What a crop took that was forgone is believed of the next ones of its track, then fades."""
_HEAVY_MIN = 1.05
_NS_PER_S = 1_000_000_000


def due_tracks(rows: Rows) -> Positions:
    """Tracks that nobody is asked about, without an answer that stands, and seen or offered."""
    answered = rows["answered"]
    # Of masks, one that is greater than another holds where the other does not.
    due = rows["confirmed"] > (rows["pending"] | rows["from_cloud"])
    due &= (rows["coasted"] == 0) | (rows["offered"] > answered)
    again = (due & answered).nonzero()[0]
    if again.size:
        due[again] = evidence_changed(rows, again)
    at: Positions = due.nonzero()[0]
    return at


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where tracks are in the present frame.

    Attributes:
        boxes: (N, 4) as seen, or as expected where they were not seen.
        cut: (N,) which are not seen whole: not at all, or cut by the frame's border.
        leaving: (N,) which are cut, or carried out of the frame soon.
    """

    boxes: Boxes
    cut: Mask
    leaving: Mask


@dataclass(frozen=True, slots=True)
class Offers:
    """The tracks of a frame that there is something to say about.

    Attributes:
        rows: The track table.
        at: Positions (N,) in it.
        places: Where they are.
        riders: (N,) which may lie in a crop of the present frame.
        now: (N,) which may be asked about with the present frame.
        of_moment: (N,) which may be asked about with what was held.
    """

    rows: Rows
    at: Positions
    places: Whereabouts
    riders: Mask
    now: Mask
    of_moment: Mask


def whereabouts(
    rows: Rows, at: Positions, leaving_frames: int, frame_size: tuple[int, int]
) -> Whereabouts:
    """Where the tracks at these positions are.

    Args:
        rows: The track table.
        at: Positions (N,) in it.
        leaving_frames: One that its motion carries out within so many frames is about to leave.
        frame_size: Width and height in source pixels.
    """
    boxes, cut = sighted(rows, at, frame_size)
    motion = rows["velocity"][at] * np.float32(leaving_frames)
    then = (rows["box"][at].reshape(-1, 2, 2) + motion[:, None]).reshape(-1, 4)
    leaving = cut | np.logical_or.reduce(then * _INWARDS < _ends(frame_size)[1], axis=1)
    return Whereabouts(boxes, cut, leaving)


def sighted(rows: Rows, at: Positions, frame_size: tuple[int, int]) -> tuple[Boxes, Mask]:
    """Boxes (N, 4) of the tracks at these positions and which are cut, as in `Whereabouts`."""
    boxes, unseen = rows["seen_box"][at], rows["coasted"][at] > 0
    if unseen.any():
        boxes[unseen] = rows["box"][at[unseen]]
    return boxes, unseen | cut_by_frame(boxes, frame_size)


def cut_by_frame(boxes: Boxes, frame_size: tuple[int, int]) -> Mask:
    """Which boxes (N, 4) the frame's border may cut."""
    cut: Mask = np.logical_or.reduce(boxes * _INWARDS < _ends(frame_size)[0], axis=1)
    return cut


@functools.lru_cache(maxsize=8)
def _ends(frame_size: tuple[int, int]) -> tuple[Floats, Floats]:
    """What the sides of a box, counted inwards, are below when they are cut, and when outside."""
    width, height = frame_size
    outside = np.array([0, 0, -width, -height], np.float32)
    return outside + np.float32(_BORDER_PX), outside


def cooling_down(rows: Rows, at: Positions, cooldown_s: float, now_ns: int) -> Mask:
    """Tracks (N,) asked about a short while ago; a clock that stepped back ends the while."""
    asked_at_ns = rows["asked_at_ns"][at]
    since_ns = max(0, now_ns - round(cooldown_s * _NS_PER_S))
    return np.asarray((asked_at_ns > since_ns) & (asked_at_ns <= now_ns), np.bool_)


def heaviness_of(rows: Rows, at: Positions, now_ns: int) -> Floats:
    """By what predicted bytes are multiplied where a crop shows a track (N,).

    What one crop of a track took fades within seconds: later ones show it in another way.
    """
    heaviness = rows["heaviness"][at]
    heavy = (heaviness > 1).nonzero()[0]
    if heavy.size:
        since_s = (now_ns - rows["forgone_at_ns"][at[heavy]]) / _NS_PER_S
        heaviness[heavy] **= np.exp(-np.maximum(since_s - _HEAVY_S, 0.0) / _HEAVY_FADES_S)
        heaviness[heaviness < _HEAVY_MIN] = 1
    return heaviness


def foresee_draws(rows: Rows, at: Positions, foresees: Callable[[int], bool]) -> None:
    """Looks up which tracks the audit will draw if nobody asks; each once, a few with each frame.

    Args:
        rows: The track table; `foreseen` is marked.
        at: Positions (N,) in it.
        foresees: Whether the track with this id will be drawn.
    """
    unknown = at[rows["foreseen"][at] == FORESEEN_UNKNOWN]
    for position in unknown[:_LOOKUPS_MAX].tolist():
        drawn = foresees(int(rows["track_id"][position]))
        rows["foreseen"][position] = FORESEEN_DRAWN if drawn else FORESEEN_NOT
