"""Remembers final verdicts, so that a request sent twice is executed once.

Invariants: at most `count_max` verdicts are held, the least recently used leaves first; none is
returned once it is `ttl_ns` old. Used from the event loop only.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")
VerdictT = TypeVar("VerdictT")


class VerdictMemory(Generic[KeyT, VerdictT]):
    """A bounded map from request to verdict with an age limit.

    Args:
        count_max: verdicts held at most; 0 remembers nothing.
        ttl_ns: nanoseconds for which a verdict is remembered.
    """

    def __init__(self, count_max: int, ttl_ns: int) -> None:
        self._count_max = count_max
        self._ttl_ns = ttl_ns
        self._held: OrderedDict[KeyT, tuple[int, VerdictT]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def put(self, key: KeyT, verdict: VerdictT, now_ns: int) -> None:
        """Remembers a verdict; when full, forgets the least recently used one."""
        self._held[key] = (now_ns, verdict)
        self._held.move_to_end(key)
        while len(self._held) > self._count_max:
            self._held.popitem(last=False)

    def get(self, key: KeyT, now_ns: int) -> VerdictT | None:
        """Returns the verdict of a request, or None when unknown or outdated."""
        held = self._held.get(key)
        if held is None:
            return None
        at_ns, verdict = held
        if now_ns - at_ns >= self._ttl_ns:
            del self._held[key]
            return None
        self._held.move_to_end(key)
        return verdict
