"""What is wrong with a request costs that request, or at most its stream, and nothing else."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest

from cloud_escalator.app import open_escalator
from foundation.clock import SystemClock
from foundation.errors import ConfigError, RejectReason
from foundation.escalations import Answer, Encoding, Expired, Region
from foundation.images import encode_image
from protos.escalation.v1 import escalation_pb2
from tests.cloud_escalator.client import (
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
from tests.cloud_escalator.service import rejected, serving
from tests.support.avif_files import claim_in_container


def large_png() -> bytes:
    """A hundred megapixels of black in about 100 kB."""
    return encode_image(np.zeros((10_000, 10_000, 3), np.uint8), Encoding.PNG, 100)


def two_sizes() -> bytes:
    """An AVIF that passes for a crop of 64x64 and decodes to more than a crop may have."""
    data = bytearray(encode_image(np.zeros((1500, 1500, 3), np.uint8), Encoding.AVIF, 50))
    claim_in_container(data, 64, 64)
    return bytes(data)


async def test_bad_crops_are_rejected_by_reason(configure: Configure) -> None:
    """Each bad request gets its typed answer and its counter, and good ones around it go on."""
    cases = {
        RejectReason.NOT_AN_IMAGE: [
            message(escalation("text", image=b"this is not an image")),
            *(
                message(
                    escalation(
                        f"cut {encoding}",
                        encoding=encoding,
                        image=encode_image(square_crop(), encoding, 90)[:-60],
                    )
                )
                for encoding in Encoding
            ),
            message(escalation("bomb", encoding=Encoding.AVIF, image=two_sizes())),
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
