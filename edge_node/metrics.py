"""Every metric of the edge node, declared once; docs/metrics.md lists them and a test compares.

Every label set exists from the start, so that a rate over a counter that has never moved is zero
and not nothing. Children are bound at construction, because looking them up per frame costs more
than counting does. All objects are thread-safe.
"""

from __future__ import annotations

import enum
import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from edge_node.storage_metrics import StorageMetrics
from edge_node.values import (
    REFUSALS,
    AuditLoss,
    Cause,
    Effect,
    EscalationOutcome,
    FrameOutcome,
    IgnoredPart,
    IgnoredVerdict,
    NodeEvent,
    Reason,
    Suppression,
)
from foundation.certificates import CertificateMetrics

AUDIT_STRATA = ("reported", "dismissed", "empty")
SIGHTS = (Reason.GAP, Reason.BACKGROUND, Reason.NOVELTY)
ABSTENTIONS = ("learning", "moving", "everything_changed")
STAGES = ("wait", "detect", "track", "publish", "decide", "write", "encode")

_FRAME_BUCKETS = (
    *(0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.010, 0.012, 0.015, 0.020, 0.025, 0.033),
    *(0.050, 0.066, 0.1, 0.2, 0.5, 1.0),
)
_RATIO_BUCKETS = (0.25, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0, 2.8, 4.0)
_VERDICT_BUCKETS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0),
    *(1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0),
)


class LinkFailure(enum.StrEnum):
    """Why a connection to the escalator failed or broke."""

    UNAVAILABLE = "unavailable"
    NOT_AN_ESCALATOR = "not_an_escalator"
    REFUSED = "refused"
    ENDED_BY_ESCALATOR = "ended_by_escalator"
    IDENTITY = "identity"


