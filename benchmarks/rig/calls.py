"""A gRPC relay between the services that writes down what passes, and loses some of it on purpose.

Requests and verdicts pass as bytes. By lot, a stream is broken, a verdict is swallowed with its
stream, or sent twice. What passed towards the edge is written down as it is handed over, so that
both sides can be compared with what lay between them. Runs in a thread with a loop of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from benchmarks.rig.relay import HOST, Relay
from protos.escalation.v1 import escalation_pb2 as pb

_SERVICE = "hardcase.escalation.v1.EscalationService"


class CallRelay(Relay):
    """Listens on a free port of this machine and passes calls on to another.

    Attributes:
        asked: How often each escalation passed upwards.
        answered: How often an answer to each passed downwards.
        faults: How often each fault was made.
        fault_share: Of the messages, at how many something is broken.
    """

    def __init__(self, target_port: int, seed: int, fault_share: float) -> None:
        super().__init__("call-relay")
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.fault_share = fault_share
        self._target = f"{HOST}:{target_port}"
        self._random = random.Random(seed)
        self._server: grpc.aio.Server | None = None

    async def _listen(self) -> int:
        server = self._server = grpc.aio.server()
        handlers = {
            "Escalate": grpc.stream_stream_rpc_method_handler(self._escalate),
            "GetCapabilities": grpc.unary_unary_rpc_method_handler(self._capabilities),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        port = server.add_insecure_port(f"{HOST}:0")
        await server.start()
        return int(port)

    async def _close(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    def _channel(self) -> Any:  # the stubs do not know calls of bytes
        # A channel of its own for each call: a killed escalator must not be remembered as gone.
        return grpc.aio.insecure_channel(
            self._target, options=[("grpc.use_local_subchannel_pool", 1)]
        )

    async def _capabilities(self, request: bytes, context: Any) -> bytes:
        async with self._channel() as channel:
            try:
                reply: bytes = await channel.unary_unary(f"/{_SERVICE}/GetCapabilities")(
                    request, timeout=5.0
                )
            except grpc.aio.AioRpcError as error:
                await context.abort(grpc.StatusCode.UNAVAILABLE, error.details() or "")
        return reply

    async def _escalate(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async with self._channel() as channel:
            call = channel.stream_stream(f"/{_SERVICE}/Escalate")()
            upwards = asyncio.create_task(self._pass_up(requests, call))
            try:
                async for message in call:
                    verdict = pb.Verdict.FromString(message)
                    if self._strikes("verdict swallowed"):
                        break
                    if verdict.HasField("answer"):
                        self.answered[verdict.escalation_id] += 1
                    yield message
                    if self._strikes("verdict repeated"):
                        yield message
                    if self._strikes("stream broken"):
                        break
            except grpc.aio.AioRpcError:
                pass
            finally:
                upwards.cancel()
                call.cancel()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the link broke")

    async def _pass_up(self, requests: AsyncIterator[bytes], call: Any) -> None:
        async for message in requests:
            self.asked[pb.Escalation.FromString(message).id] += 1
            await call.write(message)
        await call.done_writing()

    def _strikes(self, fault: str) -> bool:
        strikes = self._random.random() < self.fault_share
        self.faults[fault] += strikes
        return strikes
