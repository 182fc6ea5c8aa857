"""Token buckets: how many requests and bytes the escalation lane may spend."""

from __future__ import annotations

NS_PER_S = 1_000_000_000


class TokenBucket:
    """Refills at a steady rate up to a burst; may be overdrawn by a settlement, never by a take.

    Invariant: what was taken and settled between two instants never exceeds burst + rate x time by
    more than the last settlement's difference to its estimate. Single-threaded.
    """

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._filled_at_ns: int | None = None

    def holds(self, amount: float, now_ns: int) -> bool:
        """Whether this much could be taken now; an amount above the burst needs a full bucket."""
        self._refill(now_ns)
        return self._level >= min(amount, self._burst)

    def take(self, amount: float) -> None:
        """Takes what `holds` has just allowed."""
        self._level -= amount

    def settle(self, reserved: float, spent: float) -> None:
        """Replaces an estimate by what was really spent."""
        self._level = min(self._burst, self._level + reserved - spent)

    def _refill(self, now_ns: int) -> None:
        if self._filled_at_ns is not None and now_ns > self._filled_at_ns:
            elapsed_s = (now_ns - self._filled_at_ns) / NS_PER_S
            self._level = min(self._burst, self._level + elapsed_s * self._rate_per_s)
        if self._filled_at_ns is None or now_ns > self._filled_at_ns:
            self._filled_at_ns = now_ns


class SizeEstimate:
    """Predicts the encoded bytes of a crop from its pixels, learning from what the encoder says."""

    _OVERHEAD_BYTES = 512
    _ADAPTATION = 0.1

    def __init__(self, bytes_per_pixel: float = 0.1) -> None:
        self._bytes_per_pixel = bytes_per_pixel

    def predict(self, pixels: int) -> int:
        """Bytes of one escalation with a crop of this many pixels."""
        return self._OVERHEAD_BYTES + round(pixels * self._bytes_per_pixel)

    def learn(self, pixels: int, size_bytes: int) -> None:
        """Moves the estimate towards a measured crop."""
        measured = max(0, size_bytes - self._OVERHEAD_BYTES) / max(1, pixels)
        self._bytes_per_pixel += self._ADAPTATION * (measured - self._bytes_per_pixel)
