"""How what the cloud says is written into rows of the track table. Pure, on columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edge_node.logic.pairing import Box
from edge_node.logic.rows import NO_LABEL, Positions, Rows


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


def write_opinions(rows: Rows, at: Positions, opinions: Sequence[Opinion]) -> None:
    """What the cloud says about tracks (N,); what the edge held against it before is void."""
    labels, scores, boxes, sequences = zip(*opinions, strict=True)
    rows["refuted"][at] = [label == NO_LABEL for label in labels]
    rows["cloud_label"][at], rows["cloud_score"][at] = labels, scores
    rows["cloud_box"][at], rows["cloud_sequence"][at] = boxes, sequences
    rows["overruled"][at] = False
    rows["window_votes"][at] = rows["votes"][at]
    rows["window_detections"][at] = rows["detections"][at]


def write_asked(rows: Rows, at: Positions, scores: Sequence[float], areas: Sequence[float]) -> None:
    """What the edge saw of tracks (N,) when the cloud looked: scores, and areas of their boxes."""
    rows["asked_score"][at], rows["asked_area"][at] = scores, areas
