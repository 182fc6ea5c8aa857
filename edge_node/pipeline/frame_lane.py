"""The frame lane: detect, track, publish revision 0, decide, and apply verdicts when they come.

One thread, single writer of the tracks; it waits in one place (`LaneInbox.take`) and never on the
cloud, a disk or a pipe. Every frame that it takes ends in exactly one outcome.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import partial

import numpy as np

from edge_node.config import EdgeSettings
from edge_node.logic.deadline import DeadlineGate
from edge_node.logic.egress import NOTHING_HIDDEN, EgressPolicy, Redaction
from edge_node.logic.reconcile import Reconciler
from edge_node.logic.reconsider import overrule
from edge_node.logic.records import FrameRecord, Record, ending_to_json
from edge_node.logic.rows import Rows, labels_of, observed_boxes, take_rows
from edge_node.logic.track import Tracker
from edge_node.logic.view import View
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.asking import Asking
from edge_node.pipeline.inbox import Arrival, LaneInbox, Work
from edge_node.ports import AskingRules, EdgeModel, EscalationSink, ResultSink
from edge_node.values import (
    Accepted,
    Deferred,
    Encoded,
    Ending,
    FrameOutcome,
    IgnoredVerdict,
    News,
    Repeated,
)
from foundation.clock import Clock, elapsed_s
from foundation.errors import RejectedError
from foundation.frames import Detections, Pixels

log = logging.getLogger(__name__)

_MODELS_TOLD_MAX = 16
"""Models about which the log speaks; a cloud that changes more often has said enough."""


class FrameLane:
    """One camera's frames through one model. `run` is the body of the thread.

    Attributes:
        frames_done: Set once no further frame will be processed and so nothing more be asked.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        model: EdgeModel,
        rules: AskingRules,
        inbox: LaneInbox,
        results: ResultSink,
        escalations: EscalationSink | None,
        metrics: EdgeMetrics,
        clock: Clock,
    ) -> None:
        """Takes no escalations when there is no escalator to ask."""
        self._settings = settings
        self._model = model
        self._inbox = inbox
        self._results = results
        self._metrics = metrics
        self._clock = clock
        limits = model.limits
        self._reporting = rules.reporting
        self._tracker = Tracker(settings.tracks, limits.start)
        self._reconciler = Reconciler(
            self._tracker,
            settings.fusion,
            settings.camera,
            model.labels,
            self._reporting,
            cloud_digest=rules.gains.cloud_bundle,
        )
        self._escalations = escalations
        self._egress = EgressPolicy(settings.egress, model.labels)
        self._asking = Asking(settings, rules, self._reconciler, escalations, metrics, clock)
        self._seen = Detections.empty()
        self._gate = DeadlineGate(
            quantile=settings.deadline.cost_quantile,
            window_frames=settings.deadline.cost_window_frames,
            coasts_max=settings.deadline.coasts_max,
        )
        self.frames_done = threading.Event()
        self._frame_size = (0, 0)
        self._refused_starts = 0
        self._failed_before = False
        self._foreign_models: set[str] = set()

    def seed_cost(self, cost_s: float) -> None:
        """Takes a cost measured while warming up as the first evidence for the prediction."""
        self._gate.finish(cost_s, met=True)

    def run(self) -> None:
        """Works until the inbox is closed, then ends every track."""
        while self.step(self._inbox.take(ended_before=self.frames_done.is_set())):
            pass

    def step(self, work: Work) -> bool:
        """Does one piece of work, as `run` does with all that the inbox gives.

        Returns:
            False after the last one.
        """
        for news in work.news:
            self._hear(news)
        if work.arrival is not None:
            self._process(work.arrival)
        if work.frames_ended and not self.frames_done.is_set() and work.arrival is None:
            self._close_tracks(self._tracker.end_all())  # which may ask: of some an audit is drawn
            self.frames_done.set()
        if work.closed:
            self._close_tracks(self._tracker.end_all())
        return not work.closed

    def _process(self, arrival: Arrival) -> None:
        clock, stages = self._clock, self._metrics.stages
        started_ns = clock.now_ns()
        if arrival.on_demand:
            arrival = replace(arrival, captured_at_ns=started_ns)
        waited_s = elapsed_s(arrival.captured_at_ns, started_ns)
        left_s = self._settings.deadline.deadline_s - waited_s
        pixels = arrival.pixels
        if pixels is not None:
            self._adapt_to_size(pixels)
        self._tracker.advance(arrival.sequence)
        outcome = FrameOutcome.FAILED
        detected = False
        if pixels is not None:
            if arrival.on_demand or self._gate.admits(left_s):
                detected = self._detect(arrival, pixels)
            else:
                outcome = FrameOutcome.COASTED
        width, height = self._frame_size
        gone = self._tracker.retire(width, height)
        published_ns = clock.now_ns()
        latency_s = elapsed_s(arrival.captured_at_ns, published_ns)
        if detected:
            met = latency_s <= self._settings.deadline.deadline_s
            outcome = FrameOutcome.ON_TIME if met else FrameOutcome.LATE
        self._publish(arrival, outcome, published_ns)
        self._close_tracks(gone)
        self._metrics.frames[outcome].inc()
        self._metrics.frame_latency.observe(latency_s)
        stages["wait"].observe(waited_s)
        if detected and pixels is not None:
            decided_ns = clock.now_ns()
            stages["publish"].observe(elapsed_s(published_ns, decided_ns))
            hidden = self._redaction()
            view = View(arrival.sequence, arrival.captured_at_ns, decided_ns, pixels, hidden)
            moving = self._tracker.scene_moves
            self._asking.decide(self._tracker.rows, view, self._seen.scores, scene_moves=moving)
            finished_ns = clock.now_ns()
            stages["decide"].observe(elapsed_s(decided_ns, finished_ns))
            # What delays the next frame is everything, what meets the deadline ends at publication.
            self._gate.finish(
                elapsed_s(started_ns, published_ns), met=outcome is FrameOutcome.ON_TIME
            )
        refused = self._tracker.refused_starts - self._refused_starts
        if refused:
            self._metrics.tracks_refused.inc(refused)
            self._refused_starts += refused
        self._metrics.predicted_cost.set(self._gate.predicted_s)
        self._metrics.tracks.set(len(self._tracker.rows))

    def _detect(self, arrival: Arrival, pixels: Pixels) -> bool:
        """Runs the model and joins what it saw to the tracks; False when the model failed."""
        begun_ns = self._clock.now_ns()
        try:
            detections = self._model.detect(pixels)
        except RejectedError as error:
            if not self._failed_before:  # a broken model would fill the log
                log.warning("the model fails on frame %d: %s", arrival.sequence, error)
            self._failed_before = True
            return False
        self._failed_before = False
        found_ns = self._clock.now_ns()
        self._seen = detections
        self._tracker.observe(detections)
        overrule(self._tracker.rows)
        self._metrics.stages["detect"].observe(elapsed_s(begun_ns, found_ns))
        self._metrics.stages["track"].observe(elapsed_s(found_ns, self._clock.now_ns()))
        return True

    def _redaction(self) -> Redaction:
        """What of the present frame may not leave: of all that is detected or tracked in it."""
        if self._egress.is_empty:
            return NOTHING_HIDDEN
        rows, seen = self._tracker.rows, self._seen
        boxes = np.concatenate([seen.boxes, observed_boxes(rows), rows["box"]])
        labels = labels_of(rows).tolist()
        own = rows["edge_label"].tolist()
        # A track hides as what the edge takes it for, and as what the cloud has said it is.
        classes = [*seen.class_ids.tolist(), *own, *labels]
        return self._egress.redaction(self._frame_size, boxes, classes)

    def _adapt_to_size(self, pixels: Pixels) -> None:
        size = (int(pixels.shape[1]), int(pixels.shape[0]))
        if size == self._frame_size:
            return
        if self._frame_size != (0, 0):
            log.info("frames change from %s to %s: all tracks end", self._frame_size, size)
            self._close_tracks(self._tracker.end_all())
        self._frame_size = size

    def _publish(self, arrival: Arrival, outcome: FrameOutcome, published_ns: int) -> None:
        rows = self._tracker.rows
        width, height = self._frame_size
        self._send(
            FrameRecord(
                camera=self._settings.camera,
                sequence=arrival.sequence,
                captured_at_ns=arrival.captured_at_ns,
                published_at_ns=published_ns,
                outcome=outcome,
                frame_width=width,
                frame_height=height,
                # Where the model has not looked for long it is not known to be empty either.
                rows=take_rows(rows, rows["confirmed"]) if self._tracker.knows_scene else None,
                labels=self._reconciler.labels,
                reporting=self._reporting,
            )
        )

    def _hear(self, news: News) -> None:
        if isinstance(news, Encoded):
            self._asking.hear_size(news)
        elif isinstance(news, Accepted):
            self._asking.hear_accepted(news)
        elif isinstance(news, Repeated):
            self._asking.hear_repeated(news)
        elif isinstance(news, Deferred):
            self._asking.hear_deferred()
            for record in self._reconciler.defer(news.escalation_id):
                self._send(record)
        else:
            self._end(news)

    def _end(self, ending: Ending) -> None:
        fusion = self._reconciler.end(ending)
        self._asking.hear_end(ending, fusion)
        if fusion.question is None and ending.verdict is not None:
            self._metrics.verdicts_ignored[IgnoredVerdict.UNKNOWN].inc()
        if fusion.other_model and ending.verdict is not None:
            self._metrics.verdicts_of_other_models.inc()
            self._warn_of_model(ending.verdict.cloud_bundle_digest)
        for part, count in fusion.ignored.items():
            self._metrics.verdict_parts_ignored[part].inc(count)
        camera = self._settings.camera
        for correction in fusion.corrections:
            self._metrics.verdicts[correction.effect].inc()
        closing = ending_to_json(ending, camera, fusion.question)
        # Kept until it is on disk, which may be long: what it says is in the records.
        kept = replace(ending, judged=None)
        self._results.publish_end(
            [*fusion.corrections, *fusion.revised, closing], partial(self._note_published, kept)
        )

    def _note_published(self, ending: Ending) -> None:
        if self._escalations is not None:
            self._escalations.note_published(ending)

    def _warn_of_model(self, digest: str) -> None:
        """Says once per model that another one answers than the one that is expected."""
        if digest not in self._foreign_models and len(self._foreign_models) < _MODELS_TOLD_MAX:
            self._foreign_models.add(digest)
            log.warning("the escalator answers with another model, bundle %s", digest[:12])

    def _close_tracks(self, rows: Rows) -> None:
        if len(rows):
            self._metrics.tracks_joined.inc(int(np.count_nonzero(rows["double_of"])))
            self._asking.close(rows)
        for record in self._reconciler.close_tracks(rows):
            self._send(record)

    def _send(self, record: FrameRecord | Record) -> None:
        self._results.publish(record)
