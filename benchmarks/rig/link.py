"""A TCP relay between the services whose link can be spoilt in known ways.

Runs in a thread with a loop of its own, so that it can be told from anywhere. What goes on of a
connection depends on the mode at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable

from benchmarks.rig.relay import HOST, Relay

_CHUNK_BYTES = 1 << 16


class Mode(enum.StrEnum):
    """What the link does."""

    SOUND = "sound"
    CUT = "cut"
    """Connections are reset, new ones refused at once."""
    HOLE = "hole"
    """What is sent vanishes; nothing is reset, nothing acknowledged by the other side."""
    SLOW = "slow"
    """Everything takes two seconds each way."""


SLOW_S = 2.0


class Link(Relay):
    """Listens on a free port of this machine and passes connections on to another."""

    def __init__(self, target_port: int) -> None:
        super().__init__("link")
        self.mode = Mode.SOUND
        self._leaks = asyncio.Event()
        self._leaks.set()
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    def set(self, mode: Mode) -> None:
        """Changes what the link does, for open connections too."""
        if mode is self.mode:
            return
        self.mode = mode
        self._loop.call_soon_threadsafe(self._leaks.clear if mode is Mode.HOLE else self._leaks.set)
        if mode is Mode.CUT:
            self._loop.call_soon_threadsafe(self._reset)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset()

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode is Mode.CUT:
            writer.transport.abort()
            return
        try:
            there = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there[1]}
        ends: list[Callable[[], None]] = [writer.transport.abort, there[1].transport.abort]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(reader, there[1], ends))
                tasks.create_task(self._pass(there[0], writer, ends))
        except* OSError:
            pass
        finally:
            self._writers -= {writer, there[1]}

    async def _pass(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        ends: list[Callable[[], None]],
    ) -> None:
        """Passes bytes on, in order, until one side is done."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        writer = loop.create_task(self._write(waiting, target))
        try:
            while chunk := await source.read(_CHUNK_BYTES):
                late_s = SLOW_S if self.mode is Mode.SLOW else 0.0
                await waiting.put((loop.time() + late_s, chunk))
        finally:
            writer.cancel()
            for end in ends:
                end()

    async def _write(
        self, waiting: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                due, chunk = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._leaks.wait()
                target.write(chunk)
                await target.drain()
