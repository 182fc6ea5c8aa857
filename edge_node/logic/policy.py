"""What is asked of the cloud: which tracks, when, within which budget, and why.

A track is asked about when the edge is not sure of it: its best calibrated score has reached the
low end of its class's band and its mean score stays under the high end. It is asked about once,
when it has been seen for a while (the votes have settled) or is about to leave, and while its box
lies whole inside the frame. Candidates are ranked by p(1 - p), the variance of the edge's belief,
and paid from two token buckets. Tracks in the band that lie in an asked-about crop ride along.

Single-threaded; owned by the frame lane, whose track table it marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_node.config import CropSettings, PolicySettings
from edge_node.logic.budget import SizeEstimate, TokenBucket
from edge_node.logic.rows import Floats, Mask, Positions, Rows, observed_boxes
from edge_node.values import Reason, Suppression
from foundation.escalations import Region
from foundation.geometry import crop_region

_BORDER_PX = 2.0
"""A box that ends this near to the frame's border is taken as cut: boxes are a pixel or two off."""

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Decision:
    """One escalation to be made.

    Attributes:
        region: The crop.
        asked: Positions in the track table the verdict decides about; the first made the policy
            ask, the others are in the band and lie whole inside the crop.
        reason: Why.
        value: p(1 - p), summed over the asked tracks.
        bytes_reserved: What the byte budget was charged.
    """

    region: Region
    asked: tuple[int, ...]
    reason: Reason
    value: float
    bytes_reserved: int


