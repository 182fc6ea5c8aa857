"""What a PNG file from a stranger is allowed to be: a picture, and no more than a picture takes.

Decoders believe what a chunk says of its length and allocate that, up to two gigabytes for a file
of some kilobytes. They unpack compressed text and colour profiles, and go on unpacking pixels when
the picture is full; a megabyte can so take half a minute. A crop needs none of that.

Format: Portable Network Graphics Specification (W3C, third edition), 5.3 (chunks), 8 (interlacing),
11.2 and 11.3 (the chunks).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DATA, _END = b"IDAT", b"IEND"
_FREE = {b"IHDR", b"PLTE", _DATA, _END, b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT"} | {
    *(b"cICP", b"bKGD", b"hIST", b"pHYs", b"tIME", b"tEXt", b"acTL", b"fcTL", b"fdAT")
}
"""Chunks that are let through: what a picture is made of, what lies there uncompressed, and further
pictures, which nobody unpacks."""
_CHUNKS_MAX = 64
_DATA_BYTES_MEAN_MIN = 512
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel, by color type."""


def still_size(data: bytes) -> tuple[int, int]:
    """The width and height in pixels of a list of whole chunks that a still picture may have.

    Raises:
        ValueError: a chunk is cut off, of another kind, or one of very many; or its header is none.
    """
    if not data.startswith(_SIGNATURE):
        raise ValueError("it does not begin like a PNG file")
    width, height, _ = _header(data)
    many = _CHUNKS_MAX + len(data) // _DATA_BYTES_MEAN_MIN
    for number, (kind, _, _) in enumerate(_chunks(data)):
        if kind not in _FREE or number > many or (number == 0) != (kind == b"IHDR"):
            raise ValueError("it has other chunks than a picture's")
    return width, height


def check_volume(data: bytes) -> None:
    """Refuses what unpacks to more than its pixels take.

    Twice that is let through, which is more than interlacing adds. Allocates as much for a moment,
    so the size that the file states must have been found acceptable.

    Args:
        data: a file that `still_size` has let through.

    Raises:
        ValueError: it unpacks to more, or does not unpack.
    """
    width, height, bits = _header(data)
    room = 2 * height * (1 + (width * bits + 7) // 8)
    unpacking = zlib.decompressobj()
    for kind, start, end in _chunks(data):
        if kind != _DATA:
            continue
        try:
            room -= len(unpacking.decompress(data[start:end], room + 1))
        except zlib.error as error:
            raise ValueError(f"its pixels do not unpack: {error}") from error
        if room < 0:
            raise ValueError("it unpacks to more than its pixels")
        if unpacking.eof:
            return


def _header(data: bytes) -> tuple[int, int, int]:
    """Width and height in pixels, and bits per pixel."""
    kind, start, end = next(_chunks(data), (b"", 0, 0))
    if kind != b"IHDR" or end - start != 13 or data[start + 9] not in _SAMPLES:
        raise ValueError("its header is none")
    width, height = (int.from_bytes(data[start + at : start + at + 4], "big") for at in (0, 4))
    if not width or not height:
        raise ValueError("it has no pixels")
    return width, height, data[start + 8] * _SAMPLES[data[start + 9]]


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each chunk, up to the last: nobody reads further."""
    at, kind = len(_SIGNATURE), b""
    while at < len(data) and kind != _END:
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + size
        if end + 4 > len(data):
            raise ValueError("it is cut off")
        kind = data[at + 4 : at + 8]
        yield kind, at + 8, end
        at = end + 4
