"""What one client may take of the escalator, and that the others go on being served."""

from __future__ import annotations

import gzip
import struct

import grpc
import numpy as np
import psutil
import pytest

from foundation.errors import RejectReason
from foundation.escalations import Answer, Encoding, Shed
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
from tests.cloud_escalator.raw_http2 import (
    ACKNOWLEDGED,
    DATA,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    connect_raw,
    is_closed_at_once,
)
from tests.cloud_escalator.service import rejected, serving


async def assert_served(client: Client, name: str = "fine") -> None:
    """Another client's request is answered."""
    verdict = await client.open_stream().ask(escalation(name, camera="other"))
    assert isinstance(verdict.outcome, Answer)


def ended(end: str) -> str:
    """The name of the counter of streams that ended so."""
    return f'escalator_streams_ended_total{{end="{end}"}}'


async def test_requests_beyond_the_quota_are_shed(configure: Configure) -> None:
    """Two at once and one in ten seconds: the third is told when to come; others are not held."""
    limits = {"device_requests_burst": 2, "device_requests_per_s": 0.1}
    async with serving(configure(limits=limits)) as (running, client):
        stream = client.open_stream()
        for name in ("a", "b"):
            assert isinstance((await stream.ask(escalation(name))).outcome, Answer)
        verdict = await stream.ask(escalation("c"))
        assert verdict.escalation_id == "c"
        assert isinstance(verdict.outcome, Shed)
        assert 5.0 < verdict.outcome.retry_after_s <= 10.0
        other = await stream.ask(escalation("d", camera="other"))
        assert isinstance(other.outcome, Answer)
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_sheds_total{reason="quota"}'] == 1


async def test_bytes_beyond_the_quota_are_shed(configure: Configure) -> None:
    """Bytes count whether they are of use or not."""
    limits = {"device_bytes_burst": 50_000, "device_bytes_per_s": 1000}
    async with serving(configure(limits=limits)) as (_, client):
        stream = client.open_stream()
        verdict = await stream.ask(escalation("big", image=b"x" * 60_000))
        assert rejected(verdict) is RejectReason.NOT_AN_IMAGE
        again = await stream.ask(escalation("small"))
        assert isinstance(again.outcome, Shed)
        assert 5.0 < again.outcome.retry_after_s < 12.0
        await assert_served(client)


async def test_streams_of_one_device_are_bounded(configure: Configure) -> None:
    """A second stream of a device ends with its first request, and may come when one has gone."""
    async with serving(configure(limits={"device_streams_max": 1})) as (running, client):
        first = client.open_stream()
        await first.ask(escalation("a"))
        second = client.open_stream()
        refused = await second.ask(escalation("b"))
        assert refused.escalation_id == "b"
        assert isinstance(refused.outcome, Shed)
        assert await second.status() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert isinstance((await first.ask(escalation("c"))).outcome, Answer)
        await assert_served(client)
        assert await first.close() is grpc.StatusCode.OK
        assert isinstance((await client.open_stream().ask(escalation("d"))).outcome, Answer)
        metrics = await scrape(running.telemetry_port)
        assert metrics[ended("over_quota")] == 1
        assert metrics['escalator_sheds_total{reason="quota"}'] == 1
        assert outcomes(metrics) == {"answered": 4, "shed": 1}


async def test_idle_stream_is_ended(configure: Configure) -> None:
    """Silence ends a stream with the code of one whose time is over; awaiting is not silence."""
    settings = configure(limits={"stream_idle_s": 0.3}, batch={"idle_wait_s": 1.0})
    async with serving(settings) as (running, client):
        waiting = client.open_stream()
        assert isinstance((await waiting.ask(escalation("slow"))).outcome, Answer)
        assert await waiting.status() is grpc.StatusCode.DEADLINE_EXCEEDED
        silent = client.open_stream()
        assert await silent.status() is grpc.StatusCode.DEADLINE_EXCEEDED
        metrics = await scrape(running.telemetry_port)
        assert metrics[ended("idle")] == 2
        await assert_served(client)


async def test_slow_sender_is_ended(configure: Configure) -> None:
    """A message that comes byte by byte is silence: nothing has been asked."""
    async with (
        serving(configure(limits={"stream_idle_s": 0.5})) as (running, client),
        connect_raw(running.port) as raw,
    ):
        await raw.escalate(1)
        await raw.send(DATA, 0, 1, b"\0" + struct.pack(">I", 100_000))
        metrics: dict[str, float] = {}
        while not metrics.get(ended("idle")):
            await raw.send(DATA, 0, 1, b"x")
            metrics = await scrape(running.telemetry_port)
        frame = await raw.receive_until(HEADERS, RST_STREAM, stream=1)
        assert frame is not None
        assert b"Nothing was asked" in frame.payload
        await assert_served(client)


async def test_idle_connections_are_closed_and_bounded(configure: Configure) -> None:
    """A connection without a call is closed after a while, one too many at once."""
    limits = {"connections_max": 2, "connection_idle_s": 1.0}
    async with serving(configure(limits=limits)) as (running, client):
        await assert_served(client, "first")
        async with connect_raw(running.port) as raw:
            assert await raw.receive() is not None
            assert await is_closed_at_once(running.port)
            frame = await raw.receive_until(GOAWAY)
            assert frame is not None
            assert b"connection idle" in frame.payload
        await assert_served(client, "second")


