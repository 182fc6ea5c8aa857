"""Asks about what a frame shows, and hears how it ended: the frame lane's half of the escalations.

Runs in the frame lane's thread, after the frame has been published. Owns the policy, the lookout,
the audit sample and the open questions' payments. In shadow it decides, pays and counts, and sends
nothing.
"""

from __future__ import annotations

import math
import uuid

import numpy as np

from edge_node.config import EdgeSettings
from edge_node.logic.audit import AuditSampler
from edge_node.logic.audit_estimate import Draw
from edge_node.logic.fuse import Finding
from edge_node.logic.lookout import Lookout, Sight
from edge_node.logic.plan import Planner
from edge_node.logic.policy import Decision, Policy, View
from edge_node.logic.reconcile import Fusion, Reconciler
from edge_node.logic.records import reported
from edge_node.logic.rows import Rows, observed_boxes
from edge_node.logic.spending import Reservation
from edge_node.logic.worth import Worth
from edge_node.metrics import EdgeMetrics
from edge_node.ports import AskingRules, EscalationSink
from edge_node.values import (
    Accepted,
    Candidate,
    Encoded,
    Ending,
    EscalationOutcome,
    Reason,
    Suppression,
)
from foundation.clock import Clock, after_s, elapsed_s
from foundation.escalations import LabelledBoxes
from foundation.frames import Pixels, Scores
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES

