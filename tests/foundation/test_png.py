"""A PNG file costs what its pixels cost, whatever its chunks say."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from foundation import png
from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Encoding
from foundation.frames import Pixels
from foundation.images import decode_image, encode_image

PIXELS = np.arange(48 * 40 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 40, 3)
SOUND = encode_image(PIXELS, Encoding.PNG, 1)
END = SOUND[-12:]
PACKED = zlib.compress(bytes(1 << 20), 9)


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk, sound."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def decode(data: bytes) -> Pixels:
    """As the escalator does."""
    return decode_image(data, Encoding.PNG, side_min_px=8, pixels_max=10_000)


def header(bits: int = 8, color: int = 2) -> bytes:
    """Signature and header of a file of 40x48."""
    return SOUND[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 48, bits, color, 0, 0, 0))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(SOUND[:33] + b"\x7f\0\0\0" + SOUND[37:], id="a chunk of two gigabytes"),
        pytest.param(SOUND[:-12] + chunk(b"zTXt", b"t\0\0" + PACKED) + END, id="packed text"),
        pytest.param(SOUND[:33] + chunk(b"iCCP", b"p\0\0" + PACKED) + SOUND[33:], id="a profile"),
        pytest.param(SOUND[:-12] + chunk(b"abCd", b"") + END, id="an unknown chunk"),
        pytest.param(SOUND[:33] + chunk(b"tEXt", b"t\0v") * 200 + SOUND[33:], id="much text"),
        pytest.param(header() + chunk(b"IDAT", PACKED) + END, id="a megabyte of pixels"),
        pytest.param(
            header()
            + b"".join(chunk(b"IDAT", PACKED[n : n + 16]) for n in range(0, 1024, 16))
            + END,
            id="a megabyte in pieces",
        ),
        pytest.param(header() + chunk(b"IDAT", b"no zlib") + END, id="no compressed data"),
        pytest.param(header(color=5) + SOUND[33:], id="an unknown color type"),
        pytest.param(SOUND[:8] + SOUND[33:], id="no header"),
        pytest.param(SOUND[:33] + chunk(b"eXIf", b"MM\0*") + SOUND[33:], id="Exif"),
        pytest.param(SOUND[:8], id="nothing"),
    ],
)
def test_what_costs_more_than_its_pixels_is_refused(data: bytes) -> None:
    """Each would be decoded to a picture, or hold the decoder up, in proportion to what it says."""
    with pytest.raises(RejectedError) as caught:
        decode(data)
    assert caught.value.reason is RejectReason.NOT_AN_IMAGE


def test_ordinary_files_pass() -> None:
    """Of other programs too: with a palette, with alpha, of 16 bits, with a note of theirs."""
    assert np.array_equal(decode(SOUND), PIXELS)
    note = chunk(b"tEXt", b"Software\0a scanner") + chunk(b"pHYs", bytes(9))
    assert np.array_equal(decode(SOUND[:33] + note + SOUND[33:]), PIXELS)
    assert np.array_equal(decode(SOUND[:-12] + chunk(b"IDAT", b"") * 4 + END), PIXELS)
    assert np.array_equal(decode(SOUND + bytes(5)), PIXELS)
    for mode in ("1", "L", "P", "RGBA", "I;16"):
        buffer = io.BytesIO()
        PIL.Image.new(mode, (9, 11)).save(buffer, "PNG")
        assert decode(buffer.getvalue()).shape == (11, 9, 3)


def test_interlaced_files_have_room() -> None:
    """Seven small pictures take more filter bytes than one."""
    for width, height in ((8, 8), (9, 33), (40, 48)):
        for bits, color in ((1, 0), (8, 2), (16, 6)):
            samples = {0: 1, 2: 3, 6: 4}[color]
            size = 0
            for left, top, right, down in (
                *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
                *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
            ):
                columns, rows = -(-(width - left) // right), -(-(height - top) // down)
                size += rows * (1 + (columns * bits * samples + 7) // 8)
            content = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 1)
            data = SOUND[:8] + chunk(b"IHDR", content) + chunk(b"IDAT", zlib.compress(bytes(size)))
            assert png.still_size(data + END) == (width, height)
            png.check_volume(data + END)
            assert decode(data + END).shape == (height, width, 3)
