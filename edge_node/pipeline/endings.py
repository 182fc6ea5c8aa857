"""How escalations end: counted once, posted to the frame lane, and noted in the spool.

Any thread may end one that is in nobody else's hands. What comes about one that was given up is
heard on the event loop only.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_node.config import FusionSettings
from edge_node.logic.fate import Fate
from edge_node.logic.fuse import judge
from edge_node.metrics import EdgeMetrics
from edge_node.ports import Spool
from edge_node.values import (
    Cause,
    Ending,
    EscalationOutcome,
    IgnoredVerdict,
    Kept,
    News,
    Question,
)
from foundation.clock import Clock
from foundation.escalations import Answer, Verdict

_UNEXPECTED_MAX = 256


class Endings:
    """Makes and counts endings.

    Attributes:
        run_id: This run of the edge node, as the spool calls it.
        unnoted: Ids that have ended here and perhaps still wait in the spool.
    """

    def __init__(
        self,
        fusion: FusionSettings,
        spool: Spool | None,
        post: Callable[[News], None],
        metrics: EdgeMetrics,
        clock: Clock,
    ) -> None:
        self.run_id = "" if spool is None else spool.run_id
        self.unnoted: set[str] = set()
        self._unexpected: dict[str, Verdict] = {}
        self._fusion = fusion
        self._spool = spool
        self._post = post
        self._metrics = metrics
        self._clock = clock

    def finish(
        self,
        asked: Question,
        outcome: EscalationOutcome,
        cause: Cause,
        verdict: Verdict | None = None,
        kept: Kept | None = None,
    ) -> None:
        """One has ended. An answer is judged here, so that the frame lane need not.

        Args:
            asked: Which.
            outcome: How.
            cause: Why, where the outcome does not say so.
            verdict: The answer, when there is one.
            kept: What the spool had of it, where it was not fresh any more.
        """
        late, other = (None, False) if kept is None else (kept.question, kept.run != self.run_id)
        now_ns = self._clock.now_ns()
        judged = None
        if verdict is not None and isinstance(verdict.outcome, Answer):
            judged = judge(asked, verdict.outcome.detections, self._fusion)
        how = (outcome, cause, now_ns, verdict, judged, late, other)
        self.publish(asked.reason, Ending(asked.id, *how))

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

    def receive_unexpected(self, verdict: Verdict) -> None:
        """An answer about one that was given up: the spool may still have it, and is asked."""
        id_, spool = verdict.escalation_id, self._spool
        useful = isinstance(verdict.outcome, Answer) and id_ not in self.unnoted
        if spool is not None and useful and len(self._unexpected) < _UNEXPECTED_MAX:
            self._unexpected[id_] = verdict
            spool.claim(id_)
            return
        self._metrics.verdicts_ignored[IgnoredVerdict.ENDED].inc()

    def finish_claimed(self, escalation_id: str, kept: Kept | None) -> None:
        """What the spool had of it; nothing: it has ended, and the answer is ignored."""
        verdict = self._unexpected.pop(escalation_id, None)
        if kept is None or verdict is None or escalation_id in self.unnoted:
            self._metrics.verdicts_ignored[IgnoredVerdict.ENDED].inc()
            return
        self.finish(kept.question, *Fate.ANSWERED.ending, verdict, kept)
