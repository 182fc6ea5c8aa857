"""What refused tracks bid for a byte, so that they are offered again only where that may suffice.

To offer costs the frame lane time, and prices and buckets move little from one frame to the next.
What was refused therefore waits until it bids more than the price of a byte, which is seen to some
times a second. Single-threaded; marks `worth`.
"""

from __future__ import annotations

import numpy as np

from edge_node.logic.aim import Aim
from edge_node.logic.due import sighted
from edge_node.logic.looks import Looks
from edge_node.logic.plan import Planner
from edge_node.logic.rows import Floats, Mask, Positions, Rows
from edge_node.logic.view import View
from edge_node.logic.worth import Worth
from edge_node.values import REFUSALS, Suppression
from foundation.frames import Scores
from foundation.gains import GainModel
from foundation.geometry import box_areas

# A lock is free again with the next frame.
_WAITS = np.array(
    [one in REFUSALS and one is not Suppression.BUDGET_CONTENDED for one in Suppression], np.bool_
)


class Bids:
    """Makes bids, and says who waits."""

    def __init__(
        self, model: GainModel, planner: Planner, aim: Aim, worth: Worth, looks: Looks
    ) -> None:
        """Takes what an answer gains and is worth, what crops cost, and what is held of tracks."""
        self._model = model
        self._planner = planner
        self._aim = aim
        self._worth = worth
        self._looks = looks

    def waiting(
        self,
        rows: Rows,
        at: Positions,
        wanted: Mask,
        view: View,
        scores: Scores,
        *,
        bids: bool,
        worths: bool,
    ) -> Mask:
        """Which of the tracks (N,) were refused and are not offered again with this frame.

        Args:
            rows: The track table; `worth` is marked.
            at: Positions (N,) in it.
            wanted: (N,) which the aim wants to ask about.
            view: The frame.
            scores: Of all tracks.
            bids: Whether it is time to compare their bids with the price.
            worths: Whether it is to be said anew by what the gain of a track is multiplied.
        """
        waiting: Mask = _WAITS[rows["suppression"][at]] & wanted
        if not (bids or worths):
            return waiting
        once = waiting.nonzero()[0]
        if once.size == 0:
            return waiting
        those = at[once]
        if worths:
            rows["worth"][those] = self._worth.of(rows, those, *view.size)
        if bids:
            best = self._make(rows, those, view, scores).max()
            # Where one may pay, all are offered: they may share its crop.
            waiting[once] = best <= self._aim.prices(view.now_ns).per_byte
        return waiting

    def _make(self, rows: Rows, at: Positions, view: View, scores: Scores) -> Floats:
        """The price of a byte below which each of the tracks (N,) may be worth asking about."""
        boxes, cut = sighted(rows, at, view.size)
        gains = self._model.gains_of(scores[at], np.sqrt(box_areas(boxes)))
        values = np.maximum(gains * rows["worth"][at], self._aim.least)
        boxes = self._looks.boxes_to_send(rows, at, boxes, cut)
        return self._planner.bids(boxes, values, view.size)
