"""Looks for what the detector missed: gaps of tracks, changed backgrounds, frames unlike others.

Whatever it finds is a place worth asking about although nothing was detected there. Each is asked
about once: a gap once per gap, a changed place until it is gone and comes back, an unlike frame
once per episode. Single-threaded; owned by the frame lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_node.config import CropSettings, MissedSettings
from edge_node.logic.background import Abstention, Background, ChangeRules
from edge_node.logic.cells import small_picture
from edge_node.logic.gaps import GapRules, find_gaps, mark_asked, put_off
from edge_node.logic.novelty import (
    NoveltyModel,
    NoveltyRules,
    NoveltyWatch,
    describe_frame,
    temper,
)
from edge_node.logic.rows import Floats, Rows, observed_boxes
from edge_node.values import Reason
from foundation.escalations import Region
from foundation.frames import Boxes, Pixels, Scores
from foundation.geometry import crop_region

_CHANGE = ChangeRules(learn_frames=50, absorb_frames=900)
_UNKNOWN = 0.5
_PRICED_MAX = 2
_GOLDEN = (5**0.5 - 1) / 2
_EVERY_FRAMES = 4
"""The background and the novelty of every so many frames are looked at: both change slowly, as do
the prices that a gap meets. A look costs time, so it may be put off by as many."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A place that is worth asking about.

    Attributes:
        reason: What was found.
        region: The crop.
        worth: The gain that is expected of an answer.
        position: Of the track in a gap; -1: no track.
        box: (4,) float32, source pixels: what was found.
    """

    reason: Reason
    region: Region
    worth: float
    position: int
    box: Boxes


def in_turn(sights: list[Sight], sequence: int) -> list[Sight]:
    """Which sights of a frame are priced: what is worth most, and one of the others by turns.

    What is refused comes again, and to price a crop takes a fifth of a
    millisecond; when a scene changes there are many.
    """
    if len(sights) <= _PRICED_MAX:
        return sights
    sights = sorted(sights, key=lambda sight: -sight.worth)
    # Some kinds come with every fourth frame only: multiples of the golden ratio reach all others
    # whatever the step, where a plain remainder would meet the same one again and again.
    turn = int(sequence * _GOLDEN % 1.0 * (len(sights) - 1))
    return [sights[0], sights[1 + turn]]


class Lookout:
    """Owns what is ordinary on one camera.

    Attributes:
        abstained: Why the background had nothing to say about the last frame, if it was looked at.
        looked: Whether the last frame was looked at closely, for its background and novelty.
    """

    def __init__(
        self,
        settings: MissedSettings,
        crop: CropSettings,
        low: Floats,
        ordinary: NoveltyModel | None,
        *,
        whole_frames: bool,
    ) -> None:
        """Takes what is ordinary and what may be asked.

        Args:
            settings: What is looked for.
            crop: How crops are cut.
            low: Low end of the band (classes,).
            ordinary: What ordinary frames are like, if known.
            whole_frames: Whether the cloud makes anything of a whole frame. Where it does not, an
                unlike frame is not asked about, and only its scores are trusted less.
        """
        self._settings = settings
        self._crop = crop
        self._low = low
        self._ordinary = ordinary if settings.novelty else None
        self._whole_frames = whole_frames
        self._background = Background(_CHANGE)
        self._frame_size = (0, 0)
        self._gaps = GapRules()
        self._rules = NoveltyRules()
        self._watch = NoveltyWatch(self._rules)
        self._frames = 0
        self._next_look = _EVERY_FRAMES
        self._p_value = 1.0
        self.abstained = Abstention.NONE
        self.looked = False

    @property
    def novel(self) -> bool:
        """Whether frames are unlike ordinary ones at present."""
        return self._watch.novel

    def look(
        self, rows: Rows, pixels: Pixels, scores: Scores, *, scene_moves: bool, busy: bool = False
    ) -> Iterator[Sight]:
        """What is worth asking about in a frame that the model looked at.

        A sight that is asked about is to be reported with `settle`; else it comes again, a gap that
        is reported with `put_off` some frames later.

        Args:
            rows: The track table.
            pixels: uint8 BGR (height, width, 3).
            scores: Calibrated, of all detections of the frame.
            scene_moves: Whether everything moves as one.
            busy: The frame lane has had verdicts to fuse: a close look waits for another frame.
        """
        height, width = pixels.shape[:2]
        self.abstained = Abstention.NONE
        if (width, height) != self._frame_size:
            # Another size shows other things in the same cells.
            self._frame_size = (width, height)
            self._background = Background(_CHANGE)
        self._frames += 1
        if self._settings.gaps:
            yield from self._gaps_of(rows, width, height)
        looks_for_something = self._settings.background or self._ordinary is not None
        due = self._frames >= self._next_look + busy * _EVERY_FRAMES
        self.looked = due and looks_for_something
        if not self.looked:
            return
        # What was put off does not put off the next: which frames are looked at stays the same.
        self._next_look = (self._frames // _EVERY_FRAMES + 1) * _EVERY_FRAMES
        picture = small_picture(pixels)
        if self._settings.background:
            change = self._background.observe(
                picture, observed_boxes(rows), scene_moves=scene_moves
            )
            self.abstained = change.abstained
            for box, strength in zip(change.boxes, change.strengths.tolist(), strict=True):
                worth = self._settings.background_worth * strength
                yield self._sight(Reason.BACKGROUND, box, worth, width, height)
        if self._ordinary is not None:
            self._p_value = self._ordinary.score(describe_frame(scores, picture, pixels))
            if self._watch.observe(self._p_value) and self._whole_frames:
                whole = np.array([0, 0, width, height], np.float32)
                worth = self._settings.novelty_worth
                yield Sight(Reason.NOVELTY, Region(0, 0, width, height), worth, -1, whole)

    def temper(self, scores: Scores) -> Scores:
        """Calibrated scores (N,) as far as they can be trusted in the present frame.

        In a frame unlike those of the calibration they say less, so they are pulled towards not
        knowing.
        """
        return temper(scores, self._p_value, base_rate=_UNKNOWN, rules=self._rules)

    def put_off(self, sight: Sight, rows: Rows) -> None:
        """Notes that it is not worth its price yet: a gap comes again some frames later."""
        if sight.reason is Reason.GAP:
            put_off(rows, sight.position, self._frames + _EVERY_FRAMES)

    def settle(self, sight: Sight, rows: Rows) -> None:
        """Notes that it has been asked about."""
        if sight.reason is Reason.GAP:
            mark_asked(rows, np.array([sight.position], np.intp))
        elif sight.reason is Reason.BACKGROUND:
            self._background.dismiss(sight.box)
        else:
            self._watch.settle()

    def _gaps_of(self, rows: Rows, width: int, height: int) -> Iterator[Sight]:
        size = {"frame_width": width, "frame_height": height}
        gaps = find_gaps(rows, self._low, self._gaps, **size, looks=self._frames)
        for position, box, weight in zip(
            gaps.positions.tolist(), gaps.boxes, gaps.weights.tolist(), strict=True
        ):
            yield self._sight(Reason.GAP, box, weight * (1 - weight), width, height, position)

    def _sight(
        self, reason: Reason, box: Boxes, worth: float, width: int, height: int, position: int = -1
    ) -> Sight:
        region = crop_region(
            box,
            margin=self._crop.margin,
            side_min_px=self._crop.side_min_px,
            frame_width=width,
            frame_height=height,
        )
        return Sight(reason, region, worth, position, box)
