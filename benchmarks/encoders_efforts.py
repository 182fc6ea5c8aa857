"""How hard encoders may try: the ways to compress that the comparison of encoders tries."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import PIL.Image

from foundation.frames import Pixels
from foundation.images import AVIF_EFFORT, WEBP_EFFORT

Encoder = Callable[[Pixels, int], bytes]
Effort = tuple[int, str, str]
"""Of AVIF: speed, subsampling of the chroma, tuning; libavif's own tuning is `iq`."""

AVIF_EFFORTS: tuple[Effort, ...] = (
    *((speed, "4:4:4", "psnr") for speed in (6, 7, 8, 9)),
    *((speed, "4:2:0", "psnr") for speed in (6, 7, 8, 9)),
    *((8, "4:4:4", tune) for tune in ("ssim", "iq")),
    *((speed, "4:2:0", tune) for speed, tune in ((6, "ssim"), (8, "iq"))),
)
AVIF_SEEN: tuple[Effort, ...] = (
    *((speed, "4:4:4", "psnr") for speed in (6, 8)),
    *((speed, "4:2:0", "psnr") for speed in (6, 7, 8)),
    *((speed, "4:2:0", tune) for speed, tune in ((6, "ssim"), (8, "iq"))),
)
"""Those that a detector judges, which costs an inference each."""


def opencv(extension: str, quality: int, *options: int) -> Encoder:
    """An encoder of OpenCV; `quality` is the number of its quality option."""
    return lambda pixels, value: cv2.imencode(extension, pixels, [quality, value, *options])[
        1
    ].tobytes()


def pillow(name: str, **options: Any) -> Encoder:
    """An encoder of Pillow."""

    def encode(pixels: Pixels, quality: int) -> bytes:
        buffer = io.BytesIO()
        image = PIL.Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        image.save(buffer, name, quality=quality, **options)
        return buffer.getvalue()

    return encode


def efforts() -> dict[str, Encoder]:
    """The ways to encode that were considered, by what they are called in the table."""
    jpeg = partial(opencv, ".jpg", cv2.IMWRITE_JPEG_QUALITY)
    ways = {"jpeg": jpeg(), "jpeg optimized": jpeg(cv2.IMWRITE_JPEG_OPTIMIZE, 1)}
    ways["webp opencv"] = opencv(".webp", cv2.IMWRITE_WEBP_QUALITY)
    ways |= {
        f"webp method {m}": pillow("WEBP", **WEBP_EFFORT | {"method": m}) for m in (2, 4, 5, 6)
    }
    ways |= avif_efforts(AVIF_EFFORTS)
    ways["avif opencv speed 8"] = opencv(
        ".avif", cv2.IMWRITE_AVIF_QUALITY, cv2.IMWRITE_AVIF_SPEED, 8
    )
    return ways


def avif_efforts(efforts: Sequence[Effort]) -> dict[str, Encoder]:
    """Encoders of AVIF by what they are called in the tables."""
    return {
        avif_name(effort): pillow("AVIF", **AVIF_EFFORT | avif_options(effort))
        for effort in efforts
    }


def avif_name(effort: Effort) -> str:
    """What an effort is called in the tables."""
    speed, chroma, tune = effort
    return f"avif speed {speed} {chroma.replace(':', '')} {tune}"


def avif_options(effort: Effort) -> dict[str, Any]:
    """What Pillow is told of an effort."""
    speed, chroma, tune = effort
    return {"speed": speed, "subsampling": chroma, "advanced": {"tune": tune}}


def avif_shipped() -> str:
    """Which of those that a detector judges `foundation.images` has chosen."""
    names = [avif_name(e) for e in AVIF_SEEN if AVIF_EFFORT | avif_options(e) == AVIF_EFFORT]
    return names[0]
