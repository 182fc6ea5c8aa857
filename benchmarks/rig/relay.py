"""What both relays between the services are: a listener in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_START_S = 10.0


class Relay(ABC):
    """Listens on a free port of this machine while the context lasts.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, name: str) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

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

    @abstractmethod
    async def _listen(self) -> int:
        """Begins to listen, and tells where."""

    @abstractmethod
    async def _close(self) -> None:
        """Ends everything that is open."""

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self.port = await self._listen()
        self._ready.set()
        await self._stopped.wait()
        await self._close()
