"""The whole service in this process: real port, real clients, a real model."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cloud_escalator.app import RunningEscalator, open_escalator
from cloud_escalator.config import EscalatorSettings
from foundation.clock import SystemClock
from foundation.errors import ConfigError, RejectReason
from foundation.escalations import Answer, Encoding, Expired, Region, Rejection, Shed, Verdict
from foundation.geometry import iou_matrix
from foundation.images import encode_image
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
from tests.cloud_escalator.poisonable import poison, write_poisonable_bundle

SQUARE_IN_FRAME = np.array([[116, 224, 132, 240]], np.float32)
SERVICE = "hardcase.escalation.v1.EscalationService"


@asynccontextmanager
async def serving(settings: EscalatorSettings) -> AsyncIterator[tuple[RunningEscalator, Client]]:
    """An escalator and a client of it."""
    async with (
        open_escalator(settings, SystemClock()) as running,
        connect(running.port) as client,
    ):
        yield running, client


@asynccontextmanager
async def closable(
    settings: EscalatorSettings,
) -> AsyncIterator[tuple[RunningEscalator, Client, Callable[[], Coroutine[None, None, None]]]]:
    """An escalator that the test closes while its client stays connected."""
    async with AsyncExitStack() as service:
        running = await service.enter_async_context(open_escalator(settings, SystemClock()))
        async with connect(running.port) as client:
            yield running, client, service.aclose


def rejected(verdict: Verdict) -> RejectReason | None:
    """Why a request was rejected; None when it was not."""
    return verdict.outcome.reason if isinstance(verdict.outcome, Rejection) else None


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


def large_png() -> bytes:
    """A hundred megapixels of black in about 100 kB."""
    return encode_image(np.zeros((10_000, 10_000, 3), np.uint8), Encoding.PNG, 100)


async def test_bad_crops_are_rejected_by_reason(configure: Configure) -> None:
    """Each bad request gets its typed answer and its counter, and good ones around it go on."""
    cases = {
        RejectReason.NOT_AN_IMAGE: [
            message(escalation("text", image=b"this is not an image")),
            message(escalation("cut", image=encode_image(square_crop(), Encoding.PNG, 9)[:-40])),
            message(
                escalation(
                    "other",
                    encoding=Encoding.JPEG,
                    image=encode_image(square_crop(), Encoding.WEBP, 9),
                )
            ),
        ],
        RejectReason.TOO_SMALL: [message(escalation("dot", pixels=np.zeros((1, 1, 3), np.uint8)))],
        RejectReason.TOO_LARGE: [message(escalation("huge", image=large_png()))],
        RejectReason.OUTSIDE_FRAME: [
            message(escalation("right", region=Region(600, 200, 664, 264))),
            message(escalation("left", region=Region(-1, 200, 63, 264))),
            message(escalation("inverted", region=Region(164, 200, 100, 264))),
        ],
        RejectReason.MALFORMED: [
            message(escalation("swollen", region=Region(100, 200, 132, 232))),
            message(escalation("x" * 65)),
            escalation_pb2.Escalation(
                id="bare",
                encoding=escalation_pb2.ENCODING_PNG,
                frame_width=9,
                frame_height=9,
                region=escalation_pb2.Region(x2=9, y2=9),
            ),
        ],
    }
    foreign = message(escalation("foreign"))
    foreign.encoding = 99  # type: ignore[assignment]
    cases[RejectReason.UNSUPPORTED_ENCODING] = [foreign]
    async with serving(configure()) as (running, client):
        stream = client.open_stream()
        total = 0
        for reason, bad in cases.items():
            for asked in bad:
                verdict = await stream.ask(asked)
                assert verdict.escalation_id == asked.id
                assert rejected(verdict) is reason, asked.id
                total += 1
            good = await stream.ask(escalation(f"good after {reason}"))
            assert isinstance(good.outcome, Answer)
            metrics = await scrape(running.telemetry_port)
            assert metrics[f'escalator_rejects_total{{reason="{reason}"}}'] == len(bad)
        assert outcomes(metrics) == {"answered": len(cases), "rejected": total}


async def test_large_image_is_refused_by_its_header(configure: Configure) -> None:
    """A hundred megapixels are refused though no pixel follows the header: none was looked for."""
    header = struct.pack(">4sIIBBBBB", b"IHDR", 10_000, 10_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4s", 0, b"IDAT") + bytes(4)
    async with serving(configure()) as (_, client):
        verdict = await client.open_stream().ask(escalation("hollow", image=data))
        assert rejected(verdict) is RejectReason.TOO_LARGE


async def test_expired_request_is_not_executed(configure: Configure) -> None:
    """A request that had expired when it was sent is answered so; the model does not run."""
    async with serving(configure()) as (running, client):
        verdict = await client.open_stream().ask(escalation("old", expires_in_s=-1.0))
        assert isinstance(verdict.outcome, Expired)
        metrics = await scrape(running.telemetry_port)
        assert outcomes(metrics) == {"expired": 1}
        assert metrics['escalator_expirations_total{stage="admission"}'] == 1
        assert metrics["escalator_batch_size_count"] == 0


async def test_expiry_needs_no_common_clock(configure: Configure) -> None:
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


async def test_duplicate_id_is_executed_once(configure: Configure) -> None:
    """The same request sent again gets the same verdict, and the model ran once."""
    async with serving(configure()) as (running, client):
        stream = client.open_stream()
        first = await stream.ask(escalation("once"))
        again = await stream.ask(escalation("once"))
        assert isinstance(again.outcome, Answer)
        assert (again.queued_s, again.inference_s) == (first.queued_s, first.inference_s)
        metrics = await scrape(running.telemetry_port)
        assert outcomes(metrics) == {"answered": 1, "duplicate": 1}
        assert metrics["escalator_batch_size_sum"] == 1


async def test_stream_cut_in_the_middle_loses_nothing(configure: Configure) -> None:
    """The client asks again and gets the first execution's verdict; a neighbour notices nothing."""
    settings = configure(batch={"idle_wait_s": 0.3})
    async with serving(settings) as (running, neighbour), connect(running.port) as client:
        other = neighbour.open_stream()
        cut = client.open_stream()
        await cut.send(escalation("mine"))
        await scrape_until(running.telemetry_port, "escalator_queue_requests", 1)
        cut.call.cancel()
        await scrape_until(running.telemetry_port, 'escalator_streams_ended_total{end="cut"}', 1)
        verdict = await client.open_stream().ask(escalation("mine"))
        assert verdict.escalation_id == "mine"
        assert isinstance(verdict.outcome, Answer)
        assert isinstance((await other.ask(escalation("its"))).outcome, Answer)
        metrics = await scrape(running.telemetry_port)
        assert outcomes(metrics) == {"answered": 2, "duplicate": 1}


