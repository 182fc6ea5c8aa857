"""The escalation lane: from a candidate to its one ending, without ever touching a frame.

Candidates come from the frame lane's thread, are encoded in the encoder's thread, and from there on
live on the event loop. Each is sent while its verdict can still correct the live result, and is
kept by the spool meanwhile. What is no longer fresh is deferred: it waits in the spool, in this run
or a later one, and is sent as backlog. Invariant: every candidate that was offered ends exactly
once; the ending is counted here and posted to the frame lane, and noted in the spool once what it
says is published.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_node.config import EdgeSettings
from edge_node.logic.egress import digest_of, may_leave_late
from edge_node.logic.fate import Fate, fate_of, fate_of_encoded
from edge_node.logic.fresh import FreshEscalations
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.backlog import Again, Backlog
from edge_node.pipeline.endings import Endings
from edge_node.pipeline.in_hand import Entry, InHand, Keeping
from edge_node.ports import CandidateEncoder, Spool, Uplink
from edge_node.values import (
    Accepted,
    Candidate,
    Cause,
    Deferred,
    Encoded,
    Ending,
    EscalationOutcome,
    Kept,
    News,
    Repeated,
    SpoolLoss,
)
from foundation.clock import Clock, after_s, elapsed_s
from foundation.escalations import Capabilities, Escalation, Rejection, Shed, Verdict

log = logging.getLogger(__name__)

_BACKLOG_EXPIRY_S = 30.0
"""What an escalator is given for one of the backlog, whose live result nobody waits for."""
_PAUSE_S = 1.0
"""Before more of the backlog is sent to an escalator that had no time for one."""
_ATTEMPTS_MAX = 20
_KEEP_S = 2.0


class EscalationLane:
    """Implements `ports.EscalationSink` and `ports.UplinkFeed`."""

    def __init__(
        self,
        settings: EdgeSettings,
        encoder: CandidateEncoder,
        spool: Spool | None,
        post: Callable[[News], None],
        metrics: EdgeMetrics,
        clock: Clock,
    ) -> None:
        """Takes what it works with.

        Args:
            settings: Of the edge node. In shadow what would be sent is withheld.
            encoder: Compresses crops.
            spool: Keeps escalations on disk; None: they end when they are no longer fresh.
            post: Brings news to the frame lane; may be called from any thread.
            metrics: Counts endings.
            clock: The only source of time.
        """
        self._withholds = settings.policy.rollout != "enforce"
        self._egress = settings.egress
        self._egress_digest = digest_of(settings.egress)
        self._in_flight_max = settings.escalator.in_flight_max
        self._encoder = encoder
        self._spool = spool
        self._backlog: Backlog | None = None
        if spool is not None and not self._withholds:
            self._backlog = Backlog(settings, spool, clock)
        self._again = Again(settings.policy)
        self._post = post
        self._metrics = metrics
        self._clock = clock
        self._endings = Endings(settings.fusion, spool, post, metrics, clock)
        self._hand = InHand(FreshEscalations(settings.spool), metrics, clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connected = False

    # --- frame lane's thread ---

    def offer(self, candidate: Candidate) -> None:
        """Takes a candidate; where there is no room for it, it ends at once."""
        if not self._encoder.offer(candidate):
            self._endings.finish(candidate.question, *Fate.NO_ROOM.ending)

    # --- results thread ---

    def note_published(self, ending: Ending) -> None:
        """What an ending says is on disk, so the spool may note that it has ended."""
        self._endings.note_published(ending)

    # --- encoder's thread ---

    def deliver(
        self, candidate: Candidate, escalation: Escalation | None, *, may_leave: bool = True
    ) -> None:
        """Takes what the encoder made of a candidate; ends it where that is not to be sent."""
        if escalation is None:
            self._endings.finish(candidate.question, EscalationOutcome.FAILED, Cause.UNENCODABLE)
            return
        sizes = (len(escalation.image), candidate.image_bytes_max)
        fate = fate_of_encoded(*sizes, may_leave=may_leave, shadow=self._withholds)
        self._post(Encoded(escalation.id, len(escalation.image), fate is Fate.FORGONE))
        if fate is not Fate.SEND:
            self._endings.finish(candidate.question, *fate.ending)
            return
        question, value, run = candidate.question, candidate.value, self._endings.run_id
        self.call(self._admit, Kept(escalation, question, value, run, self._egress_digest))

    # --- event loop ---

    async def run(self, uplink: Uplink) -> None:
        """Runs the uplink until cancelled."""
        self.start()
        await uplink.run(self)

    def start(self) -> None:
        """Binds to the running loop; before any candidate is offered."""
        self._loop = asyncio.get_running_loop()

    async def drain(self, drain_s: float) -> None:
        """Waits for verdicts on the way; the rest stays in the spool, or ends where there is none.

        The encoder has been closed.
        """
        deadline_ns = after_s(self._clock.now_ns(), drain_s)
        await asyncio.sleep(0)  # what the encoder delivered last is admitted first
        await self._hand.wait_until(deadline_ns, lambda: not (self._connected and len(self._hand)))
        # The spool answers within a write, or its disk hangs and nothing can be promised.
        keep_by_ns = after_s(self._clock.now_ns(), _KEEP_S)
        await self._hand.wait_until(
            keep_by_ns,
            lambda: all(one.keeping is not Keeping.WRITING for _, one in self._hand.items()),
        )
        for escalation_id, entry in self._hand.items():
            if entry.keeping is Keeping.YES:
                self._defer(escalation_id)
            else:
                self._end(escalation_id, EscalationOutcome.FAILED, Cause.SHUTDOWN)

    async def next_escalation(self) -> Escalation:
        """Waits until there is something to send and room in flight; fresh before backlog."""
        while True:
            now_ns, wait_s = self._clock.now_ns(), None
            if self._hand.in_flight < self._in_flight_max:
                escalation = self._hand.fresh.take()
                if escalation is None and self._backlog is not None:
                    escalation = self._take_backlog(self._backlog, now_ns)
                    wait_s = self._backlog.wait_s(now_ns)
                if escalation is not None:
                    self._hand.launch(escalation.id)
                    return escalation
            await self._hand.wait_for_change(wait_s)

    def note_sent(self, escalation_id: str, size_bytes: int) -> None:
        """Counts the bytes of an escalation that was handed to the stream."""
        self._metrics.uplink_bytes.inc(size_bytes)
        entry = self._hand.get(escalation_id)
        if entry is not None:
            entry.sent = True

    def receive(self, verdict: Verdict) -> None:
        """Takes a verdict; one for an escalation that has ended changes nothing."""
        id_, outcome = verdict.escalation_id, verdict.outcome
        entry = self._hand.get(id_)
        if entry is None:
            self._endings.receive_unexpected(verdict)
            return
        fate = fate_of(outcome)
        if isinstance(outcome, Rejection):
            log.warning("escalation rejected (%s): %s", outcome.reason, outcome.message)
        if isinstance(outcome, Shed):
            self._shed(id_, entry, outcome.retry_after_s)
        elif fate is Fate.SEND:
            self._give_up(id_, EscalationOutcome.EXPIRED)
        else:
            if fate is Fate.ANSWERED:
                late_s = elapsed_s(entry.question.captured_at_ns, self._clock.now_ns())
                self._metrics.verdict_latency.observe(late_s)
            self._end(id_, *fate.ending, verdict if fate is Fate.ANSWERED else None)

    def postpone(self, escalation_id: str, pause_s: float) -> None:
        """One that `next_escalation` gave is not sent; it may be given again after a pause."""
        entry = self._hand.get(escalation_id)
        if entry is not None:
            self._shed(escalation_id, entry, pause_s)

    def refuse(self, escalation_id: str) -> None:
        """Ends an escalation that is larger than this escalator takes."""
        self._end(escalation_id, *Fate.TOO_LARGE.ending)

    def set_capabilities(self, capabilities: Capabilities) -> None:
        """Tells the frame lane what the escalator that has been reached takes."""
        self._post(Accepted(frozenset(capabilities.encodings)))

    def set_connected(self, connected: bool, *, broken: bool = False) -> None:
        """Notes that a stream is open, or has ended: what was in flight then waits again.

        Args:
            connected: Whether one is open.
            broken: It was cut, perhaps over what was sent, and was not refused or ended in order.
        """
        self._connected = connected
        self._metrics.uplink_connected.set(connected)
        for escalation_id, entry in () if connected else self._hand.items():
            if not entry.in_flight:
                continue
            attempted = broken and entry.sent
            self._hand.land(entry)
            if entry.kept is None:
                self._send_again(escalation_id, entry)
            elif entry.keeping is Keeping.NO:
                self._give_up(escalation_id, EscalationOutcome.EXPIRED)
            elif attempted and entry.kept.attempts + 1 >= _ATTEMPTS_MAX:
                self._end(escalation_id, EscalationOutcome.FAILED, Cause.UNDELIVERABLE)
            else:
                self._defer(escalation_id, attempted=attempted)
        if not (connected or broken or self._backlog is None):
            self._backlog.pause(_PAUSE_S)
        self._hand.note_change()

    # --- fresh ones ---

    def _admit(self, fresh: Kept) -> None:
        # Here and not before: what the spool says of it must find it in hand.
        writing = self._spool is not None and self._spool.append(fresh)
        keeping = Keeping.WRITING if writing else Keeping.NO
        self._hand.admit(fresh.escalation, fresh.question, keeping, self._give_up)
        for evicted in self._hand.fresh.put(fresh.escalation, fresh.value):
            self._give_up(evicted, EscalationOutcome.EVICTED)
        self._hand.note_change()

    def _shed(self, escalation_id: str, entry: Entry, retry_after_s: float) -> None:
        """Asks again later where the cloud's pause leaves time for it."""
        if entry.kept is not None and self._backlog is not None:
            self._backlog.pause(retry_after_s)
        left_s = elapsed_s(self._clock.now_ns(), entry.expires_at_ns)
        if entry.kept is not None or retry_after_s >= left_s:
            self._give_up(escalation_id, EscalationOutcome.SHED)
            return
        self._hand.land(entry)
        if entry.retry is None:
            self._hand.retry_after(retry_after_s, escalation_id, self._retry)
        self._hand.note_change()

    def _retry(self, escalation_id: str) -> None:
        entry = self._hand.get(escalation_id)
        if entry is not None and entry.stale is None:
            entry.retry = None
            self._send_again(escalation_id, entry)
            self._hand.note_change()

    def _send_again(self, escalation_id: str, entry: Entry) -> None:
        """A fresh one waits again, once the budget has its bytes once more; or its time ends."""
        if entry.sent:
            wait_s = self._again.pay(entry.size_bytes, self._clock.now_ns())
            if wait_s > 0:
                self._hand.retry_after(wait_s, escalation_id, self._retry)
                return
            self._post(Repeated(entry.size_bytes))
        self._hand.fresh.give_back(escalation_id)

    def _give_up(self, escalation_id: str, outcome: EscalationOutcome) -> None:
        """It is no longer wanted here: it waits in the spool, or ends like this if it cannot."""
        entry = self._hand.get(escalation_id)
        if entry is None:
            return
        if entry.keeping is Keeping.YES:
            if entry.kept is not None and self._backlog is not None:
                self._backlog.pause(_PAUSE_S)
            self._defer(escalation_id)
        elif entry.keeping is Keeping.WRITING:
            entry.stale = outcome
            self._hand.land(entry)
            self._hand.fresh.discard(escalation_id)
            self._hand.note_change()
        elif entry.kept is not None:  # its file was damaged since it was handed out
            self._end(escalation_id, EscalationOutcome.FAILED, Cause.DAMAGED)
        else:
            cause = Cause.SPOOL_FULL if outcome is EscalationOutcome.EVICTED else Cause.NONE
            self._end(escalation_id, outcome, cause)

    # --- the spool and the backlog ---

    def _defer(self, escalation_id: str, *, attempted: bool = False) -> None:
        """Leaves it to the spool."""
        entry = self._close(escalation_id)
        if entry is None or self._spool is None:
            return
        self._spool.give_back(escalation_id, attempted=attempted)
        if entry.kept is None:
            self._metrics.storage.deferred.inc()
            self._post(Deferred(escalation_id))

    def _take_backlog(self, backlog: Backlog, now_ns: int) -> Escalation | None:
        kept = backlog.next(now_ns)
        if kept is None:
            return None
        escalation = replace(kept.escalation, expires_at_ns=after_s(now_ns, _BACKLOG_EXPIRY_S))
        self._hand.admit(escalation, kept.question, Keeping.YES, self._give_up, kept)
        return escalation

    def hear_kept(self, escalation_ids: Sequence[str], keeping: Keeping) -> None:
        """What was appended is on disk, or cannot be kept."""
        for escalation_id in escalation_ids:
            entry = self._hand.get(escalation_id)
            if entry is None:
                continue  # it has ended already
            entry.keeping = keeping
            if entry.stale is not None:
                self._give_up(escalation_id, entry.stale)
        self._hand.note_change()

    def hear_backlog(self, backlog: Sequence[Kept]) -> None:
        """What the backlog asked for."""
        if self._backlog is None:
            return
        # What has ended here but is not yet noted, or is still open here, stays handed out. The
        # spool may have read these before it was told, for a slow disk takes its time.
        busy = self._endings.unnoted.union(self._hand.ids)
        wanted = []
        for kept in backlog:
            if kept.question.id in busy:
                continue
            if may_leave_late(self._egress, kept.escalation, kept.egress):
                wanted.append(kept)
            else:
                self._endings.finish(kept.question, *Fate.FORBIDDEN.ending, kept=kept)
        self._backlog.note(wanted)
        self._hand.note_change()

    def hear_ended(self, escalation_ids: Sequence[str]) -> None:
        """The spool knows of these too, so it hands them out no more."""
        self._endings.unnoted.difference_update(escalation_ids)

    def hear_claimed(self, escalation_id: str, kept: Kept | None) -> None:
        """Whether the spool has what an unexpected verdict is about."""
        self._endings.finish_claimed(escalation_id, kept)

    def hear_gone(self, reason: str, ending: Ending) -> None:
        """The spool has let go of one."""
        self._close(ending.escalation_id)
        self._endings.publish(reason, ending)

    def hear_lost(self, reason: str, ending: Ending) -> None:
        """The spool's file was damaged: what waited there has ended, what is in hand goes on."""
        escalation_id = ending.escalation_id
        entry = self._hand.get(escalation_id)
        if entry is None and escalation_id not in self._endings.unnoted:
            if self._backlog is not None:
                self._backlog.drop(escalation_id)
            self._endings.publish(reason, ending)
        elif entry is not None and entry.keeping is Keeping.YES:
            entry.keeping = Keeping.NO
            if entry.kept is None:
                self._metrics.storage.losses[SpoolLoss.DISK].inc()

    # --- endings ---

    def _end(
        self,
        escalation_id: str,
        outcome: EscalationOutcome,
        cause: Cause = Cause.NONE,
        verdict: Verdict | None = None,
    ) -> None:
        entry = self._close(escalation_id)
        if entry is not None:
            self._endings.finish(entry.question, outcome, cause, verdict, entry.kept)

    def _close(self, escalation_id: str) -> Entry | None:
        """Takes it out of hand."""
        if self._backlog is not None:
            self._backlog.release(escalation_id)
        return self._hand.close(escalation_id)

    # --- any thread ---

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Calls a method of this lane on the event loop."""
        if self._loop is None:
            raise RuntimeError("the escalation lane takes crops only while it runs")
        # After the loop nobody listens: what was not noted is found in the spool by the next run.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
