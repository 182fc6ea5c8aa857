"""Plays recorded or rendered frames in real time; used by sources, also by those of other rooms."""

from __future__ import annotations

import logging
import threading

from foundation.clock import Clock, after_s, elapsed_s

log = logging.getLogger(__name__)

_LAG_MAX_S = 0.25
_STEP_MAX_S = 10.0
"""Longest step from one moment to the next that is waited out, unless the one before was alike."""
_ALIKE = 0.1
_MOMENT_MAX_S = 1e12
"""What lies beyond is no time of any recording, and more than an instant can hold."""
_STEADY_STEP_MAX_S = 86_400.0
"""Longest step that is waited out at all; damaged timestamps may be alike, and endless."""


class Pacer:
    """Turns moments of a recording into instants of capture.

    A frame's instant is the one at which it is due, so that a wake-up that comes late counts as
    latency, as it does with a camera. A source that falls behind by more than a quarter of a
    second starts its schedule anew, since a camera does not hand out frames of the past. So does
    one whose moments jump, backwards or far ahead: damaged timestamps are not waited out. The log
    says it once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start_ns: int | None = None
        self._moment_s = 0.0
        self._step_s = 0.0
        self._told = False

    def wait(self, moment_s: float, stop: threading.Event) -> int | None:
        """Waits until a moment of the recording is due.

        Args:
            moment_s: Seconds since the first frame.
            stop: Ends the wait.

        Returns:
            The instant of capture, or None when `stop` was set.
        """
        moment_s = min(max(moment_s, -_MOMENT_MAX_S), _MOMENT_MAX_S)
        if self._jumps(moment_s) or self._start_ns is None:
            self._start_ns = after_s(self._clock.now_ns(), -moment_s)
        due_ns = after_s(self._start_ns, moment_s)
        left_s = elapsed_s(self._clock.now_ns(), due_ns)
        if left_s < -_LAG_MAX_S:
            self._start_ns = after_s(self._clock.now_ns(), -moment_s)
            return self._clock.now_ns()
        if left_s > 0 and stop.wait(left_s):
            return None
        return due_ns

    def _jumps(self, moment_s: float) -> bool:
        """Whether a moment is no plausible next one; a steady picture a minute is plausible."""
        step_s, before_s = moment_s - self._moment_s, self._step_s
        self._moment_s, self._step_s = moment_s, step_s
        alike = step_s <= _STEADY_STEP_MAX_S and abs(step_s - before_s) <= _ALIKE * before_s
        if self._start_ns is None or alike or -_LAG_MAX_S <= step_s <= _STEP_MAX_S:
            return False
        if not self._told:
            self._told = True
            log.warning("timestamps jump by %.2f s: frames are played on from there", step_s)
        return True
