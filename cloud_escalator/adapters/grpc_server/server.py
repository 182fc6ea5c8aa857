"""The gRPC server: the escalation service, health checking and reflection.

Owns the listening port and the open streams. Requests are parsed here and not by gRPC, so that one
that is none is counted, and the verdicts that its stream still awaits are written before it ends.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from cloud_escalator.adapters.grpc_server.devices import Devices
from cloud_escalator.adapters.grpc_server.health import Health
from cloud_escalator.adapters.grpc_server.stream import EscalationStream
from cloud_escalator.adapters.grpc_server.trust import Peer, Trust
from cloud_escalator.config import EscalatorSettings
from cloud_escalator.logic.admit import Refused, ShedReason
from cloud_escalator.metrics import EscalatorMetrics, StreamEnd
from cloud_escalator.ports import Door
from foundation.clock import Clock
from foundation.errors import ConfigError, RejectedError, RejectReason
from foundation.escalations import Capabilities, Escalation
from foundation.wire import capabilities_to_proto, escalation_from_proto, id_in_front
from protos.escalation.v1 import escalation_pb2

log = logging.getLogger(__name__)

SERVICE = escalation_pb2.DESCRIPTOR.services_by_name["EscalationService"].full_name

_CLOSING_GRACE_S = 1.0
"""For calls that are still open after the drain: health watches and clients that do not read."""

_TRUST_REVIEW_S = 1.0
"""How often the files of TLS and the clients of open streams are looked at again."""

_CONTROL_CALLS_MAX = 16
"""Health, reflection and capabilities calls that fit beside the streams of one connection."""

_ECHO_LENGTH_MAX = 256
"""Longest id that an answer repeats; ids that are accepted are shorter."""

_OTHER_STREAM_S = 1.0
"""When a device with too many streams may ask again: by then one of them may have ended."""

_HANDSHAKE_S = 10.0
"""For the handshake of a connection: one that says nothing is closed after that, as is one that
does not acknowledge what it is told of this server's limits."""

_METADATA_BYTES_MAX = 8 << 10
"""Largest headers of a call. gRPC refuses larger ones, but of a client that has acknowledged that
limit; until then it takes 16 MiB, and they are refused here."""

_ONLY_IDENTITY = 1
"""Set of compressions: none. Crops are compressed already, and what is not inflated is no bomb."""


