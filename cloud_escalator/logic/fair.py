"""The queue before the model: equal shares for devices, and the most valuable first within each.

Devices with waiting requests take turns, one place in a batch each; every place costs the model
about the same. A device's own requests are served by value, among equals by expiry. So a device
that asks for more than its share waits behind itself, and what it loses is what it values least.

Invariants: a request leaves exactly once; between two turns of a device every other one has at most
one; a full queue gives up a request of the device that holds most, never of one that holds less
than an equal part. Pure bookkeeping: no clock, and nothing is decided about time but by the caller.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, eq=False)
class Claim(Generic[ItemT]):
    """What a request asks of the queue.

    Attributes:
        device: whose share it counts against.
        value: what an answer is worth, on the device's own scale.
        deadline_ns: when an answer stops being of use.
        size_bytes: what it holds while it waits.
        item: the request itself.
    """

    device: str
    value: float
    deadline_ns: int
    size_bytes: int
    item: ItemT

    @property
    def order(self) -> tuple[float, int]:
        """Ascending in the order of service among the claims of one device."""
        return -self.value, self.deadline_ns


@dataclass(slots=True)
class _Line(Generic[ItemT]):
    """The claims of one device, in the order of their service; it has had some since `began_ns`."""

    began_ns: int
    claims: list[Claim[ItemT]] = field(default_factory=list)
    size_bytes: int = 0


class FairQueue(Generic[ItemT]):
    """Waiting requests in the order in which the model should get them."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line[ItemT]] = {}
        self._turns: deque[str] = deque()  # devices with claims, the next one first
        self._count = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return self._count

    def place_of(self, claim: Claim[ItemT]) -> int:
        """How many of the waiting requests would be served before this one if it were added."""
        line = self._lines.get(claim.device)
        rank = bisect.bisect_right(line.claims, claim.order, key=_order) if line else 0
        place, before = rank, True
        for device in self._turns:
            if device == claim.device:
                before = False
                continue
            # Devices whose turn comes earlier are served once more than the claim's own.
            place += min(len(self._lines[device].claims), rank + before)
        return place

    def backlog_ns(self, device: str, now_ns: int) -> int:
        """For how long the device has had something waiting without a break; zero if nothing."""
        line = self._lines.get(device)
        return now_ns - line.began_ns if line else 0

    def add(self, claim: Claim[ItemT], now_ns: int) -> None:
        """Adds a request; a device that had none takes its turn after all others."""
        line = self._lines.get(claim.device)
        if line is None:
            line = self._lines[claim.device] = _Line(now_ns)
            self._turns.append(claim.device)
        bisect.insort_right(line.claims, claim, key=_order)
        line.size_bytes += claim.size_bytes
        self.size_bytes += claim.size_bytes
        self._count += 1

    def pop(self) -> Claim[ItemT] | None:
        """Takes out the request whose turn it is; None when nothing waits."""
        if not self._turns:
            return None
        device = self._turns[0]
        self._turns.rotate(-1)
        claim = self._lines[device].claims[0]
        self._remove(claim)
        return claim

    def make_room(
        self, claim: Claim[ItemT], count_max: int, bytes_max: int
    ) -> list[Claim[ItemT]] | None:
        """Gives up what must go so that a newcomer fits, and takes it out of the queue.

        The device that holds most, the newcomer counted, gives up what it values least.

        Returns:
            What was given up, usually nothing; None when it is the newcomer, and all others stay.
        """
        if self._count < count_max and self.size_bytes + claim.size_bytes <= bytes_max:
            return []
        given_up: list[Claim[ItemT]] = []
        left = {name: len(line.claims) for name, line in self._lines.items()}
        held = {name: line.size_bytes for name, line in self._lines.items()}
        left[claim.device] = left.get(claim.device, 0) + 1
        held[claim.device] = held.get(claim.device, 0) + claim.size_bytes
        while True:
            over_count = sum(left.values()) > count_max
            if not over_count and sum(held.values()) <= bytes_max:
                break
            most = left if over_count else held
            device = max(most, key=lambda name: (most[name], name == claim.device))
            own = device == claim.device
            kept = left[device] - own
            if own and (kept == 0 or self._lines[device].claims[kept - 1].order <= claim.order):
                return None
            worst = self._lines[device].claims[kept - 1]
            given_up.append(worst)
            left[device] -= 1
            held[device] -= worst.size_bytes
        for gone in given_up:
            self._remove(gone)
        return given_up

    def take_late(
        self, is_late: Callable[[Claim[ItemT], int], bool]
    ) -> list[tuple[Claim[ItemT], int]]:
        """Takes out the requests that cannot be answered in time.

        Args:
            is_late: judges a request by itself and the number of those served before it.

        Returns:
            The late ones, each with that number.
        """
        late, place = [], 0
        for claim in self._in_order():
            if is_late(claim, place):
                late.append((claim, place))
            else:
                place += 1
        for claim, _ in late:
            self._remove(claim)
        return late

    def clear(self) -> None:
        """Forgets everything that waits."""
        self._lines.clear()
        self._turns.clear()
        self._count = self.size_bytes = 0

    def _in_order(self) -> Iterator[Claim[ItemT]]:
        """All requests in the order in which they would be served from now on."""
        lines = [self._lines[device].claims for device in self._turns]
        rank = 0
        while lines:
            yield from [claims[rank] for claims in lines]
            rank += 1
            lines = [claims for claims in lines if len(claims) > rank]

    def _remove(self, claim: Claim[ItemT]) -> None:
        line = self._lines[claim.device]
        line.claims.remove(claim)
        line.size_bytes -= claim.size_bytes
        self.size_bytes -= claim.size_bytes
        self._count -= 1
        if not line.claims:
            del self._lines[claim.device]
            self._turns.remove(claim.device)


def _order(claim: Claim[ItemT]) -> tuple[float, int]:
    return claim.order
