"""A gRPC relay between the services that writes down what passes, and loses some of it on purpose.

Requests and verdicts pass as bytes. By lot, a stream is broken, a verdict is swallowed with its
stream, or sent twice. What passed towards the edge is written down as it is handed over, so that
both sides can be compared with what lay between them. Runs in a thread with a loop of its own.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from protos.escalation.v1 import escalation_pb2 as pb

_SERVICE = "hardcase.escalation.v1.EscalationService"
_START_S = 10.0


class CallRelay:
    """Listens on a free port of this machine and passes calls on to another.

    Attributes:
        port: Where it listens.
        asked: How often each escalation passed upwards.
        answered: How often an answer to each passed downwards.
        faults: How often each fault was made.
        fault_share: Of the messages, at how many something is broken.
    """

    def __init__(self, target_port: int, seed: int, fault_share: float) -> None:
        self.port = 0
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.fault_share = fault_share
        self._target = f"127.0.0.1:{target_port}"
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="call-relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_S):
            raise RuntimeError("the relay does not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(_START_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = grpc.aio.server()
        handlers = {
            "Escalate": grpc.stream_stream_rpc_method_handler(self._escalate),
            "GetCapabilities": grpc.unary_unary_rpc_method_handler(self._capabilities),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._ready.set()
        await self._stopped.wait()
        await server.stop(None)

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
