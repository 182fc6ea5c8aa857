"""Connects the streams, the queue, the decoding pool and the model.

    submit ─► sent before? ─► admit ─► waiting ─► decoding ─► ready ─► running ─► verdict
                  │             │         │          │          │          │
              duplicate    shed, expired  expired  rejected   expired    failed

Invariants: the queue is first in, first out and bounded; expired work is never executed; at most
two batches of crops are held as pixels beside the running one; one batch runs at a time. Everything
here runs on the event loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from cloud_escalator.config import EscalatorSettings
from cloud_escalator.ledger import Ledger, Ticket
from cloud_escalator.logic.admit import (
    AdmissionLimits,
    Admitted,
    AlreadyExpired,
    Load,
    Refused,
    ShedReason,
    admit,
)
from cloud_escalator.logic.batch import BatchPolicy, Waiting, plan_batch
from cloud_escalator.logic.cost import BatchCost
from cloud_escalator.logic.crops import Reporter, check_crop
from cloud_escalator.metrics import EscalatorMetrics, ExpiryStage
from cloud_escalator.ports import BatchResult, VerdictSink, Workers
from foundation.clock import Clock, after_s, elapsed_s
from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Escalation
from foundation.frames import Pixels

DRAIN_RETRY_AFTER_S = 1.0
"""What a draining escalator tells its clients: about what another one needs to take over."""


@dataclass(frozen=True, slots=True)
class _Crop:
    """A request whose crop has been decoded, (H, W, 3) uint8 BGR."""

    ticket: Ticket
    pixels: Pixels = field(repr=False)


class EscalationPipeline:
    """Turns escalations into verdicts.

    Args:
        settings: limits and batching.
        workers: the decoder and the model.
        ledger: where requests are opened and closed.
        cost: predicted batch costs, seeded by the warm-up; its largest size is the largest batch.
        reporter: turns detections into an answer.
        clock: the only source of time.
        metrics: queue, decoding and batches.
    """

    def __init__(
        self,
        settings: EscalatorSettings,
        workers: Workers,
        ledger: Ledger,
        cost: BatchCost,
        reporter: Reporter,
        clock: Clock,
        metrics: EscalatorMetrics,
    ) -> None:
        self._decoder = workers.decoder
        self._model = workers.model
        self._wake = workers.wake
        self._ledger = ledger
        self._cost = cost
        self._reporter = reporter
        self._clock = clock
        self._metrics = metrics
        self._admission = AdmissionLimits(
            queued_max=settings.limits.queue_requests_max,
            queued_bytes_max=settings.limits.queue_bytes_max,
            drain_retry_after_s=DRAIN_RETRY_AFTER_S,
        )
        self._encodings = frozenset(settings.limits.encodings)
        self._policy = BatchPolicy(cost.size_max, settings.batch.idle_wait_s)
        self._decode_ahead = 2 * cost.size_max
        self._waiting: deque[Ticket] = deque()
        self._decoding: dict[int, Ticket] = {}
        self._ready: list[_Crop] = []
        self._alone: deque[_Crop] = deque()  # of failed batches, each to run by itself
        self._running: list[_Crop] = []
        self._running_until_ns = 0
        self._queued_bytes = 0
        self._draining = False

    def submit(self, escalation: Escalation, remaining_s: float, sink: VerdictSink) -> None:
        """Takes, or at once answers, one request.

        Args:
            escalation: the request.
            remaining_s: time until it expires, counted from now.
            sink: where its verdict goes.
        """
        now_ns = self._clock.now_ns()
        if self._ledger.answer_again(escalation, now_ns, sink):
            return
        try:
            self._check_encoding(escalation)
        except RejectedError as error:
            self._ledger.reject(escalation.id, error, sink)
            return
        image_bytes = len(escalation.image)
        decision = admit(self._load(now_ns), remaining_s, image_bytes, self._admission, self._cost)
        match decision:
            case AlreadyExpired():
                self._ledger.expire(escalation.id, sink)
            case Refused():
                self._ledger.shed(escalation.id, decision, sink)
            case Admitted():
                waiting = Waiting(now_ns, after_s(now_ns, remaining_s))
                self._waiting.append(self._ledger.open(escalation, waiting, sink))
                self._queued_bytes += image_bytes
                self._feed_decoder(now_ns)

    async def run(self) -> None:
        """Moves requests along for as long as it is not cancelled."""
        while True:
            wait_s = self._advance()
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self._take_crops()
            finished = self._take_batches()
            # The model gets its next batch before the last one's answers are written.
            if finished:
                self._advance()
            for crops, result in finished:
                self._finish(crops, result)

    async def drain(self, drain_s: float) -> None:
        """Sheds what arrives from now on, and gives what is under way `drain_s` to finish.

        Afterwards no request is under way: what had not finished was shed.
        """
        self._draining = True
        try:
            async with asyncio.timeout(drain_s):
                await self._ledger.wait_until_empty()
        except TimeoutError:
            self._waiting.clear()
            self._ready.clear()
            self._alone.clear()
            for ticket in self._ledger.open_tickets():
                self._ledger.close_shed(ticket, Refused(ShedReason.DRAINING, DRAIN_RETRY_AFTER_S))

    def _check_encoding(self, escalation: Escalation) -> None:
        if escalation.encoding not in self._encodings:
            raise RejectedError(
                f"The encoding {escalation.encoding} is not accepted here",
                reason=RejectReason.UNSUPPORTED_ENCODING,
            )

    def _queued(self) -> int:
        return len(self._waiting) + len(self._decoding) + len(self._ready) + len(self._alone)

    def _load(self, now_ns: int) -> Load:
        left_s = elapsed_s(now_ns, self._running_until_ns) if self._running else 0.0
        return Load(
            queued=self._queued(),
            queued_bytes=self._queued_bytes,
            running=len(self._running),
            running_left_s=max(0.0, left_s),
            draining=self._draining,
        )

    def _feed_decoder(self, now_ns: int) -> None:
        """Keeps the decoder ahead of the model, but not further than memory is bounded for."""
        while self._waiting and len(self._decoding) + len(self._ready) < self._decode_ahead:
            ticket = self._waiting.popleft()
            if ticket.waiting.deadline_ns <= now_ns:
                self._expire(ticket, ExpiryStage.QUEUE)
                continue
            self._decoding[ticket.number] = ticket
            escalation = ticket.escalation
            self._decoder.submit(ticket.number, escalation.image, escalation.encoding)

    def _take_crops(self) -> None:
        for crop in self._decoder.take():
            ticket = self._decoding.pop(crop.ticket)
            self._metrics.decode_seconds.observe(crop.seconds)
            if not self._ledger.is_open(ticket):  # shed at the end of the drain
                continue
            try:
                if isinstance(crop.outcome, RejectedError):
                    raise crop.outcome
                check_crop(ticket.escalation.region, crop.outcome)
            except RejectedError as error:
                self._leave_queue(ticket)
                self._ledger.close_rejected(ticket, error, self._clock.now_ns())
            else:
                self._ready.append(_Crop(ticket, crop.outcome))

    def _take_batches(self) -> list[tuple[list[_Crop], BatchResult]]:
        """Takes note of a batch that has ended; its answers are still to be given."""
        finished = []
        for result in self._model.take():
            crops, self._running = self._running, []
            finished.append((crops, result))
            self._metrics.inference_seconds.observe(result.seconds)
            if isinstance(result.outcome, RejectedError):
                self._metrics.inference_failures.inc()
                if len(crops) > 1:
                    # One crop must not cost the others their answer: each gets a run of its own.
                    again = [crop for crop in crops if self._ledger.is_open(crop.ticket)]
                    self._alone.extend(again)
                    self._queued_bytes += sum(len(c.ticket.escalation.image) for c in again)
            else:
                self._cost.observe(len(crops), result.seconds)
        return finished

    def _advance(self) -> float | None:
        """Starts what can start; returns after how many seconds to ask again, if ever."""
        now_ns = self._clock.now_ns()
        wait_s = None
        if not self._running:
            self._expire_waiting(now_ns)
            wait_s = self._start_batch(now_ns)
        self._feed_decoder(now_ns)
        self._metrics.queue_requests.set(self._queued())
        return wait_s

    def _start_batch(self, now_ns: int) -> float | None:
        while self._alone:
            crop = self._alone.popleft()
            if crop.ticket.waiting.deadline_ns > now_ns:
                self._run_batch([crop], now_ns)
                return None
            self._expire(crop.ticket, ExpiryStage.BATCH)
        ready = self._ready
        plan = plan_batch([c.ticket.waiting for c in ready], now_ns, self._policy, self._cost)
        if plan.expired or plan.taken:
            gone = {*plan.expired, *plan.taken}
            self._ready = [crop for i, crop in enumerate(ready) if i not in gone]
        for i in plan.expired:
            self._expire(ready[i].ticket, ExpiryStage.BATCH)
        if plan.taken:
            self._run_batch([ready[i] for i in plan.taken], now_ns)
        return plan.wait_s or None

    def _run_batch(self, crops: list[_Crop], now_ns: int) -> None:
        for crop in crops:
            ticket = crop.ticket
            self._leave_queue(ticket)
            ticket.queued_s = elapsed_s(ticket.waiting.received_at_ns, now_ns)
            self._metrics.queue_seconds.observe(ticket.queued_s)
        self._metrics.batch_size.observe(len(crops))
        self._running = crops
        self._running_until_ns = after_s(now_ns, self._cost.predict(len(crops)))
        self._model.submit([crop.pixels for crop in crops])

    def _finish(self, crops: list[_Crop], result: BatchResult) -> None:
        """Gives the answers of a batch that has ended."""
        now_ns = self._clock.now_ns()
        if isinstance(result.outcome, RejectedError):
            if len(crops) == 1 and self._ledger.is_open(crops[0].ticket):
                self._ledger.close_rejected(crops[0].ticket, result.outcome, now_ns)
            return
        for crop, detections in zip(crops, result.outcome, strict=True):
            ticket = crop.ticket
            if self._ledger.is_open(ticket):
                asked = ticket.escalation
                found = self._reporter.report(
                    detections, asked.region, crop.pixels, asked.proposals.boxes
                )
                self._ledger.close_answered(ticket, found, result.seconds, now_ns)

    def _expire_waiting(self, now_ns: int) -> None:
        late = [ticket for ticket in self._waiting if ticket.waiting.deadline_ns <= now_ns]
        if late:
            self._waiting = deque(t for t in self._waiting if t.waiting.deadline_ns > now_ns)
        for ticket in late:
            self._expire(ticket, ExpiryStage.QUEUE)

    def _expire(self, ticket: Ticket, stage: ExpiryStage) -> None:
        self._leave_queue(ticket)
        self._ledger.close_expired(ticket, stage)

    def _leave_queue(self, ticket: Ticket) -> None:
        self._queued_bytes -= len(ticket.escalation.image)
