"""Change against the background: places in which something is and nothing was detected.

Each cell of the small picture knows its mean and its spread. A cell has changed when it is further
from its mean than its spread explains, after the brightness and the contrast of the whole picture
have been made those of the background. Where cells stay changed side by side and no track explains
them, there is a place worth asking about, once. What stays becomes background in the end; what
comes and goes, as leaves in the wind, widens the spread until it is ordinary.

It has nothing to say, and says so, while it learns, while the scene moves as a whole, and when most
of the picture has changed at once, which no object does. A state that lasts is learned anew.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from edge_node.logic.cells import CELL_PX, boxes_of, cells_within, connected
from edge_node.logic.rows import Floats, Mask
from foundation.frames import Boxes

_SPREAD_START = np.float32(4.0)
_SPREAD_MIN = np.float32(1.0)
_MEAN_TO_SPREAD = np.float32(1.25)
"""The standard deviation of normal noise in units of its mean absolute deviation."""
_SURPRISE_MAX = np.float32(3.0)
"""So many spreads is the most that one frame may add to what a cell knows."""
_FIT_STEP = 3
"""Brightness and contrast are two numbers: a ninth of the cells tells them."""
_FIT_CELLS_MIN = 16
_GAIN_LIMITS = (0.4, 2.5)
_DARKEST, _BRIGHTEST = 4.0, 251.0
"""Outside a sensor clips, and tells neither brightness nor contrast."""
_SURROUNDINGS_PX = CELL_PX
"""What is this near to a track's box belongs to it: its shadow, the blur of its edge."""


class Abstention(enum.StrEnum):
    """Why there is nothing to say about change in a frame."""

    NONE = ""
    LEARNING = "learning"
    MOVING = "moving"
    EVERYTHING_CHANGED = "everything_changed"


@dataclass(frozen=True, slots=True)
class ChangeRules:
    """What counts as a change.

    Attributes:
        learn_frames: Frames from which a background is learned, and about how many it remembers.
        hold_frames: Frames in a row in which a cell must be changed.
        absorb_frames: Frames after which what stays changed becomes background.
        spreads_min: Change in spreads of the cell.
        levels_min: Change in grey levels.
        cells_min: Fewest changed cells side by side.
        share_max: Share of all cells above which a change is none of an object.
        strength_min: Least strength of a group; below it is light that falls differently.
        explained_max: Share of a group's cells that tracks may touch.
    """

    learn_frames: int = 50
    hold_frames: int = 5
    absorb_frames: int = 900
    spreads_min: float = 6.0
    levels_min: float = 12.0
    cells_min: int = 4
    share_max: float = 0.5
    strength_min: float = 0.25
    explained_max: float = 0.3


@dataclass(frozen=True, slots=True)
class Change:
    """The changed places of one frame.

    Attributes:
        boxes: (N, 4) float32, source pixels, whole cells.
        strengths: (N,) float32 in 0..1: 0 at the limit, 0.5 at twice the limit.
        abstained: Why there is nothing to say; NONE where no place means that nothing changed.
    """

    boxes: Boxes
    strengths: Floats
    abstained: Abstention


