"""What an AVIF file from a stranger is allowed to be: one still picture, of one size.

An AVIF file says its size twice: in its container, where readers look, and in the AV1 stream, by
which the decoder allocates; when the two differ, the picture is scaled to what the container says.
A kilobyte can so pass for a small crop and cost a gigabyte. It can also hold a grid of pictures,
planes beside the picture, notes that take longer to read than the picture, or a film. Readers look
up every item that it names among all others, so that many of them take minutes. None of that is a
crop, so only the plainest form is let through: the one that encoders write for a still picture.

Formats: ISO/IEC 14496-12 (boxes), AV1 Image File Format 1.1, AV1 Bitstream Specification 5.3
(OBUs) and 5.5 (sequence header).
"""

from __future__ import annotations

_TOP = (b"ftyp", b"meta", b"mdat")
_META = {b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp"}
_OBUS_MAX = 32
_SEQUENCE_HEADER, _TEMPORAL_DELIMITER, _FRAME_HEADER, _TILE_GROUP = 1, 2, 3, 4
_METADATA, _FRAME = 5, 6
_KNOWN = {
    _SEQUENCE_HEADER,
    _TEMPORAL_DELIMITER,
    _FRAME_HEADER,
    _TILE_GROUP,
    _METADATA,
    _FRAME,
}


def still_size(data: bytes) -> tuple[int, int]:
    """The width and height in pixels that decoding the only picture of an AVIF file will take.

    Args:
        data: the whole file.

    Raises:
        ValueError: it is cut off, or not one still picture in the plain form.
    """
    boxes = _boxes(data, 0, len(data))
    if tuple(kind for kind, _, _ in boxes) != _TOP or data[8:12] != b"avif":
        raise ValueError("it is not a single still picture")
    (_, _, _), (_, meta, meta_end), (_, payload, payload_end) = boxes
    inner = _boxes(data, meta + 4, meta_end)
    parts = {kind: (start, end) for kind, start, end in inner}
    if len(parts) != len(inner) or not {b"iloc", b"iinf", b"iprp"} <= parts.keys() <= _META:
        raise ValueError("its description has other parts than a still picture's")
    picture = _picture_id(data, *parts[b"iinf"])
    start, end = _location(data, *parts[b"iloc"], picture)
    if not payload <= start < end <= payload_end:
        raise ValueError("its picture lies outside its data")
    size = _stream_size(data[start:end])
    if _container_size(data, *parts[b"iprp"]) != size:
        raise ValueError("its two sizes differ")
    return size


def _number(data: bytes, at: int, size: int, end: int) -> int:
    """The big-endian number of `size` bytes at `at`, which must lie before `end`."""
    if at + size > end:
        raise ValueError("it is cut off")
    return int.from_bytes(data[at : at + size], "big")


def _boxes(data: bytes, start: int, end: int) -> list[tuple[bytes, int, int]]:
    """Kind, start and end of the content of the boxes that fill a span; a dozen at most."""
    found: list[tuple[bytes, int, int]] = []
    while start < end:
        size = _number(data, start, 4, end)
        if size < 8 or start + size > end or len(found) == 12:
            raise ValueError("its boxes do not fit")
        found.append((data[start + 4 : start + 8], start + 8, start + size))
        start += size
    return found


def _picture_id(data: bytes, start: int, end: int) -> int:
    """The id of the only picture that the list of items names."""
    if _number(data, start, 4, end) != 0:
        raise ValueError("its list of items has an unknown form")
    entries = _boxes(data, start + 6, end)
    if len(entries) != 1 or _number(data, start + 4, 2, end) != 1:
        raise ValueError(f"it holds {len(entries)} items, alpha planes and notes included")
    ((kind, at, entry_end),) = entries
    if kind != b"infe" or _number(data, at, 1, entry_end) != 2:
        raise ValueError("its list of items has an unknown form")
    if data[at + 8 : at + 12] != b"av01":
        raise ValueError("it is composed of several pictures")
    return _number(data, at + 4, 2, entry_end)


def _location(data: bytes, start: int, end: int, item: int) -> tuple[int, int]:
    """Where in the file an item lies, in one piece."""
    if _number(data, start, 6, end) != 0x4400:  # version 0; offsets and lengths of four bytes
        raise ValueError("its table of places has an unknown form")
    # One item, and of that one extent in this file.
    if start + 22 != end or _number(data, start + 6, 8, end) != 1 << 48 | item << 32 | 1:
        raise ValueError("its table of places has more than its picture in one piece")
    offset = _number(data, start + 14, 4, end)
    return offset, offset + _number(data, start + 18, 4, end)


def _container_size(data: bytes, start: int, end: int) -> tuple[int, int]:
    """The only size among the properties, which are those of one item."""
    parts = _boxes(data, start, end)
    if [kind for kind, _, _ in parts] != [b"ipco", b"ipma"]:
        raise ValueError("its properties have an unknown form")
    (_, properties, properties_end), (_, owners, owners_end) = parts
    sizes = [one for one in _boxes(data, properties, properties_end) if one[0] == b"ispe"]
    if len(sizes) != 1 or _number(data, owners + 4, 4, owners_end) != 1:
        raise ValueError("its properties are those of several items")
    ((_, at, size_end),) = sizes
    return _number(data, at + 4, 4, size_end), _number(data, at + 8, 4, size_end)


def _stream_size(stream: bytes) -> tuple[int, int]:
    """The size that an AV1 stream of exactly one frame declares."""
    sizes = []
    frames = at = count = 0
    while at < len(stream):
        header = stream[at]
        kind = header >> 3 & 15
        if header & 0x85 or kind not in _KNOWN or count == _OBUS_MAX:  # extended, reserved
            raise ValueError("its stream is not that of a still picture")
        at, count = at + 1, count + 1
        size = len(stream) - at
        if header & 2:
            size, at = _leb128(stream, at)
        if at + size > len(stream):
            raise ValueError("its stream is cut off")
        if kind == _SEQUENCE_HEADER:
            sizes.append(_sequence_size(stream[at : at + size]))
        frames += kind in {_FRAME_HEADER, _FRAME}
        at += size
    if len(sizes) != 1 or frames != 1:
        raise ValueError(f"its stream has {frames} frames and {len(sizes)} sequence headers")
    return sizes[0]


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A little-endian base 128 number of at most four bytes, and what comes after it."""
    value = 0
    for index, byte in enumerate(data[at : at + 4]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    raise ValueError("a length in its stream does not end")


def _sequence_size(header: bytes) -> tuple[int, int]:
    """The frame size in the sequence header of a still picture.

    The reduced header, which still pictures have, leaves out everything by which a frame could
    differ from it in size: the frame is as large as this says.
    """
    bits = int.from_bytes(header[:8].ljust(8, b"\0"), "big")

    def take(first: int, count: int) -> int:
        return bits >> 64 - first - count & (1 << count) - 1

    if take(3, 2) != 0b11:  # after the profile: still_picture, reduced_still_picture_header
        raise ValueError("its stream is that of a film")
    width_bits, height_bits = take(10, 4) + 1, take(14, 4) + 1  # after the level
    if 18 + width_bits + height_bits > 8 * len(header):
        raise ValueError("its sequence header is cut off")
    return take(18, width_bits) + 1, take(18 + width_bits, height_bits) + 1