_ESTIMATE_S = 10.0


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
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        policy = settings.policy
        self._levels = rules.gains.parsed_levels
        limits = rules.limits
        self._worth = Worth(policy, rules.class_costs)
        self._policy = Policy(
            policy,
            rules.gains,
            Planner(rules.gains, settings.crop),
            rules.aim,
            self._worth,
            (limits.low, limits.high, limits.report),
        )
        self._lookout = Lookout(policy.missed, settings.crop, limits.low, rules.ordinary)
        self._audit: AuditSampler | None = None
        if policy.audit.audits_per_h > 0:
            self._audit = AuditSampler(
                audits_per_h=policy.audit.audits_per_h,
                window_s=policy.audit.window_s,
                place_side_px=settings.crop.side_min_px,
                seed=uuid.uuid4().hex,
                camera=settings.camera,
            )
        self._payments: dict[str, Reservation] = {}
        self._draws: dict[str, Draw] = {}
        self._frame_size = (0, 0)
        self._estimated_at_ns = 0
        self._audits_changed = False

    def decide(
        self,
        rows: Rows,
        sequence: int,
        captured_at_ns: int,
        pixels: Pixels,
        scores: Scores,
        *,
        scene_moves: bool,
    ) -> None:
        """Asks about the present frame, which the model has looked at and which is published.

        Args:
            rows: The track table; the policy marks it.
            sequence: Number of the frame.
            captured_at_ns: When it was captured.
            pixels: uint8 BGR (height, width, 3).
            scores: Calibrated, of all its detections.
            scene_moves: Whether the scene moves as a whole.
        """
        now_ns = self._clock.now_ns()
        if self._sink is None or self._settings.policy.rollout == "off":
            self._policy.suppress_all(rows)
            self._count_suppressed()
            return
        view = View(sequence, captured_at_ns, now_ns, pixels)
        self._frame_size = view.size
        self._worth.note_frame(sequence, captured_at_ns)
        sights = list(self._lookout.look(rows, pixels, scores, scene_moves=scene_moves))
        self._metrics.novel.set(self._lookout.novel)
        for decision in self._policy.consider(rows, view, self._lookout.temper(rows["score"])):
            self._send(rows, view, decision)
        self._count_suppressed()
        for sight in sights:
            self._ask_about(rows, view, sight)
        if self._audit is not None:
            self._audit_place(rows, view)
            self._estimate(now_ns)
        self._show_prices(now_ns)

    def hear_size(self, news: Encoded) -> None:
        """The encoded size of a crop settles what was paid."""
        reservation = self._payments.pop(news.escalation_id, None)
        if reservation is None:
            return
        question = self._reconciler.question(news.escalation_id)
        subjects = () if question is None else question.subjects
        proposals = sum(subject.asked for subject in subjects)
        size = news.size_bytes + FRAMING_BYTES + PROPOSAL_BYTES * proposals
        self._policy.settle(reservation, size)
        self._metrics.escalation_bytes.inc(size)

    def hear_accepted(self, news: Accepted) -> None:
        """What the connected escalator decodes limits the levels."""
        usable = np.array([level.encoding in news.encodings for level in self._levels], np.bool_)
        self._policy.use(Planner(self._rules.gains, self._settings.crop, usable))

    def hear_end(self, ending: Ending, fusion: Fusion) -> None:
        """An escalation has ended: its latency, its gain, its audit."""
        reservation = self._payments.pop(ending.escalation_id, None)
        if reservation is not None:  # it ended before it was encoded
            self._policy.settle(reservation, 0)
        question = fusion.question
        draw = self._draws.pop(ending.escalation_id, None)
        if question is None:
            return
        if ending.outcome is EscalationOutcome.ANSWERED:
            self._worth.latency.learn(elapsed_s(question.captured_at_ns, ending.ended_at_ns))
            self._metrics.realized_gain.inc(fusion.gain)
            if draw is not None:
                self._book(draw, fusion.findings)
        else:
            if ending.outcome in (EscalationOutcome.EXPIRED, EscalationOutcome.SHED):
                self._worth.latency.learn(None)
            if draw is not None:
                self._lose(draw)

    def close(self, rows: Rows) -> None:
        """Tracks end: of those that nobody was asked about, some are drawn for the audit.

        Before their records are closed, so that the verdict can still revise them.
        """
        for position in range(len(rows)):
            row = rows[position : position + 1]
            track_id = int(row["track_id"][0])
            moment = self._policy.moments.forget(track_id)
            asked = row["pending"][0] or row["answered"][0] or row["from_cloud"][0]
            if self._audit is None or asked or self._sink is None:
                continue
            stands = bool(reported(row, self._rules.limits.report)[0])
            now_ns = self._clock.now_ns()
            draw = self._audit.draw_track(track_id, reported=stands, now_ns=now_ns)
            if draw is None:
                continue
            self._count_audit(draw, "drawn")
            paid = None if moment is None else self._policy.pay_for_moment(moment, now_ns)
            if moment is None or paid is None or isinstance(paid, Suppression):
                self._lose(draw)
                continue
            ask, reservation = paid
            score = float(row["score"][0])
            decision = Decision(
                ask.region,
                ask.level,
                (),
                Reason.AUDIT,
                1.0,
                score * (1 - score),
                reservation,
                moment,
            )
            self._send(row, None, decision, draw)

    def _ask_about(self, rows: Rows, view: View, sight: Sight) -> None:
        """Asks about a place where nothing was detected, if that is worth its price."""
        paid = self._policy.pay(sight.region, sight.worth, view)
        if isinstance(paid, Suppression):
            self._metrics.sights_refused[sight.reason].inc()
            return
        ask, reservation = paid
        self._lookout.settle(sight, rows)
        decision = Decision(
            ask.region, ask.level, (), sight.reason, ask.value, sight.worth, reservation
        )
        self._send(rows, view, decision)

    def _audit_place(self, rows: Rows, view: View) -> None:
        """Draws the empty place of this frame, or does not."""
        assert self._audit is not None
        place = self._audit.empty_place(view.sequence, observed_boxes(rows), *view.size)
        if place is None:
            return
        draw = self._audit.draw_place(view.sequence, place, view.now_ns)
        if draw is None:
            return
        self._count_audit(draw, "drawn")
        paid = self._policy.pay(place, 1.0, view, by_lot=True)
        if isinstance(paid, Suppression):
            self._lose(draw)
            return
        ask, reservation = paid
        decision = Decision(ask.region, ask.level, (), Reason.AUDIT, 1.0, 0.0, reservation)
        self._send(rows, view, decision, draw)

    def _send(
        self, rows: Rows, view: View | None, decision: Decision, draw: Draw | None = None
    ) -> None:
        """Makes an escalation of a decision and offers it; in shadow, only counts it."""
        policy = self._settings.policy
        self._metrics.asks[decision.reason].inc()
        self._metrics.forecast_gain.inc(decision.gain)
        self._metrics.forecast_bytes.inc(decision.reservation.size_bytes)
        if policy.rollout == "shadow" or self._sink is None:
            asked = list(decision.asked)
            rows["pending"][asked] = False
            rows["answered"][asked] = True
            if draw is not None:
                self._lose(draw)
            return
        moment = decision.moment
        sequence, captured_at_ns = _moment_of(decision, view)
        question = self._reconciler.ask(
            decision,
            level=str(self._levels[decision.level]),
            escalation_id=uuid.uuid4().hex,
            sequence=sequence,
            captured_at_ns=captured_at_ns,
            expires_at_ns=after_s(captured_at_ns, policy.expiry_s),
            frame_size=self._frame_size,
        )
        if moment is not None:
            crop = moment.pixels
        else:
            assert view is not None
            region = decision.region
            crop = view.pixels[region.y1 : region.y2, region.x1 : region.x2].copy()
        subjects = [subject for subject in question.subjects if subject.asked]
        proposals = LabelledBoxes(
            np.array([subject.box for subject in subjects], np.float32).reshape(-1, 4),
            np.clip(np.array([subject.score for subject in subjects], np.float32), 0, 1),
            tuple(subject.label for subject in subjects),
        )
        self._payments[question.id] = decision.reservation
        if draw is not None:
            self._draws[question.id] = draw
        level = self._levels[decision.level]
        self._sink.offer(Candidate(question, crop, proposals, level, decision.value))

    def _book(self, draw: Draw, findings: list[Finding]) -> None:
        assert self._audit is not None
        wrong = self._audit.answer(draw, findings)
        self._count_audit(draw, "wrong" if wrong else "right")

    def _lose(self, draw: Draw) -> None:
        assert self._audit is not None
        self._audit.lose(draw)
        self._count_audit(draw, "lost")

    def _count_audit(self, draw: Draw, event: str) -> None:
        self._metrics.audits[draw.stratum.value, event].inc()
        self._audits_changed = True

    def _estimate(self, now_ns: int) -> None:
        """Shows what the audits say of silent errors, now and then: it takes a millisecond."""
        if not self._audits_changed or elapsed_s(self._estimated_at_ns, now_ns) < _ESTIMATE_S:
            return
        assert self._audit is not None
        self._estimated_at_ns, self._audits_changed = now_ns, False
        estimate = self._audit.estimate(now_ns)
        rates = {stratum.value: rate for stratum, rate in estimate.strata.items()}
        rates |= {"misses": estimate.misses, "overall": estimate.overall}
        for kind, rate in rates.items():
            point = math.nan if rate.rate.point is None else rate.rate.point
            for bound, value in (
                ("low", rate.rate.low),
                ("point", point),
                ("high", rate.rate.high),
            ):
                self._metrics.silent_errors[kind, bound].set(value)

    def _count_suppressed(self) -> None:
        for cause, count in self._policy.suppressed.items():
            self._metrics.suppressions[cause].inc(count)

    def _show_prices(self, now_ns: int) -> None:
        prices = self._rules.aim.prices(now_ns)
        self._metrics.prices["byte"].set(prices.per_byte)
        self._metrics.prices["request"].set(prices.per_request)
        self._metrics.prices["encode_second"].set(prices.per_encode_s)


def _moment_of(decision: Decision, view: View | None) -> tuple[int, int]:
    """Sequence number and capture of the frame that a decision is about."""
    if decision.moment is not None:
        return decision.moment.sequence, decision.moment.captured_at_ns
    assert view is not None
    return view.sequence, view.captured_at_ns
