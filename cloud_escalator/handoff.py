"""Carries results from a native thread to the event loop.

Any number of results posted before the loop gets to them cost one wake-up of the loop; a wake-up
per crop would cost more than the crop's whole bookkeeping. The number of results under way is
bounded by who submits the work, not here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Mailbox(Generic[ItemT]):
    """Results on their way from threads to the loop.

    Args:
        loop: the loop to wake.
        wake: called on the loop when results have arrived; it is expected to call `take`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._items: deque[ItemT] = deque()
        self._waking = False

    def post(self, item: ItemT) -> None:
        """Hands over a result; from any thread."""
        self._items.append(item)
        if self._waking:
            return
        self._waking = True
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            # The loop has closed: the service is gone and nobody waits for the result.
            self._items.clear()

    def take(self) -> list[ItemT]:
        """Returns everything that has arrived; on the loop."""
        # Cleared first: a post after this line wakes the loop again, at worst for nothing.
        self._waking = False
        items: list[ItemT] = []
        while self._items:
            items.append(self._items.popleft())
        return items
