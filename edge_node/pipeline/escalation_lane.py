"""The escalation lane: from a candidate to its one ending, without ever touching a frame.

Candidates come from the frame lane's thread, are encoded in the encoder's thread, and from there on
live on the event loop: spooled, sent, answered or given up. Invariant: every candidate that was
offered ends exactly once, as answered, shed, expired, failed or evicted; the ending is counted here
and posted to the frame lane.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from edge_node.config import EscalatorSettings
from edge_node.metrics import EdgeMetrics
from edge_node.ports import CandidateEncoder, Spool, Uplink
from edge_node.values import (
    Accepted,
    Candidate,
    Cause,
    Encoded,
    Ending,
    EscalationOutcome,
    IgnoredVerdict,
    News,
)
from foundation.clock import Clock, after_s, elapsed_s
from foundation.escalations import (
    Answer,
    Capabilities,
    Escalation,
    Expired,
    Rejection,
    Shed,
    Verdict,
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    """An escalation on the event loop that has not ended."""

    reason: str
    captured_at_ns: int
    expires_at_ns: int
    expiry: asyncio.TimerHandle
    in_flight: bool = False
    retry: asyncio.TimerHandle | None = None


class EscalationLane:
    """Implements `ports.EscalationSink` for the frame lane, `ports.UplinkFeed` for the uplink."""

    def __init__(
        self,
        settings: EscalatorSettings,
        encoder: CandidateEncoder,
        spool: Spool,
        post: Callable[[News], None],
        metrics: EdgeMetrics,
        clock: Clock,
        *,
        withholds: bool = False,
    ) -> None:
        """Takes what it works with.

        Args:
            settings: Of the way to the escalator.
            encoder: Compresses crops.
            spool: Holds escalations.
            post: Brings news to the frame lane; may be called from any thread.
            metrics: Counts endings.
            clock: The only source of time.
            withholds: In shadow: crops are encoded, counted and not sent.
        """
        self._withholds = withholds
        self._settings = settings
        self._encoder = encoder
        self._spool = spool
        self._post = post
        self._metrics = metrics
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: dict[str, _Open] = {}
        self._in_flight = 0
        self._connected = False
        self._changed = asyncio.Event()

    # --- frame lane's thread ---

    def offer(self, candidate: Candidate) -> None:
        """Takes a candidate; where there is no room for it, it ends at once."""
        if not self._encoder.offer(candidate):
            question = candidate.question
            self._finish(
                question.id,
                question.reason,
                EscalationOutcome.EVICTED,
                Cause.ENCODE_QUEUE_FULL,
            )

    # --- encoder's thread ---

    def deliver(self, candidate: Candidate, escalation: Escalation) -> None:
        """Takes what the encoder made of a candidate."""
        self._post(Encoded(escalation.id, len(escalation.image)))
        if self._withholds:
            outcome = EscalationOutcome.WITHHELD
            self._finish(escalation.id, escalation.reason, outcome, Cause.NONE)
            return
        if self._loop is None:
            raise RuntimeError("the escalation lane takes crops only while it runs")
        self._loop.call_soon_threadsafe(self._admit, escalation, candidate.value)

    # --- event loop ---

    async def run(self, uplink: Uplink) -> None:
        """Runs the uplink until cancelled."""
        self.start()
        await uplink.run(self)

    def start(self) -> None:
        """Binds to the running loop; before any candidate is offered."""
        self._loop = asyncio.get_running_loop()

    async def drain(self, drain_s: float) -> None:
        """Waits for verdicts on the way, then ends what is left. The encoder has been closed."""
        deadline_ns = after_s(self._clock.now_ns(), drain_s)
        await asyncio.sleep(0)  # what the encoder delivered last is admitted first
        while self._open and self._connected:
            left_s = elapsed_s(self._clock.now_ns(), deadline_ns)
            if left_s <= 0:
                break
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left_s)
            except TimeoutError:
                break
        for escalation_id in list(self._open):
            self._end(escalation_id, EscalationOutcome.FAILED, Cause.SHUTDOWN)

    async def next_escalation(self) -> Escalation:
        """Waits until there is something to send and room in flight."""
        while True:
            if self._in_flight < self._settings.in_flight_max:
                escalation = self._spool.take()
                if escalation is not None:
                    self._open[escalation.id].in_flight = True
                    self._in_flight += 1
                    return escalation
            self._changed.clear()
            await self._changed.wait()

    def note_sent(self, size_bytes: int) -> None:
        """Counts the bytes of an escalation that was handed to the stream."""
        self._metrics.uplink_bytes.inc(size_bytes)

    def receive(self, verdict: Verdict) -> None:
        """Takes a verdict; one for an escalation that has ended changes nothing."""
        entry = self._open.get(verdict.escalation_id)
        if entry is None:
            self._metrics.verdicts_ignored[IgnoredVerdict.ENDED].inc()
            return
        match verdict.outcome:
            case Answer():
                now_ns = self._clock.now_ns()
                self._metrics.verdict_latency.observe(elapsed_s(entry.captured_at_ns, now_ns))
                self._end(verdict.escalation_id, EscalationOutcome.ANSWERED, verdict=verdict)
            case Shed(retry_after_s):
                self._shed(verdict.escalation_id, entry, retry_after_s)
            case Rejection(reason, message):
                log.warning("escalation rejected (%s): %s", reason, message)
                self._end(verdict.escalation_id, EscalationOutcome.FAILED, Cause.REJECTED)
            case Expired():
                self._end(verdict.escalation_id, EscalationOutcome.EXPIRED)

    def refuse(self, escalation_id: str) -> None:
        """Ends an escalation that is larger than this escalator takes."""
        self._end(escalation_id, EscalationOutcome.FAILED, Cause.TOO_LARGE)

    def set_capabilities(self, capabilities: Capabilities) -> None:
        """Tells the frame lane what the escalator that has been reached takes."""
        self._post(Accepted(frozenset(capabilities.encodings)))

    def set_connected(self, connected: bool) -> None:
        """Notes that a stream is open, or has broken: what was in flight then waits again."""
        self._connected = connected
        self._metrics.uplink_connected.set(connected)
        if not connected:
            for escalation_id, entry in self._open.items():
                if entry.in_flight:
                    entry.in_flight = False
                    self._in_flight -= 1
                    self._spool.give_back(escalation_id)
        self._changed.set()

    def _admit(self, escalation: Escalation, value: float) -> None:
        loop = asyncio.get_running_loop()
        left_s = max(0.0, elapsed_s(self._clock.now_ns(), escalation.expires_at_ns))
        self._open[escalation.id] = _Open(
            reason=escalation.reason,
            captured_at_ns=escalation.captured_at_ns,
            expires_at_ns=escalation.expires_at_ns,
            expiry=loop.call_later(left_s, self._end, escalation.id, EscalationOutcome.EXPIRED),
        )
        for evicted in self._spool.put(escalation, value):
            self._end(evicted, EscalationOutcome.EVICTED, Cause.SPOOL_FULL)
        self._note_change()

    def _shed(self, escalation_id: str, entry: _Open, retry_after_s: float) -> None:
        """Asks again later where the cloud's pause leaves time for it."""
        retry_at_ns = after_s(self._clock.now_ns(), retry_after_s)
        if retry_at_ns >= entry.expires_at_ns:
            self._end(escalation_id, EscalationOutcome.SHED)
            return
        if entry.in_flight:
            entry.in_flight = False
            self._in_flight -= 1
        if entry.retry is None:
            loop = asyncio.get_running_loop()
            entry.retry = loop.call_later(retry_after_s, self._retry, escalation_id)
        self._changed.set()

    def _retry(self, escalation_id: str) -> None:
        entry = self._open.get(escalation_id)
        if entry is not None:
            entry.retry = None
            self._spool.give_back(escalation_id)
            self._changed.set()

    def _end(
        self,
        escalation_id: str,
        outcome: EscalationOutcome,
        cause: Cause = Cause.NONE,
        verdict: Verdict | None = None,
    ) -> None:
        entry = self._open.pop(escalation_id, None)
        if entry is None:
            return
        entry.expiry.cancel()
        if entry.retry is not None:
            entry.retry.cancel()
        if entry.in_flight:
            self._in_flight -= 1
        self._spool.discard(escalation_id)
        self._note_change()
        self._finish(escalation_id, entry.reason, outcome, cause, verdict)

    def _note_change(self) -> None:
        self._metrics.spool_escalations.set(len(self._spool))
        self._metrics.spool_bytes.set(self._spool.size_bytes)
        self._changed.set()

    # --- any thread ---

    def _finish(
        self,
        escalation_id: str,
        reason: str,
        outcome: EscalationOutcome,
        cause: Cause,
        verdict: Verdict | None = None,
    ) -> None:
        self._metrics.escalations[reason, outcome].inc()
        if cause is not Cause.NONE:
            self._metrics.escalation_failures[cause].inc()
        self._post(Ending(escalation_id, outcome, cause, self._clock.now_ns(), verdict))
