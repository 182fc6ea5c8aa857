"""The metrics of what waits, what is kept and what may not leave; part of `edge_node.metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from edge_node.values import EgressRefusal, SpoolLoss


class StorageMetrics:
    """Fresh escalations, the spool, and egress."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.fresh = Gauge(
            "edge_fresh_escalations",
            "Escalations in memory whose verdict can still correct the live result.",
            registry=registry,
        )
        self.fresh_bytes = Gauge(
            "edge_fresh_bytes", "Bytes of fresh crops in memory.", registry=registry
        )
        self.waiting = Gauge(
            "edge_spool_escalations",
            "Escalations on disk that have not ended, fresh ones included.",
            registry=registry,
        )
        self.waiting_bytes = Gauge(
            "edge_spool_bytes",
            "Bytes on disk of escalations that have not ended.",
            registry=registry,
        )
        self.deferred = Counter(
            "edge_escalations_deferred",
            "Escalations that were no longer fresh and went on to wait in the spool.",
            registry=registry,
        )
        losses = Counter(
            "edge_spool_losses",
            "Escalations that are not kept on disk, by why; they end when they are not fresh.",
            ["reason"],
            registry=registry,
        )
        self.losses = {loss: losses.labels(reason=loss.value) for loss in SpoolLoss}
        self.errors = Counter(
            "edge_spool_errors", "Failures of the spool's disk or file.", registry=registry
        )
        self.quarantines = Counter(
            "edge_spool_quarantines", "Damaged spools that were moved aside.", registry=registry
        )
        self.unentered = Counter(
            "edge_egress_unentered",
            "How often a crop did not leave because the egress ledger could not be written.",
            registry=registry,
        )
        refusals = Counter(
            "edge_egress_refusals",
            "Escalations that may not leave the site, by why; they end as withheld.",
            ["reason"],
            registry=registry,
        )
        self.refusals = {
            refusal: refusals.labels(reason=refusal.value) for refusal in EgressRefusal
        }
