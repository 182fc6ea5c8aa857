"""A JPEG file costs what its pixels cost, whatever lies before them."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Encoding
from foundation.frames import Pixels
from foundation.images import decode_image, encode_image
from foundation.jpeg import still_size

SOUND = encode_image(np.full((48, 40, 3), 99, np.uint8), Encoding.JPEG, 80)


def decode(data: bytes) -> Pixels:
    """As the escalator does."""
    return decode_image(data, Encoding.JPEG, side_min_px=8, pixels_max=10_000)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(b"\xff\xe1\x00\x0aExif\0\0AA" * 1000, id="many notes"),
        pytest.param(b"\xff\xfe\x00\x02" * 1000, id="many comments"),
        pytest.param(b"\xff\xc4\x00\x02" * 1000, id="many empty tables"),
        pytest.param(b"\xff" * 1000, id="filling"),
        pytest.param(b"\x00" * 1000, id="no segment"),
    ],
)
def test_a_head_without_end_is_refused(between: bytes) -> None:
    """A reader would go over all of it first; megabytes take it seconds."""
    with pytest.raises(RejectedError) as caught:
        decode(SOUND[:2] + between + SOUND[2:])
    assert caught.value.reason is RejectReason.NOT_AN_IMAGE


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(b"\xff\xe1\x00\x08Exif\0\0", id="Exif"),
        pytest.param(b"\xff\xe2\x00\x0eICC_PROFILE\0", id="a profile"),
        pytest.param(b"\xff\xed\x00\x02", id="another program's note"),
        pytest.param(b"\xff\xcc\x00\x02", id="arithmetic codes"),
        pytest.param(b"\xff\xc0\x00\x0b\x08\0\x30\0\x28\1\1\x11\0", id="a second size"),
        pytest.param(b"\xff\xda\x00\x02", id="a scan before the size"),
    ],
)
def test_segments_that_no_crop_needs_are_refused(between: bytes) -> None:
    """One is enough: half a million numbers in it would take seconds to read."""
    with pytest.raises(RejectedError) as caught:
        decode(SOUND[:2] + between + SOUND[2:])
    assert caught.value.reason is RejectReason.NOT_AN_IMAGE


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 12), (1, b"\0\0"), (3, b"\0\0"), (-2, b"\0\7")],
    ids=["twelve bits", "no height", "no width", "cut off"],
)
def test_a_frame_header_without_a_size_is_refused(at: int, value: bytes | int) -> None:
    """No lines, no columns, other samples."""
    data, start = bytearray(SOUND), SOUND.index(b"\xff\xc0") + 4
    part = bytes([value]) if isinstance(value, int) else value
    assert data[start] == 8
    data[start + at : start + at + len(part)] = part
    with pytest.raises(RejectedError) as caught:
        decode(bytes(data))
    assert caught.value.reason is RejectReason.NOT_AN_IMAGE


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 100))
def test_the_size_is_that_of_the_frame(width: int, height: int, quality: int) -> None:
    """Of every picture that an edge node can send."""
    pixels = np.full((height, width, 3), 99, np.uint8)
    assert still_size(encode_image(pixels, Encoding.JPEG, quality)) == (width, height)


def test_ordinary_files_pass() -> None:
    """With comments and tables of their own; progressive; grey; with four colors."""
    assert decode(SOUND[:2] + b"\xff\xfe\x00\x04hi" * 20 + SOUND[2:]).shape == (48, 40, 3)
    for mode in ("RGB", "L", "CMYK"):
        buffer = io.BytesIO()
        picture = PIL.Image.new(mode, (40, 48))
        picture.save(buffer, "JPEG", progressive=True, optimize=True, restart_marker_rows=1)
        assert decode(buffer.getvalue()).shape == (48, 40, 3)
