"""Escalations whose verdict can still correct the live result; the most valuable is sent first.

Bounded by number and by bytes; what does not fit is evicted, least valuable first. What is in
flight is never evicted: its bytes have been spent. Single-threaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_node.config import SpoolSettings
from foundation.escalations import Escalation


@dataclass(slots=True)
class _Held:
    escalation: Escalation
    value: float
    in_flight: bool = False


class FreshEscalations:
    """Held in memory for the seconds that they are fresh."""

    def __init__(self, settings: SpoolSettings) -> None:
        self._escalations_max = settings.fresh_max
        self._bytes_max = settings.fresh_bytes_max
        self._held: dict[str, _Held] = {}
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size_bytes(self) -> int:
        """Bytes of crops held."""
        return self._size_bytes

    def put(self, escalation: Escalation, value: float) -> list[str]:
        """Holds an escalation; returns the ids evicted for it, which may include its own."""
        self._held[escalation.id] = _Held(escalation, value)
        self._size_bytes += len(escalation.image)
        evicted = []
        while len(self._held) > self._escalations_max or self._size_bytes > self._bytes_max:
            # Least valuable first; of equals the oldest, which has the least time left.
            waiting = (held for held in self._held.values() if not held.in_flight)
            victim = min(waiting, key=lambda held: held.value, default=None)
            if victim is None:
                break
            evicted.append(victim.escalation.id)
            self.discard(victim.escalation.id)
        return evicted

    def take(self) -> Escalation | None:
        """The most valuable one waiting, now in flight."""
        waiting = (held for held in self._held.values() if not held.in_flight)
        best = max(waiting, key=lambda held: held.value, default=None)
        if best is None:
            return None
        best.in_flight = True
        return best.escalation

    def give_back(self, escalation_id: str) -> None:
        """Lets one in flight wait again."""
        held = self._held.get(escalation_id)
        if held is not None:
            held.in_flight = False

    def discard(self, escalation_id: str) -> None:
        """Forgets one that has ended."""
        held = self._held.pop(escalation_id, None)
        if held is not None:
            self._size_bytes -= len(held.escalation.image)
