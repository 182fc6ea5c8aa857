"""Whether a frame is worth starting: predicted cost against the time left until its deadline.

Single-threaded; owned by the frame lane.
"""

from __future__ import annotations

import bisect
from collections import deque

_PATIENCE_FRAMES = 2
"""Coasted frames before the first probe. Small, because a burst of slow frames is usually over."""


class DeadlineGate:
    """Predicts the cost of a frame by a running high percentile and weighs it.

    Invariants: it never refuses more than `coasts_max` frames in a row, so a machine that was slow
    once, or a source whose frames arrive old, cannot keep the edge blind; a probe that fails
    doubles the patience before the next one, so that a machine that is really too slow spends
    little on late frames; a probe that succeeds forgets the costs that caused the refusals.
    """

    def __init__(self, *, quantile: float, window_frames: int, coasts_max: int) -> None:
        self._quantile = quantile
        self._window: deque[float] = deque(maxlen=window_frames)
        self._ordered: list[float] = []
        self._coasts_max = coasts_max
        self._patience = min(_PATIENCE_FRAMES, coasts_max)
        self._coasted = 0
        self._probing = False

    @property
    def predicted_s(self) -> float:
        """Cost that the given quantile of recent frames stayed within; 0 when nothing is known."""
        if not self._ordered:
            return 0.0
        return self._ordered[min(len(self._ordered) - 1, int(self._quantile * len(self._ordered)))]

    def admits(self, left_s: float) -> bool:
        """Decides about one frame: True starts it, False coasts it.

        Args:
            left_s: Seconds until the frame's deadline; negative when it has passed.
        """
        if self.predicted_s <= left_s:
            self._probing = False
            return True
        if self._coasted >= self._patience:
            self._probing = True
            return True
        self._coasted += 1
        return False

    def finish(self, cost_s: float, *, met: bool) -> None:
        """Learns what a started frame cost, and whether it met its deadline."""
        if self._probing and met:
            self._window.clear()
            self._ordered.clear()
        if met:
            self._patience = min(_PATIENCE_FRAMES, self._coasts_max)
        elif self._probing:
            self._patience = min(self._coasts_max, 2 * self._patience)
        self._coasted = 0
        self._probing = False
        if len(self._window) == self._window.maxlen:
            del self._ordered[bisect.bisect_left(self._ordered, self._window[0])]
        self._window.append(cost_s)
        bisect.insort(self._ordered, cost_s)
