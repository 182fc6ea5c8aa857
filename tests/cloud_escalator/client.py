"""A client that tests drive step by step, and what they ask with and look at."""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import numpy as np

from foundation.clock import SystemClock, after_s
from foundation.escalations import Encoding, Escalation, LabelledBoxes, Region, Verdict
from foundation.frames import Pixels
from foundation.images import encode_image
from foundation.wire import escalation_to_proto, verdict_from_proto
from protos.escalation.v1 import escalation_pb2, escalation_pb2_grpc
from tests.support.bundles import paint_square

WAIT_S = 20.0
"""Bounds every wait of a test; never what a test measures."""

REGION = Region(100, 200, 164, 264)


def square_crop(label: str = "green") -> Pixels:
    """A 64x64 crop in which the test bundle sees one square at 16,24."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    paint_square(pixels, 16, 24, label=label)
    return pixels


def escalation(
    name: str,
    *,
    image: bytes | None = None,
    pixels: Pixels | None = None,
    encoding: Encoding = Encoding.PNG,
    expires_in_s: float = 30.0,
    region: Region = REGION,
    camera: str = "cam",
) -> Escalation:
    """A request about a crop of a 640x480 frame; unless told otherwise a sound one."""
    now_ns = SystemClock().now_ns()
    if image is None:
        image = encode_image(square_crop() if pixels is None else pixels, encoding, 95)
    return Escalation(
        id=name,
        site="plant",
        camera=camera,
        track_id=7,
        frame_sequence=3,
        captured_at_ns=now_ns,
        expires_at_ns=after_s(now_ns, expires_in_s),
        frame_width=640,
        frame_height=480,
        region=region,
        encoding=encoding,
        image=image,
        proposals=LabelledBoxes.empty(),
        edge_bundle_digest="e" * 64,
        reason="uncertain",
    )


def message(asked: Escalation) -> escalation_pb2.Escalation:
    """The message for a request that is sent when it was captured."""
    return escalation_to_proto(asked, sent_at_ns=asked.captured_at_ns)


class Stream:
    """One open stream."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, asked: Escalation | escalation_pb2.Escalation) -> None:
        """Sends one request."""
        proto = message(asked) if isinstance(asked, Escalation) else asked
        await asyncio.wait_for(self.call.write(proto), WAIT_S)

    async def receive(self) -> Verdict:
        """The next verdict."""
        read = await asyncio.wait_for(self.call.read(), WAIT_S)
        assert isinstance(read, escalation_pb2.Verdict), f"the stream ended: {read}"
        return verdict_from_proto(read)

    async def ask(self, asked: Escalation | escalation_pb2.Escalation) -> Verdict:
        """Sends one request and waits for the next verdict."""
        await self.send(asked)
        return await self.receive()

    async def close(self) -> grpc.StatusCode:
        """Says that nothing more comes; returns the stream's status."""
        await self.call.done_writing()
        return await self.status()

    async def status(self) -> grpc.StatusCode:
        """The status that the stream ends with."""
        code: grpc.StatusCode = await asyncio.wait_for(self.call.code(), WAIT_S)
        return code


class Client:
    """A connection to an escalator."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stub: Any = escalation_pb2_grpc.EscalationServiceStub(channel)

    def open_stream(self) -> Stream:
        """Opens a stream on this connection."""
        return Stream(self.stub.Escalate())

    def open_raw_stream(self) -> Stream:
        """Opens a stream that takes and gives bytes as they are on the wire."""
        channel: Any = self.channel
        return Stream(channel.stream_stream("/hardcase.escalation.v1.EscalationService/Escalate")())


@contextlib.asynccontextmanager
async def connect(port: int) -> AsyncIterator[Client]:
    """A connection of its own to the escalator at this port."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
    ]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield Client(channel)


async def scrape(telemetry_port: int) -> dict[str, float]:
    """What /metrics says now, by name with labels, such as `name{label="value"}`."""

    def read() -> str:
        url = f"http://127.0.0.1:{telemetry_port}/metrics"
        with urllib.request.urlopen(url, timeout=WAIT_S) as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(read)
    lines = re.findall(r"^([a-z][^ ]*(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


async def scrape_until(telemetry_port: int, name: str, value: float) -> dict[str, float]:
    """Waits until a metric has reached a value; returns everything scraped then."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found = await scrape(telemetry_port)
            if found.get(name, 0.0) >= value:
                return found
            await asyncio.sleep(0.02)


def outcomes(metrics: dict[str, float]) -> dict[str, int]:
    """Requests by outcome, those that occurred."""
    pattern = re.compile(r'escalator_requests_total\{outcome="(\w+)"\}')
    found = {
        match.group(1): int(value)
        for name, value in metrics.items()
        if (match := pattern.fullmatch(name))
    }
    return {outcome: count for outcome, count in found.items() if count}
