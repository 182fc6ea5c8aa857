"""AVIF files that would cost more than the crop they pass for are refused before decoding."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import PIL.AvifImagePlugin
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.avif import still_size
from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Encoding
from foundation.images import decode_image, encode_image
from tests.support.avif_files import (
    claim_in_container,
    claim_in_stream,
    replace_stream_part,
    stream_at,
)

sides = st.integers(1, 300)


def still(width: int = 96, height: int = 64) -> bytearray:
    """A sound file."""
    return bytearray(encode_image(np.full((height, width, 3), 90, np.uint8), Encoding.AVIF, 60))


def refused(data: bytes) -> str:
    """Why it is refused; decoding refuses it as well."""
    with pytest.raises(RejectedError) as rejected:
        decode_image(bytes(data), Encoding.AVIF, side_min_px=1, pixels_max=1_000_000)
    assert rejected.value.reason is RejectReason.NOT_AN_IMAGE
    with pytest.raises(ValueError, match="it") as caught:
        still_size(bytes(data))
    return str(caught.value)


@given(sides, sides)
def test_the_size_is_that_of_the_stream(width: int, height: int) -> None:
    """And the container says the same, or it is refused."""
    data = still(width, height)
    assert still_size(bytes(data)) == (width, height)
    claim_in_container(data, width, height + 1)
    assert "sizes differ" in refused(bytes(data))


def test_the_container_takes_less_than_300_bytes() -> None:
    """That is what AVIF costs before the first pixel."""
    assert 200 < stream_at(still()) < 300


@given(st.integers(1, 65536), st.integers(1, 65536))
def test_any_size_is_read(width: int, height: int) -> None:
    """Up to the largest that AV1 knows."""
    data = still()
    claim_in_stream(data, width, height)
    claim_in_container(data, width, height)
    assert still_size(bytes(data)) == (width, height)


def test_other_encoders_stills_are_read() -> None:
    """OpenCV's, which is libavif with other settings, and Pillow's with a profile."""
    gray = np.full((48, 80), 90, np.uint8)
    assert still_size(cv2.imencode(".avif", gray)[1].tobytes()) == (80, 48)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image = PIL.Image.fromarray(gray)
    image.save(buffer, "AVIF", exif=exif, icc_profile=b"a profile", tile_rows=1)
    assert still_size(buffer.getvalue()) == (80, 48)


def test_notes_that_end_their_reader_are_refused() -> None:
    """Exif by which Pillow raises what no reader of images should; it is not let near it."""
    entries = struct.pack(">HHII", 0x010E, 5, 1, 38) + struct.pack(">HHIHH", 0x0113, 3, 1, 6, 0)
    tiff = b"MM\0*\0\0\0\x08\0\2" + entries + bytes(4) + struct.pack(">II", 1, 3)
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (32, 32)).save(buffer, "AVIF", exif=b"Exif\0\0" + tiff)
    data = buffer.getvalue().replace(b"\x01\x13\0\3", b"\x01\x12\0\3")  # an orientation
    with pytest.raises(AttributeError):
        PIL.Image.open(io.BytesIO(data))
    refused(data)


@pytest.mark.parametrize("kind", [b"iloc", b"ipma"])
def test_items_that_are_only_named_are_refused(kind: bytes) -> None:
    """A reader looks every one up among all others: 60,000 take it a quarter of a minute."""
    data = still()
    entry = {b"iloc": struct.pack(">HHHII", 2, 0, 1, 300, 1), b"ipma": b"\0\2\0"}[kind]
    at = data.index(kind)
    (length,) = struct.unpack_from(">I", data, at - 4)
    count, form = {b"iloc": (at + 10, ">H"), b"ipma": (at + 8, ">I")}[kind]
    assert struct.unpack_from(form, data, count) == (1,)
    struct.pack_into(form, data, count, 2)
    data[at - 4 + length : at - 4 + length] = entry
    for box in {kind, b"meta", *([b"iprp"] if kind == b"ipma" else [])}:
        start = data.index(box) - 4
        struct.pack_into(">I", data, start, struct.unpack_from(">I", data, start)[0] + len(entry))
    place = data.index(b"iloc") + 18
    struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(entry))
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert image.convert("RGB").size == (96, 64)
    refused(bytes(data))


def test_a_second_size_is_refused() -> None:
    """Which of the two a reader takes is not this program's to know."""
    data = still()
    at = data.index(b"pixi") - 4
    (length,) = struct.unpack_from(">I", data, at)
    data[at + 4 : at + 8] = b"ispe"
    assert length == 16
    assert "several" in refused(bytes(data))


