"""A client that says on HTTP/2 what no library would: byte by byte, half a message, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from tests.cloud_escalator.client import WAIT_S

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
ACKNOWLEDGED, END_HEADERS = 1, 4
_FRAME_BYTES_MAX = 16_000
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_ESCALATE = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/hardcase.escalation.v1.EscalationService/Escalate",
    ":authority": "test",
    "te": "trailers",
    "content-type": "application/grpc",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of HTTP/2."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class RawConnection:
    """A connection that has sent its preface."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        """Sends one frame."""
        head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream)
        self._writer.write(head + payload)
        await self._writer.drain()

    async def escalate(self, stream: int, more: Mapping[str, str] | None = None) -> None:
        """Opens a call; `more` are further headers."""
        fields = {**_ESCALATE, **(more or {})}
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
        pieces = range(0, len(block), _FRAME_BYTES_MAX)
        for at in pieces:
            flags = END_HEADERS if at == pieces[-1] else 0
            kind = CONTINUATION if at else HEADERS
            await self.send(kind, flags, stream, block[at : at + _FRAME_BYTES_MAX])

    async def receive(self) -> Frame | None:
        """The next frame; None at the end of the connection."""
        try:
            head = await asyncio.wait_for(self._reader.readexactly(9), WAIT_S)
            (length,) = struct.unpack(">I", b"\0" + head[:3])
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            payload = await asyncio.wait_for(self._reader.readexactly(length), WAIT_S)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None
        return Frame(kind, flags, stream, payload)

    async def receive_until(self, *kinds: int, stream: int | None = None) -> Frame | None:
        """The next frame of one of these kinds; None at the end of the connection."""
        while (frame := await self.receive()) is not None:
            if frame.kind in kinds and stream in (None, frame.stream):
                return frame
        return None


@contextlib.asynccontextmanager
async def connect_raw(port: int, *, source: str = "127.0.0.1") -> AsyncIterator[RawConnection]:
    """Connects from an address, and says no more than that this is HTTP/2."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        connection = RawConnection(reader, writer)
        writer.write(_PREFACE)
        await connection.send(SETTINGS, 0, 0)
        yield connection
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def is_closed_at_once(port: int) -> bool:
    """Whether a new connection is closed before anything is said on it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await asyncio.wait_for(reader.read(1), WAIT_S) == b""
    except ConnectionError:
        return True
    finally:
        writer.close()


def _text(text: str) -> bytes:
    """A string as HPACK has it, not compressed."""
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, length = len(data) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 | 128)
        rest //= 128
    length.append(rest)
    return bytes(length) + data
