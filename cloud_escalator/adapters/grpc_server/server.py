"""The gRPC server: the escalation service, health checking and reflection.

Owns the listening port and the open streams. Requests are parsed here and not by gRPC, so that one
that is none is counted, and the verdicts that its stream still awaits are written before it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_escalator.adapters.grpc_server.stream import EscalationStream
from cloud_escalator.config import EscalatorSettings
from cloud_escalator.metrics import EscalatorMetrics, StreamEnd
from cloud_escalator.ports import VerdictSink
from foundation.errors import ConfigError, RejectedError, RejectReason
from foundation.escalations import Capabilities, Escalation
from foundation.wire import capabilities_to_proto, escalation_from_proto
from protos.escalation.v1 import escalation_pb2

SERVICE = escalation_pb2.DESCRIPTOR.services_by_name["EscalationService"].full_name

_CLOSING_GRACE_S = 1.0
"""For calls that are still open after the drain: health watches and clients that do not read."""

_CONTROL_CALLS_MAX = 16
"""Health, reflection and capabilities calls that fit beside the streams of one connection."""

Submit = Callable[[Escalation, float, VerdictSink], None]
Reject = Callable[[str, RejectedError, VerdictSink], None]


class GrpcServer:
    """Serves edge nodes. Open with `async with`.

    Args:
        settings: address and limits.
        capabilities: what edge nodes are told.
        submit: called with every valid request, the seconds until it expires, and its stream.
        reject: called for every request that is none: its id if known, why, and its stream.
        metrics: streams and received bytes.

    Attributes:
        port: where it listens, once opened.
    """

    def __init__(
        self,
        settings: EscalatorSettings,
        capabilities: Capabilities,
        submit: Submit,
        reject: Reject,
        metrics: EscalatorMetrics,
    ) -> None:
        self.port = 0
        self._listen = settings.listen
        self._limits = settings.limits
        self._capabilities = capabilities_to_proto(capabilities).SerializeToString()
        self._submit = submit
        self._reject = reject
        self._metrics = metrics
        self._streams: set[EscalationStream] = set()
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined] # not in the stubs
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
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            self.port = server.add_insecure_port(self._listen)
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

    async def refuse_health(self) -> None:
        """Reports NOT_SERVING from now on, so that clients are sent elsewhere."""
        await self._health.enter_graceful_shutdown()

    def _options(self) -> list[tuple[str, int]]:
        limits = self._limits
        return [
            ("grpc.max_receive_message_length", limits.message_bytes_max),
            ("grpc.max_concurrent_streams", limits.streams_max + _CONTROL_CALLS_MAX),
            # Without this, Linux lets a second escalator share the port and steal connections.
            ("grpc.so_reuseport", 0),
            # An edge node whose link died without a word must not hold its stream for ever.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]

    async def _get_capabilities(
        self, _request: bytes, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> bytes:
        return self._capabilities

    async def _escalate(
        self, _requests: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        if len(self._streams) >= self._limits.streams_max:
            self._metrics.streams_ended[StreamEnd.REFUSED].inc()
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._limits.streams_max} streams are open, and no more are served",
            )
        stream = EscalationStream(self._receive, self._limits)
        self._streams.add(stream)
        self._metrics.streams.inc()
        try:
            await stream.serve(context)
        finally:
            self._streams.discard(stream)
            self._metrics.streams.dec()
            self._metrics.streams_ended[stream.end].inc()
        if stream.end is StreamEnd.SLOW:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"No verdict was taken for {self._limits.stream_write_timeout_s} s",
            )
        if stream.end is StreamEnd.MALFORMED:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "A message on this stream is not an Escalation"
            )

    def _receive(self, message: bytes, stream: EscalationStream) -> None:
        """Parses one request and passes it on."""
        try:
            proto = escalation_pb2.Escalation.FromString(message)
        except DecodeError:
            error = RejectedError("It is not an Escalation", reason=RejectReason.MALFORMED)
            self._reject("", error, stream)
            stream.finish(StreamEnd.MALFORMED)
            return
        try:
            escalation, remaining_s = escalation_from_proto(proto)
        except RejectedError as error:
            self._reject(proto.id, error, stream)
            return
        self._metrics.image_bytes.inc(len(escalation.image))
        self._submit(escalation, remaining_s, stream)