async def test_oversize_message_costs_only_its_stream(configure: Configure) -> None:
    """A message above the limit ends its stream with RESOURCE_EXHAUSTED; the others go on."""
    settings = configure(limits={"message_bytes_max": 20_000})
    async with serving(settings) as (running, neighbour), connect(running.port) as client:
        other = neighbour.open_stream()
        assert isinstance((await other.ask(escalation("before"))).outcome, Answer)
        stream = client.open_stream()
        await stream.send(escalation("big", image=b"x" * 30_000))
        assert await stream.status() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert isinstance((await other.ask(escalation("after"))).outcome, Answer)
        assert isinstance((await client.open_stream().ask(escalation("own"))).outcome, Answer)


async def test_foreign_message_ends_its_stream(configure: Configure) -> None:
    """Bytes that are no Escalation are counted; what the stream still awaits comes first."""
    settings = configure(batch={"idle_wait_s": 0.2})
    async with serving(settings) as (running, client):
        stream = client.open_raw_stream()
        await stream.call.write(message(escalation("sound")).SerializeToString())
        await stream.call.write(b"\xff\xff\xff not protobuf")
        read = [escalation_pb2.Verdict.FromString(await stream.call.read()) for _ in range(2)]
        assert {verdict.escalation_id for verdict in read} == {"", "sound"}
        assert await stream.status() is grpc.StatusCode.INVALID_ARGUMENT
        metrics = await scrape(running.telemetry_port)
        assert outcomes(metrics) == {"answered": 1, "rejected": 1}
        assert metrics['escalator_streams_ended_total{end="malformed"}'] == 1


async def test_crop_on_which_the_model_fails_costs_only_itself(
    configure: Configure, tmp_path: Path
) -> None:
    """A batch with one poisoned crop: that one fails typed, the others are answered."""
    settings = configure(
        bundle=write_poisonable_bundle(tmp_path / "poisonable"), batch={"idle_wait_s": 0.2}
    )
    async with serving(settings) as (running, client):
        stream = client.open_stream()
        await stream.send(escalation("good"))
        await stream.send(escalation("bad", pixels=poison(square_crop())))
        await stream.send(escalation("fine"))
        verdicts = {v.escalation_id: v for v in [await stream.receive() for _ in range(3)]}
        assert rejected(verdicts["bad"]) is RejectReason.INFERENCE_FAILED
        assert isinstance(verdicts["good"].outcome, Answer)
        assert isinstance(verdicts["fine"].outcome, Answer)
        metrics = await scrape(running.telemetry_port)
        assert outcomes(metrics) == {"answered": 2, "failed": 1}
        assert metrics["escalator_inference_failures_total"] >= 1


async def test_client_that_reads_nothing_is_cut_off(configure: Configure) -> None:
    """A stream whose verdicts nobody takes ends after the write timeout, and only that one."""
    limits = {"stream_write_timeout_s": 0.3, "stream_requests_max": 10_000}
    async with serving(configure(limits=limits)) as (running, neighbour):
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.http2.lookahead_bytes", 1024),
            ("grpc.http2.bdp_probe", 0),  # or the window grows until everything fits
        ]
        target = f"127.0.0.1:{running.port}"
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            greedy = Client(channel).open_stream()
            bad = message(escalation("x" * 60, region=Region(600, 0, 664, 64), image=b"?"))
            for _ in range(1000):
                await greedy.send(bad)
            ended = 'escalator_streams_ended_total{end="slow"}'
            await scrape_until(running.telemetry_port, ended, 1)
            assert isinstance((await neighbour.open_stream().ask(escalation("ok"))).outcome, Answer)


async def test_streams_beyond_the_limit_are_refused(configure: Configure) -> None:
    """One stream too many is told so; when another one ends, there is room again."""
    async with serving(configure(limits={"streams_max": 1})) as (_, client):
        first = client.open_stream()
        await first.ask(escalation("a"))
        second = client.open_stream()
        assert await second.status() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await first.close() is grpc.StatusCode.OK
        assert isinstance((await client.open_stream().ask(escalation("b"))).outcome, Answer)


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


async def test_port_in_use_is_a_configuration_error(configure: Configure) -> None:
    """A second escalator on the same port says which address, and what to do."""
    async with open_escalator(configure(), SystemClock()) as running:
        taken = f"127.0.0.1:{running.port}"
        with pytest.raises(ExceptionGroup) as caught:
            async with open_escalator(configure(listen=taken), SystemClock()):
                pass
        assert caught.group_contains(ConfigError, match=f"{taken}.*`listen`")
        taken = f"127.0.0.1:{running.telemetry_port}"
        with pytest.raises(ConfigError, match=taken):
            async with open_escalator(configure(telemetry_listen=taken), SystemClock()):
                pass
