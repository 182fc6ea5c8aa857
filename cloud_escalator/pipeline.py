"""Connects the streams, the queue, the decoding pool and the model.

    submit ─► sent before? ─► admit ─► waiting ─► decoding ─► ready ─► running ─► verdict
      │           │             │         │          │          │          │
   expired    duplicate        shed      shed     rejected   expired    failed
                                        expired                         expired

Invariants: what waits is bounded, and served in turns of the devices; what has been given to the
decoder keeps its place. What can no longer be answered in time is shed while there is time to ask
again, expired work is never executed, and no answer is given after its expiry. Beside the running
batch at most one more, and a crop for each decoding thread, are held as pixels; one batch runs at a
time. Everything here runs
on the event loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from cloud_escalator.config import EscalatorSettings
from cloud_escalator.ledger import Ledger, Ticket
from cloud_escalator.logic.admit import (
    Admitted,
    Load,
    Refused,
    ShedReason,
    admit,
    exceeds_backlog,
    predict_finish_s,
    retry_after_s,
)
from cloud_escalator.logic.batch import BatchPolicy, Waiting, plan_batch
from cloud_escalator.logic.cost import BatchCost, DecodingCost
from cloud_escalator.logic.crops import Reporter, check_crop
from cloud_escalator.logic.fair import Claim, FairQueue
from cloud_escalator.metrics import EscalatorMetrics, ExpiryStage
from cloud_escalator.ports import BatchResult, VerdictSink, Workers
from foundation.clock import Clock, after_s, elapsed_s
from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Escalation
from foundation.frames import Pixels

DRAIN_RETRY_AFTER_S = 1.0
"""What a draining escalator tells its clients: about what another one needs to take over."""

WAY_BACK_SHARE = 0.05
WAY_BACK_MAX_S = 0.1
"""What is kept of a request's time, and at most, for the way of its answer back to the edge."""


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
        self._decoding_cost = DecodingCost(settings.decode.threads)
        self._reporter = reporter
        self._clock = clock
        self._metrics = metrics
        self._limits = settings.limits
        self._encodings = frozenset(settings.limits.encodings)
        self._policy = BatchPolicy(cost.size_max, settings.batch.idle_wait_s)
        # One batch, and work for every thread: what is decoded can no longer be overtaken.
        self._decode_ahead = cost.size_max + settings.decode.threads
        self._waiting: FairQueue[Ticket] = FairQueue()
        self._decoding: dict[int, Ticket] = {}
        self._ready: list[_Crop] = []
        self._alone: deque[_Crop] = deque()  # of failed batches, each to run by itself
        self._running: list[_Crop] = []
        self._running_since_ns = 0
        self._queued_bytes = 0
        self._draining = False

    def submit(
        self, escalation: Escalation, device: str, remaining_s: float, sink: VerdictSink
    ) -> None:
        """Takes, or at once answers, one request.

        Args:
            escalation: the request.
            device: whose share of the model it counts against.
            remaining_s: time until it expires, counted from now.
            sink: where its verdict goes.
        """
        now_ns = self._clock.now_ns()
        # One under way ends by its own expiry, on the stream that asked last.
        if remaining_s <= 0 and not self._ledger.is_pending(escalation):
            self._ledger.expire(escalation.id, sink)
            return
        if self._ledger.answer_again(escalation, now_ns, sink):
            return
        try:
            self._check_encoding(escalation)
        except RejectedError as error:
            self._ledger.reject(escalation.id, error, sink)
            return
        usable_s = remaining_s - min(WAY_BACK_SHARE * remaining_s, WAY_BACK_MAX_S)
        waiting = Waiting(now_ns, after_s(now_ns, usable_s))
        expires_at_ns = after_s(now_ns, remaining_s)
        ticket = self._ledger.prepare(escalation, waiting, expires_at_ns, sink)
        claim = Claim(device, escalation.value, waiting.deadline_ns, len(escalation.image), ticket)
        load = self._load(self._waiting.place_of(claim), now_ns)
        match admit(load, usable_s, DRAIN_RETRY_AFTER_S, self._cost):
            case Refused() as refused:
                self._ledger.shed(escalation.id, refused, sink)
            case Admitted() if self._exceeds_backlog(claim, load, now_ns):
                refused = self._refuse(ShedReason.BACKLOG, load)
                self._ledger.shed(escalation.id, refused, sink)
            case Admitted():
                self._enqueue(claim, load, now_ns)

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

    def _enqueue(self, claim: Claim[Ticket], load: Load, now_ns: int) -> None:
        """Lets an admitted request wait, if need be in the place of a less valuable one."""
        committed = self._committed()
        bytes_max = self._limits.queue_bytes_max + self._waiting.size_bytes - self._queued_bytes
        if committed + len(self._waiting) == 0:
            bytes_max = claim.size_bytes  # or a crop above the limit would be shed for ever
        given_up = self._waiting.make_room(
            claim, self._limits.queue_requests_max - committed, bytes_max
        )
        if given_up is None:
            refused = self._refuse(ShedReason.QUEUE_FULL, load)
            self._ledger.shed(claim.item.escalation.id, refused, claim.item.sink)
            return
        for gone in given_up:
            its_load = self._load(self._waiting.place_of(gone), now_ns)
            self._shed(gone.item, self._refuse(ShedReason.QUEUE_FULL, its_load))
        self._ledger.open(claim.item)
        self._waiting.add(claim, now_ns)
        self._queued_bytes += claim.size_bytes
        self._feed_decoder(now_ns)

    def _refuse(self, reason: ShedReason, load: Load) -> Refused:
        return Refused(reason, retry_after_s(reason, load, self._cost))

    def _committed(self) -> int:
        """How many requests have left the queue and are not in a batch yet."""
        return len(self._decoding) + len(self._ready) + len(self._alone)

    def _load(self, place: int, now_ns: int) -> Load:
        """The work before a request that has so many others before it in the queue."""
        left_s = 0.0
        if self._running:
            until_ns = after_s(self._running_since_ns, self._cost.predict(len(self._running)))
            left_s = max(elapsed_s(now_ns, until_ns), 0.0)
        return Load(
            ahead=self._committed() + place,
            running=len(self._running),
            running_left_s=left_s,
            decoding_s=self._predict_decoding_s(place),
            draining=self._draining,
        )

    def _predict_decoding_s(self, place: int) -> float:
        return self._decoding_cost.predict_wait_s(len(self._decoding) + place)

    def _shed_late(self, now_ns: int) -> None:
        """Gives up what can no longer be answered in time, early enough to ask again."""
        now = self._load(0, now_ns)

        def load_at(place: int) -> Load:
            decoding_s = self._predict_decoding_s(place)
            return Load(
                now.ahead + place, now.running, now.running_left_s, decoding_s, now.draining
            )

        def is_late(claim: Claim[Ticket], place: int) -> bool:
            load = load_at(place)
            finish_ns = after_s(now_ns, predict_finish_s(load, self._cost))
            return finish_ns > claim.deadline_ns or self._exceeds_backlog(claim, load, now_ns)

        for claim, place in self._waiting.take_late(is_late):
            load = load_at(place)
            if claim.deadline_ns <= now_ns:
                self._expire(claim.item, ExpiryStage.QUEUE)
            elif after_s(now_ns, predict_finish_s(load, self._cost)) > claim.deadline_ns:
                self._shed(claim.item, self._refuse(ShedReason.DEADLINE, load))
            else:
                self._shed(claim.item, self._refuse(ShedReason.BACKLOG, load))

    def _exceeds_backlog(self, claim: Claim[Ticket], load: Load, now_ns: int) -> bool:
        backlog_s = elapsed_s(0, self._waiting.backlog_ns(claim.device, now_ns))
        return exceeds_backlog(backlog_s, load, self._cost)

    def _feed_decoder(self, now_ns: int) -> None:
        """Keeps the decoder ahead of the model, but not further than memory is bounded for."""
        while len(self._decoding) + len(self._ready) < self._decode_ahead:
            claim = self._waiting.pop()
            if claim is None:
                return
            ticket = claim.item
            if claim.deadline_ns <= now_ns:
                self._expire(ticket, ExpiryStage.QUEUE)
                continue
            self._decoding[ticket.number] = ticket
            escalation = ticket.escalation
            self._decoder.submit(ticket.number, escalation.image, escalation.encoding)

    def _take_crops(self) -> None:
        for crop in self._decoder.take():
            ticket = self._decoding.pop(crop.ticket)
            self._metrics.decode_seconds.observe(crop.seconds)
            self._decoding_cost.observe(crop.seconds)
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
        now_ns = self._clock.now_ns()
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
                # With the way to the thread and back, which a busy event loop makes longer.
                took_s = max(result.seconds, elapsed_s(self._running_since_ns, now_ns))
                self._cost.observe(len(crops), took_s, now_ns)
        return finished

    def _advance(self) -> float | None:
        """Starts what can start; returns after how many seconds to ask again, if ever."""
        now_ns = self._clock.now_ns()
        wait_s = None
        if not self._running:
            wait_s = self._start_batch(now_ns)
            self._feed_decoder(now_ns)
            if self._running:
                self._shed_late(now_ns)
        self._feed_decoder(now_ns)
        self._metrics.queue_requests.set(len(self._waiting) + self._committed())
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
        self._running_since_ns = now_ns
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
            if not self._ledger.is_open(ticket):
                continue
            if ticket.expires_at_ns <= now_ns:
                self._ledger.close_expired(ticket, ExpiryStage.ANSWER)
            else:
                asked = ticket.escalation
                found = self._reporter.report(
                    detections, asked.region, crop.pixels, asked.proposals.boxes
                )
                self._ledger.close_answered(ticket, found, result.seconds, now_ns)

    def _shed(self, ticket: Ticket, refused: Refused) -> None:
        self._leave_queue(ticket)
        self._ledger.close_shed(ticket, refused)

    def _expire(self, ticket: Ticket, stage: ExpiryStage) -> None:
        self._leave_queue(ticket)
        self._ledger.close_expired(ticket, stage)

    def _leave_queue(self, ticket: Ticket) -> None:
        self._queued_bytes -= len(ticket.escalation.image)
