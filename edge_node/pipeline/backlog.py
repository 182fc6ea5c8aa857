"""What of the backlog may be sent now: within its share and its windows, never in the way of fresh.

And what of the fresh may be sent again. Owns what the spool has handed out and is not yet sent.
Event loop only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime

from edge_node.config import EdgeSettings, PolicySettings
from edge_node.logic.budget import NS_PER_S, TokenBucket
from edge_node.logic.windows import Window, is_open
from edge_node.ports import Spool
from edge_node.values import Kept
from foundation.clock import Clock, after_s, elapsed_s
from foundation.gains import FRAMING_BYTES

_POLL_S = 1.0
"""How often a backlog is looked at again that is empty or may not be sent."""
_SOON_S = 0.05
"""How soon at the earliest."""
_IN_FLIGHT_S = 0.25
"""Of the whole byte rate, what may be on its way at once: a fresh crop waits no longer than this
behind what is already written to a link of that rate."""
_AGAIN_SHARE = 0.1
"""Of the whole byte rate, what fresh ones may take that were sent before."""
SUSPECT_ATTEMPTS = 3
"""One over which the stream broke so often goes without others of the backlog beside it."""


class Backlog:
    """Paces the backlog."""

    def __init__(self, settings: EdgeSettings, spool: Spool, clock: Clock) -> None:
        rate, share = settings.policy.uplink_bytes_per_s, settings.spool.backlog_share
        self._spool = spool
        self._clock = clock
        self._windows = [Window.parse(text) for text in settings.spool.windows]
        self._bucket = TokenBucket(share * rate, share * settings.policy.uplink_bytes_burst)
        self._in_flight_max = rate * _IN_FLIGHT_S
        self._in_flight: dict[str, int] = {}
        self._ready: deque[Kept] = deque()
        self._asked = False
        self._next_at_ns = 0

    def next(self, now_ns: int) -> Kept | None:
        """The next to be sent, charged; None where none may be."""
        if now_ns < self._next_at_ns or not self._is_open(now_ns):
            return None
        if not self._ready:
            if not self._asked:
                self._asked = True
                self._spool.take()
            return None
        kept = self._ready[0]
        size = _size_of(kept)
        full = sum(self._in_flight.values()) + size > self._in_flight_max
        if self._in_flight and (full or kept.attempts >= SUSPECT_ATTEMPTS):
            return None
        if not self._bucket.burst or not self._bucket.holds(size, now_ns):
            return None
        self._bucket.take(size)
        self._in_flight[kept.escalation.id] = size
        return self._ready.popleft()

    def wait_s(self, now_ns: int) -> float:
        """After how long it is worth asking again, if nothing else happens."""
        if not self._is_open(now_ns):
            return _POLL_S
        wait_s = elapsed_s(now_ns, self._next_at_ns)
        if self._ready and self._bucket.burst:
            needed = min(_size_of(self._ready[0]), self._bucket.burst)
            lacking = needed - self._bucket.available(now_ns)
            wait_s = max(wait_s, lacking / self._bucket.rate_per_s)
        return max(_SOON_S, min(_POLL_S, wait_s))

    def note(self, backlog: Sequence[Kept]) -> None:
        """The spool has handed these out."""
        self._asked = False
        self._ready.extend(backlog)
        if not backlog:
            self.pause(_POLL_S)

    def drop(self, escalation_id: str) -> None:
        """One that was handed out will not be sent."""
        ready = [kept for kept in self._ready if kept.escalation.id != escalation_id]
        self._ready = deque(ready)

    def pause(self, pause_s: float) -> None:
        """Sends nothing of the backlog for so long."""
        until_ns = after_s(self._clock.now_ns(), pause_s)
        self._next_at_ns = max(self._next_at_ns, until_ns)

    def release(self, escalation_id: str) -> None:
        """One is no longer on its way."""
        self._in_flight.pop(escalation_id, None)

    def _is_open(self, now_ns: int) -> bool:
        if not self._windows:
            return True
        # The operator's windows are in local time, as the machine is set.
        local = datetime.fromtimestamp(now_ns / NS_PER_S).astimezone()
        return is_open(self._windows, local.hour * 60 + local.minute)


class Again:
    """Paces what is sent again: a share of the bytes, which the frame lane pays from its budget."""

    def __init__(self, settings: PolicySettings) -> None:
        rate, burst = settings.uplink_bytes_per_s, settings.uplink_bytes_burst
        self._bucket = TokenBucket(_AGAIN_SHARE * rate, _AGAIN_SHARE * burst)

    def pay(self, size_bytes: int, now_ns: int) -> float:
        """Charges what is to leave once more; or returns after how many seconds to ask again."""
        if self._bucket.holds(size_bytes, now_ns):
            self._bucket.take(size_bytes)
            return 0.0
        needed = min(size_bytes, self._bucket.burst)
        return (needed - self._bucket.available(now_ns)) / self._bucket.rate_per_s


def _size_of(kept: Kept) -> int:
    return len(kept.escalation.image) + FRAMING_BYTES
