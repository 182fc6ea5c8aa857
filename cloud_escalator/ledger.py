"""Keeps the account of every request from its receipt to its verdict.

Owns which requests are under way, which verdicts are remembered, and the counting of outcomes.
Invariants: every request that was read is counted under exactly one outcome; a request under way or
remembered is not executed again; its verdict goes to the stream that asked last. Event loop only.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cloud_escalator.logic.admit import Refused, ShedReason
from cloud_escalator.logic.batch import Waiting
from cloud_escalator.logic.remember import VerdictMemory
from cloud_escalator.metrics import DuplicateState, EscalatorMetrics, ExpiryStage, RequestOutcome
from cloud_escalator.ports import VerdictSink
from foundation.errors import RejectedError, RejectReason
from foundation.escalations import (
    Answer,
    Escalation,
    Expired,
    LabelledBoxes,
    Rejection,
    Shed,
    Verdict,
)

Key = tuple[str, str, str]


@dataclass(slots=True, eq=False)
class Ticket:
    """One request, admitted or about to be.

    Attributes:
        number: unique within the process.
        key: site, camera and id: what makes a request the same request.
        escalation: the request.
        waiting: when it came, and by when its batch should have run.
        expires_at_ns: when an answer is of no more use.
        sink: the stream that gets the verdict.
        queued_s: from receipt to the start of its batch.
    """

    number: int
    key: Key
    escalation: Escalation
    waiting: Waiting
    expires_at_ns: int
    sink: VerdictSink
    queued_s: float = 0.0


class Ledger:
    """Opens and closes tickets, and answers what needs none.

    Args:
        bundle_digest: stated in every verdict.
        memory: the verdicts remembered.
        metrics: where outcomes are counted.
    """

    def __init__(
        self,
        bundle_digest: str,
        memory: VerdictMemory[Key, Verdict],
        metrics: EscalatorMetrics,
    ) -> None:
        self._bundle_digest = bundle_digest
        self._memory = memory
        self._metrics = metrics
        self._sheds = {reason: metrics.sheds.labels(reason) for reason in ShedReason}
        self._open: dict[Key, Ticket] = {}
        self._numbers = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def open_tickets(self) -> list[Ticket]:
        """All requests under way, oldest first."""
        return list(self._open.values())

    async def wait_until_empty(self) -> None:
        """Returns once no request is under way."""
        await self._empty.wait()

    def prepare(
        self, escalation: Escalation, waiting: Waiting, expires_at_ns: int, sink: VerdictSink
    ) -> Ticket:
        """Writes a ticket that takes effect once it is opened."""
        key = (escalation.site, escalation.camera, escalation.id)
        self._numbers += 1
        return Ticket(self._numbers, key, escalation, waiting, expires_at_ns, sink)

    def open(self, ticket: Ticket) -> None:
        """Opens the ticket of an admitted request."""
        self._open[ticket.key] = ticket
        self._empty.clear()
        ticket.sink.attach()

    def is_pending(self, escalation: Escalation) -> bool:
        """Whether the same request was sent before and is under way."""
        return (escalation.site, escalation.camera, escalation.id) in self._open

    def answer_again(self, escalation: Escalation, now_ns: int, sink: VerdictSink) -> bool:
        """Serves a request that was sent before; returns False when it was not.

        While the first is under way, its verdict moves to this stream; once it is answered, the
        same verdict is sent again.
        """
        key = (escalation.site, escalation.camera, escalation.id)
        ticket = self._open.get(key)
        if ticket is not None:
            ticket.sink.detach()
            ticket.sink = sink
            sink.attach()
            self._count_duplicate(DuplicateState.PENDING)
            return True
        verdict = self._memory.get(key, now_ns)
        if verdict is None:
            return False
        self._count_duplicate(DuplicateState.ANSWERED)
        self._send(verdict, sink)
        return True

    def reject(self, escalation_id: str, error: RejectedError, sink: VerdictSink) -> None:
        """Rejects a request that gets no ticket."""
        self._count_rejection(error.reason)
        self._send(self._verdict(escalation_id, Rejection(error.reason, str(error))), sink)

    def expire(self, escalation_id: str, sink: VerdictSink) -> None:
        """Answers a request that had expired when it arrived."""
        self._count_expiry(ExpiryStage.ADMISSION)
        self._send(self._verdict(escalation_id, Expired()), sink)

    def shed(self, escalation_id: str, refused: Refused, sink: VerdictSink) -> None:
        """Turns away a request at the door."""
        self._count_shed(refused)
        self._send(self._verdict(escalation_id, Shed(refused.retry_after_s)), sink)

    def close_answered(
        self, ticket: Ticket, found: LabelledBoxes, inference_s: float, now_ns: int
    ) -> None:
        """The model has looked at the crop."""
        self._metrics.requests[RequestOutcome.ANSWERED].inc()
        verdict = self._verdict(
            ticket.escalation.id, Answer(found), queued_s=ticket.queued_s, inference_s=inference_s
        )
        self._memory.put(ticket.key, verdict, now_ns)
        self._close(ticket, verdict)

    def close_rejected(self, ticket: Ticket, error: RejectedError, now_ns: int) -> None:
        """The crop can never be answered; also when the model failed on it alone."""
        self._count_rejection(error.reason)
        verdict = self._verdict(ticket.escalation.id, Rejection(error.reason, str(error)))
        self._memory.put(ticket.key, verdict, now_ns)
        self._close(ticket, verdict)

    def close_expired(self, ticket: Ticket, stage: ExpiryStage) -> None:
        """The request's time ran out while it waited."""
        self._count_expiry(stage)
        self._close(ticket, self._verdict(ticket.escalation.id, Expired()))

    def close_shed(self, ticket: Ticket, refused: Refused) -> None:
        """Gives up an admitted request: for a better one, for time, or because the service ends."""
        self._count_shed(refused)
        self._close(ticket, self._verdict(ticket.escalation.id, Shed(refused.retry_after_s)))

    def is_open(self, ticket: Ticket) -> bool:
        """Whether the request still waits for its verdict."""
        return self._open.get(ticket.key) is ticket

    def _close(self, ticket: Ticket, verdict: Verdict) -> None:
        del self._open[ticket.key]
        if not self._open:
            self._empty.set()
        ticket.sink.detach()
        self._send(verdict, ticket.sink)

    def _send(self, verdict: Verdict, sink: VerdictSink) -> None:
        if not sink.deliver(verdict):
            self._metrics.undelivered.inc()

    def _verdict(
        self,
        escalation_id: str,
        outcome: Answer | Shed | Rejection | Expired,
        *,
        queued_s: float = 0.0,
        inference_s: float = 0.0,
    ) -> Verdict:
        return Verdict(escalation_id, outcome, self._bundle_digest, queued_s, inference_s)

    def _count_duplicate(self, state: DuplicateState) -> None:
        self._metrics.requests[RequestOutcome.DUPLICATE].inc()
        self._metrics.duplicates[state].inc()

    def _count_rejection(self, reason: RejectReason) -> None:
        failed = reason is RejectReason.INFERENCE_FAILED
        outcome = RequestOutcome.FAILED if failed else RequestOutcome.REJECTED
        self._metrics.requests[outcome].inc()
        self._metrics.rejects[reason].inc()

    def _count_expiry(self, stage: ExpiryStage) -> None:
        self._metrics.requests[RequestOutcome.EXPIRED].inc()
        self._metrics.expirations[stage].inc()

    def _count_shed(self, refused: Refused) -> None:
        self._metrics.requests[RequestOutcome.SHED].inc()
        self._sheds[refused.reason].inc()
