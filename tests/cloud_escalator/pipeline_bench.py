"""A pipeline under a driven clock, with a decoder and a model that do what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import numpy as np
import prometheus_client

from cloud_escalator.config import EscalatorSettings
from cloud_escalator.ledger import Ledger
from cloud_escalator.logic.cost import BatchCost
from cloud_escalator.logic.crops import Reporter
from cloud_escalator.logic.remember import VerdictMemory
from cloud_escalator.metrics import EscalatorMetrics
from cloud_escalator.pipeline import EscalationPipeline
from cloud_escalator.ports import BatchResult, DecodedCrop, Workers
from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Encoding, Verdict
from foundation.frames import Detections, Pixels
from tests.cloud_escalator.client import escalation
from tests.support.bundles import make_bundle
from tests.support.clock import ManualClock

BATCH_MAX = 4
BATCH_S = 0.1
AHEAD = BATCH_MAX + 1
"""Decoded ahead of the model: a batch, and one crop for the decoding thread."""


class StepDecoder:
    """Decompresses at once, or while `holding` when it is told to; says it took `seconds`."""

    def __init__(self, wake: asyncio.Event) -> None:
        self.submitted: list[int] = []
        self.seconds = 0.001
        self.holding = False
        self._wake = wake
        self._held: list[DecodedCrop] = []
        self._done: list[DecodedCrop] = []

    def submit(self, ticket: int, image: bytes, encoding: Encoding) -> None:  # noqa: ARG002 - port
        """Takes the crop: black pixels, or a rejection for the bytes b"bad"."""
        self.submitted.append(ticket)
        outcome: Pixels | RejectedError = np.zeros((64, 64, 3), np.uint8)
        if image == b"bad":
            outcome = RejectedError("no image", reason=RejectReason.NOT_AN_IMAGE)
        self._held.append(DecodedCrop(ticket, outcome, self.seconds))
        if not self.holding:
            self.release()

    def release(self) -> None:
        """Finishes all that was held back."""
        self._done.extend(self._held)
        self._held.clear()
        self._wake.set()

    def take(self) -> list[DecodedCrop]:
        """Everything that is done."""
        done, self._done = self._done, []
        return done


class StepModel:
    """Runs a batch when the test says so."""

    def __init__(self, wake: asyncio.Event) -> None:
        self.batches: list[int] = []
        self._wake = wake
        self._done: list[BatchResult] = []

    def submit(self, crops: list[Pixels]) -> None:
        """Takes note of the batch's size."""
        self.batches.append(len(crops))

    def take(self) -> list[BatchResult]:
        """Everything that is done."""
        done, self._done = self._done, []
        return done

    def finish(self, *, failing: bool = False) -> None:
        """Ends the running batch, with no detections or with a failure."""
        outcome: list[Detections] | RejectedError = [Detections.empty()] * self.batches[-1]
        if failing:
            outcome = RejectedError("it failed", reason=RejectReason.INFERENCE_FAILED)
        self._done.append(BatchResult(outcome, BATCH_S))
        self._wake.set()


@dataclass
class Sink:
    """Keeps verdicts; an ended one takes none."""

    verdicts: list[Verdict] = field(default_factory=list)
    awaited: int = 0
    ended: bool = False

    def attach(self) -> None:
        """Counts."""
        self.awaited += 1

    def detach(self) -> None:
        """Counts."""
        self.awaited -= 1

    def deliver(self, verdict: Verdict) -> bool:
        """Keeps the verdict unless ended."""
        if not self.ended:
            self.verdicts.append(verdict)
        return not self.ended

    def kinds(self) -> list[str]:
        """The verdicts' outcomes by name, in order."""
        return [type(verdict.outcome).__name__ for verdict in self.verdicts]


@dataclass
class Bench:
    """A pipeline with everything around it."""

    pipeline: EscalationPipeline
    clock: ManualClock
    decoder: StepDecoder
    model: StepModel
    registry: prometheus_client.CollectorRegistry
    sink: Sink = field(default_factory=Sink)

    async def settle(self) -> None:
        """Lets the pipeline do all it can without time passing."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def submit(
        self,
        *names: str,
        remaining_s: float = 60.0,
        image: bytes = b"good",
        device: str = "device",
        value: float = 0.0,
    ) -> None:
        """Submits requests and lets the pipeline take them."""
        for name in names:
            asked = dataclasses.replace(escalation(name, image=image), value=value)
            self.pipeline.submit(asked, device, remaining_s, self.sink)
        await self.settle()

    async def finish(self, *, failing: bool = False) -> None:
        """Ends the running batch and lets the pipeline go on."""
        self.model.finish(failing=failing)
        await self.settle()

    def count(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def outcomes(self) -> dict[str, int]:
        """Requests by outcome, those that occurred."""
        names = ("answered", "shed", "expired", "rejected", "failed", "duplicate")
        counts = {n: int(self.count("escalator_requests_total", outcome=n)) for n in names}
        return {name: count for name, count in counts.items() if count}


@contextlib.asynccontextmanager
async def running(
    settings: EscalatorSettings, batch_s: Callable[[int], float] = lambda _: BATCH_S
) -> AsyncIterator[Bench]:
    """A pipeline at work on settings, with a model that took `batch_s` of each size to warm up."""
    bundle = make_bundle()
    registry = prometheus_client.CollectorRegistry()
    metrics = EscalatorMetrics(registry, bundle.info, bundle.digest)
    wake = asyncio.Event()
    decoder, model, clock = StepDecoder(wake), StepModel(wake), ManualClock()
    cost = BatchCost(BATCH_MAX)
    for size in range(1, BATCH_MAX + 1):
        cost.observe(size, batch_s(size))
    ledger = Ledger(bundle.digest, VerdictMemory(100, 60 * 10**9), metrics)
    reporter = Reporter(bundle.labels, bundle.calibration, bundle.thresholds)
    workers = Workers(decoder, model, wake)
    pipeline = EscalationPipeline(settings, workers, ledger, cost, reporter, clock, metrics)
    async with asyncio.TaskGroup() as tasks:
        moving = tasks.create_task(pipeline.run())
        yield Bench(pipeline, clock, decoder, model, registry)
        moving.cancel()
