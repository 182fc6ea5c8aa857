"""What a WebP file from a stranger is allowed to be: one lossy picture, and nothing beside it.

A lossless picture may state 65,536 codes of its own, which take two seconds and a quarter of a
gigabyte to prepare whatever its size. The extended form may hold a film, an alpha plane, which is
lossless, and notes of any length. No crop is any of that: lossless crops travel as PNG.

Formats: RFC 9649, 2.4 and 2.5 (the file and its simple lossy form), RFC 6386, 9.1 (the header of a
VP8 frame).
"""

from __future__ import annotations

_PICTURE_AT = 20
_HEADER_BYTES = 10
_KEY_FRAME_START = b"\x9d\x01\x2a"
_SIDE_MASK = 0x3FFF
"""The two bits above a side are a hint for showing it, which decoders ignore."""


def still_size(data: bytes) -> tuple[int, int]:
    """The width and height in pixels that decoding the only picture of a WebP file will take.

    Args:
        data: the file; what follows where it says that it ends is not looked at.

    Raises:
        ValueError: it is cut off, or not one lossy picture in the simple form.
    """
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8 ":
        raise ValueError("it is not a single lossy picture")
    whole, picture = (int.from_bytes(data[at : at + 4], "little") for at in (4, 16))
    if whole != 12 + picture + picture % 2 or len(data) < 8 + whole:
        raise ValueError("it is cut off, or holds more than a picture")
    header = data[_PICTURE_AT : _PICTURE_AT + min(picture, _HEADER_BYTES)]
    if len(header) < _HEADER_BYTES or header[0] & 1 or header[3:6] != _KEY_FRAME_START:
        raise ValueError("its picture does not begin like one")
    width, height = (int.from_bytes(header[at : at + 2], "little") & _SIDE_MASK for at in (6, 8))
    if not width or not height:
        raise ValueError("its picture has no pixels")
    return width, height
