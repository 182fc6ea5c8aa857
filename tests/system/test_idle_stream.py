"""A real escalator ends a real uplink's idle stream: it comes back, and nothing is an error."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from prometheus_client import CollectorRegistry

from cloud_escalator.app import open_escalator
from cloud_escalator.config import EscalatorSettings
from edge_node.adapters.uplink import GrpcUplink
from edge_node.config import EscalatorSettings as LinkSettings
from edge_node.metrics import EdgeMetrics
from foundation.clock import SystemClock
from foundation.escalations import Capabilities, Encoding, Escalation, Verdict
from foundation.settings import parse_settings
from tests.cloud_escalator.client import WAIT_S, scrape_until
from tests.support.bundles import write_bundle


class SilentFeed:
    """Has nothing to ask, and notes when a stream is open."""

    def __init__(self) -> None:
        self.opened = 0

    async def next_escalation(self) -> Escalation:
        """Nothing, for ever."""
        never: asyncio.Future[Escalation] = asyncio.get_running_loop().create_future()
        return await never

    def note_sent(self, escalation_id: str, size_bytes: int) -> None:
        """Nothing is sent."""

    def receive(self, verdict: Verdict) -> None:
        """Nothing comes."""

    def refuse(self, escalation_id: str) -> None:
        """Nothing is refused."""

    def set_capabilities(self, capabilities: Capabilities) -> None:
        """Of no interest."""

    def set_connected(self, connected: bool, *, broken: bool = False) -> None:
        """Counts."""
        assert not broken
        self.opened += connected


async def test_idle_stream_is_opened_again_without_alarm(tmp_path: Path) -> None:
    """Three streams end as idle, each is followed by another, and no error is counted."""
    document = {
        "bundle": write_bundle(tmp_path / "squares"),
        "listen": "127.0.0.1:0",
        "telemetry_listen": "127.0.0.1:0",
        "inference": {"threads": 1},
        "limits": {"stream_idle_s": 0.2},
    }
    settings = parse_settings(document, EscalatorSettings, origin="test")
    registry, feed = CollectorRegistry(), SilentFeed()
    metrics = EdgeMetrics(registry, "cam")
    async with open_escalator(settings, SystemClock()) as running:
        link = LinkSettings.model_validate({"address": f"127.0.0.1:{running.port}"})
        uplink = GrpcUplink(link, frozenset({Encoding.WEBP}), metrics, SystemClock())
        asking = asyncio.create_task(uplink.run(feed))
        ended = 'escalator_streams_ended_total{end="idle"}'
        await scrape_until(running.telemetry_port, ended, 3)
        async with asyncio.timeout(WAIT_S):
            while feed.opened < 4:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    errors = [
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "edge_uplink_errors_total"
    ]
    assert errors
    assert sum(errors) == 0
