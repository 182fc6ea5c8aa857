"""Health checking: what clients are told, and that none of them is in the way of anything."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from foundation.escalations import Answer
from tests.cloud_escalator.client import WAIT_S, Client, connect, escalation
from tests.cloud_escalator.conftest import Configure
from tests.cloud_escalator.raw_http2 import (
    ACKNOWLEDGED,
    DATA,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    RawConnection,
    connect_raw,
)
from tests.cloud_escalator.service import SERVICE, closable, serving

Status = health_pb2.HealthCheckResponse
WATCH = "/grpc.health.v1.Health/Watch"
END_STREAM = 1
INITIAL_WINDOW_SIZE = 4


def watch(client: Client, service: str) -> Any:
    """Opens a watch."""
    stub = health_pb2_grpc.HealthStub(client.channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=service))


def watch_raw(client: Client, request: bytes) -> Any:
    """Opens a watch with a request as it is on the wire."""
    channel: Any = client.channel
    return channel.unary_stream(WATCH)(request)


async def told(call: Any) -> int:
    """The next status that a watch is told."""
    reply = await asyncio.wait_for(call.read(), WAIT_S)
    assert isinstance(reply, health_pb2.HealthCheckResponse), "the watch ended"
    return int(reply.status)


async def code(call: Any) -> grpc.StatusCode:
    """How a watch ended."""
    found: grpc.StatusCode = await asyncio.wait_for(call.code(), WAIT_S)
    return found


async def watch_in_turn(client: Client) -> None:
    """Opens a watch as soon as there is room for it."""
    async with asyncio.timeout(WAIT_S):
        while True:
            call = watch(client, "")
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert await told(call) == Status.SERVING
                return
            assert await code(call) is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("service", ["", SERVICE, "grpc.health.v1.Health"])
async def test_watch_is_told_of_the_end(configure: Configure, service: str) -> None:
    """Serving at first, and not serving once the escalator is told to stop."""
    async with closable(configure()) as (_, client, close):
        call = watch(client, service)
        assert await told(call) == Status.SERVING
        closing = asyncio.create_task(close())
        assert await told(call) == Status.NOT_SERVING
        await closing


async def test_unknown_service(configure: Configure) -> None:
    """A check is not found, a watch is told so, once, and stays open."""
    async with serving(configure()) as (_, client):
        stub = health_pb2_grpc.HealthStub(client.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=WAIT_S)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        call = watch(client, "other")
        assert await told(call) == Status.SERVICE_UNKNOWN
        assert not call.done()


@pytest.mark.parametrize(
    "request_bytes",
    [
        health_pb2.HealthCheckRequest(service="x" * 3_000_000).SerializeToString(),
        health_pb2.HealthCheckRequest(service="x").SerializeToString() * 1_000_000,
        b"\x0a\x05cut",
    ],
    ids=["long", "repeated", "foreign"],
)
async def test_what_is_no_name_is_not_held(configure: Configure, request_bytes: bytes) -> None:
    """The call ends at once, so that gRPC lets go of its request."""
    async with serving(configure()) as (_, client):
        call = watch_raw(client, request_bytes)
        assert await code(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_watches_are_bounded(configure: Configure) -> None:
    """As many as streams; when one has gone there is room again, and streams are not touched."""
    async with serving(configure(limits={"streams_max": 2})) as (_, client):
        first, second = watch(client, ""), watch(client, "other")
        assert await told(first) == Status.SERVING
        assert await told(second) == Status.SERVICE_UNKNOWN
        assert await code(watch(client, "")) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert isinstance((await client.open_stream().ask(escalation("a"))).outcome, Answer)
        second.cancel()
        await watch_in_turn(client)


async def test_watches_of_one_client_are_bounded(configure: Configure) -> None:
    """On all its connections together; others watch, it may check, and what it ends makes room."""
    limits = {"streams_max": 10, "device_streams_max": 2}
    async with (
        serving(configure(limits=limits)) as (running, client),
        connect(running.port) as again,
        connect_raw(running.port, source="127.0.0.2") as other,
    ):
        first, second = watch(client, ""), watch(again, "")
        assert await told(first) == await told(second) == Status.SERVING
        for one in (client, again):
            refused = watch(one, "")
            assert await code(refused) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "This client has 2 watches" in await refused.details()
        await other.escalate(1, {":path": WATCH})
        await other.send(DATA, END_STREAM, 1, bytes(5))
        assert await other.receive_until(DATA, stream=1) is not None
        stub = health_pb2_grpc.HealthStub(client.channel)
        checked = await stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        assert checked.status == Status.SERVING
        second.cancel()
        await watch_in_turn(client)


async def open_unread_watch(raw: RawConnection) -> None:
    """A watch to which nothing can be written, on a connection that is otherwise in order."""
    await raw.send(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
    assert await raw.receive_until(SETTINGS) is not None
    await raw.send(SETTINGS, ACKNOWLEDGED, 0)
    await raw.escalate(1, {":path": WATCH})
    await raw.send(DATA, END_STREAM, 1, bytes(5))
    assert await raw.receive_until(HEADERS, stream=1) is not None


@pytest.mark.parametrize("write_timeout_s", [0.1, 600.0])
async def test_watch_that_nobody_reads_holds_up_nothing(
    configure: Configure, write_timeout_s: float
) -> None:
    """Neither other watches nor the end of the service, whether or not its time is over."""
    settings = configure(limits={"stream_write_timeout_s": write_timeout_s})
    async with (
        closable(settings) as (running, client, close),
        connect_raw(running.port) as raw,
    ):
        await open_unread_watch(raw)
        other = watch(client, "")
        assert await told(other) == Status.SERVING
        closing = asyncio.create_task(close())
        assert await told(other) == Status.NOT_SERVING
        await asyncio.wait_for(closing, WAIT_S)


async def test_watch_that_nobody_reads_is_ended(configure: Configure) -> None:
    """After the write timeout, which it learns when it reads; its place goes to another."""
    limits = {"stream_write_timeout_s": 0.3, "streams_max": 1}
    async with (
        serving(configure(limits=limits)) as (running, client),
        connect_raw(running.port) as raw,
    ):
        await open_unread_watch(raw)
        await asyncio.sleep(0.6)
        await raw.send(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 65_535))
        frame = await raw.receive_until(HEADERS, RST_STREAM, stream=1)
        assert frame is not None
        assert b"Nothing was taken" in frame.payload
        await watch_in_turn(client)
