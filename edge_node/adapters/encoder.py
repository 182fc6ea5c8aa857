"""Compresses crops in a thread of its own, between the frame lane and the event loop.

The hand-off is bounded: a candidate that does not fit is ended as evicted by the caller. Each crop
is compressed at the level that the policy chose for it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from prometheus_client import Histogram

from edge_node.values import Candidate
from foundation.clock import Clock, elapsed_s
from foundation.escalations import Escalation
from foundation.levels import encode_at

Deliver = Callable[[Candidate, Escalation], None]


class CropEncoder:
    """Owns the encoder thread's work: `run` is its body, `offer` and `close` come from others."""

    def __init__(
        self,
        queue_max: int,
        *,
        site: str,
        camera: str,
        bundle_digest: str,
        clock: Clock,
        encode_seconds: Histogram,
    ) -> None:
        # Bounded by `offer`: one thread offers, so the bound cannot be overrun, and closing never
        # waits for room.
        self._queue: queue.SimpleQueue[Candidate | None] = queue.SimpleQueue()
        self._queue_max = queue_max
        self._site = site
        self._camera = camera
        self._bundle_digest = bundle_digest
        self._clock = clock
        self._encode_seconds = encode_seconds
        self._closed = threading.Event()

    def offer(self, candidate: Candidate) -> bool:
        """Queues a candidate; False when there is no room. Never blocks."""
        if self._closed.is_set() or self._queue.qsize() >= self._queue_max:
            return False
        self._queue.put(candidate)
        return True

    def close(self) -> None:
        """Lets `run` finish what is queued and return; later offers are refused."""
        if not self._closed.is_set():
            self._closed.set()
            self._queue.put(None)

    def run(self, deliver: Deliver) -> None:
        """Compresses until closed; `deliver` is called from this thread."""
        while (candidate := self._queue.get()) is not None:
            begun_ns = self._clock.now_ns()
            escalation = self._encode(candidate)
            self._encode_seconds.observe(elapsed_s(begun_ns, self._clock.now_ns()))
            deliver(candidate, escalation)

    def _encode(self, candidate: Candidate) -> Escalation:
        question = candidate.question
        return Escalation(
            id=question.id,
            site=self._site,
            camera=self._camera,
            track_id=question.subjects[0].track_id if question.subjects else 0,
            frame_sequence=question.sequence,
            captured_at_ns=question.captured_at_ns,
            expires_at_ns=question.expires_at_ns,
            frame_width=question.frame_width,
            frame_height=question.frame_height,
            region=question.region,
            encoding=candidate.level.encoding,
            image=encode_at(candidate.pixels, candidate.level),
            proposals=candidate.proposals,
            edge_bundle_digest=self._bundle_digest,
            reason=question.reason,
            value=max(candidate.value, 0.0),
        )