@pytest.mark.parametrize(
    ("stream", "container"),
    [((1500, 1000), (96, 64)), ((96, 64), (1500, 1000))],
    ids=["the decoder allocates it", "the scaler allocates it"],
)
def test_two_sizes_are_refused(stream: tuple[int, int], container: tuple[int, int]) -> None:
    """A kilobyte of which one size is harmless costs the other, and is a crop to Pillow."""
    data = still(*stream)
    claim_in_container(data, *container)
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert image.convert("RGB").size == container
    with pytest.raises(RejectedError) as caught:
        decode_image(bytes(data), Encoding.AVIF, side_min_px=1, pixels_max=10_000_000)
    assert caught.value.reason is RejectReason.NOT_AN_IMAGE


@given(st.data())
def test_every_cut_is_refused(data: st.DataObject) -> None:
    """At any length."""
    whole = bytes(still())
    refused(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.data())
def test_damage_ends_in_a_size_or_a_refusal(data: st.DataObject) -> None:
    """No bytes whatever end in another exception."""
    damaged = still()
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        width, height = still_size(bytes(damaged))
    except ValueError:
        return
    assert 1 <= min(width, height) <= max(width, height) <= 65536


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_size_or_a_refusal(data: bytes) -> None:
    """Also those that were never an image."""
    with pytest.raises(ValueError, match="it"):
        still_size(data)


@pytest.mark.parametrize("coding", [b"grid", b"iovl", b"tmap", b"hvc1"])
def test_a_composition_is_refused(coding: bytes) -> None:
    """A grid multiplies its tiles."""
    data = still()
    at = data.index(b"av01")
    data[at : at + 4] = coding
    assert "composed" in refused(bytes(data))


def test_a_film_in_the_stream_is_refused() -> None:
    """A second frame behind the first, and a header that allows frames of other sizes."""
    data = still()
    whole = bytes(data)
    start, end = stream_at(whole), len(whole)
    replace_stream_part(data, end, end, whole[start:end])
    assert "2 frames and 2 sequence headers" in refused(bytes(data))
    data = still()
    header = data.index(b"\x0a", stream_at(whole)) + 2
    data[header] &= ~0x08
    assert "film" in refused(bytes(data))


def test_a_sequence_of_pictures_is_refused() -> None:
    """Whether it says so in its first bytes or not."""
    frames = [PIL.Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "AVIF", save_all=True, append_images=frames[1:])
    data = bytearray(buffer.getvalue())
    assert "single still" in refused(bytes(data))
    data[8:12] = b"avif"
    assert "single still" in refused(bytes(data))


def test_an_alpha_plane_is_refused() -> None:
    """It is a second picture."""
    buffer = io.BytesIO()
    PIL.Image.new("RGBA", (32, 32), (1, 2, 3, 4)).save(buffer, "AVIF")
    refused(buffer.getvalue())


@pytest.mark.parametrize("kind", [b"free", b"mdat", b"junk"])
def test_further_parts_are_refused(kind: bytes) -> None:
    """Also empty ones, a million of which would take a while to walk over."""
    assert "single still" in refused(bytes(still()) + struct.pack(">I4s", 8, kind))
    assert "do not fit" in refused(bytes(still()) + struct.pack(">I4s", 8, kind) * 100)


def test_a_picture_outside_the_data_is_refused() -> None:
    """Its place may not point at the description, or beyond the end."""
    for offset in (0, 100, 1 << 20):
        data = still()
        struct.pack_into(">I", data, data.index(b"iloc") + 18, offset)
        assert "outside" in refused(bytes(data))
