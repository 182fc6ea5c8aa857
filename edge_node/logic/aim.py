"""How it is decided that an offer is sent: by what it costs, by a share of the tracks, or by risk.

Whatever the aim, the budgets of bytes, requests and encoding time hold; an aim only says what a
verdict must be worth. Single-threaded; owned by the frame lane.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np

from edge_node.config import PolicySettings
from edge_node.logic.demand import Amounts
from edge_node.logic.plan import Prices
from edge_node.logic.risk import RiskThreshold
from edge_node.logic.rows import Floats, Mask
from edge_node.logic.spending import Account, Budget, Refusal, Reservation
from edge_node.values import Suppression

_ENCODE_BURST_S = 4.0
_SHARE_BURST = 3.0
_TRACKS_PER_S = 10
"""Where tracks are the time, the price is drawn anew with every tenth."""
_NS_PER_TRACK = 1_000_000_000 // _TRACKS_PER_S
OUTBIDS = 1e9
"""A value that outbids every price."""

_CAUSES = {
    Refusal.PRICE: Suppression.PRICE,
    Refusal.BYTES: Suppression.BUDGET_BYTES,
    Refusal.REQUESTS: Suppression.BUDGET_REQUESTS,
    Refusal.CONTENDED: Suppression.BUDGET_CONTENDED,
    Refusal.UNUSABLE: Suppression.BUDGET_UNUSABLE,
}


class Aim(Protocol):
    """What the policy asks before it sends.

    Attributes:
        unwanted: Why a track that is not wanted is not asked about.
        least: What an answer about a wanted track is worth at least.
    """

    unwanted: ClassVar[Suppression]
    least: ClassVar[float]

    def prices(self, now_ns: int) -> Prices:
        """What sending costs now, in units of gain."""
        ...

    def refresh(self, now_ns: int, early_s: float) -> None:
        """Does the work on prices that is due within so many seconds, so that no offer waits."""
        ...

    def learn(self, values: Amounts, sizes: Amounts, encode_s: Amounts, now_ns: int) -> None:
        """Hears of tracks (N,) that may be asked about, of each once, when it first may."""
        ...

    def wants(self, in_band: Mask, doubts: Callable[[], Floats]) -> Mask:
        """Which tracks (N,) are to be asked about, if that is worth its price.

        Args:
            in_band: Whether each lies in its class's band.
            doubts: Reckons the probability that the edge is wrong about each.
        """
        ...

    def reserve(
        self, value: float, size_bytes: float, encode_s: float, now_ns: int
    ) -> Reservation | Suppression:
        """Charges an offer, or says why not."""
        ...

    def settle(self, reservation: Reservation, size_bytes: float) -> None:
        """Replaces the predicted size by the true one; 0 when it is never sent."""
        ...


class BudgetAim:
    """The most gain for what may be spent: everything has its price."""

    unwanted: ClassVar[Suppression] = Suppression.OUTSIDE_BAND
    least: ClassVar[float] = -math.inf

    def __init__(self, settings: PolicySettings, budget: Budget) -> None:
        self._budget = budget
        self._encoder = Account(settings.encode_share, settings.encode_share * _ENCODE_BURST_S)

    def prices(self, now_ns: int) -> Prices:
        """What sending costs now."""
        price = self._budget.price(now_ns)
        return Prices(price.per_byte, price.per_request, self._encoder.price(now_ns))

    def refresh(self, now_ns: int, early_s: float) -> None:
        """Draws the price curves anew where that is due within so many seconds."""
        self._budget.refresh(now_ns, early_s)
        self._encoder.pricing.refresh(now_ns, early_s)

    def learn(self, values: Amounts, sizes: Amounts, encode_s: Amounts, now_ns: int) -> None:
        """Hears of offers; each resource learns what they are worth beyond the other costs."""
        prices = self.prices(now_ns)
        self._budget.learn(values, sizes, now_ns, prices.per_encode_s * encode_s)
        rest = values - prices.per_byte * sizes - prices.per_request
        self._encoder.pricing.demand.add(rest, encode_s)

    def wants(self, in_band: Mask, doubts: Callable[[], Floats]) -> Mask:
        """What lies in the band."""
        del doubts
        return in_band

    def reserve(
        self, value: float, size_bytes: float, encode_s: float, now_ns: int
    ) -> Reservation | Suppression:
        """Charges an offer, or says why not."""
        if not self._encoder.bucket.holds(encode_s, now_ns):
            return Suppression.ENCODER_BUSY
        costs = self._encoder.price(now_ns) * encode_s
        answer = self._budget.reserve(value, size_bytes, now_ns, costs)
        if isinstance(answer, Refusal):
            return _CAUSES[answer]
        self._encoder.bucket.take(encode_s)
        return answer

    def settle(self, reservation: Reservation, size_bytes: float) -> None:
        """Replaces the predicted size by the true one."""
        self._budget.settle(reservation, size_bytes)


class RateAim(BudgetAim):
    """A share of the tracks, those where it gains most.

    Each track that may be asked about brings a share of a token, and the price of a token follows
    their number as that of a byte follows time.
    """

    def __init__(self, settings: PolicySettings, budget: Budget) -> None:
        super().__init__(settings, budget)
        burst = max(1.0, settings.ask_share * 20) + _SHARE_BURST
        self._tokens = Account(settings.ask_share * _TRACKS_PER_S, burst)
        self._tracks = 0

    def prices(self, now_ns: int) -> Prices:
        """What a token costs; bytes are bounded and have no price."""
        del now_ns
        return Prices(0.0, self._tokens.price(self._tracks * _NS_PER_TRACK))

    def learn(self, values: Amounts, sizes: Amounts, encode_s: Amounts, now_ns: int) -> None:
        """Hears of tracks."""
        del sizes, encode_s, now_ns
        self._tracks += np.size(values)
        self._tokens.price(self._tracks * _NS_PER_TRACK)
        self._tokens.pricing.demand.add(values, 1.0)

    def reserve(
        self, value: float, size_bytes: float, encode_s: float, now_ns: int
    ) -> Reservation | Suppression:
        """Charges a token and the budgets, or says why not."""
        at_ns = self._tracks * _NS_PER_TRACK
        if value <= self._tokens.price(at_ns):
            return Suppression.PRICE
        if not self._tokens.bucket.holds(1.0, at_ns):
            return Suppression.BUDGET_REQUESTS
        answer = super().reserve(OUTBIDS, size_bytes, encode_s, now_ns)
        if isinstance(answer, Reservation):
            self._tokens.bucket.take(1.0)
        return answer

    def settle(self, reservation: Reservation, size_bytes: float) -> None:
        """Replaces the predicted size by the true one; 0 gives the token back as well."""
        super().settle(reservation, size_bytes)
        if size_bytes == 0.0:
            self._tokens.bucket.settle(1.0, 0.0)


class RiskAim(BudgetAim):
    """Whatever the edge doubts as much as the promised risk does not let it keep.

    Neither the band nor the expected gain counts: the promise is about all tracks.
    """

    unwanted: ClassVar[Suppression] = Suppression.WITHIN_RISK
    least: ClassVar[float] = 1e-6

    def __init__(self, settings: PolicySettings, budget: Budget, threshold: RiskThreshold) -> None:
        super().__init__(settings, budget)
        self._threshold = threshold

    def prices(self, now_ns: int) -> Prices:
        """Nothing has a price: what must be asked is asked as well as it can be."""
        del now_ns
        return Prices(0.0)

    def learn(self, values: Amounts, sizes: Amounts, encode_s: Amounts, now_ns: int) -> None:
        """Nothing is to be learned."""

    def wants(self, in_band: Mask, doubts: Callable[[], Floats]) -> Mask:
        """What the promise does not allow to keep."""
        del in_band
        return np.asarray(doubts() >= self._threshold.threshold, np.bool_)

    def reserve(
        self, value: float, size_bytes: float, encode_s: float, now_ns: int
    ) -> Reservation | Suppression:
        """Charges an offer; a budget that says no breaks the promise, and is counted."""
        del value
        return super().reserve(OUTBIDS, size_bytes, encode_s, now_ns)
