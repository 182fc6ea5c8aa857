"""Which tracks wait that could not be asked about, and what they bid for a byte.

To consider a track costs the frame lane time, and little changes from one frame to the next. What
could not be asked about is therefore considered anew some times a second, and what was refused only
where one bids more than the price of a byte. Only what the border cut does not wait once it is seen
whole. Single-threaded; marks `worth`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_node.logic.aim import Aim
from edge_node.logic.due import heaviness_of, sighted
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
_REFUSED = set(REFUSALS) - {Suppression.BUDGET_CONTENDED}
_HINDERED = {Suppression.CUT_BY_FRAME, Suppression.HIDDEN, Suppression.COOLDOWN}
_WAITS = np.array([cause in _REFUSED | _HINDERED for cause in Suppression], np.bool_)
_BIDS = np.array([cause in _REFUSED for cause in Suppression], np.bool_)
_CUT, _COOLING = int(Suppression.CUT_BY_FRAME), int(Suppression.COOLDOWN)

Causes = npt.NDArray[np.int8]


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
        """Which of the tracks (N,) could not be asked about and are not considered in this frame.

        Args:
            rows: The track table; `worth` is marked.
            at: Positions (N,) in it.
            wanted: (N,) which the aim wants to ask about.
            view: The frame.
            scores: Of all tracks.
            bids: Whether it is time to consider them, and to compare bids with the price.
            worths: Whether it is to be said anew by what the gain of a track is multiplied.
        """
        said = rows["suppression"][at]
        if not (bids or worths):
            return _still_waiting(rows, at, said, wanted, view)
        refused: Mask = _BIDS[said] & wanted
        once = refused.nonzero()[0]
        if once.size:
            those = at[once]
            if worths:
                rows["worth"][those] = self._worth.of(rows, those, *view.size)
            if bids:
                best = self._make(rows, those, view, scores).max()
                # Where one may pay, all are offered: they may share its crop.
                refused[once] = best <= self._aim.prices(view.now_ns).per_byte
        return refused if bids else _still_waiting(rows, at, said, wanted, view)

    def _make(self, rows: Rows, at: Positions, view: View, scores: Scores) -> Floats:
        """The price of a byte below which each of the tracks (N,) may be worth asking about."""
        boxes, cut = sighted(rows, at, view.size)
        gains = self._model.gains_of(scores[at], np.sqrt(box_areas(boxes)))
        values = np.maximum(gains * rows["worth"][at], self._aim.least)
        values /= heaviness_of(rows, at, view.now_ns)
        boxes = self._looks.boxes_to_send(rows, at, boxes, cut)
        return self._planner.bids(boxes, values, view.size)


def _still_waiting(rows: Rows, at: Positions, said: Causes, wanted: Mask, view: View) -> Mask:
    """Which of the tracks (N,) wait for the next comparison, by why (N,) they were not asked about.

    What the border cut is considered as soon as it is seen whole: it may not be for long. And where
    a crop may be made anyway, it decides about what cools down, too.
    """
    waits: Mask = _WAITS[said] & wanted
    cut = ((said == _CUT) & waits).nonzero()[0]
    if cut.size:
        waits[cut] = sighted(rows, at[cut], view.size)[1]
    if np.count_nonzero(waits) < np.count_nonzero(wanted):
        waits &= said != _COOLING
    return waits
