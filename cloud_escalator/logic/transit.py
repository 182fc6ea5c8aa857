"""How long a message was under way beyond what the quickest of its stream took.

The clocks of an edge node and of the escalator need not agree, so one message tells nothing. But
their difference is the same for all messages of a stream: whatever a message took longer than the
quickest, it spent in a queue on the way, in a slow link or in a stream that was not read. That time
is lost to its expiry, which counts from its sending.
"""

from __future__ import annotations

WINDOW_NS = 60 * 1_000_000_000
"""The quickest of at least one window counts, and of no more than two: clocks drift apart by
milliseconds in a minute, and a node that was suspended must not be held to what it was before."""


class TransitDelay:
    """The delays of one stream."""

    def __init__(self) -> None:
        self._window_began_ns: int | None = None
        self._quickest_ns = 0
        self._quickest_before_ns = 0

    def observe(self, sent_at_ns: int, received_at_ns: int) -> float:
        """Seconds that a message spent waiting on its way, not negative.

        Args:
            sent_at_ns: when it was sent, on the sender's clock.
            received_at_ns: when it was read, on this clock; never earlier than the last one.
        """
        taken_ns = received_at_ns - sent_at_ns
        began_ns = self._window_began_ns
        if began_ns is None or received_at_ns - began_ns >= 2 * WINDOW_NS:
            self._window_began_ns = received_at_ns
            self._quickest_ns = self._quickest_before_ns = taken_ns
        elif received_at_ns - began_ns >= WINDOW_NS:
            self._window_began_ns = received_at_ns
            self._quickest_before_ns, self._quickest_ns = self._quickest_ns, taken_ns
        else:
            self._quickest_ns = min(self._quickest_ns, taken_ns)
        return max(taken_ns - min(self._quickest_ns, self._quickest_before_ns), 0) / 1e9