class EdgeMetrics:
    """The metrics of one edge node with one camera."""

    def __init__(self, registry: CollectorRegistry, camera: str) -> None:
        self.camera = camera
        frames = Counter(
            "edge_frames",
            "Captured frames by how they ended; each ends in exactly one outcome.",
            ["camera", "outcome"],
            registry=registry,
        )
        self.frames = {
            outcome: frames.labels(camera=camera, outcome=outcome.value) for outcome in FrameOutcome
        }
        stages = Histogram(
            "edge_stage_seconds",
            "Time a frame or crop spends in one stage.",
            ["camera", "stage"],
            buckets=_FRAME_BUCKETS,
            registry=registry,
        )
        self.stages = {stage: stages.labels(camera=camera, stage=stage) for stage in STAGES}
        self.frame_latency = Histogram(
            "edge_frame_latency_seconds",
            "From capture to publication, of every frame that the lane took, coasted and failed "
            "ones included.",
            ["camera"],
            buckets=_FRAME_BUCKETS,
            registry=registry,
        ).labels(camera=camera)
        self.predicted_cost = Gauge(
            "edge_predicted_cost_seconds",
            "What the next frame is predicted to cost.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)
        self.results_dropped = Counter(
            "edge_results_dropped",
            "Result records dropped because the results file or pipe did not keep up.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)
        self._register_tracks(registry, camera)
        self._register_escalation(registry, camera)
        self._register_policy(registry, camera)
        self._register_audit(registry, camera)
        self._register_uplink(registry)
        self.bundle_info = Gauge(
            "edge_bundle_info",
            "Constant 1; the labels say which bundle runs.",
            ["camera", "model", "version", "digest"],
            registry=registry,
        )

    def count_node_event(self, event: NodeEvent) -> None:
        """Counts what happened to the node's budget."""
        self.node_budget_events[event].inc()

    def frame_counts(self) -> dict[str, int]:
        """Frames so far by outcome, without the outcomes that did not occur."""
        counts = {
            outcome.value: int(next(iter(child.collect())).samples[0].value)
            for outcome, child in self.frames.items()
        }
        return {name: count for name, count in counts.items() if count}

    def _register_tracks(self, registry: CollectorRegistry, camera: str) -> None:
        self.tracks = Gauge(
            "edge_tracks", "Tracks alive, unconfirmed ones included.", ["camera"], registry=registry
        ).labels(camera=camera)
        self.tracks_refused = Counter(
            "edge_tracks_refused",
            "Detections that started no track because tracks.tracks_max were alive.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)
        self.tracks_joined = Counter(
            "edge_tracks_joined",
            "Tracks that ended because they turned out to be another one, too.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)

    def _register_escalation(self, registry: CollectorRegistry, camera: str) -> None:
        escalations = Counter(
            "edge_escalations",
            "Escalations by why they were made and how they ended; each ends exactly once.",
            ["camera", "reason", "outcome"],
            registry=registry,
        )
        self.escalations = {
            (reason.value, outcome): escalations.labels(
                camera=camera, reason=reason.value, outcome=outcome.value
            )
            for reason in Reason
            for outcome in EscalationOutcome
        }
        failures = Counter(
            "edge_escalation_failures",
            "Escalations that ended as failed or evicted, by cause.",
            ["camera", "cause"],
            registry=registry,
        )
        self.escalation_failures: dict[Cause, Counter] = {
            cause: failures.labels(camera=camera, cause=cause.value)
            for cause in Cause
            if cause is not Cause.NONE
        }
        suppressions = Counter(
            "edge_suppressions",
            "Tracks about which the policy did not ask, by cause; a track counts once per change.",
            ["camera", "reason"],
            registry=registry,
        )
        self.suppressions: dict[Suppression, Counter] = {
            cause: suppressions.labels(camera=camera, reason=cause.name.lower())
            for cause in Suppression
            if cause is not Suppression.NONE
        }
        verdicts = Counter(
            "edge_verdicts",
            "Corrections made by verdicts, by what they changed about a track.",
            ["camera", "effect"],
            registry=registry,
        )
        self.verdicts = {
            effect: verdicts.labels(camera=camera, effect=effect.value) for effect in Effect
        }
        self.verdict_latency = Histogram(
            "edge_verdict_latency_seconds",
            "From the capture of the frame to the arrival of the verdict.",
            buckets=_VERDICT_BUCKETS,
            registry=registry,
        )

    def _register_policy(self, registry: CollectorRegistry, camera: str) -> None:
        asks = Counter(
            "edge_policy_asks",
            "Escalations that the policy decided on, in shadow too, by why.",
            ["camera", "reason"],
            registry=registry,
        )
        self.asks = {reason: asks.labels(camera=camera, reason=reason.value) for reason in Reason}
        self.forecast_bytes = Counter(
            "edge_policy_forecast_bytes",
            "Bytes that escalations were predicted to take, those forgone left out, in shadow too.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)
        self.forecast_gain = Counter(
            "edge_policy_forecast_gain",
            "Gain that was predicted of their answers: change of the quadratic score, see docs.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)
        self.realized_gain = Counter(
            "edge_policy_realized_gain",
            "Gain of the answers that came, the cloud taken as right.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)
        self.escalation_bytes = Counter(
            "edge_escalation_bytes",
            "Bytes of escalations as encoded, each counted once; compare with the forecast.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)
        self.size_ratio = Histogram(
            "edge_escalation_size_ratio",
            "Bytes of an escalation as encoded over those predicted of it, forgone ones too.",
            ["camera"],
            buckets=_RATIO_BUCKETS,
            registry=registry,
        ).labels(camera=camera)
        prices = Gauge(
            "edge_policy_price",
            "What one unit of a resource costs at present, in units of gain.",
            ["camera", "resource"],
            registry=registry,
        )
        self.prices = {
            resource: prices.labels(camera=camera, resource=resource)
            for resource in ("byte", "request", "encode_second")
        }
        self._register_stores(registry, camera)
        self._register_lookout(registry, camera)

    def _register_stores(self, registry: CollectorRegistry, camera: str) -> None:
        self.moments = Gauge(
            "edge_moments", "Crops held of tracks' best moments.", ["camera"], registry=registry
        ).labels(camera=camera)
        self.moments_refused = Counter(
            "edge_moments_refused",
            "How often a track's moment was not held because as many were as may be.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)
        events = Counter(
            "edge_node_budget_events",
            "What happened to the budget that the cameras of this machine share.",
            ["camera", "event"],
            registry=registry,
        )
        self.node_budget_events = {
            event: events.labels(camera=camera, event=event.value) for event in NodeEvent
        }

    def _register_lookout(self, registry: CollectorRegistry, camera: str) -> None:
        refused = Counter(
            "edge_sights_refused",
            "How often a place without a detection was not asked about, by why it might have been "
            "and why it was not.",
            ["camera", "reason", "cause"],
            registry=registry,
        )
        self.sights_refused = {
            (reason, cause): refused.labels(
                camera=camera, reason=reason.value, cause=cause.name.lower()
            )
            for reason in SIGHTS
            for cause in (*REFUSALS, Suppression.PENDING)
        }
        abstentions = Counter(
            "edge_background_abstentions",
            "Frames in which the background was looked at and nothing can be said about change.",
            ["camera", "cause"],
            registry=registry,
        )
        self.background_abstentions = {
            cause: abstentions.labels(camera=camera, cause=cause) for cause in ABSTENTIONS
        }
        self.novel = Gauge(
            "edge_novel",
            "1 while frames are unlike the ordinary ones that the bundle knows.",
            ["camera"],
            registry=registry,
        ).labels(camera=camera)

    def _register_audit(self, registry: CollectorRegistry, camera: str) -> None:
        audits = Counter(
            "edge_audits",
            "Audits of what the edge was sure of: drawn, and how they came out.",
            ["camera", "stratum", "event"],
            registry=registry,
        )
        self.audits = {
            (stratum, event): audits.labels(camera=camera, stratum=stratum, event=event)
            for stratum in AUDIT_STRATA
            for event in ("drawn", "right", "wrong", "lost")
        }
        losses = Counter(
            "edge_audit_losses",
            "Audits that were drawn and have no answer, by why.",
            ["camera", "cause"],
            registry=registry,
        )
        self.audit_losses = {
            cause: losses.labels(camera=camera, cause=cause.value) for cause in AuditLoss
        }
        errors = Gauge(
            "edge_silent_error_ratio",
            "Share of what the edge kept that is wrong, as the audits say: the estimate and the "
            "ends of its 95 % interval; NaN where nothing was audited.",
            ["camera", "stratum", "bound"],
            registry=registry,
        )
        self.silent_errors = {
            (stratum, bound): errors.labels(camera=camera, stratum=stratum, bound=bound)
            for stratum in (*AUDIT_STRATA, "misses", "overall")
            for bound in ("low", "point", "high")
        }
        for (_, bound), gauge in self.silent_errors.items():
            gauge.set({"low": 0.0, "point": math.nan, "high": 1.0}[bound])

    def _register_uplink(self, registry: CollectorRegistry) -> None:
        self.uplink_bytes = Counter(
            "edge_uplink_bytes",
            "Bytes of escalations handed to the stream, repetitions included.",
            registry=registry,
        )
        errors = Counter(
            "edge_uplink_errors",
            "Connections to the escalator that failed or broke, by reason.",
            ["reason"],
            registry=registry,
        )
        self.uplink_errors = {reason: errors.labels(reason=reason.value) for reason in LinkFailure}
        self.uplink_connected = Gauge(
            "edge_uplink_connected",
            "1 while a stream to the escalator is open; 0 also where no escalator is configured.",
            registry=registry,
        )
        self.certificates = CertificateMetrics(registry, "edge", "ca", "certificate")
        ignored = Counter(
            "edge_verdicts_ignored",
            "Verdicts for escalations that had ended (late or duplicate), or that were malformed.",
            ["reason"],
            registry=registry,
        )
        self.verdicts_ignored = {
            reason: ignored.labels(reason=reason.value) for reason in IgnoredVerdict
        }
        parts = Counter(
            "edge_verdict_parts_ignored",
            "Boxes and findings of answers that changed nothing, by cause.",
            ["reason"],
            registry=registry,
        )
        self.verdict_parts_ignored = {part: parts.labels(reason=part.value) for part in IgnoredPart}
        self.verdicts_of_other_models = Counter(
            "edge_verdicts_of_other_models",
            "Verdicts of another model than the one that is expected; they count all the same.",
            registry=registry,
        )
        self.storage = StorageMetrics(registry)
