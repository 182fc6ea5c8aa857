"""The whole service in this process, on free ports, with a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np

from cloud_escalator.app import RunningEscalator, open_escalator
from cloud_escalator.config import EscalatorSettings
from foundation.clock import SystemClock
from foundation.errors import RejectReason
from foundation.escalations import Rejection, Verdict
from tests.cloud_escalator.client import (
    Client,
    connect,
)

SQUARE_IN_FRAME = np.array([[116, 224, 132, 240]], np.float32)
SERVICE = "hardcase.escalation.v1.EscalationService"


@asynccontextmanager
async def serving(settings: EscalatorSettings) -> AsyncIterator[tuple[RunningEscalator, Client]]:
    """An escalator and a client of it."""
    async with (
        open_escalator(settings, SystemClock()) as running,
        connect(running.port) as client,
    ):
        yield running, client


@asynccontextmanager
async def closable(
    settings: EscalatorSettings,
) -> AsyncIterator[tuple[RunningEscalator, Client, Callable[[], Coroutine[None, None, None]]]]:
    """An escalator that the test closes while its client stays connected."""
    async with AsyncExitStack() as service:
        running = await service.enter_async_context(open_escalator(settings, SystemClock()))
        async with connect(running.port) as client:
            yield running, client, service.aclose


def rejected(verdict: Verdict) -> RejectReason | None:
    """Why a request was rejected; None when it was not."""
    return verdict.outcome.reason if isinstance(verdict.outcome, Rejection) else None
