"""When the frame lane does what it need not do with every frame.

Each chore is due once a tenth of a second. Where frames come more often than that, chores come to
fall into different frames, so that no frame pays for all of them, and a frame that has something
else to pay for has none. With frames two tenths apart or more none waits, and with frames four
tenths apart or more none waits whatever else there is to pay for.
"""

from __future__ import annotations

PERIOD_NS = 100_000_000


class Rhythm:
    """Gives chores their turns. Single-threaded."""

    def __init__(self, chores: int) -> None:
        """Takes how many chores there are."""
        self._done_at_ns = [-2 * PERIOD_NS] * chores

    def turns(self, now_ns: int, *, busy: bool = False) -> list[bool]:
        """Which chores to do in the frame of this instant, by their number.

        The one that has waited longest, if that is a period; and all that have waited for two, or
        since an instant that lies in the future, which a clock that stepped back leaves behind.

        Args:
            now_ns: The present instant.
            busy: The frame has something else to pay for: only what has waited for four is done.
        """
        limit = (4 if busy else 2) * PERIOD_NS
        waited_ns = [now_ns - done if done <= now_ns else limit for done in self._done_at_ns]
        turns = [waited >= limit for waited in waited_ns]
        longest = max(waited_ns)
        if longest >= PERIOD_NS and not busy:
            turns[waited_ns.index(longest)] = True
        for chore, has_turn in enumerate(turns):
            if has_turn:
                self._done_at_ns[chore] = now_ns
        return turns
