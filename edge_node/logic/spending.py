"""What may be sent: the price of an escalation, and the bytes and requests that pay for it.

Bytes and requests are two resources with a bucket and a price each. An offer is sent when its value
exceeds price per byte x bytes + price per request + whatever else it costs, and both buckets hold
it. Each resource learns what offers are worth beyond what the other one and the rest cost, so that
a resource that is not scarce has no price. An offer that is refused may be made again, on a later
frame, until nobody wants to know: the price may have fallen or the value risen by then.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Protocol

from edge_node.logic.budget import TokenBucket
from edge_node.logic.demand import Amounts
from edge_node.logic.price import REFRESH_S, Pricing


class Refusal(enum.StrEnum):
    """Why an offer is not sent now. The values are metric labels."""

    PRICE = "price"
    """What it is worth is less than what it costs."""
    BYTES = "bytes"
    """The bytes are spent."""
    REQUESTS = "requests"
    """The requests are spent."""
    CONTENDED = "contended"
    """Another camera has the node's budget at hand; the next frame tries again."""
    UNUSABLE = "unusable"
    """The node's budget cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent.

    Attributes:
        bytes_per_s: Sustained rate.
        bytes_burst: What may leave at once after a quiet time.
        requests_per_s: Sustained rate.
        requests_burst: What may leave at once after a quiet time.
        bytes_headroom: Of the burst of bytes, what is left to crops that turn out larger than
            predicted.
    """

    bytes_per_s: float
    bytes_burst: float
    requests_per_s: float
    requests_burst: float
    bytes_headroom: float = 0.0


@dataclass(frozen=True, slots=True)
class Price:
    """What sending costs, in the unit of the values that were offered."""

    per_byte: float
    per_request: float

    def of(self, size_bytes: float) -> float:
        """The cost of one escalation of this size."""
        return self.per_byte * size_bytes + self.per_request

    def affords(self, worth: float) -> float:
        """Up to which size an escalation that is worth so much is worth its cost."""
        left = worth - self.per_request
        return left / self.per_byte if self.per_byte > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a budget was charged for an escalation that is yet to be encoded.

    Attributes:
        size_bytes: The predicted size.
        most_bytes: The largest size that is worth its price, and that the bucket can pay as long as
            nothing else is on its way.
    """

    size_bytes: float
    most_bytes: float = math.inf


class Budget(Protocol):
    """One camera's view of what may be spent. One thread calls, the frame lane; nothing waits.

    Instants are those of the process's clock.
    """

    def learn(self, value: Amounts, size_bytes: Amounts, now_ns: int, costs: Amounts = 0.0) -> None:
        """Hears of an offer, or of several; once of each, when it is first made.

        Args:
            value: What a verdict is expected to gain, in any positive unit.
            size_bytes: Predicted size.
            now_ns: The present instant.
            costs: What else it costs (encoding, say), in the unit of the value.
        """
        ...

    def price(self, now_ns: int) -> Price:
        """What sending costs now."""
        ...

    def refresh(self, now_ns: int, early_s: float) -> None:
        """Does the work on prices that is due within so many seconds; `price` would do it."""
        ...

    def reserve(
        self, value: float, size_bytes: float, now_ns: int, costs: float = 0.0
    ) -> Reservation | Refusal:
        """Charges an offer, or says why not; the arguments are those of `learn`."""
        ...

    def settle(self, reservation: Reservation, size_bytes: float) -> None:
        """Replaces the prediction by the encoded size; 0 when it is never sent."""
        ...


class Account:
    """The bucket of one resource and its price."""

    def __init__(
        self,
        rate_per_s: float,
        burst: float,
        headroom: float = 0.0,
        *,
        first_refresh_s: float = REFRESH_S,
    ) -> None:
        self.bucket = TokenBucket(rate_per_s, burst, headroom=headroom)
        self.pricing = Pricing(rate_per_s, burst - headroom, first_refresh_s=first_refresh_s)

    def price(self, now_ns: int) -> float:
        """Value per unit."""
        return self.pricing.price(self.bucket.available(now_ns), now_ns)


class Ledger:
    """Implements `Budget` in memory, for one camera or, restored and saved, for a node."""

    def __init__(self, limits: Limits) -> None:
        """Starts with full buckets."""
        self.limits = limits
        self.bytes = Account(
            limits.bytes_per_s,
            limits.bytes_burst,
            limits.bytes_headroom,
            first_refresh_s=REFRESH_S / 3,
        )
        self.requests = Account(
            limits.requests_per_s, limits.requests_burst, first_refresh_s=2 * REFRESH_S / 3
        )

    def learn(self, value: Amounts, size_bytes: Amounts, now_ns: int, costs: Amounts = 0.0) -> None:
        """Hears of offers that are made for the first time."""
        price = self.price(now_ns)
        worth = value - costs
        self.bytes.pricing.demand.add(worth - price.per_request, size_bytes)
        self.requests.pricing.demand.add(worth - price.per_byte * size_bytes, 1.0)

    def refresh(self, now_ns: int, early_s: float) -> None:
        """Draws both price curves anew where that is due within so many seconds."""
        self.bytes.pricing.refresh(now_ns, early_s)
        self.requests.pricing.refresh(now_ns, early_s)

    def price(self, now_ns: int) -> Price:
        """What sending costs now."""
        return Price(self.bytes.price(now_ns), self.requests.price(now_ns))

    def reserve(
        self, value: float, size_bytes: float, now_ns: int, costs: float = 0.0
    ) -> Reservation | Refusal:
        """Charges an offer, or says why not."""
        refusal = self.refusal(value, size_bytes, now_ns, costs)
        if refusal is not None:
            return refusal
        most_bytes = self.price(now_ns).affords(value - costs)
        self.charge(size_bytes)
        return Reservation(size_bytes, self.most_payable(size_bytes, most_bytes))

    def refusal(self, value: float, size_bytes: float, now_ns: int, costs: float) -> Refusal | None:
        """Why an offer cannot be charged now; None when it can."""
        if value <= costs + self.price(now_ns).of(size_bytes):
            return Refusal.PRICE
        if not self.bytes.bucket.holds(size_bytes, now_ns):
            return Refusal.BYTES
        if not self.requests.bucket.holds(1.0, now_ns):
            return Refusal.REQUESTS
        return None

    def charge(self, size_bytes: float) -> None:
        """Takes what `refusal` has just allowed."""
        self.bytes.bucket.take(size_bytes)
        self.requests.bucket.take(1.0)

    def most_payable(self, size_bytes: float, most_bytes: float) -> float:
        """Up to which size what was just charged can be paid if nothing else is on its way.

        What is above the burst makes a debt as it is, so it may be still larger.
        """
        level = self.bytes.bucket.level
        return max(size_bytes, min(most_bytes, size_bytes + level if level >= 0 else math.inf))

    def settle(self, reservation: Reservation, size_bytes: float) -> None:
        """Replaces the prediction by the encoded size; 0 gives the request back as well."""
        self.bytes.bucket.settle(reservation.size_bytes, size_bytes)
        if size_bytes == 0.0:
            self.requests.bucket.settle(1.0, 0.0)
