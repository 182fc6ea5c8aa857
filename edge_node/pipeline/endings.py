"""How escalations end: counted once, posted to the frame lane, and noted in the spool.

Any thread may end one that is in nobody else's hands.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_node.metrics import EdgeMetrics
from edge_node.ports import Spool
from edge_node.values import Cause, Ending, EscalationOutcome, Kept, News
from foundation.clock import Clock
from foundation.escalations import Verdict


class Endings:
    """Makes and counts endings.

    Attributes:
        run_id: This run of the edge node, as the spool calls it.
        unnoted: Ids that have ended here and perhaps still wait in the spool.
    """

    def __init__(
        self, spool: Spool | None, post: Callable[[News], None], metrics: EdgeMetrics, clock: Clock
    ) -> None:
        self.run_id = "" if spool is None else spool.run_id
        self.unnoted: set[str] = set()
        self._spool = spool
        self._post = post
        self._metrics = metrics
        self._clock = clock

    def finish(
        self,
        reason: str,
        escalation_id: str,
        outcome: EscalationOutcome,
        cause: Cause,
        verdict: Verdict | None = None,
        kept: Kept | None = None,
    ) -> None:
        """One has ended.

        Args:
            reason: Why it was made.
            escalation_id: Which.
            outcome: How.
            cause: Why, where the outcome does not say so.
            verdict: The answer, when there is one.
            kept: What the spool had of it, where it was not fresh any more.
        """
        late, other = (None, False) if kept is None else (kept.question, kept.run != self.run_id)
        now_ns = self._clock.now_ns()
        self.publish(reason, Ending(escalation_id, outcome, cause, now_ns, verdict, late, other))

    def publish(self, reason: str, ending: Ending) -> None:
        """Counts an ending and brings it to the frame lane."""
        self._metrics.escalations[reason, ending.outcome].inc()
        if ending.cause is not Cause.NONE:
            self._metrics.escalation_failures[ending.cause].inc()
        if self._spool is not None:
            self.unnoted.add(ending.escalation_id)
        self._post(ending)

    def note_published(self, ending: Ending) -> None:
        """What an ending says is on disk, so the spool may note that it has ended."""
        if self._spool is not None:
            self._spool.end(ending)
