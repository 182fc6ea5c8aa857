"""The whole service in this process: real port, real clients, a real model."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from foundation.escalations import Answer, Encoding, Region, Shed
from foundation.geometry import iou_matrix
from foundation.levels import Level, encode_at
from foundation.wire import capabilities_from_proto
from protos.escalation.v1 import escalation_pb2
from tests.cloud_escalator.client import (
    WAIT_S,
    Client,
    connect,
    escalation,
    message,
    outcomes,
    scrape,
    scrape_until,
    square_crop,
)
from tests.cloud_escalator.conftest import Configure
from tests.cloud_escalator.service import SERVICE, SQUARE_IN_FRAME, closable, serving
from tests.support.bundles import make_bundle


async def test_crop_is_answered_in_source_pixels(configure: Configure) -> None:
    """The square at 16,24 of a crop at 100,200 is found where it is in the frame."""
    async with serving(configure()) as (_, client):
        stream = client.open_stream()
        for encoding in Encoding:
            verdict = await stream.ask(escalation(encoding.value, encoding=encoding))
            assert verdict.escalation_id == encoding.value
            assert isinstance(verdict.outcome, Answer)
            found = verdict.outcome.detections
            assert found.labels == ("green",)
            assert iou_matrix(found.boxes, SQUARE_IN_FRAME)[0, 0] > 0.4
            assert verdict.inference_s > 0
            assert len(verdict.cloud_bundle_digest) == 64
        assert await stream.close() is grpc.StatusCode.OK


async def test_empty_crop_is_an_empty_answer(configure: Configure) -> None:
    """To look and find nothing is an answer too."""
    async with serving(configure()) as (_, client):
        verdict = await client.open_stream().ask(
            escalation("black", pixels=np.zeros((64, 64, 3), np.uint8))
        )
        assert isinstance(verdict.outcome, Answer)
        assert len(verdict.outcome.detections) == 0


async def test_crop_at_reduced_resolution_is_scaled(configure: Configure) -> None:
    """A 64x64 image that covers 128x128 source pixels is answered at twice its size."""
    async with serving(configure()) as (_, client):
        verdict = await client.open_stream().ask(
            escalation("far", region=Region(100, 200, 228, 328))
        )
        assert isinstance(verdict.outcome, Answer)
        twice = np.array([[132, 248, 164, 280]], np.float32)
        assert iou_matrix(verdict.outcome.detections.boxes, twice)[0, 0] > 0.4


async def test_crop_that_the_edge_shrank_is_answered_in_source_pixels(configure: Configure) -> None:
    """Where its boxes are does not depend on the level at which it was sent."""
    large = square_crop().repeat(2, axis=0).repeat(2, axis=1)
    async with serving(configure()) as (_, client):
        stream = client.open_stream()
        for text in ("avif90@0.5", "webp95@0.5", "jpeg95@0.5", "png@0.5"):
            level = Level.parse(text)
            asked = escalation(
                text,
                image=encode_at(large, level),
                encoding=level.encoding,
                region=Region(100, 200, 228, 328),
            )
            verdict = await stream.ask(asked)
            assert isinstance(verdict.outcome, Answer)
            twice = np.array([[132, 248, 164, 280]], np.float32)
            assert iou_matrix(verdict.outcome.detections.boxes, twice)[0, 0] > 0.4


async def test_many_streams_are_answered_in_batches(configure: Configure) -> None:
    """Two clients with forty requests each get forty verdicts each, every one exactly once."""
    async with serving(configure()) as (running, client), connect(running.port) as second:

        async def ask_all(asker: Client, name: str) -> set[str]:
            stream = asker.open_stream()
            for number in range(40):
                await stream.send(escalation(f"{name}{number}"))
            names = {(await stream.receive()).escalation_id for _ in range(40)}
            assert await stream.close() is grpc.StatusCode.OK
            return names

        for name, found in zip(
            "ab", await asyncio.gather(ask_all(client, "a"), ask_all(second, "b")), strict=True
        ):
            assert found == {f"{name}{number}" for number in range(40)}
        metrics = await scrape(running.telemetry_port)
        assert outcomes(metrics) == {"answered": 80}
        assert metrics["escalator_queue_seconds_count"] == 80
        assert metrics["escalator_batch_size_sum"] == 80
        assert metrics["escalator_batch_size_count"] < 80


async def test_model_with_a_fixed_batch_runs_crop_by_crop(
    configure: Configure, tmp_path: Path
) -> None:
    """A bundle that takes one image at a time is served all the same, in batches of one."""
    bundle = make_bundle()
    contract = bundle.info.input.model_copy(update={"dynamic_batch": False})
    info = bundle.info.model_copy(update={"input": contract})
    dataclasses.replace(bundle, info=info).write(tmp_path / "fixed")
    async with serving(configure(bundle=tmp_path / "fixed")) as (running, client):
        stream = client.open_stream()
        for number in range(10):
            await stream.send(escalation(f"n{number}"))
        for _ in range(10):
            assert isinstance((await stream.receive()).outcome, Answer)
        metrics = await scrape(running.telemetry_port)
        assert metrics["escalator_batch_size_count"] == 10


async def test_capabilities_say_what_is_accepted(configure: Configure) -> None:
    """An edge node can learn the model, its labels, the limits and the encodings."""
    settings = configure(limits={"image_pixels_max": 10_000, "encodings": ["webp", "png"]})
    async with serving(settings) as (_, client):
        reply = await client.stub.GetCapabilities(
            escalation_pb2.GetCapabilitiesRequest(), timeout=WAIT_S
        )
        capabilities = capabilities_from_proto(reply)
        assert capabilities.models[0].name == "squares"
        assert capabilities.models[0].labels == ("blue", "green", "red")
        assert capabilities.pixels_max == 10_000
        assert capabilities.side_native_px == 64
        assert capabilities.encodings == (Encoding.WEBP, Encoding.PNG)


async def test_health_and_reflection_are_served(configure: Configure) -> None:
    """Standard tools can check the service's health and discover it."""
    async with serving(configure()) as (_, client):
        health = health_pb2_grpc.HealthStub(client.channel)
        for service in ("", SERVICE):
            reply = await health.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S
            )
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        call = reflection_pb2_grpc.ServerReflectionStub(client.channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = await call.read()
        assert SERVICE in {entry.name for entry in listed.list_services_response.service}
        call.cancel()


async def test_clocks_need_not_agree(configure: Configure) -> None:
    """An edge whose clock is a year off is served by the time left on its own clock."""
    year_ns = 365 * 24 * 3600 * 10**9
    async with serving(configure()) as (_, client):
        stream = client.open_stream()
        for name, shift_ns in (("behind", -year_ns), ("ahead", year_ns)):
            asked = message(escalation(name))
            asked.captured_at_ns += shift_ns
            asked.sent_at_ns += shift_ns
            asked.expires_at_ns += shift_ns
            assert isinstance((await stream.ask(asked)).outcome, Answer)


async def test_requests_of_one_stream_are_bounded(configure: Configure) -> None:
    """A stream is not read beyond its share; everything sent is answered all the same."""
    settings = configure(limits={"stream_requests_max": 2}, batch={"idle_wait_s": 0.05})
    async with serving(settings) as (running, client):
        stream = client.open_stream()
        for number in range(12):
            await stream.send(escalation(f"n{number}"))
        names = [(await stream.receive()).escalation_id for _ in range(12)]
        assert sorted(names) == sorted(f"n{number}" for number in range(12))
        metrics = await scrape(running.telemetry_port)
        assert (
            metrics['escalator_batch_size_bucket{le="2.0"}']
            == (metrics["escalator_batch_size_count"])
        )


async def test_drain_answers_and_then_refuses(configure: Configure) -> None:
    """While draining: NOT_SERVING, new requests shed, old ones answered; then streams end well."""
    settings = configure(batch={"idle_wait_s": 1.0}, drain_s=20.0)
    async with closable(settings) as (running, client, close):
        stream = client.open_stream()
        await stream.send(escalation("old"))
        await scrape_until(running.telemetry_port, "escalator_queue_requests", 1)
        closing = asyncio.create_task(close())
        health = health_pb2_grpc.HealthStub(client.channel)
        async with asyncio.timeout(WAIT_S):
            while True:
                reply = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
                if reply.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    break
        await stream.send(escalation("new"))
        verdicts = {v.escalation_id: v for v in [await stream.receive() for _ in range(2)]}
        assert isinstance(verdicts["new"].outcome, Shed)
        assert isinstance(verdicts["old"].outcome, Answer)
        assert await stream.status() is grpc.StatusCode.OK
        await closing
