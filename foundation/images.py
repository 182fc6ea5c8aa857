"""Encoding and decoding of crops.

Decoding is for bytes that came over a network: the header is read first, by Pillow, so that an
image of a hundred megapixels is refused before its pixels are allocated.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
import PIL.Image

from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Encoding
from foundation.frames import Pixels

_EXTENSIONS = {Encoding.JPEG: ".jpg", Encoding.WEBP: ".webp", Encoding.PNG: ".png"}
_PILLOW_FORMATS = {Encoding.JPEG: "JPEG", Encoding.WEBP: "WEBP", Encoding.PNG: "PNG"}


def encode_image(pixels: Pixels, encoding: Encoding, quality: int) -> bytes:
    """Compresses an image.

    Args:
        pixels: (height, width, 3) uint8 BGR.
        encoding: the format.
        quality: 1 to 100; for PNG it has no meaning.

    Raises:
        ValueError: the image cannot be encoded (it has no pixels, say).
    """
    parameters: list[int] = []
    if encoding is Encoding.JPEG:
        parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    elif encoding is Encoding.WEBP:
        parameters = [cv2.IMWRITE_WEBP_QUALITY, quality]
    try:
        done, data = cv2.imencode(_EXTENSIONS[encoding], pixels, parameters)
    except cv2.error as error:
        raise ValueError(f"cannot encode an image of shape {pixels.shape}: {error}") from error
    if not done:
        raise ValueError(f"cannot encode an image of shape {pixels.shape}")
    return data.tobytes()


def decode_image(data: bytes, encoding: Encoding, *, side_min_px: int, pixels_max: int) -> Pixels:
    """Decompresses an image from an untrusted source.

    Args:
        data: the compressed image.
        encoding: what it is said to be.
        side_min_px: shortest acceptable side.
        pixels_max: most acceptable pixels.

    Returns:
        (height, width, 3) uint8 BGR.

    Raises:
        RejectedError: it is not an image of that encoding, or too small, or too large.
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=[_PILLOW_FORMATS[encoding]]) as header:
            width, height = header.size
    except (
        PIL.UnidentifiedImageError,
        PIL.Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        too_large = isinstance(error, PIL.Image.DecompressionBombError)
        raise RejectedError(
            f"The crop of {len(data)} bytes is {'too large' if too_large else f'no {encoding}'}",
            reason=RejectReason.TOO_LARGE if too_large else RejectReason.NOT_AN_IMAGE,
        ) from error
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
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape != (height, width, 3):
        raise RejectedError(
            f"The crop of {len(data)} bytes does not decode as {encoding}",
            reason=RejectReason.NOT_AN_IMAGE,
        )
    return np.asarray(pixels, np.uint8)