async def test_megabyte_of_headers_is_refused(configure: Configure) -> None:
    """Headers beyond the limit end their call, and nothing else on the connection."""
    async with serving(configure()) as (_, client):
        stub = client.stub
        call = stub.Escalate(metadata=[("x-large", "a" * 1_000_000)])
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await assert_served(client)


@pytest.mark.parametrize("acknowledged", [True, False])
async def test_headers_are_bounded_for_who_acknowledges_nothing(
    configure: Configure, *, acknowledged: bool
) -> None:
    """Who has acknowledged the limit is held to it by gRPC, everyone else by the service."""
    async with (
        serving(configure()) as (running, client),
        connect_raw(running.port) as raw,
    ):
        if acknowledged:
            assert await raw.receive_until(SETTINGS) is not None
            await raw.send(SETTINGS, ACKNOWLEDGED, 0)
        await raw.escalate(1, {"x-large": "a" * 1_000_000})
        frame = await raw.receive_until(HEADERS, RST_STREAM, stream=1)
        assert frame is not None
        assert b"grpc-status\x018" in frame.payload  # RESOURCE_EXHAUSTED
        if not acknowledged:
            assert (await scrape(running.telemetry_port))[ended("refused")] == 1
        await assert_served(client)


async def test_compressed_message_is_not_inflated(configure: Configure) -> None:
    """A bomb of gzip is refused by its name: a gigabyte would come of this megabyte."""
    bomb = gzip.compress(bytes(64 << 20), 9)
    async with (
        serving(configure()) as (running, client),
        connect_raw(running.port) as raw,
    ):
        await assert_served(client, "before")
        before = psutil.Process().memory_info().rss
        await raw.escalate(1, {"grpc-encoding": "gzip"})
        await raw.send(DATA, 0, 1, b"\1" + struct.pack(">I", len(bomb)) + bomb[:10_000])
        frame = await raw.receive_until(HEADERS, RST_STREAM, stream=1)
        assert frame is not None
        assert b"gzip" in frame.payload
        assert psutil.Process().memory_info().rss - before < 32 << 20
        await assert_served(client, "after")


async def test_giant_id_is_not_sent_back(configure: Configure) -> None:
    """A megabyte where an id should be is rejected; the answer is small."""
    async with serving(configure()) as (_, client):
        stream = client.open_stream()
        await stream.send(message(escalation("i" * 1_000_000)))
        verdict = await stream.call.read()
        assert verdict.rejection.reason == escalation_pb2.REJECT_REASON_MALFORMED
        assert verdict.escalation_id == ""
        assert isinstance((await stream.ask(escalation("next"))).outcome, Answer)


async def test_giant_lists_are_rejected(configure: Configure) -> None:
    """A hundred thousand proposals fit a message, and are refused before they become values."""
    asked = message(escalation("many"))
    asked.proposals.extend([escalation_pb2.Detection(score=0.5)] * 100_000)
    async with serving(configure()) as (_, client):
        stream = client.open_stream()
        assert rejected(await stream.ask(asked)) is RejectReason.MALFORMED
        assert isinstance((await stream.ask(escalation("next"))).outcome, Answer)


async def test_hundreds_of_idle_streams_cost_little(configure: Configure) -> None:
    """Streams that ask nothing hold less than 200 kB each, client included; others are served."""
    count = 300
    async with (
        serving(configure(limits={"streams_max": count + 1})) as (running, client),
        connect(running.port) as other,
    ):
        await assert_served(other, "before")
        before = psutil.Process().memory_info().rss
        streams = [client.open_stream() for _ in range(count - 1)]
        await scrape_until(running.telemetry_port, "escalator_streams", count)
        assert psutil.Process().memory_info().rss - before < count * 200_000
        await assert_served(other, "after")
        for stream in streams:
            stream.call.cancel()


def claim_in_jpeg(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header states another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


async def test_large_images_are_refused_by_their_headers(configure: Configure) -> None:
    """In every encoding; and a size that the pixels do not bear out."""
    large = np.zeros((1500, 1500, 3), np.uint8)
    async with serving(configure()) as (running, client):
        stream = client.open_stream()
        for encoding in Encoding:
            asked = escalation(encoding, encoding=encoding, image=encode_image(large, encoding, 50))
            assert rejected(await stream.ask(asked)) is RejectReason.TOO_LARGE
        jpeg = claim_in_jpeg(encode_image(square_crop(), Encoding.JPEG, 90), 65_500, 65_500)
        asked = escalation("hollow", encoding=Encoding.JPEG, image=jpeg)
        assert rejected(await stream.ask(asked)) is RejectReason.TOO_LARGE
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_rejects_total{reason="too_large"}'] == len(Encoding) + 1
        assert isinstance((await stream.ask(escalation("next"))).outcome, Answer)


async def test_time_on_the_way_counts_against_the_expiry(configure: Configure) -> None:
    """Of two requests of one stream, the one that was under way two seconds longer has expired."""
    async with serving(configure()) as (running, client):
        stream = client.open_stream()
        assert isinstance((await stream.ask(escalation("quick"))).outcome, Answer)
        late = message(escalation("late", expires_in_s=1.0))
        late.sent_at_ns -= 2 * 10**9
        late.expires_at_ns -= 2 * 10**9
        assert (await stream.ask(late)).outcome.__class__.__name__ == "Expired"
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_expirations_total{stage="admission"}'] == 1
