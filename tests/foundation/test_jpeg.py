"""A JPEG file costs what its pixels cost, whatever lies before them."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Encoding
from foundation.frames import Pixels
from foundation.images import decode_image, encode_image

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


def test_ordinary_files_pass() -> None:
    """With notes, a profile and tables of their own; progressive; grey."""
    assert decode(SOUND[:2] + b"\xff\xfe\x00\x04hi" * 20 + SOUND[2:]).shape == (48, 40, 3)
    for mode in ("RGB", "L"):
        buffer = io.BytesIO()
        picture = PIL.Image.new(mode, (40, 48))
        picture.save(buffer, "JPEG", progressive=True, icc_profile=bytes(200_000), exif=b"Exif\0\0")
        assert decode(buffer.getvalue()).shape == (48, 40, 3)
