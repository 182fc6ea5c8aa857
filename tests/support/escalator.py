"""A real gRPC escalator on port 0 whose answers and faults a test scripts.

Each escalation that arrives is passed to `answer`, which returns the outcome to send. Faults are
sets of arrival numbers (from 0, over all streams), so that a test reads as a list of what happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
import numpy as np

from foundation.escalations import (
    Answer,
    Capabilities,
    Encoding,
    Escalation,
    LabelledBoxes,
    ModelDescription,
    Outcome,
    Verdict,
)
from foundation.wire import capabilities_to_proto, escalation_from_proto, verdict_to_proto
from protos.escalation.v1 import escalation_pb2 as pb
from protos.escalation.v1 import escalation_pb2_grpc as pb_grpc

AnswerScript = Callable[[Escalation], Outcome]
CLOUD_DIGEST = "c" * 64


def confirm(escalation: Escalation) -> Outcome:
    """Finds every proposal where it was, with a high score."""
    found = escalation.proposals
    scores = np.full(len(found), 0.97, np.float32)
    return Answer(LabelledBoxes(found.boxes, scores, found.labels))


def refute(escalation: Escalation) -> Outcome:
    """Finds nothing."""
    return Answer(LabelledBoxes.empty())


def relabel(label: str) -> AnswerScript:
    """Finds every proposal, as something else."""

    def answer(escalation: Escalation) -> Outcome:
        found = escalation.proposals
        scores = np.full(len(found), 0.93, np.float32)
        return Answer(LabelledBoxes(found.boxes, scores, (label,) * len(found)))

    return answer


class ScriptedEscalator(pb_grpc.EscalationServiceServicer):
    """Serves the contract; used with `async with` on the test's loop.

    Attributes:
        address: host:port, once entered.
        received: Escalations in order of arrival, repetitions included.
    """

    def __init__(
        self,
        answer: AnswerScript = confirm,
        *,
        port: int = 0,
        delay_s: float = 0.0,
        silent: Collection[int] = (),
        twice: Collection[int] = (),
        cut: Collection[int] = (),
        encodings: tuple[Encoding, ...] = tuple(Encoding),
        message_bytes_max: int = 4 << 20,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """Takes the script.

        Args:
            answer: What to say to an escalation.
            port: Where to listen; 0 takes a free one.
            delay_s: Before each verdict.
            silent: Arrivals that get no verdict.
            twice: Arrivals whose verdict is sent twice.
            cut: Arrivals at which the stream is aborted, without a verdict.
            encodings: What the capabilities say.
            message_bytes_max: What the capabilities say.
            credentials: Of TLS; none serves plain text.
        """
        self._answer = answer
        self._port = port
        self._delay_s = delay_s
        self._silent = silent
        self._twice = twice
        self._cut = cut
        self._encodings = encodings
        self._message_bytes_max = message_bytes_max
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None
        self.address = ""
        self.received: list[Escalation] = []

    async def __aenter__(self) -> Self:
        """Starts listening."""
        self._server = grpc.aio.server()
        pb_grpc.add_EscalationServiceServicer_to_server(self, self._server)
        listen = f"127.0.0.1:{self._port}"
        if self._credentials is None:
            port = self._server.add_insecure_port(listen)
        else:
            port = self._server.add_secure_port(listen, self._credentials)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops at once; open streams break."""
        if self._server is not None:
            await self._server.stop(None)

    async def GetCapabilities(  # noqa: N802 - as the contract names it
        self, request: pb.GetCapabilitiesRequest, context: Any
    ) -> pb.GetCapabilitiesResponse:
        """What this escalator can do."""
        del request, context
        return capabilities_to_proto(
            Capabilities(
                models=(ModelDescription("scripted", "1", CLOUD_DIGEST, ("blue", "green", "red")),),
                side_min_px=8,
                pixels_max=1 << 22,
                message_bytes_max=self._message_bytes_max,
                side_native_px=192,
                encodings=self._encodings,
            )
        )

    async def Escalate(  # noqa: N802 - as the contract names it
        self, request_iterator: AsyncIterator[pb.Escalation], context: Any
    ) -> AsyncIterator[pb.Verdict]:
        """Answers by the script."""
        async for message in request_iterator:
            escalation, _ = escalation_from_proto(message)
            number = len(self.received)
            self.received.append(escalation)
            if number in self._cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")
            if number in self._silent:
                continue
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            verdict = Verdict(escalation.id, self._answer(escalation), CLOUD_DIGEST, 0.001, 0.002)
            for _ in range(2 if number in self._twice else 1):
                yield verdict_to_proto(verdict)
