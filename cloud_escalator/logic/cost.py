"""What a batch of a given size, and the decoding of crops, are expected to cost.

Owns the recent measurements per batch size and the high percentile read from them, and the mean
time of decoding. The prediction for a batch is deliberately pessimistic: a place given to a request
that cannot use it costs all others time. But a size that is predicted to be too slow is not run,
and so not measured again. Therefore one slow batch of a size does not count, and a size is believed
against the others only while it has been run often in the last minute.
"""

from __future__ import annotations

from collections import deque

WINDOW = 64
"""Measurements kept per batch size: enough for a percentile, few enough to follow a change."""

QUANTILE = 0.9

ENOUGH = 10
"""A size run so often within `MEMORY_NS` is believed whatever the others took. Older measurements
are kept only where there would be fewer without them."""

MEMORY_NS = 60 * 10**9

_DECODINGS = 32
"""How many crops the mean time of decoding reaches back."""


class BatchCost:
    """Running high percentile of the inference time of each batch size.

    Args:
        size_max: largest batch size that is observed or asked for, at least 1.
    """

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self._seen: dict[int, deque[tuple[int, float]]] = {}
        self._high: dict[int, float] = {}
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
        oldest_ns = at_ns - MEMORY_NS
        for known, seen in self._seen.items():
            before = len(seen)
            while len(seen) > ENOUGH and seen[0][0] < oldest_ns:
                seen.popleft()
            if known == size or len(seen) < before:
                self._high[known] = _read_high(seen)
        self._compare(oldest_ns)

    def predict(self, size: int) -> float:
        """Predicts the seconds that a batch of `size` crops takes.

        A size that was not run often lately takes no longer than a larger one that was run lately,
        and per crop no longer than a smaller one. So a size that is thought too slow to be run is
        tried again, whether the cost grows with the size (a CPU) or hardly does (an accelerator).
        A size never measured takes what the next larger measured size took or, above all of them,
        grows in proportion from the largest; both are rather too long than too short. Zero before
        the first measurement and for no crops.
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

    def _compare(self, oldest_ns: int) -> None:
        """Holds sizes that were not run often lately to what the others took."""
        sizes = sorted(self._seen)
        per_crop_s = float("inf")
        for size in sizes:
            high_s = self._high[size]
            if self._is_sure(size, oldest_ns):
                self._predicted[size] = high_s
                per_crop_s = high_s / size
                continue
            self._predicted[size] = min(high_s, size * per_crop_s)
            if self._is_recent(size, oldest_ns):
                per_crop_s = min(per_crop_s, high_s / size)
        longest_s = float("inf")
        for size in reversed(sizes):
            if not self._is_sure(size, oldest_ns):
                self._predicted[size] = min(self._predicted[size], longest_s)
            if self._is_recent(size, oldest_ns):
                longest_s = self._predicted[size]

    def _is_recent(self, size: int, oldest_ns: int) -> bool:
        return self._seen[size][-1][0] >= oldest_ns

    def _is_sure(self, size: int, oldest_ns: int) -> bool:
        seen = self._seen[size]
        return len(seen) >= ENOUGH and seen[0][0] >= oldest_ns


def _read_high(seen: deque[tuple[int, float]]) -> float:
    """The quantile, but not the longest while there is another: that may be a slow batch."""
    ordered = sorted(seconds for _, seconds in seen)
    return ordered[min(int(len(ordered) * QUANTILE), max(len(ordered) - 2, 0))]


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
