"""Plays recorded or rendered frames in real time; used by sources, also by those of other rooms."""

from __future__ import annotations

import threading

from foundation.clock import Clock, after_s, elapsed_s

_LAG_MAX_S = 0.25


class Pacer:
    """Turns moments of a recording into instants of capture.

    A frame's instant is the one at which it is due, so that a wake-up that comes late counts as
    latency, as it does with a camera. A source that falls behind by more than a quarter of a
    second starts its schedule anew, since a camera does not hand out frames of the past.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start_ns: int | None = None

    def wait(self, moment_s: float, stop: threading.Event) -> int | None:
        """Waits until a moment of the recording is due.

        Args:
            moment_s: Seconds since the first frame.
            stop: Ends the wait.

        Returns:
            The instant of capture, or None when `stop` was set.
        """
        if self._start_ns is None:
            self._start_ns = after_s(self._clock.now_ns(), -moment_s)
        due_ns = after_s(self._start_ns, moment_s)
        left_s = elapsed_s(self._clock.now_ns(), due_ns)
        if left_s < -_LAG_MAX_S:
            self._start_ns = after_s(self._clock.now_ns(), -moment_s)
            return self._clock.now_ns()
        if left_s > 0 and stop.wait(left_s):
            return None
        return due_ns
