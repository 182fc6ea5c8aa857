"""Compresses crops in a thread of its own, between the frame lane and the event loop.

The hand-off is bounded: a candidate that does not fit is ended as evicted by the caller. Each crop
is compressed at the level that the policy chose for it, shrunk further where its format cannot hold
it. One that cannot be compressed at all is handed on without an image, so that it ends as failed.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace

from prometheus_client import Histogram

from edge_node.values import Candidate
from foundation.clock import Clock, elapsed_s
from foundation.escalations import DIGEST_DIGITS, Encoding, Escalation
from foundation.levels import Level, encode_at

log = logging.getLogger(__name__)

Deliver = Callable[[Candidate, Escalation | None], None]
_SIDES_MAX_PX = {Encoding.WEBP: 16_383, Encoding.JPEG: 65_500, Encoding.AVIF: 32_768}
"""Longest side that a format has; a crop of a line-scan camera may have a longer one."""


def fitted(level: Level, width: int, height: int) -> Level:
    """The level for a crop of this size, shrunk further where its format has no side so long."""
    longer, most = max(level.shrunk_size(width, height)), _SIDES_MAX_PX.get(level.encoding)
    if most is None or longer <= most:
        return level
    return replace(level, scale=most / max(width, height))


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
        self._bundle_digest = bundle_digest[:DIGEST_DIGITS]
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
        """Compresses until closed; `deliver` is called from this thread, with None for failures."""
        said = ""
        while (candidate := self._queue.get()) is not None:
            begun_ns, escalation = self._clock.now_ns(), None
            try:
                escalation = self._encode(candidate)
            except ValueError as error:
                if str(error) != said:  # a camera whose crops all fail would fill the log
                    said = str(error)
                    log.warning("a crop at level %s fails: %s", candidate.level, error)
            self._encode_seconds.observe(elapsed_s(begun_ns, self._clock.now_ns()))
            deliver(candidate, escalation)

    def _encode(self, candidate: Candidate) -> Escalation:
        question = candidate.question
        height, width = candidate.pixels.shape[:2]
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
            image=encode_at(candidate.pixels, fitted(candidate.level, width, height)),
            proposals=candidate.proposals,
            edge_bundle_digest=self._bundle_digest,
            reason=question.reason,
            value=max(candidate.value, 0.0),
        )