class GrpcServer:
    """Serves edge nodes. Open with `async with`.

    Args:
        settings: address and limits.
        trust: who may ask, and as whom.
        capabilities: what edge nodes are told.
        door: where requests go.
        clock: for quotas, and for how long messages were under way.
        metrics: streams and received bytes.

    Attributes:
        port: where it listens, once opened.
    """

    def __init__(
        self,
        settings: EscalatorSettings,
        trust: Trust,
        capabilities: Capabilities,
        door: Door,
        clock: Clock,
        metrics: EscalatorMetrics,
    ) -> None:
        self.port = 0
        self._listen = settings.listen
        self._limits = settings.limits
        self._trust = trust
        self._capabilities = capabilities_to_proto(capabilities).SerializeToString()
        self._door = door
        self._clock = clock
        self._devices = Devices(settings.limits, clock)
        self._metrics = metrics
        self._streams: dict[EscalationStream, Peer] = {}
        self._pretenders: WeakSet[EscalationStream] = WeakSet()
        services = ("", SERVICE, health.SERVICE_NAME)
        self._health = Health(services, settings.limits, trust.origin_of)
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        """Starts to listen.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        server = self._server = grpc.aio.server(options=self._options())
        handlers = {
            "Escalate": grpc.stream_stream_rpc_method_handler(self._escalate),
            "GetCapabilities": grpc.unary_unary_rpc_method_handler(self._get_capabilities),
        }
        escalations = grpc.method_handlers_generic_handler(SERVICE, handlers)
        server.add_generic_rpc_handlers((escalations, self._health.calls()))
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            credentials = self._trust.server_credentials()
            self.port = (
                server.add_insecure_port(self._listen)
                if credentials is None
                else server.add_secure_port(self._listen, credentials)
            )
        except RuntimeError as error:
            raise ConfigError(
                f"Cannot listen on {self._listen}: {error}",
                remedy="Stop what uses that address, or set `listen` to another one",
            ) from error
        await server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            for stream in tuple(self._streams):
                stream.finish(StreamEnd.DRAINED)
            await self._server.stop(_CLOSING_GRACE_S)

    def refuse_health(self) -> None:
        """Reports NOT_SERVING from now on, so that clients are sent elsewhere; waits for none."""
        self._health.refuse()

    async def review_trust(self) -> None:
        """Takes changed files, and ends the streams of clients no longer believed, for ever."""
        while True:
            await asyncio.sleep(_TRUST_REVIEW_S)
            await asyncio.to_thread(self._trust.refresh)
            for stream, peer in tuple(self._streams.items()):
                if stream.end is not StreamEnd.UNTRUSTED and self._trust.refusal(peer):
                    stream.cut_off()

    def _options(self) -> list[tuple[str, int]]:
        limits = self._limits
        return [
            ("grpc.max_receive_message_length", limits.message_bytes_max),
            ("grpc.max_concurrent_streams", limits.streams_max + _CONTROL_CALLS_MAX),
            ("grpc.max_allowed_incoming_connections", limits.connections_max),
            ("grpc.max_connection_idle_ms", round(limits.connection_idle_s * 1000)),
            ("grpc.server_handshake_timeout_ms", round(_HANDSHAKE_S * 1000)),
            ("grpc.http2.settings_timeout", round(_HANDSHAKE_S * 1000)),
            ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
            ("grpc.absolute_max_metadata_size", _METADATA_BYTES_MAX),
            ("grpc.compression_enabled_algorithms_bitset", _ONLY_IDENTITY),
            # Without this, Linux lets a second escalator share the port and steal connections.
            ("grpc.so_reuseport", 0),
            # An edge node whose link died without a word must not hold its stream for ever.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]

    async def _get_capabilities(
        self, _request: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> bytes:
        await self._identify(context)
        return self._capabilities

    async def _identify(self, context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
        """Who calls; a client that is not believed has its call ended here."""
        peer = self._trust.identify(context)
        if refusal := self._trust.refusal(peer):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, refusal)
        return peer

    async def _escalate(
        self, _requests: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        peer = await self._identify(context)
        metadata = context.invocation_metadata() or ()
        if sum(len(key) + len(value) for key, value in metadata) > _METADATA_BYTES_MAX:
            self._metrics.streams_ended[StreamEnd.REFUSED].inc()
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"The headers of a call may have {_METADATA_BYTES_MAX} bytes",
            )
        if len(self._streams) >= self._limits.streams_max:
            self._metrics.streams_ended[StreamEnd.REFUSED].inc()
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._limits.streams_max} streams are open, and no more are served",
            )
        stream = EscalationStream(self._receive, self._limits)
        self._streams[stream] = peer
        self._metrics.streams.inc()
        try:
            device = self._devices.name_of(peer)
            # A stream on which nothing is said counts, too.
            if device and not self._devices.take_stream(device, stream):
                stream.finish(StreamEnd.OVER_QUOTA)
            else:
                await stream.serve(context)
        finally:
            del self._streams[stream]
            self._devices.release_stream(stream)
            self._metrics.streams.dec()
            self._metrics.streams_ended[stream.end].inc()
        await self._explain(stream.end, context)

    async def _explain(self, end: StreamEnd, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Ends a call with a status that says how its stream ended, unless it ended well."""
        limits, code = self._limits, grpc.StatusCode
        match end:
            case StreamEnd.UNTRUSTED:
                await context.abort(code.UNAUTHENTICATED, "The certificate is no longer accepted")
            case StreamEnd.SLOW:
                text = f"No verdict was taken for {limits.stream_write_timeout_s} s"
                await context.abort(code.RESOURCE_EXHAUSTED, text)
            case StreamEnd.OVER_QUOTA:
                text = f"This device has {limits.device_streams_max} streams open already"
                await context.abort(code.RESOURCE_EXHAUSTED, text)
            case StreamEnd.IDLE:
                # The code of a stream whose time is over: a client opens it again without alarm.
                text = f"Nothing was asked for {limits.stream_idle_s} s"
                await context.abort(code.DEADLINE_EXCEEDED, text)
            case StreamEnd.MALFORMED:
                text = "A message on this stream is not an Escalation"
                await context.abort(code.INVALID_ARGUMENT, text)

    def _receive(self, message: bytes, stream: EscalationStream) -> None:
        """Charges and parses one request, and passes it on."""
        peer = self._streams[stream]
        device = self._devices.name_of(peer)
        # Parsing a message of megabytes takes the loop from all others, so who is known pays first.
        if device and self._comes_too_soon(device, message, id_in_front(message), stream):
            return
        try:
            proto = escalation_pb2.Escalation.FromString(message)
        except DecodeError:
            error = RejectedError("It is not an Escalation", reason=RejectReason.MALFORMED)
            self._door.reject("", error, stream)
            stream.finish(StreamEnd.MALFORMED)
            return
        # An id of megabytes is not sent back: it names no request.
        known_id = proto.id if len(proto.id) <= _ECHO_LENGTH_MAX else ""
        if not device:
            device = self._devices.name_stated(proto)
            if not self._devices.take_stream(device, stream):
                self._door.shed(known_id, Refused(ShedReason.QUOTA, _OTHER_STREAM_S), stream)
                stream.finish(StreamEnd.OVER_QUOTA)
                return
            if self._comes_too_soon(device, message, known_id, stream):
                return
        try:
            escalation, remaining_s = escalation_from_proto(proto)
        except RejectedError as error:
            self._door.reject(known_id, error, stream)
            return
        if not peer.permits(escalation.site, escalation.camera):
            self._refuse_name(escalation, stream, peer)
            return
        self._metrics.image_bytes.inc(len(escalation.image))
        delay_s = stream.transit.observe(proto.sent_at_ns, self._clock.now_ns())
        self._door.submit(escalation, device, remaining_s - delay_s, stream)

    def _comes_too_soon(
        self, device: str, message: bytes, known_id: str, stream: EscalationStream
    ) -> bool:
        """Charges a message to its device; sheds it and returns True beyond the quota."""
        too_soon_s = self._devices.take_message(device, len(message))
        if too_soon_s:
            self._door.shed(known_id, Refused(ShedReason.QUOTA, too_soon_s), stream)
        return bool(too_soon_s)

    def _refuse_name(self, escalation: Escalation, stream: EscalationStream, peer: Peer) -> None:
        """Rejects what a client says in another's name; said once for each stream."""
        error = RejectedError(
            f"The certificate of this client does not name the camera {escalation.camera!r} of "
            f"site {escalation.site!r}",
            reason=RejectReason.NOT_PERMITTED,
            remedy="Give it a certificate of its own, or correct site and camera in its settings",
        )
        if stream not in self._pretenders:
            self._pretenders.add(stream)
            names = ", ".join(name.uri for name in peer.names or ())
            log.warning("%s; it names %s: %s", error.message, names, peer)
        self._door.reject(escalation.id, error, stream)
