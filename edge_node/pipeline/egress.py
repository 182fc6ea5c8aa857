"""What leaves the site: the gate before the escalation lane, and the ledger behind it.

The gate runs in the encoder's thread, the ledger's feed on the event loop.
"""

from __future__ import annotations

import asyncio
import logging

from edge_node.logic.egress import EgressPolicy
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.escalation_lane import EscalationLane
from edge_node.ports import EgressLedger
from edge_node.values import Candidate
from foundation.errors import TransientError
from foundation.escalations import Capabilities, Escalation, Verdict

log = logging.getLogger(__name__)

_PAUSE_S = 1.0


class EgressGate:
    """Passes encoded crops on to the lane, and says which of them may not leave."""

    def __init__(self, policy: EgressPolicy, lane: EscalationLane, metrics: EdgeMetrics) -> None:
        self._policy = policy
        self._lane = lane
        self._metrics = metrics

    def deliver(self, candidate: Candidate, escalation: Escalation | None) -> None:
        """Takes what the encoder made of a candidate, None where it could not be encoded."""
        if escalation is None:
            self._lane.deliver(candidate, None)
            return
        refusal = self._policy.refusal(
            escalation.proposals, candidate.pixels, len(escalation.image)
        )
        if refusal is not None:
            self._metrics.storage.refusals[refusal].inc()
        self._lane.deliver(candidate, escalation, may_leave=refusal is None)


class LedgeredFeed:
    """Implements `ports.UplinkFeed`: the lane's, with an entry in the ledger before each sending.

    What cannot be entered does not leave: it waits, as if the escalator had no time for it.
    """

    def __init__(self, lane: EscalationLane, ledger: EgressLedger, metrics: EdgeMetrics) -> None:
        self._lane = lane
        self._ledger = ledger
        self._metrics = metrics
        self._said = ""

    async def next_escalation(self) -> Escalation:
        """Waits until there is something to send and room in flight, and it is entered."""
        while True:
            escalation = await self._lane.next_escalation()
            try:
                await asyncio.to_thread(self._ledger.enter, escalation)
            except TransientError as error:
                self._metrics.storage.unentered.inc()
                self._say(str(error))
                self._lane.postpone(escalation.id, _PAUSE_S)
            else:
                return escalation

    def note_sent(self, escalation_id: str, size_bytes: int) -> None:
        """Counts bytes."""
        self._lane.note_sent(escalation_id, size_bytes)

    def receive(self, verdict: Verdict) -> None:
        """Takes a verdict."""
        self._lane.receive(verdict)

    def refuse(self, escalation_id: str) -> None:
        """Ends one that is too large."""
        self._lane.refuse(escalation_id)

    def set_capabilities(self, capabilities: Capabilities) -> None:
        """What the escalator takes."""
        self._lane.set_capabilities(capabilities)

    def set_connected(self, connected: bool, *, broken: bool = False) -> None:
        """Whether a stream is open."""
        self._lane.set_connected(connected, broken=broken)

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.error("%s", text)
