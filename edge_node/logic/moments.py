"""The best moment of a track so far: the crop that will be sent if it is asked about later.

A track is asked about once, so it should be with the frame that shows it best: whole, sharp, large,
and where an answer is worth most. Until it is asked, the crop of its best moment is held, bounded
in number; a track that leaves, or hides, is asked about with what was held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edge_node.logic.rows import Rows, observed_boxes
from foundation.escalations import Region
from foundation.frames import Boxes, Pixels

MOMENTS_MAX = 64
BETTER = 1.15
"""A moment replaces the held one when it is better by this factor: a copy costs time."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A track as it was seen best.

    Attributes:
        track_id: The track.
        sequence: The frame.
        captured_at_ns: When it was captured.
        box: (4,) float32, source pixels.
        label: The edge's class index at that time.
        score: The edge's calibrated score at that time.
        region: What the crop covers.
        pixels: Copy of it.
        merit: How good it is; only to be compared within the track.
    """

    track_id: int
    sequence: int
    captured_at_ns: int
    box: Boxes
    label: int
    score: float
    region: Region
    pixels: Pixels = field(repr=False)
    merit: float

    def cut(self, region: Region) -> Pixels:
        """What it shows of a region inside its own, uint8 BGR; shares memory."""
        left, top = region.x1 - self.region.x1, region.y1 - self.region.y1
        return self.pixels[top : top + region.height, left : left + region.width]


class Moments:
    """Holds the best moment of each track that may still be asked about. Single-threaded.

    Attributes:
        refused: How often a track's moment was not held for lack of room.
    """

    def __init__(self, moments_max: int = MOMENTS_MAX) -> None:
        self._moments_max = moments_max
        self.refused = 0
        self._held: dict[int, Moment] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, track_id: int) -> Moment | None:
        """The best moment held of a track."""
        return self._held.get(track_id)

    @property
    def full(self) -> bool:
        """Whether no further track can have a moment."""
        return len(self._held) >= self._moments_max

    def hold(self, moment: Moment) -> bool:
        """Holds a moment in the place of the track's former one; False when there is no room."""
        if moment.track_id not in self._held and self.full:
            self.refused += 1
            return False
        self._held[moment.track_id] = moment
        return True

    def forget(self, track_id: int) -> Moment | None:
        """Lets a track's moment go, and returns it: it is asked about, or is over."""
        return self._held.pop(track_id, None)


def moment_of(
    rows: Rows, at: int, crop: Pixels, region: Region, when: tuple[int, int], merit: float
) -> Moment:
    """The present moment of a track, with its crop; `when` is sequence and capture."""
    return Moment(
        track_id=int(rows["track_id"][at]),
        sequence=when[0],
        captured_at_ns=when[1],
        box=observed_boxes(rows[at : at + 1])[0].copy(),
        label=int(rows["edge_label"][at]),
        score=float(rows["score"][at]),
        region=region,
        pixels=crop,
        merit=merit,
    )


def sharpness_of(pixels: Pixels, box: Boxes) -> float:
    """Mean squared step between neighbouring pixels inside a box; falls as motion blurs it.

    Args:
        pixels: (height, width, 3) uint8 BGR.
        box: (4,) float32, source pixels; looked at in every second row and column when large.
    """
    x1, y1, x2, y2 = box.tolist()
    left, top, right, bottom = max(0, int(x1)), max(0, int(y1)), math.ceil(x2), math.ceil(y2)
    step = max(1, (right - left) // 32, (bottom - top) // 32)
    green = pixels[top:bottom:step, left:right:step, 1].astype(np.float32)
    if min(green.shape) < 2:
        return 0.0
    across, down = green[:, 1:] - green[:, :-1], green[1:] - green[:-1]
    return float(np.vdot(across, across)) / across.size + float(np.vdot(down, down)) / down.size
