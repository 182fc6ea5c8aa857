"""When what the edge has seen since is reason to doubt a verdict. Pure, on columns of the table.

A verdict sticks: it was made by the better model. It is overruled where the edge, over a whole
window of detections, has become clearly surer of another class than it was when the cloud looked,
and surer than the cloud was of its own. It may be asked for again where nothing stands (refuted,
undecided, overruled) and the edge sees clearly more than it did.
"""

from __future__ import annotations

import numpy as np

from edge_node.logic.rows import NO_LABEL, Floats, Mask, Positions, Rows, cloud_stands

WINDOW_DETECTIONS = 12
"""Detections over which the edge must hold against the cloud: not a flicker, half a second."""
CLEARER_SHARE = np.float32(0.5)
"""A score has clearly grown once this share of the doubt that there was is gone."""
LARGER_AREA = np.float32(4.0)
"""A box has doubled when its area has grown by this much."""


def overrule(rows: Rows) -> int:
    """Judges the windows that are full, marks what is overruled, and begins new windows.

    Call it once after each frame that the model has looked at.

    Returns:
        How many opinions of the cloud were overruled.
    """
    due = cloud_stands(rows)
    due &= rows["detections"] - rows["window_detections"] >= WINDOW_DETECTIONS
    at = np.flatnonzero(due)
    if at.size == 0:
        return 0
    votes, cloud_label = rows["votes"][at], rows["cloud_label"][at]
    seen = (rows["detections"] - rows["window_detections"])[at]
    means = (votes - rows["window_votes"][at]) / seen[:, None]
    known = cloud_label < means.shape[1]  # the cloud may name what the edge has no class for
    means[known, cloud_label[known]] = 0
    surer = np.maximum(_clearly_above(rows["asked_score"][at]), rows["cloud_score"][at])
    against = means.max(axis=1) >= surer
    rows["overruled"][at[against]] = True
    rows["window_votes"][at] = votes
    rows["window_detections"][at] = rows["detections"][at]
    return int(np.count_nonzero(against))


def evidence_changed(rows: Rows, at: Positions) -> Mask:
    """At which positions (N,) there are answered tracks about which it is worth asking again.

    Nothing stands of the cloud's answer, and the edge's score is clearly higher or its box has
    doubled since the frame that the cloud saw.
    """
    nothing = rows["refuted"][at] | rows["overruled"][at] | (rows["cloud_label"][at] == NO_LABEL)
    changed: Mask = rows["answered"][at] & nothing
    open_ = changed.nonzero()[0]
    if open_.size:
        at = at[open_]
        left, top, right, bottom = rows["box"][at].T
        area = (right - left) * (bottom - top)
        grown = area >= LARGER_AREA * np.maximum(rows["asked_area"][at], np.float32(1))
        changed[open_] = grown | (rows["score"][at] >= _clearly_above(rows["asked_score"][at]))
    return changed


def _clearly_above(scores: Floats) -> Floats:
    clear: Floats = scores + CLEARER_SHARE * (1 - scores)
    return clear
