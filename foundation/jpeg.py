"""What a JPEG file from a stranger is allowed to be: a picture whose head and scans are few.

A reader goes over every segment before the picture, and gathers those that it knows; four megabytes
of tiny ones take it ten seconds. What a picture says of itself (Exif, XMP, profiles) can take
longer to read than its pixels, and a crop needs none of it. Every scan of a progressive picture
goes over all its pixels and takes a dozen bytes.

Format: ITU-T T.81 (1992), B.1 (markers and segments), B.2.2 (frame header), G.1 (progressive
scans); T.871 (JFIF, APP0), T.872 (Adobe's APP14).
"""

from __future__ import annotations

_START, _SCAN = 0xD8, 0xDA
_FRAMES = {0xC0, 0xC1, 0xC2}
"""Baseline, extended and progressive, all with Huffman codes."""
_BESIDE = {0xC4, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE}
"""Tables, restarts, JFIF, Adobe's note on colors, comments."""
_SEGMENTS_MAX = 256
"""Encoders write about ten."""
_SCANS_MAX = 32
"""Encoders write ten."""


def still_size(data: bytes) -> tuple[int, int]:
    """The width and height in pixels of a file with a head of few segments, then few scans.

    Raises:
        ValueError: it begins otherwise, is cut off before its picture, has too many of either, or
            segments that no picture needs.
    """
    if data[:2] != bytes((0xFF, _START)):
        raise ValueError("it does not begin like a JPEG file")
    if data.count(bytes((0xFF, _SCAN))) > _SCANS_MAX:
        raise ValueError("it has more scans than a picture needs")
    at, sizes = 2, []
    for _ in range(_SEGMENTS_MAX):
        if len(data) < at + 4 or data[at] != 0xFF:
            raise ValueError("it is cut off, or something lies between its segments")
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == _SCAN:
            break
        if kind in _FRAMES:
            sizes.append(_frame_size(data[at + 4 : at + 2 + length]))
        elif kind not in _BESIDE:
            raise ValueError("its head has other segments than a picture's")
        at += 2 + length
    else:
        raise ValueError("its head has more segments than a picture needs")
    if len(sizes) != 1:
        raise ValueError(f"it has {len(sizes)} sizes")
    return sizes[0]


def _frame_size(header: bytes) -> tuple[int, int]:
    """Width and height in pixels in the header of a frame of eight bits a sample."""
    if len(header) < 6 or header[0] != 8:
        raise ValueError("its frame header is none")
    height, width = (int.from_bytes(header[at : at + 2], "big") for at in (1, 3))
    if not width or not height:
        raise ValueError("its picture has no pixels")
    return width, height
