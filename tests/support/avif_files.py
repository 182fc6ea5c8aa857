"""AVIF files that say what is not so."""

from __future__ import annotations

import struct


def claim_in_container(data: bytearray, width: int, height: int) -> None:
    """Lets the container say another size."""
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", width, height)


def stream_at(data: bytes | bytearray) -> int:
    """Where the AV1 stream begins."""
    return data.index(b"mdat") + 4


def claim_in_stream(data: bytearray, width: int, height: int) -> None:
    """Puts a sequence header of another size in place of the stream's, which moves the rest.

    Everything after the size in a reduced header is flags; their place in the last bytes shifts,
    so that such a stream need not decode. What it claims is read before that matters.
    """
    start = stream_at(data)
    at = start if data[start] >> 3 & 15 == 1 else start + 2  # after a temporal delimiter
    length = data[at + 1]
    assert data[at] == 0x0A
    assert length < 128
    old = int.from_bytes(data[at + 2 : at + 2 + length], "big")
    total = 8 * length
    widths, heights = ((old >> total - shift & 15) + 1 for shift in (14, 18))
    left = total - 18 - widths - heights
    head, flags = old >> total - 10, old & (1 << left) - 1
    new = ((head << 4 | 15) << 4 | 15) << 32 | (width - 1) << 16 | height - 1
    bits = 18 + 32 + left
    padding = -bits % 8
    header = (new << left + padding | flags << padding).to_bytes((bits + padding) // 8, "big")
    replace_stream_part(data, at, at + 2 + length, bytes([0x0A, len(header)]) + header)


def replace_stream_part(data: bytearray, start: int, end: int, part: bytes) -> None:
    """Replaces bytes of the stream and sets the lengths that contain them."""
    box, place = data.index(b"mdat") - 4, data.index(b"iloc") + 22
    grown = len(part) - (end - start)
    data[start:end] = part
    for at in (box, place):
        (length,) = struct.unpack_from(">I", data, at)
        struct.pack_into(">I", data, at, length + grown)
