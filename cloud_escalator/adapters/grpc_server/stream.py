"""One client's stream: requests in, verdicts out, each in its own order.

Invariants: what a stream holds is bounded by `stream_requests_max`; a client that does not take its
verdicts is no longer read from, and is cut off when a single one cannot be written for the write
timeout; one that neither asks nor awaits anything for `stream_idle_s` is ended. A stream that ends
takes nothing with it: its requests go on, and their verdicts are remembered for the client's
return. Two tasks per stream, both on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc.aio

from cloud_escalator.config import LimitSettings
from cloud_escalator.logic.transit import TransitDelay
from cloud_escalator.metrics import StreamEnd
from foundation.escalations import Verdict
from foundation.wire import verdict_to_proto


class EscalationStream:
    """The reading and the writing of one stream; a `VerdictSink` for the pipeline.

    Args:
        receive: called with every serialized request and this stream.
        limits: how much may be under way, and how long a write or silence may take.

    Attributes:
        end: how the stream ended; one that was interrupted was cut.
        device: whose quota of streams it counts against; empty until that is known.
        transit: how long its messages were under way.
    """

    def __init__(
        self, receive: Callable[[bytes, EscalationStream], None], limits: LimitSettings
    ) -> None:
        self.end = StreamEnd.CUT
        self.device = ""
        self.transit = TransitDelay()
        self._receive = receive
        self._requests_max = limits.stream_requests_max
        self._write_timeout_s = limits.stream_write_timeout_s
        self._idle_s = limits.stream_idle_s
        self._used = False
        self._awaited = 0
        self._outbound: deque[Verdict] = deque()
        self._reading = True
        self._ended = False
        self._work = asyncio.Event()
        self._room = asyncio.Event()

    def attach(self) -> None:
        """One more request awaits its verdict here."""
        self._awaited += 1

    def detach(self) -> None:
        """One request fewer awaits its verdict here: it is about to come, or goes elsewhere."""
        self._awaited -= 1
        self._work.set()
        self._room.set()

    def deliver(self, verdict: Verdict) -> bool:
        """Queues a verdict for writing; returns False when the stream has ended."""
        if self._ended:
            return False
        self._outbound.append(verdict)
        self._work.set()
        return True

    def finish(self, end: StreamEnd) -> None:
        """Reads no further, and ends once everything that is awaited has been written."""
        self._reading = False
        self.end = end
        self._work.set()

    def cut_off(self) -> None:
        """Ends at once: nothing more is read or written for a client that is not believed."""
        self._ended = True
        self._outbound.clear()
        self.finish(StreamEnd.UNTRUSTED)

    async def serve(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Reads and writes until the client is done or too slow, or the service drains."""
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(context), name="stream_reader")
                await self._write(context)
                reader.cancel()
        except asyncio.CancelledError:
            # Reading has then ended as if the client were done, which it was not.
            self.end = StreamEnd.CUT
            raise
        finally:
            self._ended = True

    async def _read(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        while self._reading:
            while self._awaited + len(self._outbound) >= self._requests_max:
                self._room.clear()
                await self._room.wait()
            message = await context.read()
            if message is grpc.aio.EOF:  # type: ignore[attr-defined] # not in the stubs
                self.finish(StreamEnd.CLOSED)
                return
            self._used = True
            self._receive(message, self)

    async def _write(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        while True:
            while self._outbound:
                message = verdict_to_proto(self._outbound.popleft()).SerializeToString()
                self._room.set()
                try:
                    async with asyncio.timeout(self._write_timeout_s):
                        await context.write(message)
                except TimeoutError:
                    self.end = StreamEnd.SLOW
                    return
            if self._ended or (not self._reading and self._awaited == 0):
                return
            self._work.clear()
            if not await self._wait_for_work():
                self.end = StreamEnd.IDLE
                return

    async def _wait_for_work(self) -> bool:
        """Returns False when nothing was read or awaited for a whole `stream_idle_s`."""
        while True:
            self._used = False
            try:
                async with asyncio.timeout(self._idle_s):
                    await self._work.wait()
                    return True
            except TimeoutError:
                if not self._used and self._awaited == 0:
                    return False
