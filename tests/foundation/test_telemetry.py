"""Telemetry over real HTTP on port 0."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import socket
import threading
import urllib.error
import urllib.request
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from foundation.errors import ConfigError
from foundation.telemetry import Readiness, TelemetryServer, register_process_metrics
from tests.support.clock import ManualClock

TIMEOUT_S = 30.0


def server(
    ready: Readiness | None = None,
    registry: prometheus_client.CollectorRegistry | None = None,
    clock: ManualClock | None = None,
) -> TelemetryServer:
    """A server on a free port of the loopback interface."""
    return TelemetryServer(
        "127.0.0.1",
        0,
        registry or prometheus_client.CollectorRegistry(),
        ready or Readiness(),
        clock=clock,
    )


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body; blocks the calling thread, and so the loop that it runs on."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT_S
        ) as response:
            return int(response.status), response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def get_json(port: int, path: str) -> tuple[int, Any]:
    """Status and document."""
    status, body = get(port, path)
    return status, json.loads(body)


async def test_metrics_are_those_of_the_registry() -> None:
    """What a service registered, and its process and build, as Prometheus reads them."""
    registry = prometheus_client.CollectorRegistry()
    register_process_metrics(registry, "edge")
    frames = prometheus_client.Counter("edge_frames", "Frames.", ["camera"], registry=registry)
    frames.labels("left").inc(3)
    async with server(registry=registry) as telemetry:
        status, text = await asyncio.to_thread(get, telemetry.port, "/metrics")
    assert status == 200
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["edge_frames_total", (("camera", "left"),)] == 3
    assert samples["process_resident_memory_bytes", ()] > 0
    build = next(dict(labels) for name, labels in samples if name == "edge_build_info")
    assert build["version"] == importlib.metadata.version("hardcase")
    assert set(build) == {"version", "python", "onnxruntime"}


async def test_it_listens_where_it_says() -> None:
    """Port 0 becomes a real one."""
    async with server() as telemetry:
        assert telemetry.port > 0
        assert (await asyncio.to_thread(get, telemetry.port, "/healthz"))[0] == 200


async def test_readiness_waits_for_every_condition() -> None:
    """503 with those that are missing, 200 when none is, 503 again when one is lost."""
    ready = Readiness("model_loaded", "camera_open")
    async with server(ready) as telemetry:
        port = telemetry.port
        assert await asyncio.to_thread(get_json, port, "/readyz") == (
            503,
            {"missing": ["model_loaded", "camera_open"]},
        )
        ready.set("model_loaded", True)
        found = await asyncio.to_thread(get_json, port, "/readyz")
        assert found == (503, {"missing": ["camera_open"]})
        ready.set("camera_open", True)
        assert await asyncio.to_thread(get_json, port, "/readyz") == (200, {"missing": []})
        ready.set("model_loaded", False)
        assert (await asyncio.to_thread(get, port, "/readyz"))[0] == 503


def test_a_condition_must_have_been_named() -> None:
    """A misspelt one would never be missed."""
    with pytest.raises(KeyError, match="modell"):
        Readiness("model").set("modell", True)


async def test_a_blocked_loop_is_not_healthy() -> None:
    """While the loop does not get to beat, /healthz still answers, with 503."""
    clock = ManualClock()
    async with server(clock=clock) as telemetry:
        await asyncio.sleep(0)
        # From here on this coroutine does not let go of the loop.
        clock.advance_s(9)
        assert get_json(telemetry.port, "/healthz") == (200, {"last_beat_s": 9.0})
        clock.advance_s(2)
        assert get_json(telemetry.port, "/healthz") == (503, {"last_beat_s": 11.0})
        assert get(telemetry.port, "/metrics")[0] == 200
        # The loop is let go, beats, and is healthy again.
        async with asyncio.timeout(TIMEOUT_S):
            while (await asyncio.to_thread(get, telemetry.port, "/healthz"))[0] != 200:
                pass


@pytest.mark.parametrize("path", ["/", "/metricz", "/metrics/../etc/passwd"])
async def test_other_paths_are_answered_with_those_there_are(path: str) -> None:
    """For whoever looks around."""
    async with server() as telemetry:
        status, text = await asyncio.to_thread(get, telemetry.port, path)
    assert status == 404
    assert "/readyz" in text


async def test_a_silent_client_does_not_keep_others_waiting() -> None:
    """A connection that sends nothing has a thread of its own."""
    async with server() as telemetry:
        with socket.create_connection(("127.0.0.1", telemetry.port)):
            assert (await asyncio.to_thread(get, telemetry.port, "/healthz"))[0] == 200


async def test_a_port_in_use_is_a_setting_to_correct() -> None:
    """With the address and what to do; a second service never shares it unnoticed."""
    async with server() as first:
        second = TelemetryServer(
            "127.0.0.1", first.port, prometheus_client.CollectorRegistry(), Readiness()
        )
        with pytest.raises(ConfigError, match=f"127.0.0.1:{first.port}") as caught:
            await second.__aenter__()
        assert "another address or port" in caught.value.remedy


async def test_an_address_of_another_machine_is_a_setting_to_correct() -> None:
    """192.0.2.0/24 belongs to nobody."""
    elsewhere = TelemetryServer("192.0.2.1", 0, prometheus_client.CollectorRegistry(), Readiness())
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        await elsewhere.__aenter__()


async def test_closing_frees_the_port_and_ends_the_thread() -> None:
    """A restart finds the port free."""
    async with server() as first:
        port = first.port
        assert "telemetry" in {thread.name for thread in threading.enumerate()}
        await asyncio.to_thread(get, port, "/healthz")
    assert "telemetry" not in {thread.name for thread in threading.enumerate()}
    again = TelemetryServer("127.0.0.1", port, prometheus_client.CollectorRegistry(), Readiness())
    async with again:
        assert (await asyncio.to_thread(get, port, "/healthz"))[0] == 200
