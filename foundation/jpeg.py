"""What a JPEG file from a stranger is allowed to be: a picture whose head and scans are few.

A reader goes over every segment before the picture, and gathers those that it knows; four megabytes
of tiny ones take it ten seconds. Every scan of a progressive picture goes over all its pixels and
takes a dozen bytes.

Format: ITU-T T.81 (1992), B.1 (markers and segments), G.1 (progressive scans).
"""

from __future__ import annotations

_START, _SCAN = 0xD8, 0xDA
_SEGMENTS_MAX = 256
"""Encoders write about ten. A color profile may take as many as 255, and none of a camera does."""
_SCANS_MAX = 32
"""Encoders write ten. What a picture says of itself may hold some more (a thumbnail)."""


def check_form(data: bytes) -> None:
    """Refuses what is not a head of few segments, followed by few scans.

    Raises:
        ValueError: it begins otherwise, is cut off before its picture, or has too many of either.
    """
    if data[:2] != bytes((0xFF, _START)):
        raise ValueError("it does not begin like a JPEG file")
    if data.count(bytes((0xFF, _SCAN))) > _SCANS_MAX:
        raise ValueError("it has more scans than a picture needs")
    at = 2
    for _ in range(_SEGMENTS_MAX):
        if len(data) < at + 4 or data[at] != 0xFF:
            raise ValueError("it is cut off, or something lies between its segments")
        if data[at + 1] == _SCAN:
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("its head has more segments than a picture needs")
