"""The gRPC stream to the cloud escalator: connects, sends, receives, reconnects.

Runs on the event loop. Every wait has a bound: the first call has a deadline, the stream has a
lifetime, a silent connection is probed, a broken one is tried again after a pause that doubles with
jitter up to a cap. Escalations in flight when a stream breaks are sent again; the escalator answers
an id once however often it comes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from edge_node.config import EscalatorSettings
from edge_node.metrics import EdgeMetrics
from edge_node.ports import UplinkFeed
from edge_node.values import IgnoredVerdict, LinkFailure
from foundation.clock import Clock, elapsed_s
from foundation.errors import (
    ConfigError,
    HardcaseError,
    OverloadError,
    RejectedError,
    TransientError,
)
from foundation.escalations import Capabilities, Encoding
from foundation.wire import (
    capabilities_from_proto,
    error_from_rpc,
    escalation_to_proto,
    verdict_from_proto,
)
from protos.escalation.v1 import escalation_pb2 as pb
from protos.escalation.v1 import escalation_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

_Call = grpc.aio.StreamStreamCall[pb.Escalation, pb.Verdict]
_NOT_HTTP2 = ("http1", "Trying to connect an http1.x server", "protocol error", "Socket closed")


class GrpcUplink:
    """One connection at a time to one address."""

    def __init__(
        self,
        settings: EscalatorSettings,
        encodings: frozenset[Encoding],
        metrics: EdgeMetrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._encodings = encodings
        self._metrics = metrics
        self._clock = clock
        self._said = ""

    async def run(self, feed: UplinkFeed) -> None:
        """Connects and reconnects until cancelled; failures are counted and said once each."""
        pause_s = self._settings.backoff_min_s
        while True:
            begun_ns = self._clock.now_ns()
            try:
                async with self._channel() as channel:
                    stub = pb_grpc.EscalationServiceStub(channel)
                    capabilities = await self._ask_capabilities(stub)
                    await self._stream(stub, capabilities, feed)
                    continue  # the stream's lifetime is over: nothing is wrong
            except HardcaseError as error:
                self._metrics.uplink_errors[_failure_of(error)].inc()
                self._say(str(error))
            if elapsed_s(begun_ns, self._clock.now_ns()) > self._settings.backoff_max_s:
                pause_s = self._settings.backoff_min_s  # it had worked for a while
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, self._settings.backoff_max_s)

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[grpc.aio.Channel]:
        settings = self._settings
        options = [
            ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
            # Otherwise a stream on which nothing is sent is probed twice and never again.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.max_receive_message_length", settings.message_bytes_max),
            # Otherwise a new channel waits out the back-off of the one before it.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        async with grpc.aio.insecure_channel(settings.address, options=options) as channel:
            yield channel

    async def _ask_capabilities(self, stub: pb_grpc.EscalationServiceStub) -> Capabilities:
        try:
            reply = await stub.GetCapabilities(
                pb.GetCapabilitiesRequest(), timeout=self._settings.connect_timeout_s
            )
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        capabilities = capabilities_from_proto(reply)
        if self._encodings.isdisjoint(capabilities.encodings):
            raise ConfigError(
                f"The escalator at {self._settings.address} takes none of the formats that crops "
                f"may have here: {', '.join(sorted(self._encodings))}",
                remedy=f"Add a level of {', '.join(capabilities.encodings)} to crop.levels",
            )
        models = ", ".join(f"{model.name} {model.version}" for model in capabilities.models)
        self._say(f"The escalator at {self._settings.address} is connected and serves {models}.")
        return capabilities

    async def _stream(
        self, stub: pb_grpc.EscalationServiceStub, capabilities: Capabilities, feed: UplinkFeed
    ) -> None:
        """Runs one stream to the end of its lifetime.

        Raises:
            HardcaseError: It broke before.
        """
        limit = min(self._settings.message_bytes_max, capabilities.message_bytes_max)
        call = stub.Escalate(timeout=self._settings.stream_lifetime_s)
        sender = asyncio.create_task(self._send(call, limit, feed), name="uplink-send")
        receiver = asyncio.create_task(self._receive(call, feed), name="uplink-receive")
        feed.set_capabilities(capabilities)
        feed.set_connected(True)
        try:
            done, _ = await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise self._translate_end(await call.code())
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self._translate(error) from error
        except asyncio.InvalidStateError as error:
            # The writer learns of a broken stream in this way; the status says why.
            raise self._translate_end(await call.code()) from error
        finally:
            call.cancel()
            for task in (sender, receiver):
                task.cancel()
            await asyncio.gather(sender, receiver, return_exceptions=True)
            feed.set_connected(False)

    async def _send(
        self,
        call: grpc.aio.StreamStreamCall[pb.Escalation, pb.Verdict],
        limit: int,
        feed: UplinkFeed,
    ) -> None:
        while True:
            escalation = await feed.next_escalation()
            message = escalation_to_proto(escalation, sent_at_ns=self._clock.now_ns())
            size = message.ByteSize()
            if size > limit:
                log.warning("a crop of %d bytes exceeds the limit of %d", size, limit)
                feed.refuse(escalation.id)
                continue
            await call.write(message)
            feed.note_sent(size)

    async def _receive(self, call: _Call, feed: UplinkFeed) -> None:
        async for message in call:
            try:
                verdict = verdict_from_proto(message)
            except RejectedError as error:
                self._metrics.verdicts_ignored[IgnoredVerdict.MALFORMED].inc()
                log.warning("verdict ignored: %s", error)
                continue
            feed.receive(verdict)

    def _translate(self, error: grpc.aio.AioRpcError) -> HardcaseError:
        address = self._settings.address
        details = error.details() or ""
        if any(sign in details for sign in _NOT_HTTP2) or "http status" in details.lower():
            return ConfigError(
                f"{address} is not a Hardcase escalator: {details}",
                remedy="Check escalator.address; frames go on without it",
            )
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return TransientError(
                f"No escalator answers at {address}: {details}",
                remedy="Frames go on without it, and it is tried again",
            )
        return error_from_rpc(error, f"escalator {address}")

    def _translate_end(self, code: grpc.StatusCode) -> HardcaseError:
        address = self._settings.address
        return OverloadError(
            f"The escalator at {address} ended the stream ({code.name})", retry_after_s=0.0
        )

    def _say(self, text: str) -> None:
        """Logs a change of state once, not once per attempt."""
        if text != self._said:
            self._said = text
            log.info("%s", text)


def _failure_of(error: HardcaseError) -> LinkFailure:
    if isinstance(error, ConfigError):
        foreign = "not a Hardcase escalator" in error.message
        return LinkFailure.NOT_AN_ESCALATOR if foreign else LinkFailure.REFUSED
    if isinstance(error, OverloadError):
        return LinkFailure.ENDED_BY_ESCALATOR
    return LinkFailure.UNAVAILABLE
