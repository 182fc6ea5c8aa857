"""Which tracks the policy looks at closely, and the best moments that it holds of them.

To look at a track costs time, so each time two have their turn: the one about which an answer
gains most, and of the others each in its turn, those of which nothing is held yet twice as often
at least. Single-threaded; marks `held_merit`.
"""

from __future__ import annotations

import math

import numpy as np

from edge_node.logic.due import cut_by_frame
from edge_node.logic.egress import HIDDEN_SHARE
from edge_node.logic.moments import BETTER, Moments, moment_of, sharpness_of
from edge_node.logic.plan import Planner
from edge_node.logic.rows import (
    FORESEEN_DRAWN,
    Floats,
    Mask,
    Positions,
    Rows,
    labels_of,
    take_rows,
)
from edge_node.logic.view import View
from foundation.frames import Boxes, Scores
from foundation.gains import GainModel
from foundation.geometry import box_areas

_STALE = 0.7
"""A track whose present moment is worse than this share of its best is asked about with that."""
_GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it fall evenly between whole numbers, in steps of any size."""
_GAIN_MIN = np.float32(1e-6)
"""What counts as the gain about a track that the audit draws, where less is expected."""


class Looks:
    """Looks at tracks and holds their best moments.

    Attributes:
        moments: The best crops so far of tracks that may still be asked about.
    """

    def __init__(self, model: GainModel, planner: Planner, hidden_labels: frozenset[int]) -> None:
        """Takes what an answer gains, how crops are cut, and classes of which some is hidden."""
        self.moments = Moments()
        self._model = model
        self._planner = planner
        self._hidden_labels = hidden_labels
        self._turn = 0

    def look(self, rows: Rows, at: Positions, view: View, scores: Scores) -> None:
        """Looks at some tracks, and holds what is a better moment than before.

        Args:
            rows: The track table; marked.
            at: Positions (N,) in it of those that may still be asked about.
            view: The present frame.
            scores: Of all tracks.
        """
        at = at[rows["coasted"][at] == 0]
        if at.size == 0:
            return
        boxes = rows["seen_box"][at]
        gains = np.maximum.reduce(self._model.gains_of(scores[at], np.sqrt(box_areas(boxes))))
        # An audit asks about what it draws, whatever is expected of the answer.
        drawn = rows["foreseen"][at] == FORESEEN_DRAWN
        gains[drawn] = np.maximum(gains[drawn], _GAIN_MIN)
        hidden = view.redaction.hidden_shares(boxes) > HIDDEN_SHARE
        fit = (gains > 0) > (cut_by_frame(boxes, view.size) | hidden)
        if self.moments.full:
            known = rows["held_merit"][at] > 0
            self.moments.refused += int(np.count_nonzero(fit > known))
            fit &= known
        at, boxes, gains = at[fit], boxes[fit], gains[fit]
        if at.size == 0:
            return
        for number in self._in_turn(gains, rows["held_merit"][at] > 0):
            self._hold_better(rows, int(at[number]), view, boxes[number], float(gains[number]))

    def _in_turn(self, gains: Floats, held: Mask) -> list[int]:
        """The one that gains most, and of the others the one whose turn it is.

        Every second turn is for those of which nothing is held, which may be gone soon.
        """
        best = int(gains.argmax())
        if len(gains) == 1:
            return [best]
        self._turn += 1
        others = np.arange(len(gains)) != best
        if self._turn % 2 and (others > held).any():
            others &= ~held
        turn = others.nonzero()[0]
        # However many there are each time, all come equally often.
        return [best, int(turn[int(self._turn * _GOLDEN % 1.0 * turn.size)])]

    def _hold_better(self, rows: Rows, position: int, view: View, box: Boxes, gain: float) -> None:
        merit = _merit(view, box, gain)
        if merit <= BETTER * float(rows["held_merit"][position]):
            return
        region = self._planner.region_of(box, view.size)
        when = (view.sequence, view.captured_at_ns)
        moment = moment_of(rows, position, view.cut(region), region, when, merit)
        if self.moments.hold(moment):
            rows["held_merit"][position] = merit

    def boxes_to_send(self, rows: Rows, at: Positions, boxes: Boxes, cut: Mask) -> Boxes:
        """The box (N, 4) of each track that a crop would be cut around: as seen, or as held.

        Args:
            rows: The track table.
            at: Positions (N,) in it.
            boxes: (N, 4) where they are; overwritten.
            cut: (N,) which are not seen whole, and so asked about with what was held.
        """
        of_moment = cut & (rows["held_merit"][at] > 0)
        for number in of_moment.nonzero()[0].tolist():
            moment = self.moments.of(int(rows["track_id"][at[number]]))
            if moment is not None:
                boxes[number] = moment.box
        return boxes

    def prefers_held(self, rows: Rows, position: int, view: View, box: Boxes, gain: float) -> bool:
        """Whether a track that is in view was seen much better before, and a crop of it has use."""
        held = float(rows["held_merit"][position]) if self._model.crop_share > 0 else 0.0
        return held > 0 and _merit(view, box, gain) < _STALE * held

    def forget_unhidden(self, rows: Rows, at: Positions) -> None:
        """Forgets moments of tracks at these positions that show what is to be hidden by now.

        They were cut while the track passed for another class.
        """
        if not self._hidden_labels:
            return
        at = at[rows["held_merit"][at] > 0]
        tracks = take_rows(rows, at)
        labels = zip(tracks["edge_label"].tolist(), labels_of(tracks).tolist(), strict=True)
        for position, track_id, known_as in zip(
            at.tolist(), tracks["track_id"].tolist(), labels, strict=True
        ):
            moment = self.moments.of(track_id)
            hides_as = self._hidden_labels.intersection(known_as)
            if moment is not None and not hides_as <= {moment.label}:
                self.moments.forget(track_id)
                rows["held_merit"][position] = 0


def _merit(view: View, box: Boxes, gain: float) -> float:
    """How good the present moment of a track is: what an answer gains, how large, how sharp."""
    left, top, right, bottom = box.tolist()
    size = math.sqrt((right - left) * (bottom - top))
    return gain * size * math.sqrt(sharpness_of(view.pixels, box))
