"""The rules that the budget benchmark compares: each decides about offers under a token bucket."""

from __future__ import annotations

import enum
from typing import Protocol

import numpy as np

from benchmarks.spending.traffic import Array, Trace
from edge_node.logic.budget import NS_PER_S, TokenBucket
from edge_node.logic.spending import Ledger, Limits, Reservation

_REQUESTS_PER_S, _REQUESTS_BURST = 1e3, 1e6
"""So many that only bytes are scarce."""
_LEVELS = 121
_TRACKS_DRAWN = 400
_ITERATIONS_MAX = 4_000


class Reply(enum.Enum):
    """What a rule does about an offer."""

    REFUSED = enum.auto()
    FORGONE = enum.auto()
    """It was encoded, and is larger than it is worth."""
    SENT = enum.auto()


class Rule(Protocol):
    """Decides about offers."""

    def pass_time(self, now_ns: int) -> None:
        """It is so late, whether or not anything is on offer, as a frame lane would say."""
        ...

    def learn(self, value: float, size: float, camera: int, now_ns: int) -> None:
        """Hears of a new track."""
        ...

    def pay(self, value: float, predicted: float, size: float, camera: int, now_ns: int) -> Reply:
        """Sends it or not; the size is known only once it is encoded, to be sent."""
        ...


class FirstCome:
    """Sends whatever the bucket pays for; the rules below ask for more."""

    def __init__(self, rate: float, burst: float, headroom: float) -> None:
        self.bucket = TokenBucket(rate, burst, headroom=headroom)

    def pass_time(self, now_ns: int) -> None:
        """Does nothing."""

    def learn(self, value: float, size: float, camera: int, now_ns: int) -> None:
        """Learns nothing."""

    def cost(self, predicted: float, now_ns: int) -> float:
        """What it must be worth."""
        del predicted, now_ns
        return 0.0

    def pay(self, value: float, predicted: float, size: float, camera: int, now_ns: int) -> Reply:
        """Sends what is worth its cost, as predicted and as encoded."""
        del camera
        if value < self.cost(predicted, now_ns) or not self.bucket.holds(predicted, now_ns):
            return Reply.REFUSED
        if value < self.cost(size, now_ns):
            return Reply.FORGONE
        self.bucket.take(predicted)
        self.bucket.settle(predicted, size)
        return Reply.SENT


class FixedThreshold(FirstCome):
    """A value per byte above which the first tenth of the trace would just have been paid for."""

    def __init__(
        self, rate: float, burst: float, headroom: float, trace: Trace, end_s: float
    ) -> None:
        super().__init__(rate, burst, headroom)
        first = trace.arrives_s < end_s / 10.0
        density = trace.values[first] / trace.sizes[first]
        order = np.argsort(-density)
        paid = int(np.searchsorted(np.cumsum(trace.sizes[first][order]), rate * end_s / 10.0))
        self._price = float(density[order[paid]]) if paid < len(order) else 0.0

    def cost(self, predicted: float, now_ns: int) -> float:
        """Its size at the price."""
        del now_ns
        return self._price * predicted


class DualDescent(FirstCome):
    """Once a second the price moves by how far spending was from the rate."""

    def __init__(
        self, rate: float, burst: float, headroom: float, trace: Trace, end_s: float
    ) -> None:
        super().__init__(rate, burst, headroom)
        typical = float(np.median(trace.values / trace.sizes))
        self._rate = rate
        self._step = typical / rate / np.sqrt(end_s)
        self._price = 0.0
        self._spent = 0.0
        self._moved_at_ns = 0

    def cost(self, predicted: float, now_ns: int) -> float:
        """Its size at the price."""
        elapsed_s = (now_ns - self._moved_at_ns) / NS_PER_S
        if elapsed_s >= 1.0:
            self._price += self._step * (self._spent - self._rate * elapsed_s)
            self._price = max(0.0, self._price)
            self._spent, self._moved_at_ns = 0.0, now_ns
        return self._price * predicted

    def pay(self, value: float, predicted: float, size: float, camera: int, now_ns: int) -> Reply:
        """Sends what is worth its cost."""
        reply = super().pay(value, predicted, size, camera, now_ns)
        self._spent += size * (reply is Reply.SENT)
        return reply


class ValueIteration(FirstCome):
    """Exact thresholds for independent arrivals of the trace's own distribution and mean rate."""

    def __init__(
        self, rate: float, burst: float, headroom: float, trace: Trace, end_s: float
    ) -> None:
        super().__init__(rate, burst, headroom)
        self._levels = np.linspace(0.0, burst - headroom, _LEVELS)
        drawn = np.random.default_rng(0).integers(0, len(trace.values), _TRACKS_DRAWN)
        refill = rate * end_s / len(trace.values)
        self._worth = self._iterate(refill, trace.values[drawn], trace.sizes[drawn])

    def _iterate(self, refill: float, values: Array, sizes: Array) -> Array:
        levels = self._levels
        after = np.minimum(levels + refill, levels[-1])
        left = after[:, None] - sizes
        worth = np.zeros(len(levels))
        for _ in range(_ITERATIONS_MAX):
            kept = np.interp(after, levels, worth)
            spent = np.where(left >= 0.0, values + np.interp(left, levels, worth), -np.inf)
            better = np.maximum(kept[:, None], spent).mean(axis=1)
            better -= better[0]
            moved = float(np.abs(better - worth).max())
            worth = better
            if moved <= 1e-4 * float(np.abs(better).max()):
                break
        return worth

    def cost(self, predicted: float, now_ns: int) -> float:
        """What the bucket is worth more with these bytes in it."""
        level = self.bucket.available(now_ns)
        ends = np.interp([level, level - predicted], self._levels, self._worth)
        return float(ends[0] - ends[1])


class Priced:
    """The product's rule: one ledger for all cameras."""

    def __init__(self, rate: float, burst: float, headroom: float) -> None:
        self._ledger = Ledger(Limits(rate, burst, _REQUESTS_PER_S, _REQUESTS_BURST, headroom))

    def pass_time(self, now_ns: int) -> None:
        """Draws the price anew where that is due."""
        self._ledger.refresh(now_ns, 0.0)

    def learn(self, value: float, size: float, camera: int, now_ns: int) -> None:
        """Hears of a new track."""
        del camera
        self._ledger.learn(value, size, now_ns)

    def pay(self, value: float, predicted: float, size: float, camera: int, now_ns: int) -> Reply:
        """Sends what the ledger charges, if it turns out no larger than the ledger allows."""
        del camera
        reservation = self._ledger.reserve(value, predicted, now_ns)
        if not isinstance(reservation, Reservation):
            return Reply.REFUSED
        forgone = size > reservation.most_bytes
        self._ledger.settle(reservation, 0.0 if forgone else size)
        return Reply.FORGONE if forgone else Reply.SENT


class Split:
    """The product's rule, the budget cut into equal parts: one ledger per camera."""

    def __init__(self, rate: float, burst: float, headroom: float, cameras: int) -> None:
        share = (rate / cameras, burst / cameras, headroom / cameras)
        self._parts = [Priced(*share) for _ in range(cameras)]

    def pass_time(self, now_ns: int) -> None:
        """Tells all."""
        for part in self._parts:
            part.pass_time(now_ns)

    def learn(self, value: float, size: float, camera: int, now_ns: int) -> None:
        """Hears of a new track."""
        self._parts[camera].learn(value, size, camera, now_ns)

    def pay(self, value: float, predicted: float, size: float, camera: int, now_ns: int) -> Reply:
        """Sends what its camera's ledger charges."""
        return self._parts[camera].pay(value, predicted, size, camera, now_ns)
