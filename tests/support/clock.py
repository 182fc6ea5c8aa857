"""A clock that tests drive."""

from __future__ import annotations

from foundation.clock import after_s


class ManualClock:
    """Stands still until told to advance."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """The present instant."""
        return self._now_ns

    def advance_s(self, duration_s: float) -> None:
        """Moves the present on."""
        self._now_ns = after_s(self._now_ns, duration_s)
