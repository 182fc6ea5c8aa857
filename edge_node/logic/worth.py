"""What a verdict is worth by the time it can come: for the record, and for what is still in view.

A verdict that arrives before its escalation expires corrects the track's record; one that arrives
while the track is in view also corrects the live result, for the rest of its time in view. How long
verdicts take is learned from those that came and those that did not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_node.config import PolicySettings
from edge_node.logic.rows import Floats, Positions, Rows

Array = npt.NDArray[np.float64]

_EDGES_S: Array = np.geomspace(0.01, 100.0, 33)
_MEMORY_VERDICTS = 100.0
_PRIOR_S = 0.3
_FRAME_S = 1 / 30
_FRAME_MEMORY = 0.05
_NS_PER_S = 1_000_000_000


class Latency:
    """How long verdicts take: a histogram that forgets. Times are seconds from capture."""

    def __init__(self) -> None:
        """Begins with the belief that verdicts take some tenths of a second.

        That belief stays, as that of one verdict: after whatever outage a verdict is worth
        something, or none would be asked for and its end never be noticed.
        """
        self._counts = np.zeros(len(_EDGES_S) + 1)
        self._prior = np.zeros(len(_EDGES_S) + 1)
        self._prior[int(np.searchsorted(_EDGES_S, _PRIOR_S))] = 1.0
        self._missing = 0.0
        self._middles: Array = np.concatenate(
            [_EDGES_S[:1] / 2, np.sqrt(_EDGES_S[1:] * _EDGES_S[:-1]), _EDGES_S[-1:]]
        )
        self._sum_up()

    def learn(self, latency_s: float | None) -> None:
        """Hears of a verdict that took so long, or (None) of one that never came."""
        keep = 1 - 1 / _MEMORY_VERDICTS
        self._counts *= keep
        self._missing *= keep
        if latency_s is None:
            self._missing += 1
        else:
            self._counts[int(np.searchsorted(_EDGES_S, latency_s))] += 1
        self._sum_up()

    def within(self, seconds: float) -> float:
        """The probability that a verdict comes within this time."""
        return float(self._until[self._middles.searchsorted(seconds, "right")])

    def time_left(self, seconds: Array) -> Array:
        """Expected seconds (N,) that remain after the verdict of what is in view for so long."""
        # A verdict that takes t leaves s - t; summed over what comes within s.
        at = self._middles.searchsorted(seconds, "right")
        return np.asarray(np.maximum(self._until[at] * seconds - self._time_until[at], 0.0))

    def _sum_up(self) -> None:
        """Sums the shares of latencies, and of the time that they take, up to each of them."""
        counts = self._counts + self._prior
        shares = counts / (counts.sum() + self._missing)
        self._until: Array = np.append(0.0, shares.cumsum())
        self._time_until: Array = np.append(0.0, (shares * self._middles).cumsum())


class Worth:
    """Turns the gain of a box into what it is worth on this camera. Owned by the frame lane."""

    def __init__(self, settings: PolicySettings, class_costs: Floats) -> None:
        """Takes how much each class matters (classes,)."""
        self._settings = settings
        self._class_costs = class_costs
        self._captured_at_ns: int | None = None
        self._sequence = 0
        self._frame_s = _FRAME_S
        self.latency = Latency()

    def note_frame(self, sequence: int, captured_at_ns: int) -> None:
        """Learns how much time passes from frame to frame."""
        if self._captured_at_ns is not None and sequence > self._sequence:
            step_s = (captured_at_ns - self._captured_at_ns) / _NS_PER_S
            step_s /= sequence - self._sequence
            # A clock that jumps says nothing about the camera.
            if 0 < step_s < 10:
                self._frame_s += _FRAME_MEMORY * (step_s - self._frame_s)
        self._captured_at_ns, self._sequence = captured_at_ns, sequence

    def of(self, rows: Rows, at: Positions, frame_width: int, frame_height: int) -> Floats:
        """By what the gain of each track (N,) is multiplied.

        Args:
            rows: The track table.
            at: Positions (N,) in it.
            frame_width: Source pixels per row.
            frame_height: Source rows.
        """
        settings = self._settings
        usable = self.latency.within(settings.expiry_s)
        share = settings.live_share
        worth: Array | float = (1 - share) * usable
        if share > 0:
            left_s = self._time_in_view(rows, at, frame_width, frame_height)
            worth += self.latency.time_left(left_s) * (share / settings.live_horizon_s)
        return np.asarray(worth * self._class_costs[rows["edge_label"][at]], np.float32)

    def _time_in_view(
        self, rows: Rows, at: Positions, frame_width: int, frame_height: int
    ) -> Array:
        """Seconds (N,) until each track's centre leaves the frame, at most the horizon."""
        box, velocity = rows["box"][at], rows["velocity"][at]
        centre = (box[:, :2] + box[:, 2:]) * np.float32(0.5)
        size = np.array([frame_width, frame_height], np.float32)
        room = np.where(velocity > 0, size - centre, centre)
        frames = np.maximum(room, 0) / np.maximum(np.abs(velocity), np.float32(1e-3))
        nearest = np.minimum.reduce(frames, axis=1).astype(np.float64)
        return np.asarray(np.minimum(nearest * self._frame_s, self._settings.live_horizon_s))
