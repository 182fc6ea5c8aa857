"""The escalations that the event loop has in hand: admitted, not ended, and not left to the spool.

Invariants: an entry leaves by `close` alone, which cancels its timers and frees its place in
flight; what is in flight is counted once. Event loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Collection
from dataclasses import dataclass

from edge_node.logic.fresh import FreshEscalations
from edge_node.metrics import EdgeMetrics
from edge_node.values import EscalationOutcome, Kept, Question
from foundation.clock import Clock, elapsed_s
from foundation.escalations import Escalation
from foundation.gains import FRAMING_BYTES


class Keeping(enum.Enum):
    """Whether the spool has an escalation."""

    NO = enum.auto()
    WRITING = enum.auto()
    YES = enum.auto()


@dataclass(slots=True)
class Entry:
    """An escalation in hand.

    Attributes:
        question: What it asks.
        expires_at_ns: When it is no longer wanted here.
        timer: Rings then.
        keeping: Whether the spool has it.
        kept: What the spool handed out, where it is of the backlog; None: it is fresh.
        size_bytes: What it takes on the wire, about.
        in_flight: Whether it is on its way.
        sent: Whether it was ever written to a stream.
        retry: Rings when it may be sent again.
        stale: How it ends if it turns out that the spool does not have it.
    """

    question: Question
    expires_at_ns: int
    timer: asyncio.TimerHandle
    keeping: Keeping
    kept: Kept | None = None
    size_bytes: int = 0
    in_flight: bool = False
    sent: bool = False
    retry: asyncio.TimerHandle | None = None
    stale: EscalationOutcome | None = None


class InHand:
    """Entries by id, the fresh ones' order, and who waits for a change.

    Attributes:
        in_flight: How many are on their way.
        fresh: Crops of those that are fresh.
    """

    def __init__(self, fresh: FreshEscalations, metrics: EdgeMetrics, clock: Clock) -> None:
        self.in_flight = 0
        self.fresh = fresh
        self._metrics = metrics
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def ids(self) -> Collection[str]:
        """Of all."""
        return self._entries.keys()

    def items(self) -> list[tuple[str, Entry]]:
        """All, in order of arrival; a copy."""
        return list(self._entries.items())

    def get(self, escalation_id: str) -> Entry | None:
        """The entry, if it is in hand."""
        return self._entries.get(escalation_id)

    def admit(
        self,
        escalation: Escalation,
        question: Question,
        keeping: Keeping,
        give_up: Callable[[str, EscalationOutcome], None],
        kept: Kept | None = None,
    ) -> None:
        """Takes an escalation in hand; `give_up` is called when its time is over."""
        left_s = max(0.0, elapsed_s(self._clock.now_ns(), escalation.expires_at_ns))
        timer = asyncio.get_running_loop().call_later(
            left_s, give_up, escalation.id, EscalationOutcome.EXPIRED
        )
        self._entries[escalation.id] = Entry(
            question,
            escalation.expires_at_ns,
            timer,
            keeping,
            kept,
            len(escalation.image) + FRAMING_BYTES,
        )

    def launch(self, escalation_id: str) -> None:
        """It is on its way."""
        self._entries[escalation_id].in_flight = True
        self.in_flight += 1

    def land(self, entry: Entry) -> None:
        """It is no longer on its way."""
        if entry.in_flight:
            entry.in_flight = False
            self.in_flight -= 1

    def retry_after(self, pause_s: float, escalation_id: str, retry: Callable[[str], None]) -> None:
        """Calls `retry` after a while, unless it has left by then."""
        timer = asyncio.get_running_loop().call_later(pause_s, retry, escalation_id)
        self._entries[escalation_id].retry = timer

    def close(self, escalation_id: str) -> Entry | None:
        """Takes it out of hand."""
        entry = self._entries.pop(escalation_id, None)
        if entry is None:
            return None
        entry.timer.cancel()
        if entry.retry is not None:
            entry.retry.cancel()
        self.land(entry)
        self.fresh.discard(escalation_id)
        self.note_change()
        return entry

    def note_change(self) -> None:
        """Something may be sent, or has ended."""
        self._metrics.storage.fresh.set(len(self.fresh))
        self._metrics.storage.fresh_bytes.set(self.fresh.size_bytes)
        self._changed.set()

    async def wait_for_change(self, wait_s: float | None) -> None:
        """Until the next change, or for so long."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()

    async def wait_until(self, deadline_ns: int, reached: Callable[[], bool]) -> None:
        """Until it is so, or the deadline has passed."""
        while not reached():
            left_s = elapsed_s(self._clock.now_ns(), deadline_ns)
            if left_s <= 0:
                return
            await self.wait_for_change(left_s)
