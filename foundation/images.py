"""Encoding and decoding of crops.

Decoding is for bytes that came over a network. Their form is checked first (foundation.avif, .jpeg,
.png, .webp), which tells their size as well, so that no decoder sees what costs more than its
pixels, or a hundred megapixels.

Both directions release the interpreter lock while they compress and decompress, and stay on the
thread that called.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.AvifImagePlugin
import PIL.Image

from foundation import avif, jpeg, png, webp
from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Encoding
from foundation.frames import Pixels

# How hard the encoders try, chosen by benchmarks/encoders.py: docs/decisions/0025.
WEBP_EFFORT = {"method": 6}
AVIF_EFFORT = {
    "speed": 6,
    "subsampling": "4:2:0",
    "advanced": {"tune": "psnr"},
    "max_threads": 1,
}

_STILL_SIZES = {
    Encoding.JPEG: jpeg.still_size,
    Encoding.WEBP: webp.still_size,
    Encoding.PNG: png.still_size,
    Encoding.AVIF: avif.still_size,
}
"""Before anything of others reads a file: how large it is, unless that is not all it costs."""

_AVIF_SIDE_MAX_PX = 32_768
"""What is larger is written, and not read by libavif."""

_UNWRITABLE = (cv2.error, OSError, SyntaxError, ValueError, RuntimeError)
"""What the encoders raise on pixels that they cannot compress."""

_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error),
    *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError),
)
"""What Pillow raises on bytes that are no image of the format: much of it parses in Python."""

# Pillow would start a decoding thread per core for every crop. It takes no argument for it.
PIL.AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def encode_image(pixels: Pixels, encoding: Encoding, quality: int) -> bytes:
    """Compresses an image.

    Args:
        pixels: (height, width, 3) uint8 BGR.
        encoding: the format.
        quality: 1 to 100, on the format's own scale; for PNG it has no meaning.

    Raises:
        ValueError: the image cannot be encoded (it has no pixels, say).
    """
    if encoding is Encoding.AVIF and max(pixels.shape[:2]) > _AVIF_SIDE_MAX_PX:
        raise ValueError(f"no AVIF has a side of {max(pixels.shape[:2])} pixels")
    try:
        match encoding:
            case Encoding.JPEG:
                return _opencv(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
            case Encoding.PNG:
                return _opencv(".png", pixels, [])
            case Encoding.WEBP:
                return _pillow("WEBP", pixels, quality=quality, **WEBP_EFFORT)
            case Encoding.AVIF:
                return _pillow("AVIF", pixels, quality=quality, **AVIF_EFFORT)
    except _UNWRITABLE as error:
        raise ValueError(f"cannot encode an image of shape {pixels.shape}: {error}") from error


def load_picture(path: Path) -> Pixels | None:
    """A picture file of ours as (height, width, 3) uint8 BGR; None where OpenCV cannot read it."""
    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # how it refuses some of them
        return None
    return None if pixels is None else np.asarray(pixels, np.uint8)


def decode_image(data: bytes, encoding: Encoding, *, side_min_px: int, pixels_max: int) -> Pixels:
    """Decompresses an image from an untrusted source.

    Args:
        data: the compressed image.
        encoding: what it is said to be.
        side_min_px: shortest acceptable side.
        pixels_max: most acceptable pixels.

    Returns:
        (height, width, 3) uint8 BGR, as stored: a stated orientation is not applied.

    Raises:
        RejectedError: it is not an image of that encoding, or too small, or too large.
    """
    width, height = _still_size(data, encoding)
    if width * height > pixels_max:
        raise RejectedError(
            f"The crop of {width}x{height} has more than {pixels_max} pixels",
            reason=RejectReason.TOO_LARGE,
        )
    if min(width, height) < side_min_px:
        raise RejectedError(
            f"The crop of {width}x{height} is less than {side_min_px} pixels wide or high",
            reason=RejectReason.TOO_SMALL,
        )
    if encoding is Encoding.PNG:
        _check_volume(data)
    pixels = _decode_avif(data) if encoding is Encoding.AVIF else _decode_by_opencv(data)
    if pixels is None or pixels.shape != (height, width, 3):
        raise RejectedError(
            f"The crop of {len(data)} bytes does not decode as {encoding}",
            reason=RejectReason.NOT_AN_IMAGE,
        )
    return pixels


def _opencv(extension: str, pixels: Pixels, parameters: list[int]) -> bytes:
    done, data = cv2.imencode(extension, pixels, parameters)
    if not done:
        raise ValueError("the encoder failed")
    return data.tobytes()


def _pillow(name: str, pixels: Pixels, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = PIL.Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    image.save(buffer, name, **options)
    return buffer.getvalue()


def _still_size(data: bytes, encoding: Encoding) -> tuple[int, int]:
    """Width and height of what decoding will allocate, read without decoding.

    Raises:
        RejectedError: it is not an image of that encoding, or made so that decoding it costs more
            than its pixels.
    """
    try:
        return _STILL_SIZES[encoding](data)
    except ValueError as error:
        raise RejectedError(
            f"The crop of {len(data)} bytes is no {encoding}", reason=RejectReason.NOT_AN_IMAGE
        ) from error


def _check_volume(data: bytes) -> None:
    try:
        png.check_volume(data)
    except ValueError as error:
        raise RejectedError(
            f"The crop of {len(data)} bytes is no png", reason=RejectReason.NOT_AN_IMAGE
        ) from error


def _decode_by_opencv(data: bytes) -> Pixels | None:
    """Pixels of a JPEG, WebP or PNG; None where OpenCV refuses."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _decode_avif(data: bytes) -> Pixels | None:
    """Pixels of an AVIF file; None where Pillow refuses. OpenCV has no AVIF in many builds."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=["AVIF"]) as image:
            rgb = np.asarray(image.convert("RGB"), np.uint8)
    except _UNREADABLE:
        return None
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)
