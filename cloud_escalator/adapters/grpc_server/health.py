"""gRPC health checking: whether the escalator serves, asked once or watched until that changes.

Ours and not that of `grpc_health`, whose servicer keeps every name that a client watches, however
long, and holds a lock while it writes, so that one client that does not read keeps the service from
saying that it stops. Invariants: of a client nothing is held but its open call; watches are bounded
in number, in all and of each client; telling them never waits. Event loop only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from cloud_escalator.config import LimitSettings

_REQUEST_BYTES_MAX = 256
"""A request is the name of a service; gRPC keeps it for as long as the call is open."""

_Context = grpc.aio.ServicerContext[Any, Any]


class Health:
    """What is said of a few services, all of which serve until the process is to stop.

    Args:
        services: their names; others are unknown.
        limits: how many watches may be open, in all and of one client, as many as streams, and how
            long a write may take.
        origin_of: tells clients apart.
    """

    def __init__(
        self,
        services: Collection[str],
        limits: LimitSettings,
        origin_of: Callable[[_Context], str],
    ) -> None:
        self._services = services
        self._origin_of = origin_of
        self._watches_max = limits.streams_max
        self._own_watches_max = limits.device_streams_max
        self._write_timeout_s = limits.stream_write_timeout_s
        self._watches: Counter[str] = Counter()
        self._refusing = asyncio.Event()

    def refuse(self) -> None:
        """Everything is NOT_SERVING from now on; those who watch are told as they read."""
        self._refusing.set()

    def calls(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The calls, as a server takes them; requests are parsed here, so that none is kept."""
        service = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        return grpc.method_handlers_generic_handler(
            service,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )

    async def _check(self, request: bytes, context: _Context) -> bytes:
        if await self._service(request, context) not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service here")
        return _reply("NOT_SERVING" if self._refusing.is_set() else "SERVING")

    async def _watch(self, request: bytes, context: _Context) -> None:
        known = await self._service(request, context) in self._services
        origin = self._origin_of(context)
        if self._watches[origin] >= self._own_watches_max:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"This client has {self._own_watches_max} watches open already",
            )
        if self._watches.total() >= self._watches_max:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._watches_max} watches are open, and no more are served",
            )
        self._watches[origin] += 1
        try:
            # Or a status could not be sent beside the first reply, where that is not taken.
            await context.send_initial_metadata(())
            if known and not self._refusing.is_set():
                await self._write(context, "SERVING")
                await self._refusing.wait()
            await self._write(context, "NOT_SERVING" if known else "SERVICE_UNKNOWN")
            # Ended by the client, or with the server: who is sent away would ask again at once.
            await asyncio.Event().wait()
        finally:
            self._watches[origin] -= 1
            if not self._watches[origin]:
                del self._watches[origin]

    async def _service(self, request: bytes, context: _Context) -> str:
        """The name that is asked about; a call with something else is ended here."""
        if len(request) > _REQUEST_BYTES_MAX:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"A request may have {_REQUEST_BYTES_MAX} bytes",
            )
        try:
            service: str = health_pb2.HealthCheckRequest.FromString(request).service
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "It is not a HealthCheckRequest")
        return service

    async def _write(self, context: _Context, status: str) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await context.write(_reply(status))
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Nothing was taken for {self._write_timeout_s} s",
            )


def _reply(status: str) -> bytes:
    message: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return message
