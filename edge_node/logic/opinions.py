"""How what the cloud says is written into a row of the track table. Pure.

Number by number: a verdict is about a handful of tracks, of which numpy writes one as fast as all.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_node.logic.pairing import Box
from edge_node.logic.rows import NO_LABEL, Rows


class Opinion(NamedTuple):
    """What the cloud says about a track.

    Attributes:
        label: Index of the class; NO_LABEL where it found nothing.
        score: How sure it is.
        box: Where, in that frame.
        sequence: The frame.
    """

    label: int
    score: float
    box: Box
    sequence: int


REFUTED = Opinion(NO_LABEL, 0.0, (0.0, 0.0, 0.0, 0.0), 0)
"""A track where nothing was found is refuted, and left without any other opinion."""


def write_opinion(rows: Rows, at: int, opinion: Opinion) -> None:
    """What the cloud says about a track; what the edge held against it before is void."""
    rows["refuted"][at] = opinion.label == NO_LABEL
    rows["cloud_label"][at], rows["cloud_score"][at] = opinion.label, opinion.score
    rows["cloud_box"][at], rows["cloud_sequence"][at] = opinion.box, opinion.sequence
    rows["overruled"][at] = False
    rows["window_votes"][at] = rows["votes"][at]
    rows["window_detections"][at] = rows["detections"][at]
