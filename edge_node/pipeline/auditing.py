"""The audit of what the edge was sure of: draws, how they ended, and what they say, as metrics.

Runs in the frame lane's thread; `pipeline.asking` sends what is drawn here.
"""

from __future__ import annotations

import math
import uuid

import numpy as np

from edge_node.config import EdgeSettings
from edge_node.logic.audit import AuditSampler
from edge_node.logic.audit_estimate import Draw
from edge_node.logic.reconcile import Fusion
from edge_node.logic.reporting import Reporting
from edge_node.logic.rows import Rows, observed_boxes
from edge_node.logic.view import View
from edge_node.metrics import EdgeMetrics
from edge_node.values import AuditLoss, Ending, EscalationOutcome
from foundation.clock import elapsed_s

_ESTIMATE_S = 10.0


class Auditing:
    """Owns the sample and the audits that are on their way. Does nothing where none is wanted.

    Of tracks that ended while their question was open it remembers what the edge did with them, as
    long as that question has not ended: bounded by the escalations outstanding.
    """

    def __init__(self, settings: EdgeSettings, reporting: Reporting, metrics: EdgeMetrics) -> None:
        """Takes what the system stands by."""
        self._reporting = reporting
        self._metrics = metrics
        self._sampler: AuditSampler | None = None
        self._open: dict[str, Draw] = {}
        self._awaited: dict[int, bool] = {}
        self._estimated_at_ns = 0
        self._changed = False
        audit = settings.policy.audit
        if audit.audits_per_h > 0:
            self._sampler = AuditSampler(
                audits_per_h=audit.audits_per_h,
                window_s=audit.window_s,
                place_side_px=settings.crop.side_min_px,
                seed=uuid.uuid4().hex,
                camera=settings.camera,
            )

    def foresees(self, track_id: int) -> bool:
        """Whether a track would be drawn now, so that its crop should be held."""
        return self._sampler is not None and self._sampler.foresees(track_id)

    def draw_track(self, row: Rows, now_ns: int) -> Draw | None:
        """Counts a track (1,) that ended without a verdict, and draws it or not.

        One whose question is open is counted when that ends without an answer.
        """
        known = row["answered"][0] or row["from_cloud"][0]
        if self._sampler is None or known or row["double_of"][0]:
            return None
        stands = bool(self._reporting.stands(row)[0])
        track_id = int(row["track_id"][0])
        if row["pending"][0]:
            self._awaited[track_id] = stands
            return None
        return self._note(self._sampler.draw_track(track_id, reported=stands, now_ns=now_ns))

    def draw_place(self, rows: Rows, view: View) -> Draw | None:
        """Counts the empty place of a frame that the model looked at; draws it or not.

        One that is hidden in part is none: what the cloud cannot see it cannot find.
        """
        if self._sampler is None:
            return None
        place = self._sampler.empty_place(view.sequence, observed_boxes(rows), *view.size)
        if place is None:
            return None
        box = np.array([[place.x1, place.y1, place.x2, place.y2]], np.float32)
        if view.redaction.hidden_shares(box)[0] > 0:
            return None
        return self._note(self._sampler.draw_place(view.sequence, place, view.now_ns))

    def open(self, escalation_id: str, draw: Draw) -> None:
        """The audit of a draw is on its way."""
        self._open[escalation_id] = draw

    def end(self, ending: Ending, fusion: Fusion, now_ns: int) -> None:
        """An escalation has ended: the audit that it was, or what it asked about ended tracks."""
        answered = ending.outcome is EscalationOutcome.ANSWERED
        draw = self._open.pop(ending.escalation_id, None)
        if draw is None:
            if not ending.other_run:
                self._settle_awaited(ending.outcome, fusion, now_ns)
        elif self._sampler is None or not answered:
            self.lose(draw, AuditLoss.UNANSWERED)
        else:
            wrong = self._sampler.answer(draw, fusion.findings)
            if wrong is None:
                self.lose(draw, AuditLoss.UNDECIDED)
            else:
                self._count(draw, "wrong" if wrong else "right")

    def lose(self, draw: Draw, cause: AuditLoss) -> None:
        """The audit of a draw will have no answer."""
        if self._sampler is not None:
            self._sampler.lose(draw)
            self._count(draw, "lost")
            self._metrics.audit_losses[cause].inc()

    def show(self, now_ns: int) -> None:
        """Shows what the audits say of silent errors, now and then: it takes a millisecond."""
        due = elapsed_s(self._estimated_at_ns, now_ns) >= _ESTIMATE_S
        if self._sampler is None or not self._changed or not due:
            return
        self._estimated_at_ns, self._changed = now_ns, False
        estimate = self._sampler.estimate(now_ns)
        rates = {stratum.value: rate for stratum, rate in estimate.strata.items()}
        rates |= {"misses": estimate.misses, "overall": estimate.overall}
        for kind, rate in rates.items():
            point = math.nan if rate.rate.point is None else rate.rate.point
            gauges = {"low": rate.rate.low, "point": point, "high": rate.rate.high}
            for bound, value in gauges.items():
                self._metrics.silent_errors[kind, bound].set(value)

    def _settle_awaited(self, outcome: EscalationOutcome, fusion: Fusion, now_ns: int) -> None:
        """Counts the ended tracks that a question asked about, if it got no answer.

        What was withheld counts as answered, as it does while tracks live; so does what the answer
        to a neighbour's question shows whole.
        """
        subjects = () if fusion.question is None else fusion.question.subjects
        known = outcome in (EscalationOutcome.ANSWERED, EscalationOutcome.WITHHELD)
        shown = {
            one.subject for one in fusion.findings if one.standing.whole and one.detection >= 0
        }
        for number, subject in enumerate(subjects):
            if not subject.asked and number not in shown:
                continue
            stands = self._awaited.pop(subject.track_id, None)
            if stands is None or known or self._sampler is None:
                continue
            draw = self._note(
                self._sampler.draw_track(subject.track_id, reported=stands, now_ns=now_ns)
            )
            if draw is not None:
                self.lose(draw, AuditLoss.UNANSWERED)

    def _note(self, draw: Draw | None) -> Draw | None:
        if draw is not None:
            self._count(draw, "drawn")
        return draw

    def _count(self, draw: Draw, event: str) -> None:
        self._metrics.audits[draw.stratum.value, event].inc()
        self._changed = True