class Policy:
    """Decides per frame; remembers the budgets. Marks `pending`, `asked_at_ns` and `suppression`.

    Attributes:
        suppressed: Tracks newly suppressed since the last frame, by cause.
    """

    def __init__(
        self, settings: PolicySettings, crop: CropSettings, low: Floats, high: Floats
    ) -> None:
        """Takes the band's ends per class (classes,) on calibrated scores."""
        self._settings = settings
        self._crop = crop
        self._low = low
        self._high = high
        self._requests = TokenBucket(settings.requests_per_s, settings.requests_burst)
        self._bytes = TokenBucket(settings.uplink_bytes_per_s, settings.uplink_bytes_burst)
        self._sizes = SizeEstimate()
        self.suppressed: dict[Suppression, int] = {}

    def consider(
        self, rows: Rows, sequence: int, now_ns: int, frame_width: int, frame_height: int
    ) -> list[Decision]:
        """Decides about every track of the present frame, most valuable first."""
        self.suppressed.clear()
        due = rows["confirmed"] & ~(rows["pending"] | rows["answered"])
        due &= (rows["coasted"] == 0) & ~rows["from_cloud"]
        if not due.any():
            return []
        leaving = self._leaving(rows, frame_width, frame_height)
        in_band = self._in_band(rows)
        cut = _touches_border(rows, frame_width, frame_height)
        age = sequence - rows["first_sequence"] + 1
        due &= (age >= self._settings.min_track_frames) | leaving
        cooling = (rows["asked_at_ns"] > 0) & (
            now_ns - rows["asked_at_ns"] < self._settings.cooldown_s * NS_PER_S
        )
        decisions = list(
            self._spend(
                rows, due & in_band & ~cut & ~cooling, leaving, now_ns, (frame_width, frame_height)
            )
        )
        self._note(rows, np.flatnonzero(due & ~in_band), Suppression.OUTSIDE_BAND)
        self._note(rows, np.flatnonzero(due & in_band & cut), Suppression.CUT_BY_FRAME)
        self._note(rows, np.flatnonzero(due & in_band & ~cut & cooling), Suppression.COOLDOWN)
        return decisions

    def suppress_all(self, rows: Rows) -> None:
        """Notes that there is nobody to ask."""
        self.suppressed.clear()
        due = rows["confirmed"] & (rows["suppression"] != Suppression.NO_ESCALATOR)
        if due.any():
            self._note(rows, np.flatnonzero(due & self._in_band(rows)), Suppression.NO_ESCALATOR)

    def settle(self, bytes_reserved: int, region: Region, size_bytes: int) -> None:
        """Learns the encoded size of a crop; 0 when it was never sent."""
        self._bytes.settle(bytes_reserved, size_bytes)
        if size_bytes:
            self._sizes.learn(region.width * region.height, size_bytes)

    def _in_band(self, rows: Rows) -> Mask:
        label = rows["edge_label"]
        in_band: Mask = (rows["best_score"] >= self._low[label]) & (
            rows["score"] < self._high[label]
        )
        return in_band

    def _leaving(self, rows: Rows, frame_width: int, frame_height: int) -> Mask:
        ahead = rows["box"].copy()
        motion = rows["velocity"] * np.float32(self._settings.leaving_frames)
        ahead[:, :2] += motion
        ahead[:, 2:] += motion
        out = np.asarray((ahead[:, :2] < 0).any(axis=1), np.bool_)
        out |= (ahead[:, 2:] > np.array([frame_width, frame_height], np.float32)).any(axis=1)
        return out

    def _spend(
        self,
        rows: Rows,
        wanted: Mask,
        leaving: Mask,
        now_ns: int,
        frame_size: tuple[int, int],
    ) -> Iterator[Decision]:
        positions = np.flatnonzero(wanted)
        if positions.size == 0:
            return
        width, height = frame_size
        values = rows["score"] * (1 - rows["score"])
        boxes = observed_boxes(rows)
        ranked = positions[np.argsort(-values[positions], kind="stable")]
        for rank, first in enumerate(ranked.tolist()):
            if rows["pending"][first]:
                continue  # rides along with a more valuable one
            cause = Suppression.BUDGET_REQUESTS
            if self._requests.holds(1.0, now_ns):
                cause = Suppression.BUDGET_BYTES
                region = crop_region(
                    boxes[first],
                    margin=self._crop.margin,
                    side_min_px=self._crop.side_min_px,
                    frame_width=width,
                    frame_height=height,
                )
                reserved = self._sizes.predict(region.width * region.height)
                if self._bytes.holds(reserved, now_ns):
                    cause = Suppression.NONE
            if cause is not Suppression.NONE:
                # Nothing of less value is paid for either; the next frame asks again.
                left = ranked[rank:][~rows["pending"][ranked[rank:]]]
                self._note(rows, left, cause)
                return
            self._requests.take(1.0)
            self._bytes.take(reserved)
            riders = self._riders(rows, first, region)
            asked = (first, *riders.tolist())
            rows["pending"][list(asked)] = True
            rows["asked_at_ns"][list(asked)] = now_ns
            yield Decision(
                region,
                asked,
                Reason.LEAVING if leaving[first] else Reason.UNCERTAIN,
                float(values[list(asked)].sum()),
                reserved,
            )

    def _riders(self, rows: Rows, first: int, region: Region) -> Positions:
        """Other tracks that the same crop can decide about."""
        riders = rows["confirmed"] & ~(rows["pending"] | rows["answered"] | rows["from_cloud"])
        riders &= (rows["coasted"] == 0) & self._in_band(rows)
        box = observed_boxes(rows)
        riders &= (box[:, 0] >= region.x1 + 1) & (box[:, 1] >= region.y1 + 1)
        riders &= (box[:, 2] <= region.x2 - 1) & (box[:, 3] <= region.y2 - 1)
        riders[first] = False
        return np.flatnonzero(riders)

    def _note(self, rows: Rows, at: Positions, cause: Suppression) -> None:
        """Counts the tracks at these positions for which this cause is new."""
        changed = at[rows["suppression"][at] != cause]
        if changed.size:
            rows["suppression"][changed] = cause
            self.suppressed[cause] = self.suppressed.get(cause, 0) + changed.size


def _touches_border(rows: Rows, frame_width: int, frame_height: int) -> Mask:
    """Boxes that the frame's border cuts."""
    boxes = observed_boxes(rows)
    far_corner = (frame_width - _BORDER_PX, frame_height - _BORDER_PX)
    cut = (boxes[:, :2] < _BORDER_PX) | (boxes[:, 2:] > far_corner)
    return np.asarray(cut.any(axis=1), np.bool_)