class Background:
    """Owns what is known about the background of one camera. Single-threaded."""

    def __init__(self, rules: ChangeRules) -> None:
        self._rules = rules
        self._frames = 0
        """Since learning began."""
        self._overwhelmed = 0
        """Frames in a row in which everything had changed."""
        self._mean = np.zeros((0, 0), np.float32)
        self._spread = np.zeros((0, 0), np.float32)
        self._held = np.zeros((0, 0), np.int32)
        """Frames in a row in which a cell has been changed."""
        self._dismissed = np.zeros((0, 0), np.bool_)

    def observe(self, picture: Floats, explained: Boxes, *, scene_moves: bool) -> Change:
        """Takes a frame and says where it differs from what is usual there.

        Args:
            picture: The frame's small picture (rows, columns) float32, as `small_picture` makes
                it; another size than before begins anew.
            explained: Boxes (N, 4) of all tracks, source pixels.
            scene_moves: Whether everything moves as one, so that there is no background.
        """
        if scene_moves:
            self._frames = 0
            return _nothing(Abstention.MOVING)
        if self._frames == 0 or picture.shape != self._mean.shape:
            self._begin(picture)
        self._frames += 1
        difference = self._compensated(picture) - self._mean
        size = np.abs(difference)
        if self._frames <= self._rules.learn_frames:
            self._learn(difference, size, 1 / self._frames)
            return _nothing(Abstention.LEARNING)
        limit = np.maximum(self._rules.spreads_min * self._spread, self._rules.levels_min)
        changed = np.asarray(size > limit, np.bool_)
        if np.count_nonzero(changed) > self._rules.share_max * changed.size:
            self._overwhelmed += 1
            if self._overwhelmed >= self._rules.learn_frames:
                self._frames = 0  # a lamp or the camera is another one from now on
            return _nothing(Abstention.EVERYTHING_CHANGED)
        self._overwhelmed = 0
        self._hold(changed)
        self._learn(difference, size, 1 / self._rules.learn_frames)
        return self._places(changed, np.asarray(limit / np.maximum(size, limit)), explained)

    def dismiss(self, box: Boxes) -> None:
        """Asks no more about what is changed inside a box (4,), until it is gone and comes back."""
        inside = cells_within(box[None], self._held.shape, margin_px=0)
        self._dismissed |= inside & (self._held > 0)

    def _begin(self, picture: Floats) -> None:
        self._frames = self._overwhelmed = 0
        self._mean = picture.copy()
        self._spread = np.full(picture.shape, _SPREAD_START)
        self._held = np.zeros(picture.shape, np.int32)
        self._dismissed = np.zeros(picture.shape, np.bool_)

    def _compensated(self, picture: Floats) -> Floats:
        """The picture with the background's brightness and contrast."""
        few = (slice(None, None, _FIT_STEP), slice(None, None, _FIT_STEP))
        seen = picture[few]
        fit = (seen > _DARKEST) & (seen < _BRIGHTEST) & (self._held[few] == 0)
        gain, offset = _straight_line(self._mean[few][fit], seen[fit])
        return (picture - np.float32(offset)) * np.float32(1 / gain)

    def _learn(self, difference: Floats, size: Floats, rate: float) -> None:
        """Moves means and spreads a little; what stays changed waits until it is absorbed."""
        surprise = _SURPRISE_MAX * self._spread
        weight = np.float32(rate) * (self._held < self._rules.hold_frames)
        self._mean += weight * np.clip(difference, -surprise, surprise)
        self._spread += weight * (np.minimum(size * _MEAN_TO_SPREAD, surprise) - self._spread)
        np.maximum(self._spread, _SPREAD_MIN, out=self._spread)
        if (absorbed := self._held > self._rules.absorb_frames).any():
            self._mean[absorbed] += difference[absorbed]
            self._spread[absorbed] = _SPREAD_START
            self._held[absorbed] = 0
            self._dismissed[absorbed] = False

    def _hold(self, changed: Mask) -> None:
        self._held += 1
        self._held *= changed
        self._dismissed &= changed

    def _places(self, changed: Mask, weakness: Floats, explained: Boxes) -> Change:
        """Groups of changed cells, some of which have held; `weakness` is 1 at the limit."""
        if not (self._held >= self._rules.hold_frames).any():
            return _nothing(Abstention.NONE)
        row, column, group = connected(changed)
        sizes = np.bincount(group)
        known = cells_within(explained, changed.shape, margin_px=_SURROUNDINGS_PX)[row, column]
        held = self._held[row, column] >= self._rules.hold_frames
        dismissed = self._dismissed[row, column]
        wanted = sizes >= self._rules.cells_min
        wanted &= np.bincount(group, held) >= 1
        wanted &= np.bincount(group, known) <= self._rules.explained_max * sizes
        # A group that moves takes its mark along.
        old = np.bincount(group, dismissed) >= 0.5 * sizes
        self._dismissed[row, column] |= old[group]
        wanted &= ~old
        strengths = 1 - np.bincount(group, weakness[row, column]) / sizes
        wanted &= strengths >= self._rules.strength_min
        boxes = boxes_of(row, column, group)[wanted]
        return Change(boxes, strengths[wanted].astype(np.float32), Abstention.NONE)


def _straight_line(usual: Floats, seen: Floats) -> tuple[float, float]:
    """Gain and offset that make `usual` (N,) into `seen` (N,): trimmed least squares.

    Two rounds; each leaves out what lies further off than three times the median, which is what
    objects cover. Too few cells leave everything as it is.
    """
    if len(usual) < _FIT_CELLS_MIN:
        return 1.0, 0.0
    middle = float(usual.mean())
    x, y = usual - middle, seen - middle
    squares, products = x * x, x * y
    gain, offset = 1.0, _median(y - x)
    for _ in range(2):
        rest = np.abs(y - gain * x - offset)
        near = (rest <= 3 * _median(rest) + 1).astype(np.float32)  # half of them at least
        count = float(near.sum())
        mean_x, mean_y = float(near @ x) / count, float(near @ y) / count
        variance = float(near @ squares) / count - mean_x * mean_x
        # A picture without contrast tells nothing about a change of contrast.
        if variance > 1:
            gain = (float(near @ products) / count - mean_x * mean_y) / variance
            gain = min(max(gain, _GAIN_LIMITS[0]), _GAIN_LIMITS[1])
        offset = mean_y - gain * mean_x
    return gain, offset + middle - gain * middle


def _median(values: Floats) -> float:
    """The upper median of (N,) values: `np.median` costs ten times as much at this size."""
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])


def _nothing(abstained: Abstention) -> Change:
    return Change(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), abstained)
