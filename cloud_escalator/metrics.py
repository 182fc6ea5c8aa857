"""The escalator's metrics: every name, label and bucket, once. docs/metrics.md explains them.

Invariant: every request that was read ends as exactly one `escalator_requests_total{outcome}`.
The other counters break one outcome down and never add to it.
"""

from __future__ import annotations

import enum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from foundation.certificates import CertificateMetrics
from foundation.errors import RejectReason
from foundation.manifest import BundleInfo

_SECONDS = (
    *(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064),
    *(0.128, 0.256, 0.512, 1.0, 2.0, 4.0, 8.0, 16.0),
)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class RequestOutcome(enum.StrEnum):
    """How a request ended; exactly one each."""

    ANSWERED = "answered"
    SHED = "shed"
    EXPIRED = "expired"
    REJECTED = "rejected"
    FAILED = "failed"
    DUPLICATE = "duplicate"


class StreamEnd(enum.StrEnum):
    """How a stream ended."""

    CLOSED = "closed"
    CUT = "cut"
    REFUSED = "refused"
    MALFORMED = "malformed"
    SLOW = "slow"
    IDLE = "idle"
    OVER_QUOTA = "over_quota"
    DRAINED = "drained"
    UNTRUSTED = "untrusted"


class IdentityRefusal(enum.StrEnum):
    """Why a client whose certificate is valid is not served all the same."""

    NO_NAME = "no_name"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ExpiryStage(enum.StrEnum):
    """Where a request was found to be expired."""

    ADMISSION = "admission"
    QUEUE = "queue"
    BATCH = "batch"
    ANSWER = "answer"


class DuplicateState(enum.StrEnum):
    """What had become of the first request with the same id."""

    PENDING = "pending"
    ANSWERED = "answered"


class EscalatorMetrics:
    """All instruments, created in one registry; label values exist from the start, at zero."""

    def __init__(self, registry: CollectorRegistry, bundle: BundleInfo, digest: str) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(name, text, buckets=_SECONDS, registry=registry)

        requests = counter(
            "escalator_requests", "Requests by how they ended; exactly one each.", "outcome"
        )
        self.requests = {outcome: requests.labels(outcome) for outcome in RequestOutcome}
        self.sheds = counter("escalator_sheds", "Requests shed, by cause.", "reason")
        rejects = counter("escalator_rejects", "Requests rejected or failed, by cause.", "reason")
        self.rejects = {reason: rejects.labels(reason) for reason in RejectReason}
        expirations = counter(
            "escalator_expirations", "Requests expired, by where that was found.", "stage"
        )
        self.expirations = {stage: expirations.labels(stage) for stage in ExpiryStage}
        duplicates = counter(
            "escalator_duplicates",
            "Requests with an id sent before, by what had become of the first.",
            "state",
        )
        self.duplicates = {state: duplicates.labels(state) for state in DuplicateState}
        self.undelivered = counter(
            "escalator_undelivered",
            "Verdicts whose stream had ended; the final ones are kept for the request's return.",
        )
        self.image_bytes = counter("escalator_image_bytes", "Encoded image bytes received.")
        streams_ended = counter("escalator_streams_ended", "Streams by how they ended.", "end")
        self.streams_ended = {end: streams_ended.labels(end) for end in StreamEnd}
        self.streams = Gauge("escalator_streams", "Streams open now.", registry=registry)
        self.queue_requests = Gauge(
            "escalator_queue_requests", "Requests waiting for the model now.", registry=registry
        )
        self.queue_seconds = seconds(
            "escalator_queue_seconds", "From a request's receipt to the start of its batch."
        )
        self.decode_seconds = seconds("escalator_decode_seconds", "Decompressing one crop.")
        self.inference_seconds = seconds(
            "escalator_inference_seconds", "One batch, from its pixels to its detections."
        )
        self.batch_size = Histogram(
            "escalator_batch_size", "Crops per batch.", buckets=_BATCH_SIZES, registry=registry
        )
        self.inference_failures = counter(
            "escalator_inference_failures", "Batches on which the model failed."
        )
        self._register_identity(registry)
        Gauge(
            "escalator_bundle_info",
            "Constant 1; the labels say which model answers.",
            ("model", "version", "digest"),
            registry=registry,
        ).labels(bundle.name, bundle.version, digest).set(1)

    def _register_identity(self, registry: CollectorRegistry) -> None:
        self.certificates = CertificateMetrics(
            registry, "escalator", "ca", "certificate", "revoked"
        )
        self.handshakes = Counter(
            "escalator_handshakes", "Connections that began a TLS handshake.", registry=registry
        )
        self.identified = Counter(
            "escalator_identified",
            "Connections whose client proved its certificate and made a call.",
            registry=registry,
        )
        refusals = Counter(
            "escalator_identity_refusals",
            "Calls and streams refused in spite of a valid certificate, by reason.",
            ["reason"],
            registry=registry,
        )
        self.identity_refusals = {reason: refusals.labels(reason) for reason in IdentityRefusal}
