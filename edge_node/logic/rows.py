"""The track table: one structured array, a row per live track, a field per fact.

Everything the frame lane does per frame is an operation on columns of this table; nothing loops
over tracks. Boxes are source pixels, velocities are source pixels per frame of the camera's
sequence: frames, not seconds, are the unit of time here, so that files played unpaced move as they
did.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.frames import Boxes

Rows = npt.NDArray[np.void]
Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

NO_LABEL = -1
BEFORE_FIRST = -1
"""A sequence number that no frame has."""
FORESEEN_UNKNOWN, FORESEEN_NOT, FORESEEN_DRAWN = 0, 1, 2


@functools.lru_cache(maxsize=8)
def row_dtype(classes: int) -> np.dtype[np.void]:
    """The columns of the table for an edge model with this many classes."""
    fields: list[tuple[Any, ...]] = [
        ("track_id", np.int64),
        # Motion: the present box, and the centre's velocity.
        ("box", np.float32, (4,)),
        ("velocity", np.float32, (2,)),
        # The last detection's own box, unsmoothed: what is really in the pixels of that frame.
        ("seen_box", np.float32, (4,)),
        # Evidence of the edge, scores calibrated: running mean, class votes, best moment. Votes are
        # sums over days: in float32 a parked object's would round away what a frame adds.
        ("score", np.float32),
        ("votes", np.float64, (classes,)),
        ("edge_label", np.int32),
        ("best_score", np.float32),
        ("best_box", np.float32, (4,)),
        ("best_sequence", np.int64),
        # Life.
        ("detections", np.int32),
        # Frames since the last detection: all of them, and those in which the model had looked.
        ("coasted", np.int32),
        ("missed", np.int32),
        ("first_sequence", np.int64),
        ("last_sequence", np.int64),
        ("confirmed", np.bool_),
        # The track that this one turned out to be, too; 0: none, for ids begin with 1.
        ("double_of", np.int64),
        # Opinion of the cloud: NO_LABEL until there is one; box and sequence at capture.
        ("from_cloud", np.bool_),
        ("refuted", np.bool_),
        ("cloud_label", np.int32),
        ("cloud_score", np.float32),
        ("cloud_box", np.float32, (4,)),
        ("cloud_sequence", np.int64),
        # What the edge had seen when the cloud looked, and what it has seen since: a window of
        # detections whose votes against the cloud's class overrule it when they are clear.
        ("asked_score", np.float32),
        ("asked_area", np.float32),
        ("window_votes", np.float64, (classes,)),
        ("window_detections", np.int32),
        ("overruled", np.bool_),
        # Memory of the policy.
        ("pending", np.bool_),
        ("answered", np.bool_),
        ("offered", np.bool_),
        ("asked_at_ns", np.int64),
        ("suppression", np.int8),
        # What its gain is multiplied by; and, since a crop of it was forgone, its bytes.
        ("worth", np.float32),
        ("heaviness", np.float32),
        ("forgone_at_ns", np.int64),
        # Merit of the moment that is held (0: none), and whether an audit may draw it: FORESEEN_*.
        ("held_merit", np.float32),
        ("foreseen", np.int8),
        # The last sequence it was seen in before the gap that was asked about; BEFORE_FIRST: none.
        ("gap_sequence", np.int64),
        # Until then, in looks of the lookout, a gap that was refused is not offered again.
        ("gap_waits_until", np.int64),
    ]
    return np.dtype(fields)


def new_rows(count: int, classes: int) -> Rows:
    """Rows of zeros, of tracks that nobody knows anything about yet."""
    rows = np.zeros(count, row_dtype(classes))
    rows["edge_label"] = NO_LABEL
    rows["cloud_label"] = NO_LABEL
    rows["gap_sequence"] = BEFORE_FIRST
    rows["heaviness"] = 1
    return rows


def take_rows(rows: Rows, which: Mask | Positions) -> Rows:
    """A copy of some rows. They are moved as bytes: field by field it takes five times as long."""
    taken: Rows = rows.view(_whole(rows.dtype))[which].view(rows.dtype)
    return taken


def put_rows(rows: Rows, which: Positions | slice, values: Rows) -> None:
    """Writes whole rows, as bytes."""
    whole = _whole(rows.dtype)
    rows.view(whole)[which] = values.view(whole)


@functools.lru_cache(maxsize=8)
def _whole(row: np.dtype[np.void]) -> np.dtype[np.void]:
    return np.dtype((np.void, row.itemsize))


def centers_and_sides(boxes: Boxes) -> tuple[Floats, Floats, Floats, Floats]:
    """Centre x, centre y, width and height, each (N,) float32; sides are at least one pixel."""
    left, top, right, bottom = boxes.T
    width = np.maximum(right - left, np.float32(1))
    height = np.maximum(bottom - top, np.float32(1))
    half = np.float32(0.5)
    return (left + right) * half, (top + bottom) * half, width, height


def observed_boxes(rows: Rows) -> Boxes:
    """Where each track was seen in the present frame (N, 4), or is expected where it was not."""
    return np.where((rows["coasted"] == 0)[:, None], rows["seen_box"], rows["box"])


def cloud_stands(rows: Rows) -> Mask:
    """Where (N,) the cloud's opinion is what the system says: it has one that is not overruled."""
    return np.asarray((rows["cloud_label"] != NO_LABEL) & ~rows["overruled"], np.bool_)


def labels_of(rows: Rows) -> npt.NDArray[np.int32]:
    """The label index (N,) that is published: the cloud's where it stands, else the edge's."""
    return np.where(cloud_stands(rows), rows["cloud_label"], rows["edge_label"])
