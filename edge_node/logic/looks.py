"""Which tracks the policy looks at closely, and the best moments that it holds of them.

To look at a track costs time, so each time a few have their turn: the one about which an answer is
worth most, and of the others each in its turn. Single-threaded; marks `held_merit`.
"""

from __future__ import annotations

import math

import numpy as np

from edge_node.logic.moments import BETTER, Moments, moment_of, sharpness_of
from edge_node.logic.plan import Planner
from edge_node.logic.rows import Floats, Mask, Positions, Rows, labels_of
from edge_node.logic.view import View
from foundation.frames import Boxes

_LOOKS_MAX = 2
_STALE = 0.7
"""A track whose present moment is worse than this share of its best is asked about with that."""


class Looks:
    """Looks at tracks and holds their best moments.

    Attributes:
        moments: The best crops so far of tracks that may still be asked about.
    """

    def __init__(self, planner: Planner, hidden_labels: frozenset[int]) -> None:
        """Takes who knows how crops are cut, and classes of which the egress policy hides some."""
        self.moments = Moments()
        self._planner = planner
        self._hidden_labels = hidden_labels
        self._turn = 0

    def hold(
        self, rows: Rows, at: Positions, view: View, boxes: Boxes, gains: Floats, whole: Mask
    ) -> None:
        """Looks at some tracks, and holds what is a better moment than before.

        Args:
            rows: The track table; marked.
            at: Positions (N,) in it.
            view: The present frame.
            boxes: (N, 4) of the tracks in it.
            gains: (N,) of an answer about each.
            whole: (N,) which may be held.
        """
        may_hold = whole & (gains > 0)
        if self.moments.full:
            known = rows["held_merit"][at] > 0
            self.moments.refused += int(np.count_nonzero(may_hold & ~known))
            may_hold &= known
        hopeful = may_hold.nonzero()[0]
        if hopeful.size > _LOOKS_MAX:
            hopeful = hopeful[(-gains[hopeful]).argsort(kind="stable")]
            self._turn += 1
            hopeful = hopeful[[0, 1 + self._turn % (hopeful.size - 1)]]
        for number, position in zip(hopeful.tolist(), at[hopeful].tolist(), strict=True):
            box = boxes[number]
            merit = _merit(view, box, float(gains[number]))
            if merit <= BETTER * float(rows["held_merit"][position]):
                continue
            region = self._planner.region_of(box, view.size)
            when = (view.sequence, view.captured_at_ns)
            moment = moment_of(rows, position, view.cut(region), region, when, merit)
            if self.moments.hold(moment):
                rows["held_merit"][position] = merit

    def prefers_held(self, rows: Rows, position: int, view: View, box: Boxes, gain: float) -> bool:
        """Whether a track that is in view was seen much better before."""
        held = float(rows["held_merit"][position])
        return held > 0 and _merit(view, box, gain) < _STALE * held

    def forget_unhidden(self, rows: Rows, at: Positions) -> None:
        """Forgets moments of tracks at these positions that show what is to be hidden by now.

        They were cut while the track passed for another class.
        """
        if not self._hidden_labels:
            return
        at = at[rows["held_merit"][at] > 0]
        tracks = rows[at]
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
