"""Asks about what a frame shows, and hears how it ended: the frame lane's half of the escalations.

Runs in the frame lane's thread, after the frame has been published. Owns the policy, the lookout
and what was paid for open questions. In shadow it does the same, and what it asks is withheld.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import replace

import numpy as np

from edge_node.config import EdgeSettings
from edge_node.logic.audit_estimate import Draw
from edge_node.logic.background import Abstention
from edge_node.logic.egress import EgressPolicy
from edge_node.logic.lookout import Lookout, Sight, in_turn
from edge_node.logic.plan import Planner
from edge_node.logic.policy import Decision, Policy
from edge_node.logic.reconcile import Fusion, Reconciler
from edge_node.logic.rows import Rows, labels_of
from edge_node.logic.spending import Reservation
from edge_node.logic.view import View
from edge_node.logic.worth import Worth
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.auditing import Auditing
from edge_node.ports import AskingRules, EscalationSink
from edge_node.values import (
    Accepted,
    AuditLoss,
    Candidate,
    Encoded,
    Ending,
    EscalationOutcome,
    Question,
    Reason,
    Repeated,
    Subject,
    Suppression,
)
from foundation.clock import Clock, after_s, elapsed_s
from foundation.escalations import LabelledBoxes
from foundation.frames import Pixels, Scores
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES

_SHOW_S = 1.0


class Asking:
    """Everything that one camera asks. Single-threaded."""

    def __init__(
        self,
        settings: EdgeSettings,
        rules: AskingRules,
        reconciler: Reconciler,
        sink: EscalationSink | None,
        metrics: EdgeMetrics,
        clock: Clock,
    ) -> None:
        """Takes no sink when there is no escalator to ask."""
        self._settings = settings
        self._rules = rules
        self._reconciler = reconciler
        self._sink = None if settings.policy.rollout == "off" else sink
        self._metrics = metrics
        self._clock = clock
        self._levels = rules.gains.parsed_levels
        self._level_index = {str(level): at for at, level in enumerate(self._levels)}
        limits = rules.limits
        self._worth = Worth(settings.policy, rules.class_costs)
        self._auditing = Auditing(settings, rules.reporting, metrics)
        self._policy = Policy(
            settings.policy,
            rules.gains,
            Planner(rules.gains, settings.crop),
            rules.aim,
            self._worth,
            (limits.low, limits.high, limits.report),
            self._auditing.foresees,
            EgressPolicy(settings.egress, reconciler.labels).hidden_labels,
        )
        self._lookout = Lookout(
            settings.policy.missed,
            settings.crop,
            limits.low,
            rules.ordinary,
            whole_frames=rules.gains.frame_share > 0,
        )
        # What was decided and is not encoded yet, and the size ratio that was known then.
        self._payments: dict[str, tuple[Decision, float]] = {}
        self._has_fused = False  # something, since the last frame
        self._frame_size = (0, 0)
        self._shown_at_ns = 0

    def decide(self, rows: Rows, view: View, scores: Scores, *, scene_moves: bool) -> None:
        """Asks about the present frame, which the model has looked at and which is published.

        Args:
            rows: The track table; the policy marks it.
            view: The frame.
            scores: Calibrated, of all its detections.
            scene_moves: Whether the scene moves as a whole.
        """
        self._frame_size = view.size
        if self._sink is None:
            self._policy.suppress_all(rows)
            self._count_suppressed()
            return
        self._reconciler.foresee_additions()
        self._worth.note_frame(view.sequence, view.captured_at_ns)
        busy, self._has_fused = self._has_fused, False
        looking = self._lookout.look(rows, view.pixels, scores, scene_moves=scene_moves, busy=busy)
        sights = list(looking)
        if self._lookout.abstained is not Abstention.NONE:
            self._metrics.background_abstentions[self._lookout.abstained.value].inc()
        scores, busy = self._lookout.temper(rows["score"]), busy or self._lookout.looked
        for decision in self._policy.consider(rows, view, scores, busy=busy):
            self._send(decision, *_cut(decision, view))
        self._count_suppressed()
        for sight in in_turn(sights, view.sequence):
            self._ask_about(rows, view, sight)
        self._audit_place(rows, view)
        self._auditing.show(view.now_ns)
        if not 0.0 <= elapsed_s(self._shown_at_ns, view.now_ns) < _SHOW_S:
            self._show(view.now_ns)

    def _show(self, now_ns: int) -> None:
        self._shown_at_ns = now_ns
        metrics, prices = self._metrics, self._rules.aim.prices(now_ns)
        metrics.prices["byte"].set(prices.per_byte)
        metrics.prices["request"].set(prices.per_request)
        metrics.prices["encode_second"].set(prices.per_encode_s)
        metrics.novel.set(self._lookout.novel)
        moments = self._policy.moments
        metrics.moments.set(len(moments))
        metrics.moments_refused.inc(moments.refused)
        moments.refused = 0

    def close(self, rows: Rows) -> None:
        """Tracks end: of those that nobody was asked about, some are drawn for the audit.

        Before their records are closed, so that the verdict can still revise them.
        """
        self._policy.forget_unhidden(rows, np.arange(len(rows)))
        for position in range(len(rows)):
            row = rows[position : position + 1]
            moment = self._policy.moments.forget(int(row["track_id"][0]))
            now_ns = self._clock.now_ns()
            draw = None if self._sink is None else self._auditing.draw_track(row, now_ns)
            if draw is None:
                continue
            if moment is None:
                self._auditing.lose(draw, AuditLoss.NO_CROP)
                continue
            # What is audited is what the edge came to say, whatever it said at that moment.
            moment = replace(moment, label=int(labels_of(row)[0]))
            paid = self._policy.pay_for_moment(moment, now_ns)
            if isinstance(paid, Suppression):
                self._auditing.lose(draw, AuditLoss.UNPAID)
                continue
            ask, reservation = paid
            gain = moment.score * (1 - moment.score)
            decision = Decision(ask, (), Reason.AUDIT, gain, reservation, moment)
            when = (moment.sequence, moment.captured_at_ns)
            self._send(decision, when, moment.pixels, draw)

    def hear_size(self, news: Encoded) -> None:
        """The encoded size of a crop settles what was paid."""
        payment = self._payments.pop(news.escalation_id, None)
        question = self._reconciler.question(news.escalation_id)
        if payment is None or question is None:
            return
        decision, size_ratio = payment
        reservation, planner, level = decision.reservation, self._policy.planner, decision.ask.level
        size = news.size_bytes + FRAMING_BYTES + PROPOSAL_BYTES * len(_asked(question))
        self._metrics.size_ratio.observe(size / reservation.size_bytes)
        times = news.size_bytes * decision.ask.heaviness / max(decision.ask.image_bytes, 1)
        if decision.ask.heaviness == 1.0:  # else it is known to be unlike others
            planner.learn_size(level, size_ratio, times)
        self._policy.settle(reservation, 0 if news.forgone else size)
        if news.forgone:
            heaviness = times * size_ratio / planner.size_ratio(level)
            self._reconciler.forgo(question, heaviness, self._clock.now_ns())
            return
        # A promised risk asks also where the gain model expects harm.
        self._metrics.forecast_gain.inc(max(0.0, question.gain))
        self._metrics.forecast_bytes.inc(reservation.size_bytes)
        self._metrics.escalation_bytes.inc(size)

    def hear_accepted(self, news: Accepted) -> None:
        """What the escalator decodes limits the levels."""
        usable = np.array([level.encoding in news.encodings for level in self._levels], np.bool_)
        self._policy.planner.use(usable)

    def hear_repeated(self, news: Repeated) -> None:
        """What leaves once more is paid from what comes in next."""
        self._policy.settle(Reservation(0.0), news.size_bytes)

    def hear_deferred(self) -> None:
        """No answer came while one was of use to the live result."""
        self._worth.latency.learn(None)

    def hear_end(self, ending: Ending, fusion: Fusion) -> None:
        """An escalation has ended: its latency, its gain, its audit."""
        payment = self._payments.pop(ending.escalation_id, None)
        if payment is not None:  # it ended before it was encoded
            self._policy.settle(payment[0].reservation, 0)
        self._auditing.end(ending, fusion, self._clock.now_ns())
        if fusion.question is None:
            return
        answered = ending.outcome is EscalationOutcome.ANSWERED
        self._has_fused |= answered
        if answered:
            self._metrics.realized_gain.inc(fusion.gain)
        if ending.late is not None:
            return  # it was deferred, and that was learned then
        if answered:
            left_s = elapsed_s(ending.ended_at_ns, fusion.question.expires_at_ns)
            self._worth.latency.learn(max(0.0, self._settings.policy.expiry_s - left_s))
        elif ending.outcome in (EscalationOutcome.EXPIRED, EscalationOutcome.SHED):
            self._worth.latency.learn(None)

    def _ask_about(self, rows: Rows, view: View, sight: Sight) -> None:
        """Asks about a place where nothing was detected, if that is worth its price."""
        asked = sight.position >= 0 and rows["pending"][sight.position]
        paid = Suppression.PENDING if asked else self._policy.pay(sight.region, sight.worth, view)
        if isinstance(paid, Suppression):
            if paid is not Suppression.BUDGET_CONTENDED:  # a lock is free again with the next frame
                self._lookout.put_off(sight, rows)
            self._metrics.sights_refused[sight.reason, paid].inc()
            return
        ask, reservation = paid
        self._lookout.settle(sight, rows)
        decision = Decision(ask, (), sight.reason, sight.worth, reservation)
        self._send(decision, *_cut(decision, view))

    def _audit_place(self, rows: Rows, view: View) -> None:
        """Draws the empty place of this frame, or does not."""
        draw = self._auditing.draw_place(rows, view)
        if draw is None or draw.region is None:
            return
        paid = self._policy.pay(draw.region, 1.0, view, by_lot=True)
        if isinstance(paid, Suppression):
            self._auditing.lose(draw, AuditLoss.UNPAID)
            return
        ask, reservation = paid
        decision = Decision(ask, (), Reason.AUDIT, 0.0, reservation)
        self._send(decision, *_cut(decision, view), draw)

    def _send(
        self,
        decision: Decision,
        when: tuple[int, int],
        crop: Pixels,
        draw: Draw | None = None,
    ) -> None:
        """Makes an escalation of a decision and offers it.

        Args:
            decision: What was decided and paid.
            when: Sequence number and capture of the frame that the crop was cut from.
            crop: uint8 BGR copy of the region.
            draw: The draw that it is the audit of.
        """
        # A held moment may be older than an answer may take: the time to answer begins now.
        asked_at_ns = when[1] if decision.moment is None else self._clock.now_ns()
        self._metrics.asks[decision.reason].inc()
        if self._sink is None:
            raise RuntimeError("nothing is decided where there is nobody to ask")
        level = self._levels[decision.ask.level]
        question = self._reconciler.ask(
            decision,
            level=str(level),
            escalation_id=uuid.uuid4().hex,
            sequence=when[0],
            captured_at_ns=when[1],
            expires_at_ns=after_s(asked_at_ns, self._settings.policy.expiry_s),
            frame_size=self._frame_size,
        )
        subjects = _asked(question)
        proposals = LabelledBoxes(
            np.array([subject.box for subject in subjects], np.float32).reshape(-1, 4),
            np.clip(np.array([subject.score for subject in subjects], np.float32), 0, 1),
            tuple(subject.label for subject in subjects),
        )
        size_ratio = self._policy.planner.size_ratio(decision.ask.level)
        self._payments[question.id] = (decision, size_ratio)
        if draw is not None:
            self._auditing.open(question.id, draw)
        image_max = _image_bytes_max(decision, question)
        self._sink.offer(Candidate(question, crop, proposals, level, decision.ask.value, image_max))

    def _count_suppressed(self) -> None:
        for cause, count in self._policy.suppressed.items():
            self._metrics.suppressions[cause].inc(count)


def _asked(question: Question) -> list[Subject]:
    return [subject for subject in question.subjects if subject.asked]


def _image_bytes_max(decision: Decision, question: Question) -> float:
    """The largest image that is worth sending.

    An audit is drawn by lot, whatever its crop takes; a place without a track would not come again;
    and what a whole frame takes is known of its camera. These are sent in any case.
    """
    ask, reservation = decision.ask, decision.reservation
    if not decision.asked or ask.region.covers(question.frame_width, question.frame_height):
        return math.inf
    return ask.image_bytes + reservation.most_bytes - reservation.size_bytes


def _cut(decision: Decision, view: View) -> tuple[tuple[int, int], Pixels]:
    """When a decision's frame was, and its crop: of the held moment, or a copy of the frame's."""
    moment = decision.moment
    if moment is not None:
        return (moment.sequence, moment.captured_at_ns), moment.cut(decision.ask.region)
    return (view.sequence, view.captured_at_ns), view.cut(decision.ask.region)
