"""An uplink with its lane, whose news and metrics a test can wait for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry

from edge_node.adapters.uplink import GrpcUplink, open_certificates
from edge_node.config import EdgeSettings
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.escalation_lane import EscalationLane
from edge_node.values import Candidate, Ending, News
from foundation.clock import SystemClock
from foundation.escalations import Encoding
from tests.edge_node.escalations import candidate, escalation

BOUND_S = 10.0


class Link:
    """An escalation lane whose uplink runs against an address."""

    def __init__(self, address: str, **settings: object) -> None:
        clock = SystemClock()
        self.registry = CollectorRegistry()
        metrics = EdgeMetrics(self.registry, "cam")
        escalator = {
            "address": address,
            "backoff_min_s": 0.01,
            "backoff_max_s": 0.05,
            "connect_timeout_s": 2.0,
            **settings,
        }
        whole = EdgeSettings.model_validate({"escalator": escalator})
        self.news: list[News] = []
        self._came = asyncio.Event()
        self.lane = EscalationLane(whole, self, None, self._post, metrics, clock)
        certificates = open_certificates(whole, metrics.certificates)
        self._uplink = GrpcUplink(
            whole.escalator, frozenset({Encoding.WEBP}), metrics, clock, certificates
        )

    def offer(self, candidate: Candidate) -> bool:
        """As the encoder: room for everything."""
        del candidate
        return True

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the uplink until the end of the block."""
        task = asyncio.create_task(self.lane.run(self._uplink))
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.lane.drain(0.0)

    def ask(self, id_: str, *, expiry_s: float = BOUND_S, size: int = 100) -> None:
        """A crop has been encoded."""
        crop = escalation(id_, expiry_s=expiry_s, size=size)
        self.lane.deliver(candidate(id_, expiry_s=expiry_s), crop)

    async def endings(self, count: int) -> list[Ending]:
        """The first endings, once there are so many."""
        async with asyncio.timeout(BOUND_S):
            while len(found := [n for n in self.news if isinstance(n, Ending)]) < count:
                self._came.clear()
                await self._came.wait()
        return found

    async def until(self, name: str, least: float, **labels: str) -> None:
        """Waits until a metric has reached a value."""
        async with asyncio.timeout(BOUND_S):
            while self.value(name, **labels) < least:  # noqa: ASYNC110 - a counter has no event
                await asyncio.sleep(0.005)

    def value(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def _post(self, news: News) -> None:
        self.news.append(news)
        self._came.set()
