"""The capture thread: reads the source, which nothing else does, and hands frames to the lane.

Counts what the lane never sees: frames displaced by newer ones (dropped) and pictures that were
lost before the lane could coast over them (failed). Both become result records, so that a gap is
visible.
"""

from __future__ import annotations

import logging
import threading

import numpy as np

from edge_node.logic.records import FrameRecord
from edge_node.logic.reporting import Reporting
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.inbox import Arrival, LaneInbox
from edge_node.ports import FrameSource, ResultSink
from edge_node.values import FrameOutcome
from foundation.clock import Clock, elapsed_s
from foundation.errors import HardcaseError, IntegrityError, TransientError

log = logging.getLogger(__name__)

_NOTHING = Reporting(np.zeros(0, np.float32))
_AHEAD_S_MAX = 0.001
"""By how much a wait for an instant may end before it."""


class Capture:
    """Runs a source to its end. `run` is the body of the thread; `stop` may be called from any.

    Attributes:
        failure: Why the source ended before its end, once `run` has returned; None if it did not.
    """

    def __init__(
        self,
        source: FrameSource,
        inbox: LaneInbox,
        results: ResultSink,
        metrics: EdgeMetrics,
        clock: Clock,
    ) -> None:
        self._source = source
        self._inbox = inbox
        self._results = results
        self._metrics = metrics
        self._clock = clock
        self._stop = threading.Event()
        self._told_ahead = False
        self.failure: HardcaseError | None = None

    def stop(self) -> None:
        """Makes `run` return soon."""
        self._stop.set()

    def run(self) -> None:
        """Reads until the source ends, breaks, or `stop` is called; the caller has opened it."""
        try:
            self._read_all()
        except IntegrityError as error:
            # Not raised: what came before is still to be processed in order.
            log.error("%s", error)
            self.failure = error
        finally:
            self._inbox.end_frames()

    def _read_all(self) -> None:
        sequence = 0
        lost_before = False
        while not self._stop.is_set():
            try:
                capture = self._source.read(self._stop)
                if capture is None:
                    return
                arrival = Arrival(
                    sequence,
                    self._instant_of(capture.captured_at_ns),
                    capture.pixels,
                    on_demand=not self._source.live,
                )
                lost_before = False
            except TransientError as error:
                arrival = Arrival(sequence, self._clock.now_ns(), None)
                if not lost_before:
                    log.warning("frame %d of %s is lost: %s", sequence, self._source.name, error)
                lost_before = True
            sequence += 1
            hand = self._inbox.offer if self._source.live else self._inbox.hand_over
            displaced = hand(arrival)
            if displaced is not None:
                self._give_up(displaced)

    def _instant_of(self, captured_at_ns: int) -> int:
        """When a picture was captured; not after now, which would hide how late its result is."""
        now_ns = self._clock.now_ns()
        ahead_s = elapsed_s(now_ns, captured_at_ns)
        if ahead_s > _AHEAD_S_MAX and not self._told_ahead:
            self._told_ahead = True
            log.warning(
                "%s says that a picture was captured %.3f s after now: it counts as captured now",
                self._source.name,
                ahead_s,
            )
        return min(captured_at_ns, now_ns)

    def _give_up(self, arrival: Arrival) -> None:
        outcome = FrameOutcome.DROPPED if arrival.pixels is not None else FrameOutcome.FAILED
        self._metrics.frames[outcome].inc()
        self._results.publish(
            FrameRecord(
                camera=self._metrics.camera,
                sequence=arrival.sequence,
                captured_at_ns=arrival.captured_at_ns,
                published_at_ns=self._clock.now_ns(),
                outcome=outcome,
                frame_width=0,
                frame_height=0,
                rows=None,
                labels=(),
                reporting=_NOTHING,
            )
        )
