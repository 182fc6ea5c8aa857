"""What a batch of a given size is expected to cost.

Owns the recent measurements per batch size and the high percentile read from them. The prediction
is deliberately pessimistic: a place given to a request that cannot use it costs all others time.
"""

from __future__ import annotations

from collections import deque

WINDOW = 64
"""Measurements kept per batch size: enough for a percentile, few enough to follow a change."""

QUANTILE = 0.9


class BatchCost:
    """Running high percentile of the inference time of each batch size.

    Args:
        size_max: largest batch size that is observed or asked for, at least 1.
    """

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self._seen: dict[int, deque[float]] = {}
        self._high: dict[int, float] = {}

    def observe(self, size: int, seconds: float) -> None:
        """Adds one measurement: what a batch of `size` crops took."""
        seen = self._seen.setdefault(size, deque(maxlen=WINDOW))
        seen.append(seconds)
        ordered = sorted(seen)
        self._high[size] = ordered[min(len(ordered) - 1, int(len(ordered) * QUANTILE))]

    def predict(self, size: int) -> float:
        """Predicts the seconds that a batch of `size` crops takes.

        A size never measured takes what the next larger measured size took or, above all of them,
        grows in proportion from the largest; both are rather too long than too short. Zero before
        the first measurement and for no crops.
        """
        if size <= 0 or not self._high:
            return 0.0
        exact = self._high.get(size)
        if exact is not None:
            return exact
        larger = [measured for measured in self._high if measured > size]
        if larger:
            return self._high[min(larger)]
        largest = max(self._high)
        return self._high[largest] * size / largest
