"""Builds the escalator, runs it until it is told to stop, and drains it.

Start order: telemetry, model (verified, checked, warmed up), then the port, so that nobody is
served by a process that cannot answer. Stop order follows the data: health says NOT_SERVING, what
is under way finishes, streams close, threads end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass

import cv2
from prometheus_client import CollectorRegistry

from cloud_escalator.adapters.decoding_pool import DecodingPool
from cloud_escalator.adapters.grpc_server.server import GrpcServer
from cloud_escalator.adapters.grpc_server.trust import Trust
from cloud_escalator.adapters.inference_thread import open_inference_thread
from cloud_escalator.config import EscalatorSettings, split_address
from cloud_escalator.handoff import Mailbox
from cloud_escalator.ledger import Key, Ledger
from cloud_escalator.logic.cost import BatchCost
from cloud_escalator.logic.crops import Reporter
from cloud_escalator.logic.remember import VerdictMemory
from cloud_escalator.metrics import EscalatorMetrics
from cloud_escalator.pipeline import EscalationPipeline
from cloud_escalator.ports import BatchResult, DecodedCrop, Door, Workers
from foundation.bundle import Bundle
from foundation.clock import Clock, SystemClock, after_s
from foundation.escalations import Capabilities, ModelDescription, Verdict
from foundation.telemetry import Readiness, TelemetryServer, register_process_metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningEscalator:
    """An escalator that serves.

    Attributes:
        port: of the gRPC server.
        telemetry_port: of the HTTP server.
    """

    port: int
    telemetry_port: int


async def serve(settings: EscalatorSettings, stop: asyncio.Event) -> None:
    """Runs an escalator until `stop` is set, then drains it.

    Raises:
        ConfigError: the bundle, a port or a provider is not there.
        IntegrityError: the bundle is damaged, or does not run here as it should.
    """
    async with open_escalator(settings, SystemClock()) as running:
        log.info(
            "ready: escalations on port %d, telemetry on port %d",
            running.port,
            running.telemetry_port,
        )
        await stop.wait()
        log.info("draining for at most %.1f s", settings.drain_s)
    log.info("stopped")


@contextlib.asynccontextmanager
async def open_escalator(
    settings: EscalatorSettings, clock: Clock
) -> AsyncIterator[RunningEscalator]:
    """An escalator that serves while the context lasts, and drains at its end.

    Raises:
        ConfigError: the bundle, a port or a provider is not there.
        IntegrityError: the bundle is damaged, or does not run here as it should.
    """
    # OpenCV's own pool would compete with the decoding and inference threads counted here.
    cv2.setNumThreads(1)
    bundle = await asyncio.to_thread(Bundle.open, settings.bundle)
    registry = CollectorRegistry()
    register_process_metrics(registry, "escalator")
    metrics = EscalatorMetrics(registry, bundle.info, bundle.digest)
    trust = Trust(settings, metrics, clock)
    readiness = Readiness("model", "accepting")
    host, port = split_address(settings.telemetry_listen)
    async with (
        TelemetryServer(host, port, registry, readiness) as telemetry,
        _open_workers(settings, bundle) as (workers, cost),
        asyncio.TaskGroup() as tasks,
    ):
        readiness.set("model", True)
        ledger = Ledger(bundle.digest, _verdict_memory(settings), metrics)
        reporter = Reporter(
            bundle.labels,
            bundle.calibration,
            bundle.thresholds,
            classifies=bundle.info.outputs.family == "classifier",
        )
        pipeline = EscalationPipeline(settings, workers, ledger, cost, reporter, clock, metrics)
        moving = tasks.create_task(pipeline.run(), name="pipeline")
        capabilities = _capabilities(settings, bundle)
        door = Door(pipeline.submit, ledger.reject, ledger.shed)
        server = GrpcServer(settings, trust, capabilities, door, clock, metrics)
        async with server:
            reviewing = tasks.create_task(server.review_trust(), name="trust_review")
            readiness.set("accepting", True)
            yield RunningEscalator(server.port, telemetry.port)
            readiness.set("accepting", False)
            server.refuse_health()
            await pipeline.drain(settings.drain_s)
            reviewing.cancel()
        moving.cancel()


@contextlib.asynccontextmanager
async def _open_workers(
    settings: EscalatorSettings, bundle: Bundle
) -> AsyncIterator[tuple[Workers, BatchCost]]:
    """The decoding pool and the warmed-up model, and what its batches cost here."""
    wake = asyncio.Event()
    loop = asyncio.get_running_loop()
    crops: Mailbox[Future[DecodedCrop]] = Mailbox(loop, wake.set)
    batches: Mailbox[Future[BatchResult]] = Mailbox(loop, wake.set)
    # A model without a dynamic batch gains nothing from company.
    size_max = settings.batch.size_max if bundle.info.input.dynamic_batch else 1
    model = open_inference_thread(
        bundle,
        intra_op_threads=settings.inference.threads,
        providers=settings.inference.providers,
        batch_size_max=size_max,
        done=batches,
    )
    decoder = DecodingPool(
        threads=settings.decode.threads,
        side_min_px=settings.limits.image_side_min_px,
        pixels_max=settings.limits.image_pixels_max,
        done=crops,
    )
    async with model as inference, decoder:
        cost = BatchCost(size_max)
        for size, seconds in inference.warm_up_s.items():
            cost.observe(size, seconds)
        yield Workers(decoder, inference, wake), cost


def _verdict_memory(settings: EscalatorSettings) -> VerdictMemory[Key, Verdict]:
    duplicates = settings.duplicates
    return VerdictMemory(duplicates.remembered_max, after_s(0, duplicates.remembered_s))


def _capabilities(settings: EscalatorSettings, bundle: Bundle) -> Capabilities:
    info = bundle.info
    return Capabilities(
        models=(ModelDescription(info.name, info.version, bundle.digest, info.labels),),
        side_min_px=settings.limits.image_side_min_px,
        pixels_max=settings.limits.image_pixels_max,
        message_bytes_max=settings.limits.message_bytes_max,
        side_native_px=min(info.input.width, info.input.height),
        encodings=settings.limits.encodings,
    )
