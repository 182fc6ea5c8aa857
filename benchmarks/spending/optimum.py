"""The most that a token bucket can buy of a trace, known in advance: an upper bound for any policy.

A bucket of a given rate and burst, the oldest token spent first, is a stream of tokens of which
each can be spent for burst / rate seconds. A track that can be asked about from a to d is therefore
paid by tokens that were made between a - burst / rate and d. Where crops may be sent in part, what
can be paid is a polymatroid (its sets are flows from intervals of tokens), so taking tracks by
value per byte, each as far as it still fits, is optimal (Edmonds 1970). Whole crops cannot do
better.

How much of a set can be paid is told by serving its tracks by earliest deadline, and the optimum is
the sum over densities of what the tracks from there up can be paid, so it needs no flow: where all
tracks between two densities are paid, or none, the sum is exact; elsewhere the gap between them is
halved until it is small.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from benchmarks.spending.traffic import Trace


def payable_bytes(
    trace: Trace, chosen: npt.NDArray[np.intp], rate: float, burst: float, end_s: float
) -> float:
    """The most bytes of these tracks that the bucket pays for, crops sent in part."""
    # A token made at s is spent until s + burst / rate; time is counted in bytes made.
    first = rate * trace.arrives_s[chosen] - burst
    last = rate * np.minimum(trace.leaves_s[chosen], end_s)
    order = np.argsort(first, kind="stable")
    waiting: list[tuple[float, float]] = []
    paid, made = 0.0, -burst
    releases = [*first[order].tolist(), rate * end_s]
    for index, release in enumerate(releases):
        while waiting and made < release:
            deadline, left = heapq.heappop(waiting)
            served = min(left, release - made, deadline - made)
            if served <= 0.0:
                continue
            made += served
            paid += served
            if served < left and made < deadline:
                heapq.heappush(waiting, (deadline, left - served))
        made = max(made, release)
        if index < len(order):
            track = order[index]
            heapq.heappush(waiting, (float(last[track]), float(trace.sizes[chosen[track]])))
    return paid


def optimum(
    trace: Trace, rate: float, burst: float, end_s: float, gap: float = 1e-3
) -> tuple[float, float]:
    """The value of the best fractional choice: a lower and an upper bound of it.

    Args:
        trace: The tracks.
        rate: Bytes a second.
        burst: Bytes; the bucket is full at 0.
        end_s: Nothing is sent later.
        gap: How far the bounds may lie apart, as a share.
    """
    density = trace.values / trace.sizes
    ranked = np.argsort(-density, kind="stable")
    bytes_above = np.concatenate([[0.0], np.cumsum(trace.sizes[ranked])])
    value_above = np.concatenate([[0.0], np.cumsum(trace.values[ranked])])
    paid = {0: 0.0}

    def bounds(low: int, high: int) -> tuple[float, float]:
        """Of what the tracks of these ranks add."""
        added = paid[high] - paid[low]
        if added >= bytes_above[high] - bytes_above[low] - 1e-6:
            whole = float(value_above[high] - value_above[low])
            return whole, whole
        best, worst = density[ranked[low]], density[ranked[high - 1]]
        return float(worst * added), float(best * added)

    def cut(rank: int) -> None:
        paid[rank] = payable_bytes(trace, ranked[:rank], rate, burst, end_s)

    cut(len(ranked))
    parts = [(0.0, 0, len(ranked), *bounds(0, len(ranked)))]
    while True:
        lower, upper = sum(part[3] for part in parts), sum(part[4] for part in parts)
        if upper - lower <= gap * upper:
            return lower, upper
        _, low, high, *_ = heapq.heappop(parts)
        middle = (low + high) // 2
        if middle == low:
            return lower, upper
        cut(middle)
        for one, other in ((low, middle), (middle, high)):
            least, most = bounds(one, other)
            heapq.heappush(parts, (least - most, one, other, least, most))
