"""Builds the edge node, runs it, and stops it in the order in which data flows.

Threads: capture (source), frame-lane (model, tracks), encoder (crops), results (JSON lines) and
telemetry; the escalation lane lives on the event loop. Stop order: source, frames on the way, crops
on the way, verdicts on the way, tracks, results.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
from prometheus_client import CollectorRegistry

from edge_node.adapters.egress_ledger import FileLedger
from edge_node.adapters.encoder import CropEncoder
from edge_node.adapters.model import BundleModel
from edge_node.adapters.node_budget import NodeBudget
from edge_node.adapters.results import ResultWriter, read_ends
from edge_node.adapters.rules import open_rules
from edge_node.adapters.sources.registry import make_source
from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.keeper import SpoolKeeper
from edge_node.adapters.uplink import GrpcUplink, open_certificates
from edge_node.config import EdgeSettings
from edge_node.logic.egress import EgressPolicy
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.capture import Capture
from edge_node.pipeline.egress import EgressGate, LedgeredFeed
from edge_node.pipeline.escalation_lane import EscalationLane
from edge_node.pipeline.frame_lane import FrameLane
from edge_node.pipeline.inbox import LaneInbox
from edge_node.pipeline.spool_news import SpoolNews
from edge_node.ports import AskingRules, FrameSource, UplinkFeed
from foundation.certificates import CertificateFiles
from foundation.clock import Clock, SystemClock
from foundation.errors import ConfigError, HardcaseError
from foundation.supervision import ThreadFailure, run_thread
from foundation.telemetry import Readiness, TelemetryServer, register_process_metrics

log = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 0.0005
_SOURCE_END_S = 3.0
_FRAMES_DONE_S = 10.0


async def run_edge(settings: EdgeSettings, stop: asyncio.Event) -> None:
    """Runs until the source ends or `stop` is set.

    Raises:
        ConfigError: A setting, path, port or provider is wrong.
        IntegrityError: The bundle is not what it should be.
        HardcaseError: The source broke on the way; what came before was processed.
    """
    # With the default of 5 ms a thread that computes may hold up the frame lane for that long.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    cv2.setNumThreads(1)
    clock = SystemClock()
    registry = CollectorRegistry()
    register_process_metrics(registry, "edge")
    metrics = EdgeMetrics(registry, settings.camera)
    certificates = await asyncio.to_thread(open_certificates, settings, metrics.certificates)
    ready = Readiness("bundle", "source")
    telemetry = TelemetryServer(settings.telemetry.host, settings.telemetry.port, registry, ready)
    async with telemetry:
        log.info("telemetry on http://%s:%d/metrics", settings.telemetry.host, telemetry.port)
        model = await asyncio.to_thread(BundleModel.open, settings)
        info = model.bundle.info
        metrics.bundle_info.labels(
            camera=settings.camera,
            model=info.name,
            version=info.version,
            digest=model.bundle.digest,
        ).set(1)
        ready.set("bundle", True)
        log.info("bundle %s %s (%.12s)", info.name, info.version, model.bundle.digest)
        with ExitStack() as stack:
            _check_not_source(settings)
            opening = make_source(settings.source, clock)
            source = await asyncio.to_thread(stack.enter_context, opening)
            open_node = partial(NodeBudget, count=metrics.count_node_event)
            rules = stack.enter_context(open_rules(settings, model.bundle, model.limits, open_node))
            # Before the results, so that it outlives them: it notes what they have written.
            spool = _open_spool(settings, stack, metrics, clock)
            endings = read_ends(settings.results.path) if spool is not None else {}
            failure = ThreadFailure()
            writer = ResultWriter(
                settings.results,
                metrics.results_dropped,
                metrics.stages["write"],
                clock,
                failure.hear,
            )
            stack.enter_context(writer)
            ledger = None
            if settings.egress.ledger and settings.escalator.address:
                folder, destination = Path(settings.egress.ledger), settings.escalator.address
                ledger = stack.enter_context(FileLedger(folder, destination, clock))
            outside = _Outside(source, writer, spool, ledger, certificates)
            node = _Node(settings, model, rules, outside, metrics, clock)
            if node.escalations is not None:
                node.escalations.start()
                if spool is not None:
                    spool.start(SpoolNews(node.escalations), endings, failure.hear)
            await asyncio.to_thread(node.warm_up)
            ready.set("source", True)
            log.info("source %s is running, results go to %s", source.name, settings.results.path)
            await node.run(stop, failure)
        ended = ", ".join(f"{count} {name}" for name, count in metrics.frame_counts().items())
        log.info("frames: %s", ended or "none")
        if node.capture.failure is not None:
            raise HardcaseError(node.capture.failure.message, remedy=node.capture.failure.remedy)


def _check_not_source(settings: EdgeSettings) -> None:
    """Compares the file of the results, which is cut to whole lines and added to, with the source.

    Raises:
        ConfigError: They are one.
    """
    results, source = Path(settings.results.path), Path(settings.source.uri)
    try:
        is_source = results.is_file() and source.is_file() and results.samefile(source)
    except OSError:  # neither exists then; whoever opens them says so
        is_source = False
    if is_source:
        raise ConfigError(
            f"Results would be written into {results}, which is the source",
            remedy="Choose another results.path",
        )


def _open_spool(
    settings: EdgeSettings, stack: ExitStack, metrics: EdgeMetrics, clock: Clock
) -> SpoolKeeper | None:
    """The durable spool, where there is a folder for it and somebody to ask."""
    if not (settings.spool.folder and settings.escalator.address):
        return None
    cipher = Cipher.from_file(settings.spool.key_file)
    return stack.enter_context(SpoolKeeper(settings.spool, cipher, metrics, clock))


@dataclass(frozen=True, slots=True)
class _Outside:
    """What the node reads from, writes to, keeps escalations in and proves itself with, opened."""

    source: FrameSource
    writer: ResultWriter
    spool: SpoolKeeper | None
    ledger: FileLedger | None
    certificates: CertificateFiles | None


class _Node:
    """The parts of a running node, connected."""

    def __init__(
        self,
        settings: EdgeSettings,
        model: BundleModel,
        rules: AskingRules,
        outside: _Outside,
        metrics: EdgeMetrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._model = model
        self._clock = clock
        self._inbox = LaneInbox()
        self.capture = Capture(outside.source, self._inbox, outside.writer, metrics, clock)
        self._encoder = CropEncoder(
            settings.spool.encode_queue_max,
            site=settings.site,
            camera=settings.camera,
            bundle_digest=model.bundle.digest,
            clock=clock,
            encode_seconds=metrics.stages["encode"],
        )
        self.escalations: EscalationLane | None = None
        self._uplink: GrpcUplink | None = None
        self._ledger = outside.ledger
        self._metrics = metrics
        if settings.escalator.address:
            self.escalations = EscalationLane(
                settings, self._encoder, outside.spool, self._inbox.post, metrics, clock
            )
            encodings = frozenset(level.encoding for level in rules.gains.parsed_levels)
            self._uplink = GrpcUplink(
                settings.escalator, encodings, metrics, clock, outside.certificates
            )
        self._lane = FrameLane(
            settings, model, rules, self._inbox, outside.writer, self.escalations, metrics, clock
        )

    def warm_up(self) -> None:
        """Runs the model a few times, and keeps the collector away from what lives for ever."""
        for cost_s in self._model.warm_up(self._settings.detector.warmup_frames, self._clock):
            self._lane.seed_cost(cost_s)
        # A full collection walks every object of every library, which takes longer than a frame.
        gc.collect()
        gc.freeze()

    async def run(self, stop: asyncio.Event, failure: ThreadFailure) -> None:
        """Runs until the source ends or `stop` is set, then drains; a failure ends it at once."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(failure.wait(), name="thread-failure")
                await self._run(group, stop)
                watch.cancel()
        finally:
            gc.unfreeze()

    async def _run(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        lane = group.create_task(
            run_thread("frame-lane", self._lane.run, stop=self._inbox.close), name="frame-lane"
        )
        encoder = uplink = None
        if self.escalations is not None and self._uplink is not None:
            policy = EgressPolicy(self._settings.egress, self._model.labels)
            gate = EgressGate(policy, self.escalations, self._metrics)
            encoder = group.create_task(
                run_thread(
                    "encoder", lambda: self._encoder.run(gate.deliver), stop=self._encoder.close
                ),
                name="encoder",
            )
            feed: UplinkFeed = self.escalations
            if self._ledger is not None:
                feed = LedgeredFeed(self.escalations, self._ledger, self._metrics)
            uplink = group.create_task(self._uplink.run(feed), name="uplink")
        capture = group.create_task(
            run_thread("capture", self.capture.run, stop=self._abandon), name="capture"
        )
        stopped = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({capture, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        self.capture.stop()
        ended, _ = await asyncio.wait({capture}, timeout=_SOURCE_END_S)
        if not ended:
            log.error("the source does not end: what it may still give is not waited for")
            self._inbox.end_frames()
        await asyncio.to_thread(self._lane.frames_done.wait, _FRAMES_DONE_S)
        if self.escalations is not None and encoder is not None and uplink is not None:
            self._encoder.close()
            await encoder
            await self.escalations.drain(self._settings.drain_s)
            uplink.cancel()
        self._inbox.close()
        await lane
        capture.cancel()  # where it has not ended, its thread is left behind

    def _abandon(self) -> None:
        """Ends the capture thread even where it waits for a lane that is gone."""
        self.capture.stop()
        self._inbox.close()
