"""A WebP file costs what its pixels cost: it is one lossy picture, or none."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Encoding
from foundation.frames import Pixels
from foundation.images import decode_image, encode_image
from foundation.levels import Level, encode_at
from foundation.webp import still_size

PIXELS = np.random.default_rng(5).integers(0, 256, (48, 40, 3), np.uint8)
SOUND = encode_image(PIXELS, Encoding.WEBP, 80)


def decode(data: bytes) -> Pixels:
    """As the escalator does."""
    return decode_image(data, Encoding.WEBP, side_min_px=1, pixels_max=10_000)


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk, padded to an even length."""
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    """A file of these chunks."""
    return chunk(b"RIFF", b"WEBP" + b"".join(chunks))


def saved(image: PIL.Image.Image, **options: object) -> bytes:
    """What Pillow writes, which can do more than a crop needs."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


def extended(*chunks: bytes, flags: int = 0) -> bytes:
    """The extended form with these chunks."""
    sides = (39).to_bytes(3, "little") + (47).to_bytes(3, "little")
    return riff(chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides), *chunks)


@given(
    quality=st.integers(1, 100),
    scale=st.sampled_from([1.0, 0.5, 0.25, 0.1]),
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    noise=st.sampled_from([0, 40, 255]),
)
def test_every_level_passes(
    quality: int, scale: float, width: int, height: int, noise: int
) -> None:
    """An edge node writes nothing else, from flat to noise, up to the best quality."""
    pixels = np.random.default_rng(1).integers(0, noise + 1, (height, width, 3)).astype(np.uint8)
    level = Level(Encoding.WEBP, quality, scale)
    data = encode_at(pixels, level)
    size = level.shrunk_size(width, height)
    assert still_size(data) == size
    assert decode(data).shape == (size[1], size[0], 3)


def test_other_encoders_stills_are_read() -> None:
    """OpenCV's, and bytes after the end, which nobody reads."""
    data = cv2.imencode(".webp", PIXELS, [cv2.IMWRITE_WEBP_QUALITY, 70])[1].tobytes()
    assert still_size(data) == (40, 48)
    assert still_size(data + b"more") == (40, 48)


IMAGE = PIL.Image.fromarray(PIXELS)
CLEAR = PIL.Image.new("RGBA", (40, 48), (1, 2, 3, 4))
PICTURE = SOUND[12:]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(IMAGE, lossless=True), id="lossless"),
        pytest.param(saved(CLEAR), id="alpha"),
        pytest.param(saved(IMAGE, save_all=True, append_images=[CLEAR]), id="a film"),
        pytest.param(saved(IMAGE, exif=b"Exif\0\0MM"), id="Exif"),
        pytest.param(saved(IMAGE, xmp=b"<x/>"), id="XMP"),
        pytest.param(saved(IMAGE, icc_profile=b"a profile"), id="a profile"),
        pytest.param(extended(PICTURE), id="the extended form"),
    ],
)
def test_what_is_more_than_a_lossy_picture_is_refused(data: bytes) -> None:
    """Decoders take each of these for a picture."""
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
    with pytest.raises(RejectedError) as caught:
        decode(data)
    assert caught.value.reason is RejectReason.NOT_AN_IMAGE


def spoilt(at: int, part: bytes) -> bytes:
    """The sound file with other bytes at a place."""
    return SOUND[:at] + part + SOUND[at + len(part) :]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(riff(PICTURE, chunk(b"EXIF", b"MM")), id="notes after the picture"),
        pytest.param(riff(PICTURE, PICTURE), id="two pictures"),
        pytest.param(riff(chunk(b"VP8 ", SOUND[20:29])), id="less than a header"),
        pytest.param(SOUND[:-1], id="cut off"),
        pytest.param(PICTURE, id="no file around it"),
        pytest.param(spoilt(20, bytes([SOUND[20] | 1])), id="no key frame"),
        pytest.param(spoilt(23, b"\x9d\x01\x2b"), id="no start code"),
        pytest.param(spoilt(26, b"\0\xc0"), id="no columns"),
        pytest.param(spoilt(28, b"\0\0"), id="no lines"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_whole_picture_is_refused(data: bytes) -> None:
    """Before a decoder sees it."""
    with pytest.raises(ValueError, match="it"):
        still_size(data)
    with pytest.raises(RejectedError) as caught:
        decode(data)
    assert caught.value.reason is RejectReason.NOT_AN_IMAGE


@given(st.data())
def test_damage_ends_in_a_size_or_a_refusal(data: st.DataObject) -> None:
    """No bytes whatever end in another exception."""
    damaged = bytearray(SOUND[: data.draw(st.integers(0, len(SOUND)))])
    for _ in range(data.draw(st.integers(1, 4)) if damaged else 0):
        damaged[data.draw(st.integers(0, min(31, len(damaged) - 1)))] = data.draw(
            st.integers(0, 255)
        )
    try:
        width, height = still_size(bytes(damaged))
    except ValueError:
        return
    assert 1 <= min(width, height) <= max(width, height) <= 16383
