"""What a batch of a given size, and the decoding of crops, are expected to cost.

Owns the recent measurements per batch size and the high percentile read from them, and the mean
time of decoding. The prediction for a batch is deliberately pessimistic: a place given to a request
that cannot use it costs all others time. But a size that is predicted to be too slow is not run,
and so not measured again: therefore what it took is forgotten after a minute.
"""

from __future__ import annotations

from collections import deque

WINDOW = 64
"""How many recent batches of one size the percentile is read from."""

QUANTILE = 0.9

MEMORY_NS = 60 * 10**9
"""How long a measurement counts."""

_DECODINGS = 32
"""How many crops the mean time of decoding reaches back."""


class BatchCost:
    """Running high percentile of the inference time of each batch size.

    Args:
        size_max: largest batch that is ever run.
    """

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self._seen: dict[int, deque[tuple[int, float]]] = {}
        self._recent_s: dict[int, float] = {}
        self._least_s: dict[int, float] = {}
        self._predicted: dict[int, float] = {}

    def observe(self, size: int, seconds: float, at_ns: int = 0) -> None:
        """Adds one measurement.

        Args:
            size: crops in the batch.
            seconds: what it took.
            at_ns: when it ended, never before the last one. What was measured before anything was
                served has no instant, and is older than all that has one.
        """
        self._seen.setdefault(size, deque(maxlen=WINDOW)).append((at_ns, seconds))
        self._least_s[size] = min(seconds, self._least_s.get(size, seconds))
        oldest_ns = at_ns - MEMORY_NS
        for known, seen in self._seen.items():
            before = len(seen)
            while seen and seen[0][0] < oldest_ns:
                seen.popleft()
            if known == size or len(seen) < before:
                self._recent_s[known] = _read_high(seen)
        self._predict_all()

    def predict(self, size: int) -> float:
        """Predicts the seconds that a batch of `size` crops takes.

        A size that has not run for a minute takes the least that it ever took, but no less than
        the smaller ones have taken since. A size never measured takes what the next larger measured
        size took or, above all of them, grows in proportion from the largest; both are rather too
        long than too short. Zero before the first measurement and for no crops.
        """
        if size <= 0 or not self._predicted:
            return 0.0
        exact = self._predicted.get(size)
        if exact is not None:
            return exact
        larger = [measured for measured in self._predicted if measured > size]
        if larger:
            return self._predicted[min(larger)]
        largest = max(self._predicted)
        return self._predicted[largest] * size / largest

    def _predict_all(self) -> None:
        slowest_s = 0.0
        for size in sorted(self._seen):
            if self._seen[size]:
                self._predicted[size] = self._recent_s[size]
                slowest_s = max(slowest_s, self._recent_s[size])
            else:
                self._predicted[size] = max(slowest_s, self._least_s[size])


def _read_high(seen: deque[tuple[int, float]]) -> float:
    """The quantile of the seconds; zero of none."""
    ordered = sorted(seconds for _, seconds in seen)
    return ordered[min(len(ordered) - 1, int(len(ordered) * QUANTILE))] if ordered else 0.0


class DecodingCost:
    """Running mean of what decoding a crop takes.

    The mean and no percentile, because it is multiplied by the crops that wait: a few slow ones
    among many keep the decoder as busy as many that are a little slow.

    Args:
        threads: how many crops are decoded at once, at least 1.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._count = 0
        self._mean_s = 0.0

    def observe(self, seconds: float) -> None:
        """Adds one measurement."""
        self._count = min(self._count + 1, _DECODINGS)
        self._mean_s += (seconds - self._mean_s) / self._count

    def predict_wait_s(self, ahead: int) -> float:
        """Predicts in how many seconds a thread begins a crop with `ahead` not decoded before it.

        What a thread has done of its crop already is not known, and not deducted.
        """
        return ahead // self._threads * self._mean_s
